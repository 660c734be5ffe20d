//! A sample of the users, for the objectives that serve all of them.

use std::sync::{Arc, Weak};

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::work::work;
use super::{Service, unavailable};
use crate::mixture::Evidence;
use crate::state::StoreError;
use crate::types::{Error, Stale, metric};

/// The sample as it was taken last. It is at most as old as `population.refresh`, and the time taking it took.
#[derive(Default)]
pub(super) struct Population(Mutex<Option<(Instant, Arc<[Evidence]>)>>);

impl Service {
    /// What each user of the sample has said, as it counted when the sample was taken; nobody before the first feedback.
    ///
    /// One request takes the sample and the others wait for it. An erased user is in it until it is taken anew. While the
    /// store can't be reached the last sample does, or nobody, and how old it is comes with it.
    pub(super) async fn population(&self) -> Result<(Arc<[Evidence]>, Option<Stale>), Error> {
        let settings = self.settings.population;
        let mut sample = self.population.0.lock().await;
        if let Some((taken, users)) = &*sample
            && taken.elapsed() < settings.refresh
        {
            return Ok((users.clone(), None));
        }
        let rows = match self.accounts.store().sample(settings.users.get()).await {
            Ok(rows) => rows,
            Err(StoreError::Unreachable { .. }) => {
                metrics::counter!(metric::STALE_READS).increment(1);
                let (age, users) =
                    sample.as_ref().map(|(taken, users)| (taken.elapsed(), users.clone())).unzip();
                let age_ms = age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                return Ok((users.unwrap_or_default(), Some(Stale { age_ms })));
            }
            Err(error) => return Err(unavailable(error)),
        };
        let (now_ms, decay) = (self.now_ms(), self.settings.router.decay);
        let read = move |_: &Weak<()>| rows.iter().map(|row| row.ledgers.evidence(now_ms, decay)).collect();
        let users: Arc<[Evidence]> = work("population", false, read).await?;
        // After the work: a sample that takes longer than `refresh` must not be taken by every request anew.
        *sample = Some((Instant::now(), users.clone()));
        Ok((users, None))
    }
}
