//! Settling events that came one by one: what can't be read or taken is rejected alone.

use super::Service;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId, metric};

/// An event, or the ack of what is none.
pub type Read = Result<Event, Ack>;

/// Why nothing was settled, and the acks that say so.
#[derive(Debug)]
pub struct Unsettled {
    /// The reason.
    pub error: Error,
    /// One per event, in order: each rejected for that reason, or for its own.
    pub acks: Vec<Ack>,
}

impl Service {
    /// Applies one event.
    ///
    /// # Errors
    /// As [`Service::feedback`], and when this event can't be taken.
    pub async fn settle_one(&self, event: Event) -> Result<Ack, Error> {
        let answer = self.feedback(vec![event]).await.map(|mut answers| answers.pop());
        let ack = answer.and_then(|answer| answer.unwrap_or_else(|| Err(missing())));
        ack.inspect_err(|_| count_rejected())
    }

    /// Applies the events together; one ack for each that was read, in order.
    ///
    /// # Errors
    /// As [`Service::feedback`], with acks for those who can't answer with an error.
    pub async fn settle(&self, read: Vec<Read>) -> Result<Vec<Ack>, Unsettled> {
        let mut events = Vec::with_capacity(read.len());
        let mut named = Vec::with_capacity(read.len());
        for read in read {
            named.push(read.map(|event| {
                let id = event.event_id.clone();
                events.push(event);
                id
            }));
        }
        let mut answers = match self.feedback(events).await {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                let unsettled = |named: Result<EventId, Ack>| {
                    named.map_or_else(|ack| ack, |id| rejected(Some(id.into()), &error))
                };
                let acks = named.into_iter().map(unsettled).collect();
                return Err(Unsettled { error, acks });
            }
        };
        let mut next = || answers.next().unwrap_or_else(|| Err(missing()));
        let ack = |named: Result<EventId, Ack>| match named {
            Err(ack) => ack,
            Ok(id) => next().unwrap_or_else(|error| rejected(Some(id.into()), &error)),
        };
        Ok(named.into_iter().map(ack).collect())
    }
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
