//! A checked feedback, and its resolved form.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event_kind::EventKind;
use super::ids::{EventId, UserId};

/// A checked feedback.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    /// The id of this feedback.
    pub event_id: EventId,
    /// The user whose judgment it is.
    pub user: UserId,
    /// The time of the event, if the client knows it.
    pub at: Option<Timestamp>,
    /// The criterion that the user had in mind.
    pub context: Option<String>,
    /// The prompt; none where responses come by id, whose receipts then have it.
    pub prompt: Option<Arc<str>>,
    /// The responses that it is about; `judgment` gives the meaning of their order.
    pub responses: Vec<ResponseRef>,
    /// The judgment.
    pub judgment: Judgment,
    /// The event that it replaces.
    pub replaces: Option<EventId>,
    /// The user's reason, in words; never empty.
    pub comment: Option<String>,
    /// Other texts that the client keeps with it.
    pub metadata: BTreeMap<String, String>,
}

/// A reference to a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseRef {
    /// The text of the response.
    Text(Arc<str>),
    /// The id that an earlier request gave it.
    Id(Box<str>),
}

/// A user's judgment of responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Judgment {
    /// The first is preferred to the second.
    Pair,
    /// Neither of two is preferred.
    Tie,
    /// The one response is good or bad.
    Thumb {
        /// True if it is good.
        up: bool,
    },
    /// The responses are ordered, best first; at least two.
    Ranking,
    /// One finite number per response, higher is better; at least two.
    Rating(Vec<f64>),
    /// The first is the user's edit of the second, and is preferred to it.
    Correction,
}

impl Judgment {
    /// Returns the kind of feedback with this judgment.
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

    /// Returns the field in which a response comes, by its id or its text.
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
    /// Returns the field in which a response came.
    #[must_use]
    pub fn field(&self, idx: usize) -> String {
        self.judgment.field(idx, matches!(self.responses.get(idx), Some(ResponseRef::Id(_))))
    }
}

/// A feedback with every text resolved, whether its client sent texts or ids: all that is worth keeping of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedFeedback {
    /// The id of this feedback.
    pub event_id: EventId,
    /// The user whose judgment it is.
    pub user: UserId,
    /// The time of the event, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The criterion that the user had in mind; never empty.
    pub context: Option<String>,
    /// The prompt.
    pub prompt: Arc<str>,
    /// The responses that it is about; `judgment` gives the meaning of their order.
    pub responses: Vec<ResolvedResponse>,
    /// The judgment.
    pub judgment: Judgment,
    /// The event that it replaces.
    pub replaces: Option<EventId>,
    /// The user's reason, in words; never empty.
    pub comment: Option<String>,
    /// Other texts that the client keeps with it.
    pub metadata: BTreeMap<String, String>,
}

impl ResolvedFeedback {
    /// Returns 64 bits of BLAKE3 over its content: kind, context, prompt, responses as texts, the judgment, and the
    /// event that it replaces.
    ///
    /// A retry has the content of the event that it repeats, whether it references responses by text or by id, and
    /// whatever its time, comment or metadata.
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
            // Adding zero turns -0 into 0, so that both have the same bytes.
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
    /// Returns the field in which a response came.
    #[must_use]
    pub fn field(&self, idx: usize) -> String {
        self.judgment.field(idx, self.responses.get(idx).is_some_and(|response| response.id.is_some()))
    }
}

/// A response of a [`ResolvedFeedback`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedResponse {
    /// The id by which the client referenced it, if any.
    pub id: Option<Box<str>>,
    /// The text of the response.
    pub text: Arc<str>,
}
