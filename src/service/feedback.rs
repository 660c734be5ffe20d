//! /feedback: turns a judgment into an increment of one ledger of its user.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::pipeline::{Item, Unscored};
use super::resolve::{PendingFeedback, Unresolved, millis};
use super::{Service, context_key, unavailable, unreadable};
use crate::mixture::{Increment, pair, ranking, rating, thumb, tie};
use crate::state::{Change, ChangeKind, EventKey, LedgerEvent, Outcome, Row, StoreError, UserKey};
use crate::telemetry::metric;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId, Judgment, ResolvedFeedback};

/// Events looked up without a pause on an async thread, at about 2 us each.
const EVENTS_AT_ONCE: usize = 256;

/// Pairs of responses scored without a pause on an async thread, at about 0.4 us each for ten heads.
const PAIRS_AT_ONCE: usize = 1000;

/// The state of an event before the store is asked.
enum Step {
    /// The answer is complete.
    Answered(Result<Ack, Error>),
    /// The receipts of the event are gone. It may be a retry: it is no error if its row remembers the event, or if
    /// the event came earlier in this batch.
    Forgotten { event_id: EventId, user: UserKey, before: Option<Outcome>, error: Box<Error> },
    /// The feedback is sent to the store, whose outcome is the answer.
    Taken(Arc<ResolvedFeedback>),
}

/// The effects of a batch so far: versions of rows, and the events that the rows remember, each with whether it counts.
#[derive(Default)]
struct BatchEffects(HashMap<UserKey, (u64, HashMap<EventKey, bool>)>);

impl BatchEffects {
    fn note(&mut self, resolved: &ResolvedFeedback, user: UserKey, outcome: Outcome) {
        let (version, counts) = match outcome {
            Outcome::Applied(version) | Outcome::Replaced(version) | Outcome::Duplicate(version) => {
                (version, true)
            }
            Outcome::Retracted { version, .. } => (version, false),
            _ => return,
        };
        let (latest, events) = self.0.entry(user).or_default();
        *latest = version;
        events.insert(EventKey::of(&resolved.event_id), counts);
        // A feedback that does not change the row replaced its event before, and the row reflects it.
        let replaced = resolved.replaces.as_ref().filter(|_| outcome.changes_the_row());
        events.extend(replaced.map(|replaced| (EventKey::of(replaced), false)));
    }

    /// Returns the outcome of a retry, if the row knew the event before the batch or the event came earlier in the
    /// batch.
    fn known(&self, user: UserKey, event: EventKey, before: Option<Outcome>) -> Option<Outcome> {
        let effects = self.0.get(&user);
        let latest = effects.map_or(0, |(latest, _)| *latest);
        let counts = effects.and_then(|(_, events)| events.get(&event)).copied();
        match before {
            _ if counts == Some(false) => Some(Outcome::Retracted { version: latest, is_news: false }),
            Some(Outcome::Duplicate(version)) => Some(Outcome::Duplicate(version.max(latest))),
            Some(known) => Some(known),
            None => counts.map(|_| Outcome::Duplicate(latest)),
        }
    }
}

