//! Settling events that came one by one: what can't be read or taken is rejected alone.

use super::Service;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, metric};

/// An event, or the ack of what is none.
pub type Read = Result<Event, Ack>;

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
    /// As [`Service::feedback`].
    pub async fn settle(&self, read: &[Read]) -> Result<Vec<Ack>, Error> {
        let events: Vec<Event> = read.iter().filter_map(|read| read.as_ref().ok()).cloned().collect();
        let mut answers = self.feedback(events).await?.into_iter();
        let mut next = || answers.next().unwrap_or_else(|| Err(missing()));
        let ack = |read: &Read| match read {
            Err(ack) => ack.clone(),
            Ok(event) => next().unwrap_or_else(|error| rejected(Some(event.event_id.to_string()), &error)),
        };
        Ok(read.iter().map(ack).collect())
    }

    /// As [`Service::settle`], for streams: where nothing could be settled, every event is rejected for that reason,
    /// and the caller has the error to log.
    pub async fn settle_or_reject(&self, read: &[Read]) -> (Vec<Ack>, Option<Error>) {
        match self.settle(read).await {
            Ok(acks) => (acks, None),
            Err(error) => (read.iter().map(|read| unsettled(read, &error)).collect(), Some(error)),
        }
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
        retryable: error.kind().is_retryable(),
        version: None,
    }
}

fn unsettled(read: &Read, error: &Error) -> Ack {
    match read {
        Err(ack) => ack.clone(),
        Ok(event) => rejected(Some(event.event_id.to_string()), error),
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Internal, "the event was not answered")
}

fn count_rejected() {
    metrics::counter!(metric::FEEDBACK, "result" => AckStatus::Rejected.label()).increment(1);
}
