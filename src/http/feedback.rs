//! POST /feedback: one event, or several that are settled together.

use std::sync::Arc;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;

use super::body::{bytes, media_type, parse, require_identity, require_json};
use super::problem::Problem;
use super::stream;
use crate::service::Service;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event, EventId, metric};

const NDJSON: &str = "application/x-ndjson";

#[utoipa::path(post, path = "/feedback", request_body(content(
    (Event = "application/json"), (Vec<Event> = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, body = Ack, description = "one ack per event; as an array or as lines if sent so"),
    (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn feedback(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    if media_type(request.headers()) == NDJSON {
        require_identity(request.headers())?;
        let acks = stream::acks(service, request.into_body());
        return Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(acks)).into_response());
    }
    require_json(request.headers())?;
    let body = bytes(request, &()).await?;
    if body.trim_ascii_start().starts_with(b"[") {
        let mut reading = Reading::default();
        for (idx, text) in parse_array(&body)?.into_iter().enumerate() {
            reading.push(Ok(text.get()), &format!("[{idx}]"));
        }
        let acks = reading.settle(&service).await.map_err(|(error, _)| error)?;
        return Ok(Answer(acks).into_response());
    }
    let ack = one(&service, &body).await.inspect_err(|_| count_rejected())?;
    Ok(Answer(ack).into_response())
}

async fn one(service: &Service, body: &[u8]) -> Result<Ack, Error> {
    let answer = service.feedback(vec![parse(body, "")?]).await?.pop();
    answer.unwrap_or_else(|| Err(missing()))
}

fn parse_array(body: &[u8]) -> Result<Vec<&RawValue>, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()).with_code("malformed_json"))
}

/// What was read of one event: its id, or the ack of what is no event.
type Read = Result<EventId, Ack>;

/// Events that are worked on together, and what their acks need.
#[derive(Default)]
pub(super) struct Reading {
    events: Vec<Event>,
    read: Vec<Read>,
}

impl Reading {
    /// Takes what was sent for one event; `at` is its path in the body.
    pub(super) fn push(&mut self, text: Result<&str, &Error>, at: &str) {
        let parsed = match text {
            Ok(text) => parse(text.as_bytes(), at).map_err(|error| rejected(event_id(text), &error)),
            Err(error) => Err(rejected(None, error)),
        };
        self.read.push(parsed.map(|event: Event| {
            let id = event.event_id.clone();
            self.events.push(event);
            id
        }));
    }

    /// Applies the events together; what can't be read or taken is rejected alone.
    ///
    /// # Errors
    /// When nothing could be settled, with the acks that say so.
    pub(super) async fn settle(self, service: &Service) -> Result<Vec<Ack>, (Error, Vec<Ack>)> {
        let mut answers = match service.feedback(self.events).await {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                let unsettled =
                    |read: Read| read.map_or_else(|ack| ack, |id| rejected(Some(id.into()), &error));
                let acks = self.read.into_iter().map(unsettled).collect();
                return Err((error, acks));
            }
        };
        let mut next = || answers.next().unwrap_or_else(|| Err(missing()));
        let ack = |read: Read| match read {
            Err(ack) => ack,
            Ok(id) => next().unwrap_or_else(|error| rejected(Some(id.into()), &error)),
        };
        Ok(self.read.into_iter().map(ack).collect())
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Internal, "the event was not answered")
}

fn count_rejected() {
    metrics::counter!(metric::FEEDBACK, "result" => AckStatus::Rejected.label()).increment(1);
}

fn rejected(event_id: Option<String>, error: &Error) -> Ack {
    count_rejected();
    let detail = Some(error.to_string());
    Ack {
        event_id,
        status: AckStatus::Rejected,
        code: Some(error.code()),
        detail,
        retryable: error.kind().is_retryable(),
        version: None,
    }
}

/// The id of an event that can't be read otherwise, so that its sender knows which one it was.
fn event_id(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: String,
    }
    serde_json::from_str::<Named>(text).ok().map(|named| named.event_id)
}