impl Service {
    /// Applies events; one answer per event, the same as if they came one after another. An event that can't be
    /// accepted, also because the encoder or the store can't work for it now, changes nothing and does not affect the
    /// others.
    pub async fn feedback(&self, events: Vec<Event>) -> Vec<Result<Ack, Error>> {
        let now_ms = self.now_ms();
        let mut all_pending = Vec::with_capacity(events.len());
        for (idx, event) in events.into_iter().enumerate() {
            all_pending.push(self.resolve(event, now_ms));
            if idx % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        let mut ledger_events =
            self.ledger_events(all_pending.iter_mut().flatten().collect()).await.into_iter();
        let mut changes = Vec::with_capacity(all_pending.len());
        let mut steps = Vec::with_capacity(all_pending.len());
        let mut rows = HashMap::new();
        for pending in all_pending {
            steps.push(match pending {
                Err(unresolved) => self.unresolved(unresolved, &mut rows, now_ms).await,
                Ok(PendingFeedback { resolved, .. }) => {
                    match ledger_events.next().unwrap_or_else(|| Err(unanswered())) {
                        Err(error) => Step::Answered(Err(error)),
                        Ok(event) => {
                            let user = self.keys.of(&resolved.user);
                            changes.push(Change { user, now_ms, kind: ChangeKind::Add(event) });
                            Step::Taken(resolved)
                        }
                    }
                }
            });
        }
        let (n_changes, is_any_forgotten) = (changes.len(), steps.iter().any(Step::is_forgotten));
        let mut outcomes = outcomes(self.accounts.change(changes).await, n_changes).into_iter();
        let mut effects = BatchEffects::default();
        let now_ms = self.now_ms();
        let answer_of = |step| match step {
            Step::Answered(answer) => answer,
            Step::Forgotten { event_id, user, before, error } => {
                match effects.known(user, EventKey::of(&event_id), before) {
                    Some(known) => answer(&event_id, false, known, now_ms),
                    None => Err(*error),
                }
            }
            Step::Taken(resolved) => {
                let lag = Duration::from_millis(now_ms.saturating_sub(resolved.at_ms).max(0).unsigned_abs());
                metrics::histogram!(metric::FEEDBACK_LAG_SECONDS).record(lag);
                let outcome = outcomes.next().unwrap_or_else(|| Err(unanswered()))?;
                if is_any_forgotten {
                    effects.note(&resolved, self.keys.of(&resolved.user), outcome);
                }
                answer(&resolved.event_id, resolved.replaces.is_some(), outcome, now_ms)
            }
        };
        steps.into_iter().map(answer_of).collect()
    }

    /// Answers an event that was not resolved, or leaves it to the rest of the batch. `rows` holds the rows that were
    /// read for other events of the batch.
    async fn unresolved(
        &self,
        unresolved: Unresolved,
        rows: &mut HashMap<UserKey, Option<Row>>,
        now_ms: i64,
    ) -> Step {
        let (event_id, user, error) = match unresolved {
            Unresolved::Refused(error) => return Step::Answered(Err(error)),
            Unresolved::Acked(event_id, status) => return Step::Answered(Ok(ack(&event_id, status, None))),
            Unresolved::Forgotten { event_id, user, error } => (event_id, user, error),
        };
        let since_ms = now_ms.saturating_sub(millis(self.settings.window.max_age));
        let key = self.keys.of(&user);
        let row = match rows.entry(key) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(entry) => match self.row(Some(&user), 0).await {
                Ok((row, _)) => entry.insert(row),
                Err(error) => return Step::Answered(Err(error)),
            },
        };
        let before = row.as_ref().and_then(|row| row.known(EventKey::of(&event_id), None, since_ms));
        // The ack rests on the row, whose last change may not be on disk yet.
        if before.is_some()
            && let Err(error) = self.accounts.store().durable().await
        {
            return Step::Answered(Err(unavailable(error)));
        }
        Step::Forgotten { event_id, user: key, before, error }
    }

    /// Returns the increment and the ledger of each feedback, in order. Only texts that were never scored pass
    /// through the encoder, all at once as far as they fit; the error of a text is the error of its feedback.
    pub(super) async fn ledger_events(
        &self,
        all_pending: Vec<&mut PendingFeedback>,
    ) -> Vec<Result<LedgerEvent, Error>> {
        let items: Vec<Item> = all_pending.iter().filter_map(|pending| pending.item()).collect();
        let mut scored = self.score_heads_of_each(items).await.into_iter();
        let mut events = Vec::with_capacity(all_pending.len());
        let mut n_pairs = 0;
        for pending in all_pending {
            let is_new = pending.known.iter().any(Option::is_none);
            let new = match is_new.then(|| scored.next()).flatten().transpose() {
                Ok(new) => new.unwrap_or_default(),
                Err(unscored) => {
                    events.push(Err(match unscored {
                        Unscored::Text(part, error) => error.error(|| pending.field(part)),
                        Unscored::Other(error) => error,
                    }));
                    continue;
                }
            };
            let mut new = new.into_iter();
            let known = std::mem::take(&mut pending.known).into_iter();
            let log_odds = known.map(|known| known.or_else(|| new.next()).unwrap_or_default());
            let log_odds: Vec<Vec<f64>> = log_odds.collect();
            events.push(Ok(self.ledger_event(&pending.resolved, &log_odds)));
            n_pairs += 1 + log_odds.len() * log_odds.len() / 2;
            if n_pairs > PAIRS_AT_ONCE {
                n_pairs = 0;
                tokio::task::yield_now().await;
            }
        }
        events
    }

    fn ledger_event(&self, resolved: &Arc<ResolvedFeedback>, log_odds: &[Vec<f64>]) -> LedgerEvent {
        let context = context_key(resolved.context.as_deref());
        LedgerEvent {
            key: EventKey::of(&resolved.event_id),
            at_ms: resolved.at_ms,
            context,
            question: self.questions.answered(self.bundle.questions(), resolved, context),
            increment: increment(&resolved.judgment, log_odds),
            content: Some(resolved.content()),
            replaces: resolved.replaces.as_ref().map(EventKey::of),
            resolved: Some(resolved.clone()),
        }
    }
}

