//! /feedback: from an opinion to an increment of one ledger of its user.

use std::sync::Arc;
use std::time::Duration;

use super::hear::{Hearing, Unheard};
use super::judge::{Item, Route};
use super::{Service, context_key, unavailable};
use crate::mixture::{Increment, pair, ranking, rating, thumb, tie};
use crate::state::{Change, ChangeKind, EventKey, LedgerEvent, Outcome};
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId, Heard, Opinion, metric};

/// Events looked up without a pause on an async thread, at about 2 us each.
const EVENTS_AT_ONCE: usize = 256;

/// Pairs of responses weighed without a pause on an async thread, at about 0.4 us each for ten heads.
const PAIRS_AT_ONCE: usize = 1000;

impl Service {
    /// Applies events in order; one answer per event. An event that can't be taken changes nothing and does not
    /// hinder the others.
    ///
    /// # Errors
    /// When the encoder or the store can't work now: then no event was applied.
    pub async fn feedback(&self, events: Vec<Event>) -> Result<Vec<Result<Ack, Error>>, Error> {
        let now_ms = self.now_ms();
        let mut hearings = Vec::with_capacity(events.len());
        for (idx, event) in events.into_iter().enumerate() {
            hearings.push(self.hear(event, now_ms));
            if idx % EVENTS_AT_ONCE == EVENTS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        let events = self.weigh(hearings.iter_mut().flatten().collect()).await?;
        let heard = hearings.iter().flatten().map(|hearing| self.keys.of(&hearing.heard.user));
        let change = |(user, event)| Change { user, now_ms, kind: ChangeKind::Add(event) };
        let changes = heard.zip(events).map(change).collect();
        let mut outcomes = self.store.change(changes).await.map_err(unavailable)?.into_iter();
        let now_ms = self.now_ms();
        let mut answers = Vec::with_capacity(hearings.len());
        for hearing in hearings {
            answers.push(match hearing {
                Err(Unheard::Refused(error)) => Err(error),
                Err(Unheard::Acked(event_id, status)) => Ok(ack(&event_id, status, None)),
                Err(Unheard::Forgotten { event_id, user, error }) => {
                    // A retry may come when its receipts are gone; its event is not.
                    let (row, _) = self.row(Some(&user), 0).await?;
                    match row.filter(|row| row.remembers(EventKey::of(&event_id))) {
                        Some(row) => Ok(ack(&event_id, AckStatus::Duplicate, Some(row.version))),
                        None => Err(*error),
                    }
                }
                Ok(Hearing { heard, .. }) => {
                    let lag = Duration::from_millis(now_ms.saturating_sub(heard.at_ms).max(0).unsigned_abs());
                    metrics::histogram!(metric::FEEDBACK_LAG_SECONDS).record(lag);
                    outcomes.next().map_or_else(
                        || {
                            Err(Error::new(
                                ErrorKind::Internal,
                                "the store answered fewer events than it was given",
                            ))
                        },
                        |outcome| answer(&heard.event_id, outcome),
                    )
                }
            });
        }
        Ok(answers)
    }

    /// What each feedback adds to which ledger, in their order. Only texts that were never scored go through the encoder, all at once.
    pub(super) async fn weigh(&self, hearings: Vec<&mut Hearing>) -> Result<Vec<LedgerEvent>, Error> {
        let items: Vec<Item> = hearings.iter().filter_map(|hearing| hearing.item()).collect();
        let judged = if items.is_empty() { None } else { Some(self.judge(items.into(), Route::No).await?) };
        let mut judged_items = judged.iter().flat_map(|judged| &judged.items);
        let mut events = Vec::with_capacity(hearings.len());
        let mut n_pairs = 0;
        for Hearing { heard, known } in hearings {
            let is_new = known.iter().any(Option::is_none);
            let mut rows = judged_items.by_ref().take(usize::from(is_new)).flat_map(|item| item.rows.clone());
            let mut of_new = || Some(judged.as_ref()?.rewards.log_odds(rows.next()?));
            let log_odds = std::mem::take(known).into_iter().map(|known| known.or_else(&mut of_new));
            let log_odds: Vec<Vec<f64>> = log_odds.map(Option::unwrap_or_default).collect();
            events.push(self.ledger_event(heard, &log_odds));
            n_pairs += 1 + log_odds.len() * log_odds.len() / 2;
            if n_pairs > PAIRS_AT_ONCE {
                n_pairs = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(events)
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
        Outcome::Full { max_users } => Err(full(max_users)),
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
        version,
    }
}

/// There is no room for another user.
pub(super) fn full(max_users: usize) -> Error {
    let detail = format!("there is no room for another user beside {max_users}");
    Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full")
}

/// There is no room to note that what a stranger says later must not count.
pub(super) fn full_of_strangers(max_users: usize) -> Error {
    let detail = format!(
        "nothing is known of this user, and {max_users} others of whom nothing is known have been erased or have taken \
         something back within `feedback.max_age`: there is no room to note another"
    );
    Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full")
}

/// The user has to wait until something has aged.
pub(super) fn crowded(max_events: usize) -> Error {
    let detail = format!(
        "the user has said {max_events} things within `feedback.max_age`, and more can't be remembered"
    );
    Error::new(ErrorKind::Overloaded, detail).with_code("too_many_events")
}
