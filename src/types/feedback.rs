//! A checked feedback, what is known of it once its responses are, and its ack.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::event::EventKind;
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
    /// The responses that it is about; `opinion` says what their order means.
    pub responses: Vec<Mention>,
    /// The opinion.
    pub opinion: Opinion,
}

/// How a feedback names a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mention {
    /// By what it says.
    Text(Arc<str>),
    /// By the id that an earlier request gave it.
    Id(Box<str>),
}

/// What somebody thinks of responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Opinion {
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

impl Opinion {
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
        self.opinion.field(idx, matches!(self.responses.get(idx), Some(Mention::Id(_))))
    }
}

/// A feedback with every text at hand, whether its sender sent texts or ids: all that is worth keeping of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
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
    /// The responses that it is about; `opinion` says what their order means.
    pub responses: Vec<HeardResponse>,
    /// The opinion.
    pub opinion: Opinion,
}

impl Heard {
    /// The field in which a response came.
    #[must_use]
    pub fn field(&self, idx: usize) -> String {
        self.opinion.field(idx, self.responses.get(idx).is_some_and(|response| response.id.is_some()))
    }
}

/// A response of a [`Heard`] feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardResponse {
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
    /// Why it was rejected, in a sentence that names the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether a rejected event may be taken if it is sent again as it is: the server was busy or a part of it down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
    /// The version of the user's row after it: the number of changes so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
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
        }
    }
}
