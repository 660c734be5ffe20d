//! POST /feedback: one event, several that are settled together, or a stream of lines.

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

use super::body::{bytes, media_type, parse, require_identity, require_json};
use super::problem::Problem;
use super::stream;
use crate::service::{Live, Read, rejected};
use crate::types::{Ack, Error, ErrorKind, Event};

const NDJSON: &str = "application/x-ndjson";

#[utoipa::path(post, path = "/feedback", request_body(content(
    (Event = "application/json"), (Vec<Event> = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, body = Ack, description = "one ack per event; as an array or as lines if sent so"),
    (status = 404, body = super::problem::ProblemBody<'static>, description = "`unknown_response`: send the same again after `Retry-After`, as its answer may still be on its way"),
    (status = 429, body = super::problem::ProblemBody<'static>, description = "`too_many_events`: `Retry-After` says when the user's oldest event has aged"),
    (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn feedback(State(live): State<Live>, request: Request) -> Result<Response, Problem> {
    if media_type(request.headers()) == NDJSON {
        require_identity(request.headers())?;
        let acks = stream::acks(live, request.into_body());
        return Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(acks)).into_response());
    }
    require_json(request.headers())?;
    let service = live.now();
    let body = bytes(request, &()).await?;
    if body.trim_ascii_start().starts_with(b"[") {
        let texts = parse_array(&body)?;
        let read = texts.iter().enumerate().map(|(idx, text)| read(text.get(), &format!("[{idx}]")));
        let acks = service.settle(read.collect()).await.map_err(|unsettled| unsettled.error)?;
        return Ok(Answer(acks).into_response());
    }
    let ack = match parse(&body, "") {
        Ok(event) => service.settle_one(event).await?,
        Err(error) => {
            // It counts as a rejected feedback, as it would within an array.
            rejected(None, &error);
            return Err(error.into());
        }
    };
    Ok(Answer(ack).into_response())
}

/// Reads one event; `at` is its path in the body.
pub(super) fn read(text: &str, at: &str) -> Read {
    parse(text.as_bytes(), at).map_err(|error| rejected(event_id(text), &error))
}

fn parse_array(body: &[u8]) -> Result<Vec<&RawValue>, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()).with_code("malformed_json"))
}

/// The id of an event that can't be read otherwise, so that its sender knows which one it was.
fn event_id(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: String,
    }
    serde_json::from_str::<Named>(text).ok().map(|named| named.event_id)
}
