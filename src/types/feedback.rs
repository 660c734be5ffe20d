//! Feedback: the event on the wire, what it means once checked, and its ack.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Error;
use super::ids::{EventId, UserId};
use super::prompt::{self, Message};

/// One feedback as clients send it. Which fields belong depends on `kind`; [`Event::check`] says.
///
/// A pair or tie with the texts of a question of GET /elicit answers that question.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Names this feedback: the same id again within the user's next 15 events changes nothing.
    pub event_id: EventId,
    /// Whose opinion it is.
    pub user: UserId,
    /// What kind of opinion.
    pub kind: EventKind,
    /// The prompt as text; or `messages`.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The prompt as a chat; or `prompt`.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// `pair`: the preferred response.
    #[serde(default)]
    pub chosen: Option<String>,
    /// `pair`: the other response.
    #[serde(default)]
    pub rejected: Option<String>,
    /// `tie`: exactly two responses that are equally good.
    #[serde(default)]
    pub responses: Option<Vec<String>>,
    /// `thumb`: the response.
    #[serde(default)]
    pub response: Option<String>,
    /// `thumb`: whether the thumb points up.
    #[serde(default)]
    pub up: Option<bool>,
    /// When it happened (RFC 3339); without it, now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// The criterion the person had in mind: it counts in that context, and elsewhere as far as tastes carry over.
    #[serde(default)]
    pub context: Option<String>,
}

/// The kinds of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// One response is preferred to another.
    Pair,
    /// Two responses are equally good.
    Tie,
    /// One response is good or bad.
    Thumb,
}

/// A checked feedback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Names this feedback.
    pub event_id: EventId,
    /// Whose opinion it is.
    pub user: UserId,
    /// When it happened, if the client knows.
    pub at: Option<Timestamp>,
    /// The criterion the person had in mind.
    pub context: Option<String>,
    /// The prompt.
    pub prompt: String,
    /// The opinion.
    pub opinion: Opinion,
}

/// What somebody thinks of one or two responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// The first is preferred to the second.
    Pair {
        /// The preferred response.
        chosen: String,
        /// The other one.
        rejected: String,
    },
    /// Neither is preferred.
    Tie([String; 2]),
    /// One response is good or bad.
    Thumb {
        /// The response.
        response: String,
        /// Whether it is good.
        up: bool,
    },
}

impl Opinion {
    /// Its responses, each with the field it came in.
    #[must_use]
    pub fn texts(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Pair { chosen, rejected } => vec![("chosen", chosen), ("rejected", rejected)],
            Self::Tie([a, b]) => vec![("responses[0]", a), ("responses[1]", b)],
            Self::Thumb { response, .. } => vec![("response", response)],
        }
    }
}

impl Event {
    /// Turns the flat wire form into an opinion.
    ///
    /// # Errors
    /// Names the field that is missing or does not belong to this kind.
    pub fn check(self) -> Result<Feedback, Error> {
        let kind = self.kind;
        let belongs = |field: &'static str| match kind {
            EventKind::Pair => matches!(field, "chosen" | "rejected"),
            EventKind::Tie => field == "responses",
            EventKind::Thumb => matches!(field, "response" | "up"),
        };
        let given = [
            ("chosen", self.chosen.is_some()),
            ("rejected", self.rejected.is_some()),
            ("responses", self.responses.is_some()),
            ("response", self.response.is_some()),
            ("up", self.up.is_some()),
        ];
        for (field, is_given) in given {
            match (belongs(field), is_given) {
                (true, false) => {
                    return Err(Error::invalid_field(field, format!("missing; a {} needs it", kind.label())));
                }
                (false, true) => {
                    return Err(Error::invalid_field(
                        field,
                        format!("does not belong to a {}", kind.label()),
                    ));
                }
                _ => {}
            }
        }
        let prompt = prompt::text(self.prompt, self.messages, "")?;
        let opinion = match kind {
            EventKind::Pair => Opinion::Pair {
                chosen: self.chosen.unwrap_or_default(),
                rejected: self.rejected.unwrap_or_default(),
            },
            EventKind::Tie => {
                let responses = self.responses.unwrap_or_default();
                Opinion::Tie(responses.try_into().map_err(|found: Vec<String>| {
                    Error::invalid_field("responses", format!("found {} responses, expected 2", found.len()))
                })?)
            }
            EventKind::Thumb => Opinion::Thumb {
                response: self.response.unwrap_or_default(),
                up: self.up.unwrap_or_default(),
            },
        };
        let Self { event_id, user, at, context, .. } = self;
        Ok(Feedback { event_id, user, at, context, prompt, opinion })
    }
}

impl EventKind {
    const fn label(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Tie => "tie",
            Self::Thumb => "thumb",
        }
    }
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
    /// The version of the user's row after it: the number of events that count.
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
