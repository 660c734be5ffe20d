//! From the store to weights: a user's row, its evidence as of now, and the weights that follow.

use super::{Service, unavailable};
use crate::mixture::{Evidence, Routing, Weights};
use crate::state::{Freshness, Row};
use crate::telemetry::metric;
use crate::types::{Error, ErrorKind, Stale, UserId};

impl Service {
    /// Returns a user's row, no older than `min_version`, and its staleness if the store can't be reached.
    ///
    /// Without the store, an older row is enough for a caller that asks for no version, and an error for one that does.
    pub(super) async fn row(
        &self,
        user: Option<&UserId>,
        min_version: u64,
    ) -> Result<(Option<Row>, Option<Stale>), Error> {
        let Some(user) = user else { return Ok((None, None)) };
        let read = self.accounts.get(self.keys.of(user), min_version).await.map_err(unavailable)?;
        let age_ms = match read.freshness {
            Freshness::Current => return Ok((read.row, None)),
            Freshness::Stale(age) => Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            Freshness::Unknown => None,
        };
        metrics::counter!(metric::STALE_READS).increment(1);
        let version = read.row.as_ref().map_or(0, |row| row.version);
        if version < min_version {
            metrics::counter!(metric::STORE_UNAVAILABLE).increment(1);
            let detail =
                format!("only version {version} of the user is known here, and no newer one can be read now");
            return Err(Error::new(ErrorKind::StoreUnavailable, detail).with_field("min_version"));
        }
        Ok((read.row, Some(Stale { age_ms })))
    }

    /// Returns the evidence of a row as of now; none without a row.
    pub(super) fn evidence(&self, row: Option<&Row>) -> Evidence {
        row.map_or_else(
            || Evidence::none(self.bundle.n_heads()),
            |row| row.ledgers.evidence(self.now_ms(), self.settings.posterior.decay),
        )
    }

    /// Returns the weights of a user in general or in a context; without evidence, the prior's, floored.
    pub(super) fn weights(&self, log_prior: &[f64], evidence: &Evidence, asked: Option<u64>) -> Weights {
        evidence.weights(log_prior, asked, self.routing(), self.settings.posterior.transfer)
    }

    /// Returns the rule from evidence to weights: the configured one, or the bundle's.
    pub(super) fn routing(&self) -> Routing {
        self.settings.posterior.routing(self.bundle.manifest().learning_rate)
    }
}
