//! A checked feedback, what is known of it once its responses are, and its ack.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event_kind::EventKind;
use super::ids::{EventId, UserId};

/// A checked feedback.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// Names this feedback.
    pub event_id: EventId,
    /// Whose opinion it is.
    pub user: UserId,
    /// When it happened, if the client knows.
    pub at: Option<Timestamp>,
    /// The criterion the person had in mind.
    pub context: Option<String>,
    /// The prompt; none where responses come by id, and then their receipts have it.
    pub prompt: Option<Arc<str>>,
    /// The responses that it is about; `judgment` says what their order means.
    pub responses: Vec<ResponseRef>,
    /// The opinion.
    pub judgment: Judgment,
    /// The event whose place it takes.
    pub replaces: Option<EventId>,
    /// Why, in the person's words; never empty.
    pub comment: Option<String>,
    /// What else the client keeps with it.
    pub metadata: BTreeMap<String, String>,
}

/// How a feedback names a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseRef {
    /// By what it says.
    Text(Arc<str>),
    /// By the id that an earlier request gave it.
    Id(Box<str>),
}

/// What somebody thinks of responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Judgment {
    /// The first is preferred to the second.
    Pair,
    /// Neither of two is preferred.
    Tie,
    /// The one response is good or bad.
    Thumb {
        /// Whether it is good.
        up: bool,
    },
    /// Best first; at least two.
    Ranking,
    /// One finite number per response, higher is better; at least two.
    Rating(Vec<f64>),
    /// The first is what somebody made of the second, and is preferred to it.
    Correction,
}

impl Judgment {
    /// What kind of feedback says so.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Pair => EventKind::Pair,
            Self::Tie => EventKind::Tie,
            Self::Thumb { .. } => EventKind::Thumb,
            Self::Ranking => EventKind::Ranking,
            Self::Rating(_) => EventKind::Rating,
            Self::Correction => EventKind::Correction,
        }
    }

    /// The field in which a response comes, by its id or its text.
    fn field(&self, idx: usize, is_id: bool) -> String {
        let field = match (self, idx) {
            (Self::Pair, 0) => "chosen",
            (Self::Pair, _) => "rejected",
            (Self::Thumb { .. }, _) => "response",
            (Self::Correction, 0) => "edited",
            (Self::Correction, _) => "original",
            (Self::Tie | Self::Ranking | Self::Rating(_), _) => {
                return format!("{}[{idx}]", if is_id { "response_ids" } else { "responses" });
            }
        };
        if is_id { format!("{field}_id") } else { field.to_owned() }
    }
}

impl Feedback {
    /// The field in which a response came.
    #[must_use]
    pub fn field(&self, idx: usize) -> String {
        self.judgment.field(idx, matches!(self.responses.get(idx), Some(ResponseRef::Id(_))))
    }
}

/// A feedback with every text at hand, whether its sender sent texts or ids: all that is worth keeping of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedFeedback {
    /// Names this feedback.
    pub event_id: EventId,
    /// Whose opinion it is.
    pub user: UserId,
    /// When it happened, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The criterion the person had in mind; never empty.
    pub context: Option<String>,
    /// The prompt.
    pub prompt: Arc<str>,
    /// The responses that it is about; `judgment` says what their order means.
    pub responses: Vec<ResolvedResponse>,
    /// The opinion.
    pub judgment: Judgment,
    /// The event whose place it takes.
    pub replaces: Option<EventId>,
    /// Why, in the person's words; never empty.
    pub comment: Option<String>,
    /// What else the client keeps with it.
    pub metadata: BTreeMap<String, String>,
}

impl ResolvedFeedback {
    /// 64 bits of BLAKE3 over what it says: kind, context, prompt, responses as texts, the opinion, and what it replaces.
    ///
    /// A retry has the content of the event that it repeats, whether it names responses by text or by id, and whatever time,
    /// comment or metadata it comes with.
    #[must_use]
    pub fn content(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        // Counts and lengths come first, so that no two contents have the same bytes.
        hasher.update(&(self.responses.len() as u64).to_le_bytes());
        let mut text = |text: Option<&str>| {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hasher.update(&length.to_le_bytes());
            hasher.update(text.unwrap_or_default().as_bytes());
        };
        text(Some(self.judgment.kind().label()));
        text(self.context.as_deref());
        text(self.replaces.as_ref().map(EventId::as_str));
        text(Some(&self.prompt));
        self.responses.iter().for_each(|response| text(Some(&response.text)));
        match &self.judgment {
            Judgment::Thumb { up } => _ = hasher.update(&[u8::from(*up)]),
            // Adding zero makes one zero of two.
            Judgment::Rating(ratings) => ratings.iter().for_each(|rating| {
                hasher.update(&(rating + 0.0).to_le_bytes());
            }),
            Judgment::Pair | Judgment::Tie | Judgment::Ranking | Judgment::Correction => {}
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

impl ResolvedFeedback {
    /// The field in which a response came.
    #[must_use]
    pub fn field(&self, idx: usize) -> String {
        self.judgment.field(idx, self.responses.get(idx).is_some_and(|response| response.id.is_some()))
    }
}

/// A response of a [`ResolvedFeedback`] feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedResponse {
    /// The id that it was named by, if it was.
    pub id: Option<Box<str>>,
    /// What it says.
    pub text: Arc<str>,
}

/// What became of one feedback.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Ack {
    /// The event's id; none where the line could not be read.
    pub event_id: Option<String>,
    /// What became of it.
    pub status: AckStatus,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why it was rejected, in a sentence that names the field; or why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The path of the field that is to blame; `detail` begins with it.
    #[serde(skip)]
    pub field: Option<String>,
    /// Whether a rejected event may be taken if it is sent again as it is: the server was busy or a part of it down, or
    /// what it names is not there yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
    /// With `retryable`: how long to wait before that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Of an event that was applied and replaces another: whether that one counted until then. If not, it is not
    /// remembered, or did not count any more; if it is still to come, it will not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<bool>,
    /// With `conflict`: 16 hex digits of a hash of what counts under this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub content: Option<Box<str>>,
    /// The version of the user's row after it: the number of changes so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl Ack {
    /// The ack of an event that is a part of something larger: what is wrong with it is named from there.
    #[must_use]
    pub fn within(self, at: &str) -> Self {
        let join = if self.field.is_some() { "." } else { ": " };
        let detail = self.detail.map(|detail| format!("{at}{join}{detail}"));
        let field = self.field.map(|field| format!("{at}.{field}"));
        Self { detail, field, ..self }
    }
}

/// What became of a feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckStatus {
    /// It counts from now on.
    Applied,
    /// It was applied before; nothing changed.
    Duplicate,
    /// It is kept, and counts once the shared store is back.
    Queued,
    /// It happened too long ago to tell whether it was applied before; nothing changed.
    Late,
    /// It was not taken, and nothing changed; `code`, `detail` and `retryable` say why and what to do.
    Rejected,
    /// Its id was taken back, replaced or erased, and does not count; to vote again, use a new id.
    Retracted,
    /// Another feedback counts under this id, and nothing changed; to change a vote, use a new id and `replaces`.
    Conflict,
}

impl AckStatus {
    /// The name in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Queued => "queued",
            Self::Late => "late",
            Self::Rejected => "rejected",
            Self::Retracted => "retracted",
            Self::Conflict => "conflict",
        }
    }
}
