//! A sample of the users, for the objectives that serve all of them.

use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::work::work;
use super::{Service, unavailable};
use crate::mixture::{Decay, Evidence};
use crate::state::{StoreError, UserStore};
use crate::telemetry::metric;
use crate::types::{Error, ErrorKind, Stale};

/// The last sample, and the one that is being taken.
///
/// The law: one sample is taken at a time, to its end, also when its callers stop waiting: one that outlasts its
/// callers is there for the next.
#[derive(Default)]
pub(super) struct Population(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    /// The last sample, used for `population.refresh`; its evidence is older by the time that taking it took.
    last: Option<Sample>,
    next: Option<Taking>,
}

/// A sample that is being taken, for all callers that wait for it.
type Taking = Shared<BoxFuture<'static, Result<Sample, Arc<Error>>>>;

#[derive(Clone)]
struct Sample {
    taken: Instant,
    users: Arc<[Evidence]>,
    /// Staleness of the sample, if the store could not be reached for another.
    stale: Option<Stale>,
}

/// The inputs of a sample, which does not depend on its callers.
struct Scan {
    population: Arc<Population>,
    store: Arc<dyn UserStore>,
    n_users: usize,
    now_ms: i64,
    decay: Decay,
}

impl Service {
    /// Returns the evidence of each user of the sample, as of when it was taken; no user before the first feedback.
    ///
    /// An erased user is in it until it is taken anew. While the store can't be reached, the last sample is used, or
    /// an empty one, and its staleness is returned with it.
    pub(super) async fn population(&self) -> Result<(Arc<[Evidence]>, Option<Stale>), Error> {
        let settings = self.settings.population;
        let next = {
            let mut samples = self.population.0.lock();
            if let Some(Sample { taken, users, .. }) = &samples.last
                && taken.elapsed() < settings.refresh
            {
                return Ok((users.clone(), None));
            }
            let begin = || {
                let scan = Scan {
                    population: self.population.clone(),
                    store: self.accounts.store().clone(),
                    n_users: settings.sample_size.get(),
                    now_ms: self.now_ms(),
                    decay: self.settings.posterior.decay,
                };
                let ended_early = |error| {
                    let error = Error::new(ErrorKind::Internal, "taking a sample of the users ended early")
                        .with_source(error);
                    Err(Arc::new(error))
                };
                tokio::spawn(scan.take()).map(move |taken| taken.unwrap_or_else(ended_early)).boxed().shared()
            };
            // A sample that has ended and is still here belongs to a task that panicked.
            let going_on = samples.next.take().filter(|next| next.peek().is_none());
            samples.next.insert(going_on.unwrap_or_else(begin)).clone()
        };
        next.await.map(|Sample { users, stale, .. }| (users, stale)).map_err(|error| error.again())
    }
}

impl Scan {
    /// Takes a sample and keeps it. All waiting callers get its failure, and the next caller tries again.
    async fn take(self) -> Result<Sample, Arc<Error>> {
        let sample = self.sample().await.map_err(Arc::new);
        // The source is logged here, as several answers can't carry it.
        sample.as_ref().err().into_iter().for_each(|error| error.log());
        let mut samples = self.population.0.lock();
        samples.next = None;
        if let Ok(sample @ Sample { stale: None, .. }) = &sample {
            samples.last = Some(sample.clone());
        }
        sample
    }

    async fn sample(&self) -> Result<Sample, Error> {
        let rows = match self.store.sample(self.n_users).await {
            Ok(rows) => rows,
            Err(StoreError::Unreachable { .. }) => {
                metrics::counter!(metric::STALE_READS).increment(1);
                let last = self.population.0.lock().last.clone();
                let age_ms =
                    |last: &Sample| u64::try_from(last.taken.elapsed().as_millis()).unwrap_or(u64::MAX);
                let stale = Some(Stale { age_ms: last.as_ref().map(age_ms) });
                let users = last.map_or_else(|| Arc::from([]), |last| last.users);
                return Ok(Sample { taken: Instant::now(), users, stale });
            }
            Err(error) => return Err(unavailable(error)),
        };
        let (now_ms, decay) = (self.now_ms, self.decay);
        let read = move |_: &Weak<()>| rows.iter().map(|row| row.ledgers.evidence(now_ms, decay)).collect();
        let users: Arc<[Evidence]> = work("population", false, read).await?;
        // The time is read after the work: a sample that takes longer than `refresh` must not be taken by every
        // request anew.
        Ok(Sample { taken: Instant::now(), users, stale: None })
    }
}
