//! /users: what is known of somebody, and forgetting it.

use jiff::Timestamp;

use super::feedback::full_of_strangers;
use super::{Service, context_key, unavailable};
use crate::mixture::Ledger;
use crate::state::{Change, ChangeKind, Outcome};
use crate::types::{Erased, Error, ErrorKind, UserId, UserView};

impl Service {
    /// One user's evidence, and the weights that follow from it under the population prior, in general or in a context.
    ///
    /// # Errors
    /// `NotFound` for somebody who has given no feedback; `TooLarge` for a context that no feedback can have.
    pub async fn user(&self, user: &UserId, context: Option<String>) -> Result<UserView, Error> {
        let context = self.check_context(context)?;
        let asked = context_key(context.as_deref());
        let (row, stale) = self.row(Some(user), 0).await?;
        if row.is_none() && stale.is_some() {
            return Err(Error::new(ErrorKind::StoreUnavailable, "the user can't be looked up now"));
        }
        let row = row.filter(|row| !row.is_tombstone()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no feedback of `{user}`"))
                .with_code("unknown_user")
        })?;
        let evidence = self.evidence(Some(&row));
        let weights = self.weights(&self.bundle.log_prior(), &evidence, asked);
        let decay = self.settings.router.decay;
        let (nats, n, last_at_ms) = match asked {
            None => (evidence.total(), row.ledgers.n_events(), row.ledgers.last_at_ms()),
            Some(_) => {
                let ledger = row.ledgers.of(asked);
                let nats = ledger.map(|ledger| ledger.evidence(self.now_ms(), decay));
                (
                    nats.unwrap_or_else(|| vec![0.0; self.bundle.n_heads()]),
                    ledger.map_or(0, Ledger::n_events),
                    ledger.and_then(Ledger::last_at_ms),
                )
            }
        };
        Ok(UserView {
            user: user.to_string(),
            revision: self.revision(),
            context,
            effective_heads: weights.effective_heads(),
            weights: weights.as_slice().to_vec(),
            evidence: nats,
            n,
            last_event: last_at_ms
                .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                .map(|at| at.to_string()),
            contexts: row.ledgers.contexts().len(),
            version: row.version,
            stale,
            ledger: self.exported(&row.ledgers),
        })
    }

    /// Forgets everything about a user. Doing it twice is no error.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn erase(&self, user: &UserId) -> Result<Erased, Error> {
        let row = self.row(Some(user), 0).await?.0.filter(|row| !row.is_tombstone());
        let outcome = self.change(user, ChangeKind::Erase).await?;
        self.receipts.forget(user).await;
        if let Outcome::Full { max_users } = outcome {
            return Err(full_of_strangers(max_users));
        }
        Ok(Erased {
            user: user.to_string(),
            existed: row.is_some(),
            n: row.map_or(0, |row| row.ledgers.n_events()),
            erased_at: self.clock.now().to_string(),
        })
    }

    /// Makes one change of a user's row.
    pub(super) async fn change(&self, user: &UserId, kind: ChangeKind) -> Result<Outcome, Error> {
        let change = Change { user: self.keys.of(user), now_ms: self.now_ms(), kind };
        let outcomes = self.store.change(vec![change]).await.map_err(unavailable)?;
        outcomes.first().copied().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the store answered fewer changes than it was given")
        })
    }
}
