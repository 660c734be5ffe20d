//! Requests and answers of /score, /rank and /compare.

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::error::Error;
use super::ids::UserId;
use super::objective::{Objective, ObjectiveKind, Over, Parameters, ShareOf};
use super::prompt::{self, Message};
use super::stale::Stale;

/// The items to score, and the user to score them for.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// The user to score for; without it, the router's prior counts.
    #[serde(default)]
    pub user: Option<UserId>,
    /// A criterion in words that the router reads after the prompt.
    #[serde(default)]
    pub context: Option<String>,
    /// The `version` of an ack: no older state of the user is used. While the shared store can't be reached, and
    /// only an older one is known here, the request is refused with `store_unavailable`.
    #[serde(default)]
    pub min_version: Option<u64>,
    /// Any number of prompts with their responses.
    pub items: Vec<ScoreItem>,
    /// True to return the weights and every head's calibrated reward.
    #[serde(default)]
    pub detail: bool,
    /// The objective of the rewards; without it, the user's own preferences.
    #[serde(default)]
    pub objective: ObjectiveKind,
    /// `maxmin`: the share that a head needs to count, 0.1 without it. If no head has it, only the largest share
    /// counts.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    pub min_share: Option<f64>,
    /// `maxmin`, and `quantile` over heads: the share of a head that counts; without it, `weights`.
    #[serde(default)]
    pub share_of: Option<ShareOf>,
    /// `quantile`: the share of heads or users that may find it worse. 0 is the worst case, 1 the best.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    pub q: Option<f64>,
    /// `quantile`: the heads or users over whose rewards it is taken; without it, `heads`.
    #[serde(default)]
    pub over: Option<Over>,
}

impl ScoreRequest {
    /// Returns the objective with its parameters.
    ///
    /// # Errors
    /// Names the parameter that is missing, out of range, or does not belong to the objective.
    pub fn objective(&self) -> Result<Objective, Error> {
        let Self { min_share, share_of, q, over, .. } = *self;
        Objective::new(self.objective, Parameters { min_share, share_of, q, over })
    }
}

/// The same input as /score.
pub type RankRequest = ScoreRequest;

/// One prompt and its responses.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreItem {
    /// The prompt as text; or `messages`.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The prompt as a chat; or `prompt`.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// At least one response: a text, or an object of `id` and `text`.
    pub responses: Vec<Response>,
}

impl ScoreItem {
    /// Returns the prompt as text.
    ///
    /// # Errors
    /// Fails when neither or both of `prompt` and `messages` are there; `at` is this item's path in the request.
    pub fn prompt_text(&mut self, at: &str) -> Result<String, Error> {
        prompt::text(self.prompt.take(), self.messages.take(), at)
    }
}

/// A response: on the wire a string, or `{"id": ..., "text": ...}`.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
pub struct Response {
    /// The caller's id for it, echoed in the answer; feedback may reference the response by it. In a request, an id
    /// names one text to one prompt; in a later one the newest counts.
    pub id: Option<String>,
    /// The response itself.
    pub text: String,
}

impl<'de> Deserialize<'de> for Response {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ResponseVisitor)
    }
}

/// A visitor of its own, since an untagged enum would hide which field of which form is wrong.
struct ResponseVisitor;

impl<'de> Visitor<'de> for ResponseVisitor {
    type Value = Response;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text or an object of `id` and `text`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Response, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Response, E> {
        Ok(Response { id: None, text })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Response, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            id: Option<String>,
            text: String,
        }
        let Named { id, text } = Named::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Response { id, text })
    }
}

/// The routed rewards.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ScoreAnswer {
    /// The revision of the bundle that scored.
    pub revision: String,
    /// The objective of the rewards; left out for `mixture`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objective: ObjectiveKind,
    /// Number of users that the objective was over, where it is over users; with 0, the rewards are those of an
    /// unknown user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<usize>,
    /// The age of the state behind the answer; present only while the shared store can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// One per item of the request, in its order.
    pub items: Vec<ScoredItem>,
}

/// The rewards of one prompt's n responses, in the request's order.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ScoredItem {
    /// The objective's rewards, `sum_k w_k z_k` unless it is another; shape `[n]`, finite. A unit is one standard
    /// deviation of a head over its training data.
    pub rewards: Vec<f64>,
    /// True for a response that was longer than the encoder reads, so that only its end was scored; shape `[n]`.
    pub truncated: Vec<bool>,
    /// True if the prompt was longer than the encoder reads, so that only its end was read.
    pub prompt_truncated: bool,
    /// The weighted standard deviation of the heads' rewards, shape `[n]`, >= 0: high where the heads differ. Under
    /// the user's mixture weights, whatever the objective.
    pub disagreement: Vec<f64>,
    /// The user's mixture weights, shape `[K]`, whatever the objective; with `detail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
    /// Every head's calibrated reward `z`, shape `[n][K]`; with `detail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<Vec<f64>>>,
    /// The ids of the request, shape `[n]`; present if at least one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<Option<String>>>,
}

/// The responses of every prompt, best first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RankAnswer {
    /// The revision of the bundle that ranked.
    pub revision: String,
    /// The objective of the rewards; left out for `mixture`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objective: ObjectiveKind,
    /// Number of users that the objective was over, where it is over users; with 0, the rewards are those of an
    /// unknown user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<usize>,
    /// The age of the state behind the answer; present only while the shared store can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// One per item of the request, in its order.
    pub items: Vec<RankedItem>,
}

/// The order of one prompt's n responses.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RankedItem {
    /// Indices into the request's responses, best first by the objective's reward; a tie keeps the request's order.
    pub order: Vec<usize>,
    /// `sum_k w_k softmax(beta_k r_k)` of each response in the request's order; sums to 1. The user's probability that
    /// it is the best; with the objective `population`, that of a user drawn at random.
    pub best: Vec<f64>,
    /// The answer that /score would give.
    #[serde(flatten)]
    pub scored: ScoredItem,
}

/// Two responses to one prompt.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// The user to score for; without it, the router's prior counts.
    #[serde(default)]
    pub user: Option<UserId>,
    /// A criterion in words that the router reads after the prompt.
    #[serde(default)]
    pub context: Option<String>,
    /// The `version` of an ack: no older state of the user is used. While the shared store can't be reached, and
    /// only an older one is known here, the request is refused with `store_unavailable`.
    #[serde(default)]
    pub min_version: Option<u64>,
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
    /// True to return the weights and every head's calibrated reward.
    #[serde(default)]
    pub detail: bool,
}

/// The probability that one response is preferred to the other.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CompareAnswer {
    /// The revision of the bundle that compared.
    pub revision: String,
    /// `P(a > b) = sum_k w_k sigma(beta_k (r_k(a) - r_k(b)))`, in [0, 1].
    pub preference: f64,
    /// The age of the state behind the answer; present only while the shared store can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
    /// The answer that /score would give for `[a, b]`.
    #[serde(flatten)]
    pub scored: ScoredItem,
}

fn is_default(objective: &ObjectiveKind) -> bool {
    *objective == ObjectiveKind::default()
}
