//! /users: returns a user's evidence, and erases users.

use std::sync::Arc;

use jiff::Timestamp;

use super::feedback::full_of_unknown_users;
use super::{Service, context_key, unavailable, unreadable};
use crate::mixture::Ledger;
use crate::state::{Change, ChangeKind, Outcome};
use crate::types::{Erased, Error, ErrorKind, UserId, UserView};

impl Service {
    /// Returns one user's evidence, and the weights that follow from it under the population prior, in
    /// general or in a context.
    ///
    /// # Errors
    /// `NotFound` for a user without feedback; `TooLarge` for a context that no feedback can have.
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
        let decay = self.settings.posterior.decay;
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
        let merged_into = self.accounts.account_of(user).await.map_err(unavailable)?;
        Ok(UserView {
            user: user.to_string(),
            merged_into: merged_into.map(Into::into),
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

    /// Erases a user, and with an account the ids that were merged into it. A merged id alone is erased without the
    /// evidence that counts for its account. Doing it twice is no error. An erasure that has begun runs to its end,
    /// also when its caller disconnects: a row that is erased must not leave receipts behind.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn erase(self: &Arc<Self>, user: &UserId) -> Result<Erased, Error> {
        let (service, user) = (self.clone(), user.clone());
        let erasure = tokio::spawn(async move { service.erase_all(&user).await });
        erasure.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "the erasure ended early").with_source(error))
        })
    }

    async fn erase_all(&self, user: &UserId) -> Result<Erased, Error> {
        let erasure = self.accounts.erase(self.keys.of(user), self.now_ms()).await.map_err(unavailable)?;
        let (existed, n) = match erasure.before {
            Ok(row) => {
                let row = row.filter(|row| !row.is_tombstone() || row.is_moved());
                (row.is_some(), row.map_or(0, |row| row.ledgers.n_events()))
            }
            // The number of events in a damaged row is unknown, and the row is erased all the same.
            Err(_) => (true, 0),
        };
        self.receipts.forget(&erasure.erased).await;
        match erasure.outcome {
            // An id that was merged into an account whose row is damaged can't be emptied, as its evidence can't move
            // there.
            Outcome::Unreadable | Outcome::Moved => return Err(unreadable()),
            Outcome::Full { max_users } => return Err(full_of_unknown_users(max_users)),
            _ => {}
        }
        Ok(Erased { user: user.to_string(), existed, n, erased_at: self.clock.now().to_string() })
    }

    /// Applies one change to a user's row.
    pub(super) async fn change(&self, user: &UserId, kind: ChangeKind) -> Result<Outcome, Error> {
        let change = Change { user: self.keys.of(user), now_ms: self.now_ms(), kind };
        let outcomes = self.accounts.change(vec![change]).await.map_err(unavailable)?;
        outcomes.first().copied().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the store answered fewer changes than it was given")
        })
    }
}
