//! The census: the number of users in the store, and the smallest keys among them.

use std::sync::atomic::Ordering;

use redis::Value as Answer;

use super::connection::Unreachable;
use super::{MAX_SAMPLE, Shared};
use crate::state::UserKey;

impl Shared {
    /// Records the users who joined and left. Later calls correct the count while it is below `MAX_SAMPLE`.
    pub(super) async fn note(&self, joined: &[UserKey], left: &[UserKey]) {
        if joined.is_empty() && left.is_empty() {
            return;
        }
        match self.connection.ask(self.keys.note(MAX_SAMPLE, joined, left)).await {
            Ok(Answer::Int(n_users)) => {
                self.n_users.store(usize::try_from(n_users).unwrap_or_default(), Ordering::Relaxed);
            }
            Ok(answer) => tracing::debug!(?answer, "users were not counted"),
            Err(unreachable) => tracing::debug!(%unreachable, "users were not counted"),
        }
    }

    /// Reads the number of users from the store.
    pub(super) async fn count(&self) {
        if let Ok(Answer::BulkString(digits)) = self.connection.ask(self.keys.count()).await
            && let Some(n_users) = std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok())
        {
            self.n_users.store(n_users, Ordering::Relaxed);
        }
    }

    pub(super) async fn smallest(&self, n: usize) -> Result<Vec<UserKey>, Unreachable> {
        let Answer::Array(members) = self.connection.ask(self.keys.smallest(n)).await? else {
            return Ok(Vec::new());
        };
        let key = |member| match member {
            Answer::BulkString(bytes) => <[u8; 16]>::try_from(bytes).ok().map(UserKey::from),
            _ => None,
        };
        Ok(members.into_iter().filter_map(key).collect())
    }
}
