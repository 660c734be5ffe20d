//! POST /feedback: one event, several that are settled together, or a stream of lines.

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::array::entries;
use super::body::{lines_type, parse, require_json};
use super::inflate::plain;
use super::problem::Problem;
use super::stream;
use super::whole::{Whole, bodies, off_if_large};
use crate::service::{Live, Read, Settled, rejected};
use crate::types::{Ack, Error, Event};

/// What a body holds.
enum Sent {
    One(Result<Box<Event>, Error>),
    Many(Result<Vec<Read>, Error>),
}

#[utoipa::path(post, path = "/feedback", request_body(content(
    (Event = "application/json"), (Vec<Event> = "application/json"), (String = "application/x-ndjson"),
    (String = "application/ndjson"), (String = "application/jsonl"))),
    responses((status = 200, body = Ack, description = "one ack per event; as an array or as lines if sent so"),
    (status = 404, body = super::problem::ProblemBody<'static>, description = "`unknown_response`: send the same again after `Retry-After`, as its answer may still be on its way"),
    (status = 429, body = super::problem::ProblemBody<'static>, description = "`too_many_events`: `Retry-After` says when the user's oldest event has aged"),
    (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn feedback(State(live): State<Live>, request: Request) -> Result<Response, Problem> {
    if let Some(lines_type) = lines_type(request.headers()) {
        let (parts, body) = request.into_parts();
        let held = bodies(&parts.extensions)?.hold();
        let acks = stream::acks(live, plain(&parts.headers, body)?, held);
        return Ok(([(header::CONTENT_TYPE, lines_type)], Body::from_stream(acks)).into_response());
    }
    require_json(request.headers())?;
    let service = live.now();
    match Whole::read(request).await?.parse(sent).await? {
        Sent::Many(read) => {
            // Who looks at the status alone must not take a batch for done of which nothing could be.
            let Settled { acks, failures } = service.settle(read?).await.any()?;
            failures.iter().for_each(Error::log);
            let named = acks.into_iter().enumerate().map(|(idx, ack)| ack.within(&format!("[{idx}]")));
            Ok(Answer(named.collect::<Vec<Ack>>()).into_response())
        }
        Sent::One(Ok(event)) => Ok(Answer(service.settle_one(*event).await?).into_response()),
        Sent::One(Err(error)) => {
            // It counts as a rejected feedback, as it would within an array.
            rejected(None, &error);
            Err(error.into())
        }
    }
}

/// Reads a line of a stream.
pub(super) async fn line(line: String) -> Read {
    let refused = |error| Err(Box::new(rejected(None, &error)));
    off_if_large(line.len(), move || read(&line)).await.unwrap_or_else(refused)
}

fn sent(body: &[u8]) -> Sent {
    if !body.trim_ascii_start().starts_with(b"[") {
        return Sent::One(parse(body).map(Box::new));
    }
    Sent::Many(entries(body).map(|texts| texts.iter().map(|text| read(text.get())).collect()))
}

fn read(text: &str) -> Read {
    parse(text.as_bytes()).map_err(|error| Box::new(rejected(event_id(text), &error)))
}

/// The id of an event that can't be read otherwise, so that its sender knows which one it was.
fn event_id(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: String,
    }
    parse(text.as_bytes()).ok().map(|named: Named| named.event_id)
}
