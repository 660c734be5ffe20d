//! Search for events that a row has forgotten: one thread at a time reads the journal for all waiting callers.
//!
//! The law: a search finds the events that are in the sums. An event is not in them if it was retracted, or if an
//! import or an erasure came after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::events::{EventLog, Logged};
use crate::state::journal::OpenError;
use crate::state::{ChangeKind, EventKey, LedgerEvent, MergeStep, StoreError, UserKey, Withdrawn};
use crate::telemetry::metric;

/// Result of a search for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The event counts; the increments to subtract.
    Standing(Vec<Withdrawn>),
    /// It was retracted before.
    TakenBack,
    /// It is not in the journal, or not in the sums.
    Nothing,
}

/// The waiting searches, and the turn to read the journal.
#[derive(Debug, Default)]
pub(super) struct Search {
    waiting: Mutex<Vec<Wanted>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    n_passes: AtomicU64,
}

type Answer = Result<Found, Arc<str>>;

/// An event that is searched for.
#[derive(Debug)]
struct Wanted {
    /// The user, and the ids that were merged into it.
    users: Vec<UserKey>,
    key: EventKey,
    answer: oneshot::Sender<Answer>,
}

impl Search {
    /// Searches for an event of a user, the first of `users`, in all that was durable at the call. The others are the
    /// ids that were merged into it.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub(super) async fn find(
        &self,
        log: EventLog,
        users: Vec<UserKey>,
        key: EventKey,
    ) -> Result<Found, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().push(Wanted { users, key, answer });
        let turn = self.turn.clone().lock_owned().await;
        let found = match answered.try_recv() {
            Ok(found) => found,
            Err(_) => {
                let wanted = std::mem::take(&mut *self.waiting.lock());
                let n_passes = 1 + self.n_passes.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(n_passes, events = wanted.len(), "searching the journal");
                // The turn ends with the pass, even if the caller is dropped meanwhile.
                let pass = move || {
                    pass(&log, wanted);
                    drop(turn);
                };
                let ended = tokio::task::spawn_blocking(pass).await.map_err(|error| error.to_string().into());
                ended.and_then(|()| answered.try_recv().unwrap_or_else(|_| Err("it was not read".into())))
            }
        };
        found.map_err(StoreError::Unreadable)
    }
}

/// Reads the journal once for all waiting searches.
fn pass(log: &EventLog, wanted: Vec<Wanted>) {
    let start = Instant::now();
    let traces = trace(log, &wanted).map_err(|error| error.to_string().into());
    metrics::histogram!(metric::STORE_SECONDS, "op" => "search").record(start.elapsed());
    for (idx, Wanted { users, answer, .. }) in wanted.into_iter().enumerate() {
        let found = |traces: &Vec<Traces>| {
            users.first().and_then(|user| traces[idx].get(user)).map_or(Found::Nothing, Trace::found)
        };
        // The caller may have been dropped.
        _ = answer.send(traces.as_ref().map(found).map_err(Arc::clone));
    }
}

/// Traces of the events with one key, per id.
type Traces = HashMap<UserKey, Trace>;

fn trace(log: &EventLog, wanted: &[Wanted]) -> Result<Vec<Traces>, OpenError> {
    let mut traces: Vec<Traces> = wanted.iter().map(|_| HashMap::new()).collect();
    let mut of_user: HashMap<UserKey, Vec<usize>> = HashMap::new();
    for (idx, Wanted { users, .. }) in wanted.iter().enumerate() {
        users.iter().for_each(|user| of_user.entry(*user).or_default().push(idx));
    }
    for logged in log.changes_of(of_user.keys().copied().collect())? {
        let logged = logged?;
        for &idx in of_user.get(&logged.change.user).into_iter().flatten() {
            see(&mut traces[idx], wanted[idx].key, &logged);
        }
    }
    Ok(traces)
}

fn see(traces: &mut Traces, key: EventKey, logged: &Logged) {
    let absorbed = match &logged.change.kind {
        ChangeKind::Merge(MergeStep::Absorb(absorbed)) => traces.remove(&absorbed.from),
        _ => None,
    };
    let trace = traces.entry(logged.change.user).or_default();
    trace.see(key, logged);
    if let Some(mut absorbed) = absorbed {
        absorbed.forget(logged);
        trace.absorb(absorbed);
    }
}

/// State of the events with one key while the journal is read.
#[derive(Debug, Default)]
struct Trace {
    standing: Vec<StandingEvent>,
    was_taken_back: bool,
    /// Time of the row's mark of their retraction, in milliseconds since the Unix epoch, until the window passes it.
    taken_back_until_ms: Option<i64>,
}

