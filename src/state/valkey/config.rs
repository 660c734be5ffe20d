//! Location and settings of the shared store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::state::{LedgerId, RowRules};
use crate::types::{Clock, Secret};

/// Location and settings of the shared store.
#[derive(Debug, Clone)]
pub struct ValkeyConfig {
    /// One server, or some nodes of a cluster. A URL may hold a password.
    pub urls: Vec<Secret>,
    /// True if the store is a cluster.
    pub is_cluster: bool,
    /// Login name; empty for the default user, or the one in the URL.
    pub username: String,
    /// Password; empty for none, or the one in the URL.
    pub password: Secret,
    /// Secret of the user keys, the same on every replica; empty for unkeyed hashes.
    pub user_key: Secret,
    /// Certificates that are trusted instead of the default ones, in PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Prefix of every key.
    pub prefix: String,
    /// Timeout for connecting.
    pub connect_timeout: Duration,
    /// Timeout for a response, after which the store is taken to be away.
    pub response_timeout: Duration,
    /// Age up to which a cached row is served without a request to the store.
    pub max_staleness: Duration,
    /// The heads that its ledgers belong to.
    pub ledger_id: LedgerId,
    /// Retention and decay rules of the rows.
    pub rules: RowRules,
    /// Approximate upper bound on the number of users.
    pub max_users: usize,
    /// Bound on the rows in the cache.
    pub cached_users: usize,
    /// Directory of the outbox; without one, feedback is refused while the store is away.
    pub outbox: Option<PathBuf>,
    /// True if the ack of a queued change waits for the disk.
    pub is_sync: bool,
    /// Time after an erasure within which the user's dead letters are dropped.
    pub erase_within: Duration,
    /// Clock that dates retried changes, and by which dead letters age.
    pub clock: Arc<dyn Clock>,
}
