//! What the server tells about a user and about its model.

use serde::Serialize;
use utoipa::ToSchema;

use super::stale::Stale;

/// One user's state. `weights` are under the bundle's population prior, as no prompt is given.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UserView {
    /// The user.
    pub user: String,
    /// The head set the evidence belongs to.
    pub revision: String,
    /// The context that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Mixture weights, in general or in the context asked; shape `[K]`.
    pub weights: Vec<f64>,
    /// Evidence per head in nats as it counts now, centred, shape `[K]`: of all the user's events, whatever their
    /// context; with a context asked, of its ledger alone.
    pub evidence: Vec<f64>,
    /// The exponential of the weights' entropy, in [1, K].
    pub effective_heads: f64,
    /// How many events count: of all, or in the ledger of the context asked.
    pub n: u64,
    /// When the last of them happened (RFC 3339).
    pub last_event: Option<String>,
    /// How many contexts have a ledger of their own, at most 32.
    pub contexts: usize,
    /// Only while the shared store can't be reached: how old what the answer rests on is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
}

/// The receipt of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erased {
    /// The user.
    pub user: String,
    /// Whether there was anything to erase.
    pub existed: bool,
    /// How many events had counted.
    pub n: u64,
    /// When it was erased (RFC 3339).
    pub erased_at: String,
}

/// The bundle that is served.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelView {
    /// The bundle's name.
    pub name: String,
    /// The bundle's revision: any change of encoder, heads or router changes it.
    pub revision: String,
    /// The reward heads, in the order of every `[K]` in this API.
    pub heads: Vec<HeadView>,
    /// Longer texts keep their last `max_tokens` tokens.
    pub max_tokens: usize,
    /// How many questions GET /elicit has.
    pub questions: usize,
}

/// One reward head.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HeadView {
    /// Its name.
    pub name: String,
    /// Its share of the population.
    pub prior: f64,
    /// Its temperature: `beta (r(a) - r(b))` are the log-odds of preferring `a`.
    pub beta: f64,
}
