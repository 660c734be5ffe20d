//! Acks: the answer to one feedback event.

use serde::Serialize;
use utoipa::ToSchema;

/// The outcome of one feedback.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Ack {
    /// The event's id; none where the line could not be read.
    pub event_id: Option<String>,
    /// The status of the event.
    pub status: AckStatus,
    /// The error code of a rejected event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The reason why it was rejected, in a sentence that names the field; or why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The path of the field that is at fault; `detail` begins with it.
    #[serde(skip)]
    pub field: Option<String>,
    /// True if a rejected event may be accepted when it is sent again unchanged: the server was busy or a part of it
    /// down, or an object that it references is not there yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retryable: bool,
    /// With `retryable`: the time to wait before that, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// For an event that was applied and replaces another: true if that one counted until then. If not, it is not
    /// remembered, or did not count any more; if it is still to come, it will not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<bool>,
    /// With `conflict`: 16 hex digits of a hash of the content that counts under this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub content: Option<Box<str>>,
    /// The version of the user's row after it: the number of changes so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl Ack {
    /// Returns the ack of an event that is part of a larger body, with the path `at` before its field and detail.
    #[must_use]
    pub fn within(self, at: &str) -> Self {
        let join = if self.field.is_some() { "." } else { ": " };
        let detail = self.detail.map(|detail| format!("{at}{join}{detail}"));
        let field = self.field.map(|field| format!("{at}.{field}"));
        Self { detail, field, ..self }
    }
}

/// The status of a feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckStatus {
    /// It counts from now on.
    Applied,
    /// It was applied before; nothing changed.
    Duplicate,
    /// It is kept, and counts once the shared store is back.
    Queued,
    /// It happened too long ago to know whether it was applied before; nothing changed.
    Late,
    /// It was not accepted, and nothing changed; `code`, `detail` and `retryable` give the reason and the remedy.
    Rejected,
    /// Its id was retracted, replaced or erased, and does not count; to vote again, use a new id.
    Retracted,
    /// Another feedback counts under this id, and nothing changed; to change a vote, use a new id and `replaces`.
    Conflict,
}

impl AckStatus {
    /// Returns the name in metrics.
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
