//! Requests and answers of /elicit: what to ask somebody.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Error;
use super::ids::UserId;
use super::prompt::{self, Message};
use super::score::Response;
use super::stale::Stale;

/// Candidate questions for a user.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ElicitRequest {
    /// Who would answer; without it, somebody unknown.
    #[serde(default)]
    pub user: Option<UserId>,
    /// The criterion that the answer would be about.
    #[serde(default)]
    pub context: Option<String>,
    /// Any number of pairs that could be asked about.
    pub candidates: Vec<Candidate>,
    /// How many to return at most, at least 1; without it, all.
    #[serde(default)]
    #[schema(value_type = Option<usize>, minimum = 1)]
    pub limit: Option<NonZeroUsize>,
}

/// Two responses to a prompt that somebody could be asked to compare.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The caller's name for it, echoed in the answer.
    #[serde(default)]
    pub id: Option<String>,
    /// The prompt as text; or `messages`.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The prompt as a chat; or `prompt`.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// One response.
    pub a: Response,
    /// The other.
    pub b: Response,
}

impl Candidate {
    /// The prompt as text.
    ///
    /// # Errors
    /// When neither or both of `prompt` and `messages` are there; `at` is this candidate's path in the request.
    pub fn prompt_text(&mut self, at: &str) -> Result<String, Error> {
        prompt::text(self.prompt.take(), self.messages.take(), at)
    }
}

/// The candidates, most informative first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ElicitAnswer {
    /// The bundle that judged.
    pub revision: String,
    /// Only while the shared store can't be reached: how old what the answer rests on is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// At most `limit` of the candidates; equally informative ones in the request's order.
    pub candidates: Vec<RankedCandidate>,
}

/// What asking a candidate would tell.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RankedCandidate {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the answer is expected to tell about the user's head, in nats, in [0, ln 2].
    pub information: f64,
    /// `P(a > b)` for this user, as far as is known, in [0, 1].
    pub preference: f64,
}

/// The next question of the bundle's questionnaire for a user.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NextQuestion {
    /// The bundle that asks.
    pub revision: String,
    /// Only while the shared store can't be reached: how old what the answer rests on is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// The open question that tells most; null when all have been answered. The answer is a feedback of kind `pair` or
    /// `tie` with these very texts, either way round, and with the same `context` if there was one.
    pub question: Option<OpenQuestion>,
    /// How many questions this user has answered, in general or in the context asked.
    pub answered: usize,
    /// How many questions there are.
    pub of: usize,
}

/// A question to put to somebody.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OpenQuestion {
    /// Its name in the bundle.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// One response.
    pub a: String,
    /// The other.
    pub b: String,
    /// What the answer is expected to tell about the user's head, in nats, in [0, ln 2].
    pub information: f64,
}
