//! POST /feedback: one event, an array, or lines that are acked while the body is still coming.

use std::sync::Arc;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use super::body::{bytes, media_type, parse, require_json};
use super::problem::Problem;
use crate::service::Service;
use crate::types::{Ack, AckStatus, Error, ErrorKind, Event};

const NDJSON: &str = "application/x-ndjson";

/// Lines of one stream that are worked on at once: enough to fill batches, few enough to bound memory.
const LINES_AHEAD: usize = 32;

/// The longest line: a pair of the longest texts in the worst escaping fits.
const MAX_LINE_BYTES: usize = 16 << 20;

#[utoipa::path(post, path = "/feedback", request_body(content(
    (Event = "application/json"), (Vec<Event> = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, body = Ack, description = "one ack per event; as an array or as lines if sent so"),
    (status = "4XX", body = super::problem::ProblemBody<'static>)))]
pub(super) async fn feedback(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    if media_type(request.headers()) == NDJSON {
        let acks = acks(service, request.into_body()).map(Ok::<_, std::convert::Infallible>);
        return Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(acks)).into_response());
    }
    require_json(request.headers())?;
    let body = bytes(request, &()).await?;
    if body.trim_ascii_start().starts_with(b"[") {
        return Ok(Answer(array(&service, &body).await?).into_response());
    }
    let answer = service.feedback(vec![parse(&body, "")?]).await?.pop();
    let ack = answer.unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "the event was not answered")))?;
    Ok(Answer(ack).into_response())
}

/// An event that can't be read or taken is rejected alone.
async fn array(service: &Service, body: &[u8]) -> Result<Vec<Ack>, Error> {
    let texts: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()).with_code("malformed_json"))?;
    let mut events = Vec::new();
    let mut acks = Vec::with_capacity(texts.len());
    for (idx, text) in texts.iter().enumerate() {
        match parse::<Event>(text.get().as_bytes(), &format!("[{idx}]")) {
            Ok(event) => {
                acks.push(None);
                events.push(event);
            }
            Err(error) => acks.push(Some(rejected(event_id(text.get()), &error))),
        }
    }
    let ids: Vec<String> = events.iter().map(|event| event.event_id.to_string()).collect();
    let answers = service.feedback(events).await?;
    let mut answers =
        ids.into_iter().zip(answers).map(|(id, answer)| answer.unwrap_or_else(|e| rejected(Some(id), &e)));
    Ok(acks.into_iter().filter_map(|ack| ack.or_else(|| answers.next())).collect())
}

/// One ack line per event line, in order. A slow reader slows the sender: at most [`LINES_AHEAD`] are held.
fn acks(service: Arc<Service>, body: Body) -> impl Stream<Item = Bytes> {
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_LINE_BYTES))
        .take_while(|line| std::future::ready(!matches!(line, Err(LinesCodecError::Io(_)))))
        .filter(|line| std::future::ready(line.as_ref().map_or(true, |line| !line.trim().is_empty())))
        .map(move |line| ack_line(service.clone(), line))
        .buffered(LINES_AHEAD)
}

async fn ack_line(service: Arc<Service>, line: Result<String, LinesCodecError>) -> Bytes {
    let ack = match line {
        Ok(line) => match parse::<Event>(line.as_bytes(), "") {
            Ok(event) => one(&service, event).await,
            Err(error) => rejected(event_id(&line), &error),
        },
        Err(_) => {
            let detail = format!("found a line longer than {MAX_LINE_BYTES} bytes");
            rejected(None, &Error::new(ErrorKind::TooLarge, detail))
        }
    };
    let mut line = serde_json::to_vec(&ack).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

async fn one(service: &Service, event: Event) -> Ack {
    let id = event.event_id.to_string();
    let answer = service.feedback(vec![event]).await;
    let missing = || Err(Error::new(ErrorKind::Internal, "the event was not answered"));
    let answer = answer.and_then(|mut answers| answers.pop().unwrap_or_else(missing));
    answer.unwrap_or_else(|error| rejected(Some(id), &error))
}

fn rejected(event_id: Option<String>, error: &Error) -> Ack {
    let detail = Some(error.to_string());
    Ack { event_id, status: AckStatus::Rejected, code: Some(error.code()), detail, version: None }
}

/// The id of an event that can't be read otherwise, so that its sender knows which one it was.
fn event_id(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: String,
    }
    serde_json::from_str::<Named>(text).ok().map(|named| named.event_id)
}
