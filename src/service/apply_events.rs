//! Applies events: one that can't be parsed or accepted is rejected alone.
//!
//! The law: events that are applied together get the acks that they would get one after another.

use super::Service;
use crate::telemetry::metric;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId};

/// A parsed event, or the ack of one that can't be parsed.
pub type ParsedEvent = Result<Event, Box<Ack>>;

/// The acks of events that arrived together.
#[derive(Debug)]
pub struct EventAcks {
    /// One ack per [`ParsedEvent`], in order.
    pub acks: Vec<Ack>,
    /// Failures of this server, one per code. The acks report each of them; the sender of the acks logs these.
    pub failures: Vec<Error>,
}

impl Service {
    /// Applies one event.
    ///
    /// # Errors
    /// The reason that the event can't be accepted.
    pub async fn apply_event(&self, event: Event) -> Result<Ack, Error> {
        let answer = self.feedback(vec![event]).await.pop();
        answer.unwrap_or_else(|| Err(missing())).inspect_err(|_| count_rejected())
    }

    /// Applies the events together. The error of one event is in its own ack.
    pub async fn apply_events(&self, read: Vec<ParsedEvent>) -> EventAcks {
        let mut events = Vec::with_capacity(read.len());
        let mut named = Vec::with_capacity(read.len());
        for read in read {
            named.push(read.map(|event| {
                let id = event.event_id.clone();
                events.push(event);
                id
            }));
        }
        let mut answers = self.feedback(events).await.into_iter();
        let mut failures: Vec<Error> = Vec::new();
        let mut ack = |named: Result<EventId, Box<Ack>>| {
            let id = match named {
                Err(ack) => return *ack,
                Ok(id) => id,
            };
            answers.next().unwrap_or_else(|| Err(missing())).unwrap_or_else(|error| {
                let ack = rejected(Some(id.into()), &error);
                if is_failure(&error) && failures.iter().all(|failure| failure.code() != error.code()) {
                    failures.push(error);
                }
                ack
            })
        };
        let acks = named.into_iter().map(&mut ack).collect();
        EventAcks { acks, failures }
    }
}

impl EventAcks {
    /// Returns the acks, or an error if no event could be accepted now: then all may be sent again unchanged.
    ///
    /// # Errors
    /// The first failure, if there are acks and all of them are retryable. The other failures are logged.
    pub fn any(mut self) -> Result<Self, Error> {
        let is_in_vain = self.acks.iter().all(|ack| ack.retryable);
        if !is_in_vain || self.failures.is_empty() {
            return Ok(self);
        }
        let first = self.failures.remove(0);
        self.failures.iter().for_each(Error::log);
        Err(first)
    }
}

/// True if the error is this server's and not the event's.
fn is_failure(error: &Error) -> bool {
    error.kind().is_retryable() || error.kind() == ErrorKind::Internal
}

/// Counts an event that was not accepted, and returns its ack.
pub fn rejected(event_id: Option<String>, error: &Error) -> Ack {
    count_rejected();
    Ack {
        event_id,
        status: AckStatus::Rejected,
        code: Some(error.code()),
        detail: Some(error.to_string()),
        field: error.field().map(str::to_owned),
        retryable: error.is_retryable(),
        retry_after_ms: error.retry_after().map(|after| after.as_millis().try_into().unwrap_or(u64::MAX)),
        version: None,
        replaced: None,
        content: None,
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Internal, "the event was not answered")
}

fn count_rejected() {
    metrics::counter!(metric::FEEDBACK, "result" => AckStatus::Rejected.label()).increment(1);
}
