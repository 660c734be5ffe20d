//! The secret of the user keys: the same on every replica, or none.
//!
//! The secret is configured and not kept in the store: replicas that start while the store is away need it as well, and
//! a reader of the store must not find it beside the rows. The store has its fingerprint, so that a replica with
//! another secret is refused, instead of silently finding no user.

use std::sync::atomic::Ordering;

use redis::Value as Answer;

use super::Shared;
use crate::state::{OpenError, UserKeys};

impl Shared {
    /// Checks that the store's user keys have the same secret as here; false if the store can't be asked. A store with
    /// users but without a fingerprint is taken to have unkeyed hashes.
    pub(super) async fn agree(&self) -> Result<bool, OpenError> {
        let own = self.user_keys.fingerprint();
        let is_filled = self.n_users.load(Ordering::Relaxed) > 0;
        let note = self.keys.note_secret(if is_filled { UserKeys::default().fingerprint() } else { own });
        let Ok(answers) = self.connection.send(vec![note, self.keys.get_secret()]).await else {
            return Ok(false);
        };
        let Some(Answer::BulkString(noted)) = answers.last() else {
            tracing::warn!(?answers, "how users are known could not be noted in the shared store");
            return Ok(true);
        };
        match *noted == format!("{own:016x}").into_bytes() {
            true => Ok(true),
            false => Err(OpenError::Valkey(
                "`valkey.user_key`: found rows that were written with another one, or with none".to_owned(),
            )),
        }
    }
}
