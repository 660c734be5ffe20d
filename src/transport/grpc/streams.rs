//! Answers the messages of a stream in order, while the caller continues to send.
//!
//! The law: at most [`AT_ONCE`] messages of a stream are held, so that a slow reader slows the sender; dropping the
//! answers drops the work; a stop lets the messages that were read be answered and then ends the stream.

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tonic::{Status, Streaming};

use super::call::stopping_error;
use super::pb::{self, score_stream_response::Result as Outcome};
use super::requests::required;
use super::status::{foreign, gone, status};
use crate::service::{EventAcks, ParsedEvent, Service, ServiceHandle, rejected};
use crate::transport::shared::streams::{SILENCE_OF_MESSAGES, Stopped, stop};
use crate::types::{Error, ErrorKind, ScoreAnswer};

/// Messages of one stream in work at once: enough to fill batches, few enough to bound memory.
const AT_ONCE: usize = 32;

pub(super) type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Scores message by message.
pub(super) fn scores(
    handle: ServiceHandle,
    requests: Streaming<pb::ScoreStreamRequest>,
    stopped: Stopped,
) -> Answers<pb::ScoreStreamResponse> {
    let answer = move |message: Result<pb::ScoreStreamRequest, Status>| {
        let service = handle.current();
        async move {
            let pb::ScoreStreamRequest { correlation_id, request } = message?;
            let result = match score(&service, request).await {
                Ok(answer) => Outcome::Response(answer.into()),
                Err(error) => {
                    error.log();
                    Outcome::Error((&error).into())
                }
            };
            Ok(pb::ScoreStreamResponse { correlation_id, result: Some(result) })
        }
    };
    messages(requests, stopped).map(answer).buffered(AT_ONCE).boxed()
}

async fn score(service: &Service, request: Option<pb::ScoreRequest>) -> Result<ScoreAnswer, Error> {
    service.score(required(request, "request")?.try_into()?).await
}

/// Acks event by event. The events that have arrived are applied together.
pub(super) fn acks(
    handle: ServiceHandle,
    requests: Streaming<pb::FeedbackRequest>,
    stopped: Stopped,
) -> Answers<pb::FeedbackResponse> {
    let ack = move |chunk: Vec<Result<pb::FeedbackRequest, Status>>| {
        let service = handle.current();
        async move {
            let (mut events, mut end) = (Vec::with_capacity(chunk.len()), None);
            for message in chunk {
                match message {
                    Ok(message) => events.push(read(message.event)),
                    Err(status) => end = Some(Err(status)),
                }
            }
            let EventAcks { acks, failures } = service.apply_events(events).await;
            failures.iter().for_each(Error::log);
            stream::iter(acks.into_iter().map(|ack| Ok(ack.into())).chain(end))
        }
    };
    messages(requests, stopped).ready_chunks(AT_ONCE).then(ack).flatten().boxed()
}

fn read(event: Option<pb::Event>) -> ParsedEvent {
    let event = required(event, "event").map_err(|error| Box::new(rejected(None, &error)))?;
    let event_id = event.event_id.clone();
    event.try_into().map_err(|error| Box::new(rejected(Some(event_id), &error)))
}

/// Yields the messages of the caller and, unless the caller has ended the stream, the status that ends it.
fn messages<T: Send + 'static>(
    requests: Streaming<T>,
    stopped: Stopped,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let stopped = Box::pin(stop(stopped));
    stream::unfold(Some((requests, stopped)), |open| async move {
        let (mut requests, mut stopped) = open?;
        let message = tokio::select! {
            biased;
            () = &mut stopped => Err(ended(stopping_error())),
            message = tokio::time::timeout(SILENCE_OF_MESSAGES, requests.message()) => match message {
                Ok(Ok(message)) => Ok(message?),
                // A message that can't be read ends the stream, as those behind it can't be delimited either.
                Ok(Err(status)) => Err(foreign(&status).map_or_else(gone, ended)),
                Err(_) => Err(ended(silent())),
            },
        };
        let open = message.is_ok().then_some((requests, stopped));
        Some((message, open))
    })
}

/// Returns the status that ends a stream; its error is logged here, as no answer carries it.
fn ended(error: Error) -> Status {
    error.log();
    status(error)
}

fn silent() -> Error {
    let detail = format!("the stream sent nothing for {SILENCE_OF_MESSAGES:?}");
    Error::new(ErrorKind::DeadlineExceeded, detail).with_code("silent_stream")
}
