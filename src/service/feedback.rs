//! /feedback: from an opinion to an increment of one ledger of its user.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::hear::{Hearing, Unheard, millis};
use super::judge::{Item, Unjudged};
use super::{Service, context_key, unavailable, unreadable};
use crate::mixture::{Increment, pair, ranking, rating, thumb, tie};
use crate::state::{Change, ChangeKind, EventKey, LedgerEvent, Outcome, StoreError, UserKey};
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId, Heard, Opinion, metric};

/// Events looked up without a pause on an async thread, at about 2 us each.
const EVENTS_AT_ONCE: usize = 256;

/// Pairs of responses weighed without a pause on an async thread, at about 0.4 us each for ten heads.
const PAIRS_AT_ONCE: usize = 1000;

/// What is left to say of an event before the store is asked.
enum Step {
    /// Nothing.
    Told(Result<Ack, Error>),
    /// A retry may come when its receipts are gone: it is none to complain about if its event is remembered, or was said
    /// before it in this batch.
    Forgotten { event_id: EventId, user: UserKey, before: Before, error: Box<Error> },
    /// What the store makes of it.
    Taken(Arc<Heard>),
}

/// What the events of a batch have done so far: versions of rows, and the events that they remember.
#[derive(Default)]
struct Said(HashMap<UserKey, (u64, HashSet<EventKey>)>);

impl Said {
    fn note(&mut self, user: UserKey, event: EventKey, outcome: Outcome) {
        if let Outcome::Applied(version) | Outcome::Duplicate(version) = outcome {
            let (latest, events) = self.0.entry(user).or_default();
            *latest = version;
            events.insert(event);
        }
    }

    /// The version of a row that remembers an event: the row as it was before the batch, or what the batch made of it.
    fn remembered(&self, user: UserKey, event: EventKey, before: Before) -> Option<u64> {
        let said = self.0.get(&user);
        let is_remembered = before.is_remembered || said.is_some_and(|(_, events)| events.contains(&event));
        is_remembered.then(|| before.version.max(said.map_or(0, |(latest, _)| *latest)))
    }
}

/// What a row said of an event before the batch. Not the row, which may be large, and asked for by many events.
#[derive(Clone, Copy)]
struct Before {
    version: u64,
    is_remembered: bool,
}

