//! /feedback: from an opinion to an increment of one ledger of its user.

use std::sync::Arc;
use std::time::Duration;

use super::hear::{Hearing, Unheard};
use super::judge::{Item, Route};
use super::{Service, context_key, unavailable};
use crate::mixture::{Increment, pair, ranking, rating, thumb, tie};
use crate::state::{Change, ChangeKind, EventKey, LedgerEvent, Outcome, UserKey};
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
        let heard = hearings.iter().flatten().map(|hearing| UserKey::of(&hearing.heard.user));
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
                    match row.and_then(|row| row.known(EventKey::of(&event_id), None)) {
                        Some(known) => answer(&event_id, false, known, now_ms),
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
                        |outcome| answer(&heard.event_id, heard.replaces.is_some(), outcome, now_ms),
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
            content: Some(heard.content()),
            replaces: heard.replaces.as_ref().map(EventKey::of),
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
        Outcome::Unknown => {
            Err(Error::new(ErrorKind::Internal, "the store took a feedback for a retraction"))
        }
        Outcome::Crowded { max_events, until_ms } => Err(crowded(max_events, until_ms, now_ms)),
        Outcome::Full { max_users } => {
            let detail = format!("there is no room for another user beside {max_users}");
            Err(Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full"))
        }
    }
}

fn ack(event_id: &EventId, status: AckStatus, version: Option<u64>) -> Ack {
    metrics::counter!(metric::FEEDBACK, "result" => status.label()).increment(1);
    Ack {
        event_id: Some(event_id.to_string()),
        status,
        code: None,
        detail: None,
        retryable: false,
        retry_after_ms: None,
        version,
        replaced: None,
        content: None,
    }
}

/// The user has to wait until something has aged.
pub(super) fn crowded(max_events: usize, until_ms: i64, now_ms: i64) -> Error {
    let detail = format!(
        "the user has said {max_events} things within `feedback.max_age`, and more can't be remembered until the oldest has aged"
    );
    // Whole seconds, as HTTP says them, and none too early.
    let wait_s = until_ms.saturating_sub(now_ms).max(1).unsigned_abs().div_ceil(1000);
    Error::new(ErrorKind::QuotaExceeded, detail)
        .with_code("too_many_events")
        .with_retry_after(Duration::from_secs(wait_s))
}
