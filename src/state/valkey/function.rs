//! The functions that run inside the store, and the commands that call them.
//!
//! The law: a name is never given to other code. Changed code gets a new name, so that replicas of two versions of this
//! program share one store, and neither replaces the functions of the other.

use redis::{Cmd, cmd};

use super::value::Value;
use crate::state::UserKey;

/// All functions, as one library.
const LIBRARY: &str = include_str!("function.lua");

const SWAP: &str = "micro_reward_swap_v1";
const CENSUS: &str = "micro_reward_census_v1";

/// A swap for a key that holds something other than a row, which has no tag to compare. Only an erasure uses it, too
/// rarely to load it as a function.
const OVERWRITE: &str = include_str!("overwrite.lua");

/// The names of the keys of one set of ledgers.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// `{prefix}{ledger_id}:`, so that the ledgers of two bundles never mix.
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, ledger_id: u64) -> Self {
        Self { prefix: format!("{prefix}{ledger_id:016x}:") }
    }

    /// Returns the key of a user's row, the only key of that user.
    pub(super) fn row(&self, user: UserKey) -> String {
        format!("{}{user}", self.prefix)
    }

    /// Returns the keys of the smallest user keys and of the user count, which their tag puts in one slot of a cluster.
    fn census(&self) -> (String, String) {
        (format!("{}{{census}}:users", self.prefix), format!("{}{{census}}:count", self.prefix))
    }

    /// Records the fingerprint of the secret, unless one is recorded.
    pub(super) fn note_secret(&self, fingerprint: u64) -> Cmd {
        let mut note = cmd("SET");
        note.arg(self.secret()).arg(format!("{fingerprint:016x}")).arg("NX");
        note
    }

    /// Reads the fingerprint of the secret.
    pub(super) fn get_secret(&self) -> Cmd {
        let mut get = cmd("GET");
        get.arg(self.secret());
        get
    }

    fn secret(&self) -> String {
        format!("{}{{census}}:secret", self.prefix)
    }

    /// Reads a row.
    pub(super) fn get(&self, user: UserKey) -> Cmd {
        let mut get = cmd("GET");
        get.arg(self.row(user));
        get
    }

    /// Replaces a row, to be kept for `ttl_ms` milliseconds; 0 is forever.
    pub(super) fn swap(&self, user: UserKey, expected: Option<&Value>, new: &Value, ttl_ms: u64) -> Cmd {
        if expected.is_some_and(Value::is_of_another_type) {
            let mut overwrite = cmd("EVAL");
            overwrite.arg(OVERWRITE).arg(1).arg(self.row(user)).arg(new.as_bytes()).arg(ttl_ms);
            return overwrite;
        }
        let (key, expected) = (self.row(user), expected.map_or(&[][..], Value::tag));
        let mut swap = Cmd::with_capacity(7, key.len() + new.as_bytes().len() + 64);
        swap.arg("FCALL").arg(SWAP).arg(1).arg(key).arg(expected).arg(new.as_bytes()).arg(ttl_ms);
        swap
    }

    /// Records the users who joined and left, keeping the `bound` smallest keys.
    pub(super) fn note(&self, bound: usize, joined: &[UserKey], left: &[UserKey]) -> Cmd {
        let (users, count) = self.census();
        let mut note = cmd("FCALL");
        note.arg(CENSUS).arg(2).arg(users).arg(count).arg(bound).arg(joined.len());
        joined.iter().chain(left).for_each(|user| _ = note.arg(user.as_bytes()));
        note
    }

    /// Reads the number of users.
    pub(super) fn count(&self) -> Cmd {
        let mut count = cmd("GET");
        count.arg(self.census().1);
        count
    }

    /// Reads the `n` smallest user keys.
    pub(super) fn smallest(&self, n: usize) -> Cmd {
        let mut smallest = cmd("ZRANGE");
        smallest.arg(self.census().0).arg(0).arg(n - 1);
        smallest
    }
}

/// Loads the functions, on every primary of a cluster.
pub(super) fn load() -> Cmd {
    let mut load = cmd("FUNCTION");
    load.arg("LOAD").arg(LIBRARY);
    load
}
