//! Feedback as one JSON document: an event, or an array of events that are applied together.

use axum::Json as Answer;
use axum::response::{IntoResponse, Response};

use super::super::body::parse;
use super::super::whole::Whole;
use super::array::entries;
use super::event::read;
use crate::service::{EventAcks, ParsedEvent, Service, rejected};
use crate::transport::shared::Problem;
use crate::types::{Ack, Error, Event};

/// The content of a body.
enum Sent {
    One(Result<Box<Event>, Error>),
    Many(Result<Vec<ParsedEvent>, Error>),
}

/// Returns one ack, or one for each event of an array.
///
/// # Errors
/// The error of the one event; for an array, its own error, or the reason that none of its events could be accepted
/// now.
pub(super) async fn answer(service: &Service, body: Whole) -> Result<Response, Problem> {
    match body.parse(sent).await? {
        Sent::Many(read) => {
            // A client that reads the status alone must not take a batch for done of which no event could be accepted.
            let EventAcks { acks, failures } = service.apply_events(read?).await.any()?;
            failures.iter().for_each(Error::log);
            let named = acks.into_iter().enumerate().map(|(idx, ack)| ack.within(&format!("[{idx}]")));
            Ok(Answer(named.collect::<Vec<Ack>>()).into_response())
        }
        Sent::One(Ok(event)) => Ok(Answer(service.apply_event(*event).await?).into_response()),
        Sent::One(Err(error)) => {
            // The event counts as rejected feedback, as it would within an array.
            rejected(None, &error);
            Err(error.into())
        }
    }
}

fn sent(body: &[u8]) -> Sent {
    if !body.trim_ascii_start().starts_with(b"[") {
        return Sent::One(parse(body).map(Box::new));
    }
    Sent::Many(entries(body).map(|texts| texts.iter().map(|text| read(text.get())).collect()))
}
