//! POST /feedback: one event, several that are applied together, or a stream of lines.

mod ahead;
mod array;
mod event;
mod json;
mod lines;
mod ndjson;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::body::{lines_type, require_json};
use super::inflate::plain;
use super::whole::{Whole, bodies};
use crate::service::ServiceHandle;
use crate::transport::shared::Problem;
use crate::types::{Ack, Event};

pub(super) use lines::Lines;

#[utoipa::path(post, path = "/feedback", request_body(content(
    (Event = "application/json"), (Vec<Event> = "application/json"), (String = "application/x-ndjson"),
    (String = "application/ndjson"), (String = "application/jsonl"))),
    responses((status = 200, body = Ack, description = "one ack per event; as an array or as lines if sent so"),
    (status = 404, body = super::problem::ProblemBody<'static>, description = "`unknown_response`: send the same again after `Retry-After`, as its answer may still be on its way"),
    (status = 429, body = super::problem::ProblemBody<'static>, description = "`too_many_events`: `Retry-After` says when the user's oldest event has aged"),
    (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn feedback(
    State(handle): State<ServiceHandle>,
    request: Request,
) -> Result<Response, Problem> {
    if let Some(lines_type) = lines_type(request.headers()) {
        let (parts, body) = request.into_parts();
        let held = bodies(&parts.extensions)?.hold();
        let acks = ndjson::acks(handle, plain(&parts.headers, body)?, held);
        return Ok(([(header::CONTENT_TYPE, lines_type)], Body::from_stream(acks)).into_response());
    }
    require_json(request.headers())?;
    // The service is taken before the body is read: a request has one bundle from its beginning to its end.
    let service = handle.current();
    json::answer(&service, Whole::read(request).await?).await
}
