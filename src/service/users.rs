//! /users: what is known of somebody, and forgetting it.

use jiff::Timestamp;

use super::{Service, unavailable};
use crate::types::{Erased, Error, ErrorKind, UserId, UserView};

impl Service {
    /// One user's evidence, and the weights that follow from it under the population prior.
    ///
    /// # Errors
    /// `NotFound` for somebody who has given no feedback.
    pub async fn user(&self, user: &UserId) -> Result<UserView, Error> {
        let row = self.row(Some(user)).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no feedback of `{user}`"))
                .with_code("unknown_user")
        })?;
        let weights = self.weights(&self.bundle.log_prior(), Some(&row));
        Ok(UserView {
            user: user.to_string(),
            revision: self.revision(),
            effective_heads: weights.effective_heads(),
            weights: weights.as_slice().to_vec(),
            evidence: row.ledger.evidence(self.now_ms(), self.settings.router.decay),
            n: row.ledger.n_events(),
            last_event: row
                .ledger
                .last_at_ms()
                .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                .map(|at| at.to_string()),
        })
    }

    /// Forgets everything about a user. Doing it twice is no error.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn erase(&self, user: &UserId) -> Result<Erased, Error> {
        let row = self.store.erase(user).await.map_err(unavailable)?;
        Ok(Erased {
            user: user.to_string(),
            existed: row.is_some(),
            n: row.map_or(0, |row| row.ledger.n_events()),
            erased_at: self.clock.now().to_string(),
        })
    }
}