impl Service {
    /// Applies events; one answer per event, the same as if they came one after another. An event that can't be taken,
    /// be it that the encoder or the store can't work for it now, changes nothing and does not hinder the others.
    pub async fn feedback(&self, events: Vec<Event>) -> Vec<Result<Ack, Error>> {
        let now_ms = self.now_ms();
        let mut hearings = Vec::with_capacity(events.len());
        for (idx, event) in events.into_iter().enumerate() {
            hearings.push(self.hear(event, now_ms));
            if idx % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        let mut weighed = self.weigh(hearings.iter_mut().flatten().collect()).await.into_iter();
        let mut changes = Vec::with_capacity(hearings.len());
        let mut steps = Vec::with_capacity(hearings.len());
        for hearing in hearings {
            steps.push(match hearing {
                Err(unheard) => self.unheard(unheard, now_ms).await,
                Ok(Hearing { heard, .. }) => match weighed.next().unwrap_or_else(|| Err(unanswered())) {
                    Err(error) => Step::Told(Err(error)),
                    Ok(event) => {
                        let user = UserKey::of(&heard.user);
                        changes.push(Change { user, now_ms, kind: ChangeKind::Add(event) });
                        Step::Taken(heard)
                    }
                },
            });
        }
        let (n_changes, is_any_forgotten) = (changes.len(), steps.iter().any(Step::is_forgotten));
        let mut outcomes = outcomes(self.store.change(changes).await, n_changes).into_iter();
        let mut said = Said::default();
        let now_ms = self.now_ms();
        let answer = |step| match step {
            Step::Told(answer) => answer,
            Step::Forgotten { event_id, user, before, error } => {
                match said.remembered(user, EventKey::of(&event_id), before) {
                    Some(version) => Ok(ack(&event_id, AckStatus::Duplicate, Some(version))),
                    None => Err(*error),
                }
            }
            Step::Taken(heard) => {
                let lag = Duration::from_millis(now_ms.saturating_sub(heard.at_ms).max(0).unsigned_abs());
                metrics::histogram!(metric::FEEDBACK_LAG_SECONDS).record(lag);
                let outcome = outcomes.next().unwrap_or_else(|| Err(unanswered()))?;
                if is_any_forgotten {
                    said.note(UserKey::of(&heard.user), EventKey::of(&heard.event_id), outcome);
                }
                answer(&heard.event_id, outcome)
            }
        };
        steps.into_iter().map(answer).collect()
    }

    async fn unheard(&self, unheard: Unheard, now_ms: i64) -> Step {
        let (event_id, user, error) = match unheard {
            Unheard::Refused(error) => return Step::Told(Err(error)),
            Unheard::Acked(event_id, status) => return Step::Told(Ok(ack(&event_id, status, None))),
            Unheard::Forgotten { event_id, user, error } => (event_id, user, error),
        };
        let since_ms = now_ms.saturating_sub(millis(self.settings.window.max_age));
        match self.row(Some(&user), 0).await {
            Ok((row, _)) => {
                let is_remembered =
                    row.as_ref().is_some_and(|row| row.remembers(EventKey::of(&event_id), since_ms));
                let before = Before { version: row.map_or(0, |row| row.version), is_remembered };
                Step::Forgotten { event_id, user: UserKey::of(&user), before, error }
            }
            Err(error) => Step::Told(Err(error)),
        }
    }

    /// What each feedback adds to which ledger, in their order. Only texts that were never scored go through the encoder,
    /// all at once as far as they fit; what is wrong with them is their feedback's error.
    pub(super) async fn weigh(&self, hearings: Vec<&mut Hearing>) -> Vec<Result<LedgerEvent, Error>> {
        let items: Vec<Item> = hearings.iter().filter_map(|hearing| hearing.item()).collect();
        let mut judged = self.judge_each(items).await.into_iter();
        let mut events = Vec::with_capacity(hearings.len());
        let mut n_pairs = 0;
        for hearing in hearings {
            let is_new = hearing.known.iter().any(Option::is_none);
            let new = match is_new.then(|| judged.next()).flatten().transpose() {
                Ok(new) => new.unwrap_or_default(),
                Err(unjudged) => {
                    events.push(Err(match unjudged {
                        Unjudged::Text(part, unread) => unread.error(|| hearing.field(part)),
                        Unjudged::Other(error) => error,
                    }));
                    continue;
                }
            };
            let mut new = new.into_iter();
            let known = std::mem::take(&mut hearing.known).into_iter();
            let log_odds = known.map(|known| known.or_else(|| new.next()).unwrap_or_default());
            let log_odds: Vec<Vec<f64>> = log_odds.collect();
            events.push(Ok(self.ledger_event(&hearing.heard, &log_odds)));
            n_pairs += 1 + log_odds.len() * log_odds.len() / 2;
            if n_pairs > PAIRS_AT_ONCE {
                n_pairs = 0;
                tokio::task::yield_now().await;
            }
        }
        events
    }

    fn ledger_event(&self, heard: &Arc<Heard>, log_odds: &[Vec<f64>]) -> LedgerEvent {
        let context = context_key(heard.context.as_deref());
        LedgerEvent {
            key: EventKey::of(&heard.event_id),
            at_ms: heard.at_ms,
            context,
            question: self.questions.answered(self.bundle.questions(), heard, context),
            increment: increment(&heard.opinion, log_odds),
            heard: Some(heard.clone()),
        }
    }
}

impl Step {
    fn is_forgotten(&self) -> bool {
        matches!(self, Self::Forgotten { .. })
    }
}

/// One per change: what became of it, or why the store can't work now.
fn outcomes(changed: Result<Vec<Outcome>, StoreError>, n_changes: usize) -> Vec<Result<Outcome, Error>> {
    match changed.map_err(unavailable) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        Err(error) => {
            let others: Vec<Error> = (1..n_changes).map(|_| error.again()).collect();
            std::iter::once(error).chain(others).map(Err).collect()
        }
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Internal, "the store answered fewer events than it was given")
}

fn increment(opinion: &Opinion, log_odds: &[Vec<f64>]) -> Increment {
    let margins = || -> Vec<f64> { log_odds[0].iter().zip(&log_odds[1]).map(|(a, b)| a - b).collect() };
    match opinion {
        Opinion::Pair | Opinion::Correction => pair(&margins()),
        Opinion::Tie => tie(&margins()),
        Opinion::Thumb { up } => thumb(&log_odds[0], *up),
        Opinion::Ranking => ranking(log_odds),
        Opinion::Rating(ratings) => rating(log_odds, ratings),
    }
}

fn answer(event_id: &EventId, outcome: Outcome) -> Result<Ack, Error> {
    match outcome {
        Outcome::Applied(version) => Ok(ack(event_id, AckStatus::Applied, Some(version))),
        Outcome::Duplicate(version) => Ok(ack(event_id, AckStatus::Duplicate, Some(version))),
        Outcome::Late => Ok(ack(event_id, AckStatus::Late, None)),
        Outcome::Queued => Ok(ack(event_id, AckStatus::Queued, None)),
        Outcome::Unknown => {
            Err(Error::new(ErrorKind::Internal, "the store took a feedback for a retraction"))
        }
        Outcome::Crowded { max_events } => Err(crowded(max_events)),
        Outcome::Full { max_users } => {
            let detail = format!("there is no room for another user beside {max_users}");
            Err(Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full"))
        }
        Outcome::Unreadable => Err(unreadable()),
    }
}

fn ack(event_id: &EventId, status: AckStatus, version: Option<u64>) -> Ack {
    metrics::counter!(metric::FEEDBACK, "result" => status.label()).increment(1);
    Ack { event_id: Some(event_id.to_string()), status, code: None, detail: None, retryable: false, version }
}

/// The user has to wait until something has aged.
pub(super) fn crowded(max_events: usize) -> Error {
    let detail = format!(
        "the user has said {max_events} things within `feedback.max_age`, and more can't be remembered"
    );
    Error::new(ErrorKind::Overloaded, detail).with_code("too_many_events")
}
