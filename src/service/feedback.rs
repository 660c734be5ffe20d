//! /feedback: from an opinion to an increment of one ledger of its user.

use std::time::Duration;

use super::judge::{Item, Judged, JudgedItem, Route};
use super::{Service, context_key, unavailable};
use crate::mixture::{Increment, pair, thumb, tie};
use crate::state::{LedgerEvent, Outcome};
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, Feedback, Opinion, metric};

/// An event is settled at once, or needs the heads first.
enum Checked {
    Settled(Result<Ack, Error>),
    Awaits { feedback: Feedback, at_ms: i64 },
}

impl Service {
    /// Applies events in order; one answer per event. An event that can't be taken changes nothing and does not
    /// hinder the others.
    ///
    /// # Errors
    /// When the encoder or the store can't work now: then no event was applied.
    pub async fn feedback(&self, events: Vec<Event>) -> Result<Vec<Result<Ack, Error>>, Error> {
        let checked: Vec<Checked> = events.into_iter().map(|event| self.check_event(event)).collect();
        let awaiting = || {
            checked.iter().filter_map(|checked| match checked {
                Checked::Awaits { feedback, at_ms } => Some((feedback, *at_ms)),
                Checked::Settled(_) => None,
            })
        };
        let judged = self.judge(awaiting().map(|(feedback, _)| item(feedback)).collect(), Route::No).await?;
        let to_ledger = |((feedback, at_ms), judged_item): ((&Feedback, i64), &JudgedItem)| {
            let context = context_key(feedback.context.as_deref());
            LedgerEvent {
                user: feedback.user.clone(),
                event_id: feedback.event_id.clone(),
                at_ms,
                context,
                question: self.questions.answered(self.bundle.questions(), feedback, context),
                increment: increment(&feedback.opinion, &judged, judged_item),
            }
        };
        let ledger_events = awaiting().zip(&judged.items).map(to_ledger).collect();
        let mut outcomes = self.store.apply(ledger_events).await.map_err(unavailable)?.into_iter();
        let now_ms = self.now_ms();
        let answers = checked.into_iter().map(|checked| match checked {
            Checked::Settled(answer) => answer,
            Checked::Awaits { feedback, at_ms } => {
                let lag = Duration::from_millis(now_ms.saturating_sub(at_ms).max(0).unsigned_abs());
                metrics::histogram!(metric::FEEDBACK_LAG_SECONDS).record(lag);
                outcomes.next().map_or_else(
                    || {
                        Err(Error::new(
                            ErrorKind::Internal,
                            "the store answered fewer events than it was given",
                        ))
                    },
                    |outcome| answer(&feedback, outcome),
                )
            }
        });
        Ok(answers.collect())
    }

    fn check_event(&self, event: Event) -> Checked {
        let feedback = match event.check().and_then(|feedback| self.check_texts(feedback)) {
            Ok(feedback) => feedback,
            Err(error) => return Checked::Settled(Err(error)),
        };
        let now_ms = self.now_ms();
        let at_ms = feedback.at.map_or(now_ms, |at| at.as_millisecond());
        let (max_age, max_skew) =
            (millis(self.settings.window.max_age), millis(self.settings.window.max_skew));
        if now_ms.saturating_sub(at_ms) > max_age {
            return Checked::Settled(Ok(ack(&feedback, AckStatus::Late, None)));
        }
        if at_ms.saturating_sub(now_ms) > max_skew {
            let detail = format!(
                "found a time {} ms ahead of this server's, expected at most {max_skew}",
                at_ms - now_ms
            );
            return Checked::Settled(
                Err(Error::invalid_field("at", detail).with_code("event_in_the_future")),
            );
        }
        Checked::Awaits { feedback, at_ms }
    }

    fn check_texts(&self, mut feedback: Feedback) -> Result<Feedback, Error> {
        feedback.context = self.check_context(feedback.context)?;
        self.check_size(&feedback.prompt, || "prompt".to_owned())?;
        for (field, text) in feedback.opinion.texts() {
            self.check_size(text, || field.to_owned())?;
        }
        Ok(feedback)
    }
}

fn item(feedback: &Feedback) -> Item {
    let responses = feedback.opinion.texts().into_iter().map(|(_, text)| text.into()).collect();
    Item { prompt: feedback.prompt.as_str().into(), responses }
}

fn increment(opinion: &Opinion, judged: &Judged, item: &JudgedItem) -> Increment {
    let (first, rewards) = (item.rows.start, &judged.rewards);
    match opinion {
        Opinion::Pair { .. } => pair(&rewards.margins(first, first + 1)),
        Opinion::Tie(_) => tie(&rewards.margins(first, first + 1)),
        Opinion::Thumb { up, .. } => thumb(&rewards.log_odds(first), *up),
    }
}

fn answer(feedback: &Feedback, outcome: Outcome) -> Result<Ack, Error> {
    match outcome {
        Outcome::Applied(version) => Ok(ack(feedback, AckStatus::Applied, Some(version))),
        Outcome::Duplicate(version) => Ok(ack(feedback, AckStatus::Duplicate, Some(version))),
        Outcome::Full { max_users } => {
            let detail = format!("there is no room for another user beside {max_users}");
            Err(Error::new(ErrorKind::StoreUnavailable, detail).with_code("store_full"))
        }
    }
}

fn ack(feedback: &Feedback, status: AckStatus, version: Option<u64>) -> Ack {
    metrics::counter!(metric::FEEDBACK, "result" => status.label()).increment(1);
    Ack {
        event_id: Some(feedback.event_id.to_string()),
        status,
        code: None,
        detail: None,
        retryable: false,
        version,
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
