//! What the server tells about a user and about its model.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::UserId;
use super::stale::Stale;

/// One user's state. `weights` are under the bundle's population prior, as no prompt is given.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UserView {
    /// The user.
    pub user: String,
    /// The account that this id was merged into, whose state the rest is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
    /// The head set the evidence belongs to.
    pub revision: String,
    /// The context that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Mixture weights, in general or in the context asked; shape `[K]`.
    pub weights: Vec<f64>,
    /// Evidence per head in nats as it counts now, centered, shape `[K]`: of all the user's events, whatever their
    /// context; with a context asked, of its ledger alone.
    pub evidence: Vec<f64>,
    /// The exponential of the weights' entropy, in [1, K].
    pub effective_heads: f64,
    /// How many changes of the user's row there were so far.
    pub version: u64,
    /// How many events count: of all, or in the ledger of the context asked.
    pub n: u64,
    /// When the last of them happened (RFC 3339).
    pub last_event: Option<String>,
    /// How many contexts have a ledger of their own, at most 32.
    pub contexts: usize,
    /// The evidence to the last bit, as PUT /users/{id} takes it.
    pub ledger: LedgersView,
    /// Only while the shared store can't be reached: how old what the answer rests on is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
}

/// Evidence to the last bit: sums over events, per head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgersView {
    /// 16 hex digits: the heads, and how evidence fades. Evidence of others can't be imported.
    pub heads: String,
    /// What was said without a context.
    pub general: LedgerView,
    /// What was said in contexts, each known by 16 hex digits of a hash, ascending.
    pub contexts: BTreeMap<String, LedgerView>,
}

/// One sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerView {
    /// Centered log-likelihoods in units of 2^-32 nat, shape `[K]`.
    pub sums: Vec<i64>,
    /// The time that the sums are relative to, where evidence fades; none for an empty ledger.
    pub epoch: Option<i64>,
    /// How many events are in it.
    pub n: u64,
    /// When the latest happened, in milliseconds since the Unix epoch.
    pub last_at_ms: Option<i64>,
}

/// A user's evidence as it is imported. The answer of GET /users/{id} can be sent as it is: of it, `ledger` counts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserImport {
    /// The evidence. It replaces what was there.
    pub ledger: LedgersView,
    #[serde(default, rename = "user")]
    #[schema(ignore)]
    _user: IgnoredAny,
    #[serde(default, rename = "merged_into")]
    #[schema(ignore)]
    _merged_into: IgnoredAny,
    #[serde(default, rename = "revision")]
    #[schema(ignore)]
    _revision: IgnoredAny,
    #[serde(default, rename = "context")]
    #[schema(ignore)]
    _context: IgnoredAny,
    #[serde(default, rename = "weights")]
    #[schema(ignore)]
    _weights: IgnoredAny,
    #[serde(default, rename = "evidence")]
    #[schema(ignore)]
    _evidence: IgnoredAny,
    #[serde(default, rename = "effective_heads")]
    #[schema(ignore)]
    _effective_heads: IgnoredAny,
    #[serde(default, rename = "n")]
    #[schema(ignore)]
    _n: IgnoredAny,
    #[serde(default, rename = "last_event")]
    #[schema(ignore)]
    _last_event: IgnoredAny,
    #[serde(default, rename = "contexts")]
    #[schema(ignore)]
    _contexts: IgnoredAny,
    #[serde(default, rename = "stale")]
    #[schema(ignore)]
    _stale: IgnoredAny,
    #[serde(default, rename = "version")]
    #[schema(ignore)]
    _version: IgnoredAny,
}

/// Who a user was until they signed in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// The id that becomes one of the account's. Nothing need have been said under it.
    pub from: UserId,
}

/// An account with one more id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MergeAnswer {
    /// The account: the user of the path, or the account that this one was itself merged into.
    pub user: String,
    /// The id that is one of the account's.
    pub from: String,
    /// How many events count for the account.
    pub n: u64,
    /// The version of the account's row.
    pub version: u64,
}

/// A feedback that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Retracted {
    /// Its id.
    pub event_id: String,
    /// Whose it was.
    pub user: String,
    /// `retracted`, also when it had been before; `queued` until the shared store is back.
    pub status: &'static str,
    /// The version of the user's row after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
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