#[derive(Debug)]
struct StandingEvent {
    event: Withdrawn,
    /// True while the row remembers it, so that a retraction is exact at once.
    is_remembered: bool,
}

impl Trace {
    /// Forgets the events that the row forgets at a change.
    fn forget(&mut self, Logged { change, max_age_ms, .. }: &Logged) {
        let cutoff_ms = change.now_ms.saturating_sub(*max_age_ms);
        self.standing
            .iter_mut()
            .for_each(|standing| standing.is_remembered &= standing.event.at_ms >= cutoff_ms);
        self.taken_back_until_ms = self.taken_back_until_ms.filter(|at_ms| *at_ms >= cutoff_ms);
    }

    fn see(&mut self, key: EventKey, logged: &Logged) {
        self.forget(logged);
        let Logged { change, max_age_ms, .. } = logged;
        match &change.kind {
            ChangeKind::Add(event) if event.key == key => {
                self.standing.push(StandingEvent { event: Withdrawn::of(event), is_remembered: true });
            }
            ChangeKind::Retract(taken) | ChangeKind::Add(LedgerEvent { replaces: Some(taken), .. })
                if *taken == key =>
            {
                let remembered = self.standing.iter().rfind(|standing| standing.is_remembered);
                let until_ms = remembered.map(|standing| standing.event.at_ms);
                self.was_taken_back |= until_ms.is_some();
                self.standing.retain(|standing| !standing.is_remembered);
                let sought = || change.now_ms.saturating_add(*max_age_ms);
                self.taken_back_until_ms =
                    self.taken_back_until_ms.max(Some(until_ms.unwrap_or_else(sought)));
            }
            ChangeKind::Withdraw(withdrawal) if withdrawal.key == key => {
                self.standing.clear();
                self.was_taken_back = true;
            }
            ChangeKind::Erase | ChangeKind::Import(_) => *self = Self::default(),
            ChangeKind::Add(_) | ChangeKind::Retract(_) | ChangeKind::Withdraw(_) | ChangeKind::Merge(_) => {}
        }
    }

    /// Adds the trace of an absorbed id as `Row` does: an event that was retracted under either id is retracted under
    /// both, and one that was sent under both counts once.
    fn absorb(&mut self, theirs: Self) {
        let is_taken_back = self.taken_back_until_ms.max(theirs.taken_back_until_ms).is_some();
        let is_mine = |standing: &StandingEvent, mine: &[StandingEvent]| {
            let is_same = |own: &StandingEvent| own.is_remembered && own.event.is_same(&standing.event);
            standing.is_remembered && mine.iter().any(is_same)
        };
        let theirs_alone: Vec<StandingEvent> =
            theirs.standing.into_iter().filter(|standing| !is_mine(standing, &self.standing)).collect();
        self.standing.extend(theirs_alone);
        if is_taken_back {
            self.was_taken_back |= self.standing.iter().any(|standing| standing.is_remembered);
            self.standing.retain(|standing| !standing.is_remembered);
        }
        self.was_taken_back |= theirs.was_taken_back;
        self.taken_back_until_ms = self.taken_back_until_ms.max(theirs.taken_back_until_ms);
    }

    fn found(&self) -> Found {
        if !self.standing.is_empty() {
            Found::Standing(self.standing.iter().map(|standing| standing.event.clone()).collect())
        } else if self.was_taken_back {
            Found::TakenBack
        } else {
            Found::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn retractions_that_wait_share_one_pass_and_one_is_under_way_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let search = Arc::new(Search::default());
        let turn = search.turn.clone().lock_owned().await;
        let find = |n: u64| {
            let (search, log) = (search.clone(), EventLog::of(dir.path().to_owned()));
            tokio::spawn(
                async move { search.find(log, vec![UserKey::from([n as u8; 16])], EventKey(n)).await },
            )
        };
        let waiting: Vec<_> = (0..100).map(find).collect();
        while search.waiting.lock().len() < waiting.len() {
            tokio::task::yield_now().await;
        }
        assert_eq!(search.n_passes.load(Ordering::Relaxed), 0);
        // A search whose caller was dropped still runs, and delays no other.
        waiting[0].abort();
        drop(turn);
        for found in waiting.into_iter().skip(1) {
            assert_eq!(found.await.unwrap().unwrap(), Found::Nothing);
        }
        assert_eq!(search.n_passes.load(Ordering::Relaxed), 1);
        assert!(search.waiting.lock().is_empty());
    }
}
