//! From messages to events, and from acks to messages. What belongs to which kind is checked with the event itself.

use jiff::Timestamp;

use super::pb;
use super::requests::{messages, refused, unknown, user_id};
use crate::types::{Ack, AckStatus, Error, Event, EventId, EventKind};

impl TryFrom<pb::Event> for Event {
    type Error = Error;

    fn try_from(event: pb::Event) -> Result<Self, Error> {
        none_of_the_later_fields(&event)?;
        Ok(Self {
            event_id: EventId::try_from(event.event_id)
                .map_err(|error| refused("event_id", error.to_string()))?,
            user: user_id(event.user)?,
            kind: kind(event.kind)?,
            prompt: event.prompt,
            messages: messages(event.messages, "")?,
            chosen: event.chosen,
            rejected: event.rejected,
            responses: some(event.responses),
            response: event.response,
            up: event.up,
            at: event.at.map(timestamp).transpose()?,
            context: event.context,
        })
    }
}

impl From<Ack> for pb::FeedbackResponse {
    fn from(ack: Ack) -> Self {
        let status = match ack.status {
            AckStatus::Applied => pb::AckStatus::Applied,
            AckStatus::Duplicate => pb::AckStatus::Duplicate,
            AckStatus::Late => pb::AckStatus::Late,
            AckStatus::Rejected => pb::AckStatus::Rejected,
        };
        Self {
            event_id: ack.event_id,
            status: status.into(),
            code: ack.code.map(str::to_owned),
            detail: ack.detail,
            retryable: ack.retryable,
            version: ack.version,
        }
    }
}

fn kind(found: i32) -> Result<EventKind, Error> {
    Ok(match pb::EventKind::try_from(found) {
        Ok(pb::EventKind::Pair) => EventKind::Pair,
        Ok(pb::EventKind::Tie) => EventKind::Tie,
        Ok(pb::EventKind::Thumb) => EventKind::Thumb,
        Ok(pb::EventKind::Ranking | pb::EventKind::Rating | pb::EventKind::Correction) => {
            return Err(refused("kind", format!("found {found}, which this version does not take")));
        }
        Ok(pb::EventKind::Unspecified) | Err(_) => return Err(unknown("kind", found)),
    })
}

/// Refuses by name what `proto/` has and this version's events have not, rather than to lose it.
fn none_of_the_later_fields(event: &pb::Event) -> Result<(), Error> {
    let given = [
        ("ratings", !event.ratings.is_empty()),
        ("original", event.original.is_some()),
        ("edited", event.edited.is_some()),
        ("chosen_id", event.chosen_id.is_some()),
        ("rejected_id", event.rejected_id.is_some()),
        ("response_ids", !event.response_ids.is_empty()),
        ("response_id", event.response_id.is_some()),
        ("original_id", event.original_id.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((field, _)) => Err(refused(*field, "found it, but this version does not take it")),
        None => Ok(()),
    }
}

/// A list can't be there and empty.
fn some<T>(found: Vec<T>) -> Option<Vec<T>> {
    Some(found).filter(|found| !found.is_empty())
}

fn timestamp(found: prost_types::Timestamp) -> Result<Timestamp, Error> {
    let nanos = (0..1_000_000_000).contains(&found.nanos).then_some(found.nanos);
    let at = nanos.and_then(|nanos| Timestamp::new(found.seconds, nanos).ok());
    at.ok_or_else(|| {
        let detail = format!("found {} s and {} ns, which is no time", found.seconds, found.nanos);
        refused("at", detail)
    })
}
