//! Views of a user and of the model, and the requests that change a user.

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
    /// The head set that the evidence belongs to.
    pub revision: String,
    /// The context that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Mixture weights, in general or in the context asked; shape `[K]`.
    pub weights: Vec<f64>,
    /// Evidence per head in nats as it counts now, centered, shape `[K]`: of all the user's events, in any context;
    /// with a context asked, of its ledger alone.
    pub evidence: Vec<f64>,
    /// The exponential of the weights' entropy, in [1, K].
    pub effective_heads: f64,
    /// Number of changes of the user's row so far.
    pub version: u64,
    /// Number of events that count: of all, or in the ledger of the context asked.
    pub n: u64,
    /// The time of the last of them (RFC 3339).
    pub last_event: Option<String>,
    /// Number of contexts with a ledger of their own, at most 32.
    pub contexts: usize,
    /// The evidence to the last bit, as PUT /users/{id} takes it.
    pub ledger: LedgersView,
    /// The age of the state behind the answer; present only while the shared store can't be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<Stale>,
}

/// Evidence to the last bit: sums over events, per head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgersView {
    /// 16 hex digits that identify the heads and the half-life of evidence. Evidence of others can't be imported.
    pub heads: String,
    /// The general ledger: of events without a context, or whose context has no ledger of its own.
    pub general: LedgerView,
    /// Evidence of the events in contexts, each identified by 16 hex digits of a hash, ascending.
    pub contexts: BTreeMap<String, LedgerView>,
}

/// The sums of one ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerView {
    /// Centered log-likelihoods in units of 2^-32 nat, shape `[K]`.
    pub sums: Vec<i64>,
    /// The epoch that the sums are relative to, where evidence fades; none for an empty ledger.
    pub epoch: Option<i64>,
    /// Number of events in it.
    pub n: u64,
    /// The time of the latest event, in milliseconds since the Unix epoch.
    pub last_at_ms: Option<i64>,
}

/// A user's evidence as it is imported. The answer of GET /users/{id} can be sent as it is: only its `ledger`
/// counts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserImport {
    /// The evidence. It replaces the evidence of the user so far.
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

/// The id that a user had until they signed in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// The id that becomes one of the account's. It need not have any events.
    pub from: UserId,
}

/// An account with one more id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MergeAnswer {
    /// The account: the user of the path, or the account that this one was itself merged into.
    pub user: String,
    /// The id that is one of the account's.
    pub from: String,
    /// Number of events that count for the account.
    pub n: u64,
    /// The version of the account's row.
    pub version: u64,
}

/// A feedback that was retracted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Retracted {
    /// Its id.
    pub event_id: String,
    /// Its user.
    pub user: String,
    /// `retracted`, also when it had been retracted before; `queued` until the shared store is back.
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
    /// True if there was anything to erase.
    pub existed: bool,
    /// Number of events that had counted.
    pub n: u64,
    /// The time of the erasure (RFC 3339).
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
    /// Number of questions of GET /elicit.
    pub questions: usize,
}

/// One reward head.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HeadView {
    /// Its name.
    pub name: String,
    /// Its share of the population.
    pub prior: f64,
    /// Its inverse temperature: `beta (r(a) - r(b))` are the log-odds of preferring `a`.
    pub beta: f64,
}
