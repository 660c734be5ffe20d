//! Converts messages to events, and acks to messages. The fields of a kind are checked with the event itself.

use jiff::Timestamp;

use super::pb;
use super::requests::{event_id, messages, unknown, user_id};
use crate::types::{Ack, AckStatus, Error, Event, EventId, EventKind};

impl TryFrom<pb::Event> for Event {
    type Error = Error;

    fn try_from(event: pb::Event) -> Result<Self, Error> {
        Ok(Self {
            event_id: event_id(event.event_id)?,
            user: user_id(event.user)?,
            kind: kind(event.kind)?,
            prompt: event.prompt,
            messages: messages(event.messages, "")?,
            chosen: event.chosen,
            rejected: event.rejected,
            chosen_id: event.chosen_id,
            rejected_id: event.rejected_id,
            responses: some(event.responses),
            response_ids: some(event.response_ids),
            response: event.response,
            response_id: event.response_id,
            up: event.up,
            ratings: some(event.ratings),
            original: event.original,
            original_id: event.original_id,
            edited: event.edited,
            at: event.at.map(timestamp).transpose()?,
            context: event.context,
            replaces: event.replaces.map(replaces).transpose()?,
            comment: event.comment,
            metadata: Some(event.metadata.into_iter().collect()),
        })
    }
}

impl From<Ack> for pb::FeedbackResponse {
    fn from(ack: Ack) -> Self {
        let status = match ack.status {
            AckStatus::Applied => pb::AckStatus::Applied,
            AckStatus::Duplicate => pb::AckStatus::Duplicate,
            AckStatus::Queued => pb::AckStatus::Queued,
            AckStatus::Late => pb::AckStatus::Late,
            AckStatus::Rejected => pb::AckStatus::Rejected,
            AckStatus::Retracted => pb::AckStatus::Retracted,
            AckStatus::Conflict => pb::AckStatus::Conflict,
        };
        Self {
            event_id: ack.event_id,
            status: status.into(),
            code: ack.code.map(str::to_owned),
            detail: ack.detail,
            retryable: ack.retryable,
            version: ack.version,
            retry_after_ms: ack.retry_after_ms,
            replaced: ack.replaced,
            content: ack.content.map(String::from),
        }
    }
}

fn replaces(found: String) -> Result<EventId, Error> {
    EventId::try_from(found).map_err(|error| Error::invalid_field("replaces", error.to_string()))
}

fn kind(found: i32) -> Result<EventKind, Error> {
    Ok(match pb::EventKind::try_from(found) {
        Ok(pb::EventKind::Pair) => EventKind::Pair,
        Ok(pb::EventKind::Tie) => EventKind::Tie,
        Ok(pb::EventKind::Thumb) => EventKind::Thumb,
        Ok(pb::EventKind::Ranking) => EventKind::Ranking,
        Ok(pb::EventKind::Rating) => EventKind::Rating,
        Ok(pb::EventKind::Correction) => EventKind::Correction,
        Ok(pb::EventKind::Unspecified) | Err(_) => return Err(unknown("kind", found)),
    })
}

/// Converts an empty list to none, as a message can't tell the two apart.
fn some<T>(found: Vec<T>) -> Option<Vec<T>> {
    Some(found).filter(|found| !found.is_empty())
}

fn timestamp(found: prost_types::Timestamp) -> Result<Timestamp, Error> {
    let nanos = (0..1_000_000_000).contains(&found.nanos).then_some(found.nanos);
    let at = nanos.and_then(|nanos| Timestamp::new(found.seconds, nanos).ok());
    at.ok_or_else(|| {
        let detail = format!("found {} s and {} ns, which is no time", found.seconds, found.nanos);
        Error::invalid_field("at", detail)
    })
}
