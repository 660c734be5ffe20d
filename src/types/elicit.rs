//! Requests and answers of /elicit: the questions to ask a user.

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
    /// The user who would answer; without it, an unknown user.
    #[serde(default)]
    pub user: Option<UserId>,
    /// The criterion that the answer would be about.
    #[serde(default)]
    pub context: Option<String>,
    /// Any number of pairs that could be asked about.
    pub candidates: Vec<Candidate>,
    /// Upper bound of the candidates returned, at least 1; without it, all.
    #[serde(default)]
    #[schema(value_type = Option<usize>, minimum = 1)]
    pub limit: Option<NonZeroUsize>,
}

/// Two responses to a prompt that a user could be asked to compare.
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
    /// The other response.
    pub b: Response,
}

impl Candidate {
    /// Returns the prompt as text.
    ///
    /// # Errors
    /// Fails when neither or both of `prompt` and `messages` are there; `at` is this candidate's path in the
    /// request.
    pub fn prompt_text(&mut self, at: &str) -> Result<String, Error> {
        prompt::text(self.prompt.take(), self.messages.take(), at)
    }
}

/// The candidates, most informative first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ElicitAnswer {
    /// The revision of the bundle that scored.
    pub revision: String,
    /// The age of the state behind the answer; present only while the shared store can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// At most `limit` of the candidates; equally informative ones in the request's order.
    pub candidates: Vec<RankedCandidate>,
}

/// A candidate with the information that its answer is expected to give.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RankedCandidate {
    /// Its index in the request, from 0.
    pub index: usize,
    /// Its id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Expected information of the answer about the user's head, in nats, in [0, ln 2].
    pub information: f64,
    /// `P(a > b)` for this user, by the feedback so far, in [0, 1].
    pub preference: f64,
}

/// The next question of the bundle's questionnaire for a user.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NextQuestion {
    /// The revision of the bundle that asks.
    pub revision: String,
    /// The age of the state behind the answer; present only while the shared store can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// The open question with the most information; null when all have been answered. The answer is a feedback of
    /// kind `pair` or `tie` with these very texts, either way round, and with the same `context` if there was one.
    pub question: Option<OpenQuestion>,
    /// Number of questions that this user has answered, in general or in the context asked.
    pub answered: usize,
    /// Number of questions in the bundle.
    pub of: usize,
}

/// A question to put to a user.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OpenQuestion {
    /// Its name in the bundle.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// One response.
    pub a: String,
    /// The other response.
    pub b: String,
    /// Expected information of the answer about the user's head, in nats, in [0, ln 2].
    pub information: f64,
}
