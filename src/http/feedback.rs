//! POST /feedback: one event, an array, or lines that are acked while the body is still coming.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::value::RawValue;
use tokio_util::codec::FramedRead;
use tokio_util::io::StreamReader;

use super::body::{bytes, media_type, parse, require_identity, require_json};
use super::lines::Lines;
use super::problem::Problem;
use crate::service::{Read, Service, rejected};
use crate::types::{Ack, Error, ErrorKind, Event};

const NDJSON: &str = "application/x-ndjson";

/// Lines of one stream that are worked on at once: enough to fill batches, few enough to bound memory.
const LINES_AT_ONCE: usize = 32;

/// The longest line: three texts of a MiB in the worst escaping fit.
const MAX_LINE_BYTES: usize = 24 << 20;

/// A stream that sends nothing for this long is ended, so that silent ones do not use up the permits.
const MAX_SILENCE: Duration = Duration::from_secs(300);

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
        let acks = stream(service, request.into_body()).map(Ok::<_, std::convert::Infallible>);
        return Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(acks)).into_response());
    }
    require_json(request.headers())?;
    let body = bytes(request, &()).await?;
    if body.trim_ascii_start().starts_with(b"[") {
        let texts: Vec<&RawValue> = parse_array(&body)?;
        let read = texts.iter().enumerate().map(|(idx, text)| read(text.get(), &format!("[{idx}]")));
        let read: Vec<Read> = read.collect();
        return Ok(Answer(service.settle(&read).await?).into_response());
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

fn parse_array(body: &[u8]) -> Result<Vec<&RawValue>, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()).with_code("malformed_json"))
}

/// Ack lines while event lines are still coming, in their order. What has arrived is worked on together; a slow
/// reader slows the sender, as at most [`LINES_AT_ONCE`] are held; a silent sender is given up.
fn stream(service: Arc<Service>, body: Body) -> impl Stream<Item = Bytes> {
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let lines = FramedRead::new(reader, Lines::new(MAX_LINE_BYTES));
    let next = |mut lines: FramedRead<_, Lines>| async move {
        let line = tokio::time::timeout(MAX_SILENCE, lines.next()).await.ok()??;
        // The connection broke: there is nobody to ack to.
        Some((line.ok()?, lines))
    };
    futures::stream::unfold(lines, next)
        .filter(|line| std::future::ready(line.as_ref().map_or(true, |line| !line.trim().is_empty())))
        .ready_chunks(LINES_AT_ONCE)
        .then(move |lines| ack_lines(service.clone(), lines))
}

async fn ack_lines(service: Arc<Service>, lines: Vec<Result<String, Error>>) -> Bytes {
    let read: Vec<Read> = lines
        .into_iter()
        .map(|line| line.map_err(|e| rejected(None, &e)).and_then(|l| read(&l, "")))
        .collect();
    let (acks, failure) = service.settle_or_reject(&read).await;
    failure.iter().for_each(Error::log);
    let mut lines = Vec::new();
    for ack in acks {
        // A struct of texts and numbers always serialises.
        lines.extend(serde_json::to_vec(&ack).unwrap_or_default());
        lines.push(b'\n');
    }
    lines.into()
}

fn read(text: &str, at: &str) -> Read {
    parse(text.as_bytes(), at).map_err(|error| rejected(event_id(text), &error))
}

/// The id of an event that can't be read otherwise, so that its sender knows which one it was.
fn event_id(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        event_id: String,
    }
    serde_json::from_str::<Named>(text).ok().map(|named| named.event_id)
}