impl Step {
    fn is_forgotten(&self) -> bool {
        matches!(self, Self::Forgotten { .. })
    }
}

/// Returns one outcome per change, or for each change the error that the store can't work now.
fn outcomes(changed: Result<Vec<Outcome>, StoreError>, n_changes: usize) -> Vec<Result<Outcome, Error>> {
    match changed.map_err(unavailable) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error) => error.for_each_of(n_changes).map(Err).collect(),
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Internal, "the store answered fewer events than it was given")
}

fn increment(judgment: &Judgment, log_odds: &[Vec<f64>]) -> Increment {
    let margins = || -> Vec<f64> { log_odds[0].iter().zip(&log_odds[1]).map(|(a, b)| a - b).collect() };
    match judgment {
        Judgment::Pair | Judgment::Correction => pair(&margins()),
        Judgment::Tie => tie(&margins()),
        Judgment::Thumb { up } => thumb(&log_odds[0], *up),
        Judgment::Ranking => ranking(log_odds),
        Judgment::Rating(ratings) => rating(log_odds, ratings),
    }
}

fn answer(event_id: &EventId, replaces: bool, outcome: Outcome, now_ms: i64) -> Result<Ack, Error> {
    match outcome {
        Outcome::Applied(version) => {
            let replaced = replaces.then_some(false);
            Ok(Ack { replaced, ..ack(event_id, AckStatus::Applied, Some(version)) })
        }
        Outcome::Replaced(version) => {
            Ok(Ack { replaced: Some(true), ..ack(event_id, AckStatus::Applied, Some(version)) })
        }
        Outcome::Duplicate(version) => Ok(ack(event_id, AckStatus::Duplicate, Some(version))),
        Outcome::Retracted { version, .. } => {
            let detail =
                "this id was taken back, replaced or erased, and does not count: to vote again, use a new id";
            let ack = ack(event_id, AckStatus::Retracted, Some(version));
            Ok(Ack { detail: Some(detail.to_owned()), ..ack })
        }
        Outcome::Conflict { kept } => {
            let detail = "something else counts under this id: to change a vote, use a new id and name this one in `replaces`";
            let ack = ack(event_id, AckStatus::Conflict, None);
            Ok(Ack { detail: Some(detail.to_owned()), content: Some(format!("{kept:016x}").into()), ..ack })
        }
        Outcome::Late => Ok(ack(event_id, AckStatus::Late, None)),
        Outcome::Queued => Ok(ack(event_id, AckStatus::Queued, None)),
        Outcome::Unknown { .. } | Outcome::Moved => {
            Err(Error::new(ErrorKind::Internal, "the store took a feedback for another change"))
        }
        Outcome::Crowded { max_events, until_ms } => Err(crowded(max_events, until_ms, now_ms)),
        Outcome::Full { max_users } => Err(full(max_users)),
        Outcome::Unreadable => Err(unreadable()),
    }
}

fn ack(event_id: &EventId, status: AckStatus, version: Option<u64>) -> Ack {
    metrics::counter!(metric::FEEDBACK, "result" => status.label()).increment(1);
    Ack {
        event_id: Some(event_id.to_string()),
        status,
        code: None,
        detail: None,
        field: None,
        retryable: false,
        retry_after_ms: None,
        version,
        replaced: None,
        content: None,
    }
}

/// Returns the error that there is no room for another user.
pub(super) fn full(max_users: usize) -> Error {
    let detail = format!("there is no room for another user beside {max_users}");
    Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full")
}

/// Returns the error that there is no room to note that later events of a user without a row must not count.
pub(super) fn full_of_unknown_users(max_users: usize) -> Error {
    let detail = format!(
        "nothing is known of this user, and {max_users} others of whom nothing is known have been erased or have taken \
         something back within `feedback.max_age`: there is no room to note another"
    );
    Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full")
}

/// Returns the error that the user has to wait until an event has aged.
pub(super) fn crowded(max_events: usize, until_ms: i64, now_ms: i64) -> Error {
    let detail = format!(
        "the user has sent {max_events} events within `feedback.max_age`, and more can't be remembered until the oldest has aged"
    );
    // HTTP states whole seconds; rounding up keeps a retry from coming too early.
    let wait_s = until_ms.saturating_sub(now_ms).max(1).unsigned_abs().div_ceil(1000);
    Error::new(ErrorKind::QuotaExceeded, detail)
        .with_code("too_many_events")
        .with_retry_after(Duration::from_secs(wait_s))
}
