//! /users/{id}/merge: merges the id that a user had before signing in into the account.

use super::feedback::full;
use super::{Service, unavailable};
use crate::state::MergeError;
use crate::types::{Error, ErrorKind, MergeAnswer, UserId};

impl Service {
    /// Makes `from` an id of the account `into`: its feedback, past and future, counts exactly for the account. Doing
    /// it twice is no error.
    ///
    /// # Errors
    /// `Invalid` for an id and itself; `Conflict` for an id of another account, an account that was merged into
    /// `from`, and one with too many ids; `NotFound` where the engine can't merge; `StoreUnavailable`, after
    /// which a retry continues.
    pub async fn merge(&self, from: &UserId, into: &UserId) -> Result<MergeAnswer, Error> {
        if from == into {
            return Err(Error::invalid_field("from", "found the user itself, expected another id"));
        }
        let account = self.accounts.merge(from, into, self.now_ms()).await.map_err(|error| {
            let conflict = |code, detail: String| Error::new(ErrorKind::Conflict, detail).with_code(code).with_field("from");
            match error {
                MergeError::Store(error) => unavailable(error),
                MergeError::Cycle => conflict("merge_cycle", format!("`{into}` has been merged into `{from}`")),
                MergeError::Elsewhere => {
                    conflict("merged_user", format!("`{from}` has been merged into another account"))
                }
                MergeError::TooMany { max } => {
                    conflict("too_many_ids", format!("`{into}` has {max} ids, and no more can be remembered"))
                }
                MergeError::Full { max_users } => full(max_users),
                MergeError::NotSupported => {
                    let detail = "this `state.engine` does not merge users: sign in before the first feedback, or use the \
                                  embedded engine";
                    Error::new(ErrorKind::NotFound, detail).with_code("not_supported")
                }
            }
        })?;
        let row = self.accounts.get(self.keys.of(&account), 0).await.map_err(unavailable)?.row;
        let (version, n) = row.map_or((0, 0), |row| (row.version, row.ledgers.n_events()));
        Ok(MergeAnswer { user: account.into(), from: from.to_string(), n, version })
    }
}
