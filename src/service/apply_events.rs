//! Settling events that came one by one: what can't be read or taken is rejected alone.
//!
//! The law: events that are settled together get the answers that they would get one after another.

use super::Service;
use crate::telemetry::metric;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId};

/// An event, or the ack of what is none.
pub type ParsedEvent = Result<Event, Box<Ack>>;

/// What became of events that came together.
#[derive(Debug)]
pub struct EventAcks {
    /// One per event that was read, in order.
    pub acks: Vec<Ack>,
    /// What failed here, once for each code; acks tell of each, and whoever sends them logs these.
    pub failures: Vec<Error>,
}

impl Service {
    /// Applies one event.
    ///
    /// # Errors
    /// When it can't be taken.
    pub async fn apply_event(&self, event: Event) -> Result<Ack, Error> {
        let answer = self.feedback(vec![event]).await.pop();
        answer.unwrap_or_else(|| Err(missing())).inspect_err(|_| count_rejected())
    }

    /// Applies the events together. What is wrong with one is told in its own ack.
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
    /// The acks; or why none of the events could be taken now, if that is so: then all may be sent again as they are.
    ///
    /// # Errors
    /// The first failure, where there are acks and all of them are of what may be sent again. The others are logged.
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

/// Whether it is this server's and not the event's.
fn is_failure(error: &Error) -> bool {
    error.kind().is_retryable() || error.kind() == ErrorKind::Internal
}

/// The ack of an event that was not taken.
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
