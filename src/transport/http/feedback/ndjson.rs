//! Feedback as lines: acks are sent while events are still coming.
//!
//! Bounds: a stream holds one batch of lines and the acks that [`ahead`] lets wait, and reads no further while
//! the store is slow, so that the connection itself slows the sender. No event is dropped, and events are
//! applied in their order.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{BoxStream, Fuse};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio_util::codec::FramedRead;
use tokio_util::io::StreamReader;

use super::super::inflate::corruption;
use super::super::whole::off_if_large;
use super::ahead::{self, Progress, Sender};
use super::event;
use super::lines::Lines;
use crate::service::{EventAcks, ParsedEvent, Service, ServiceHandle, rejected};
use crate::types::{Ack, Error, ErrorKind, Held};

/// Lines that are applied together: one fsync for all of them.
const LINES_AT_ONCE: usize = 2048;

/// Bytes that end a batch with the line that reaches them, so that long lines do not fill the memory.
const BATCH_BYTES: usize = 1 << 20;

/// Bytes of the longest line: three texts of a MiB in the worst escaping fit.
const MAX_LINE_BYTES: usize = 24 << 20;

/// The lines of a body. The stream is fused, as the rest of a body that broke is no line.
type Source = Fuse<FramedRead<StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>, Lines>>;

/// Returns ack lines in the order of the event lines and, if the stream stalled, a last one with that error. Batches
/// are requests of their own: an open stream does not hold on to a bundle that was replaced.
pub(super) fn acks(
    handle: ServiceHandle,
    body: Body,
    held: Held,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let progress = Progress::new();
    let came = progress.clone();
    let body = body.into_data_stream().inspect_ok(move |_| came.made()).map_err(io::Error::other);
    let lines = Lines::new(MAX_LINE_BYTES, held);
    let source = FramedRead::with_capacity(StreamReader::new(body.boxed()), lines, 64 << 10).fuse();
    ahead::acks(progress.clone(), move |acks| apply_events(handle, source, acks, progress))
}

async fn apply_events(handle: ServiceHandle, mut source: Source, acks: Sender, progress: Progress) {
    let stalled = loop {
        match progress.unless_stalled(batch(&mut source)).await {
            Ok(Some(batch)) => {
                let lines = ack_lines(handle.current(), batch).await;
                // A stream that never waits would otherwise leave other tasks no turn until it is done.
                tokio::task::yield_now().await;
                // The time to apply a batch is not the caller's.
                progress.made();
                if let Err(stalled) = acks.send(lines).await {
                    break stalled;
                }
            }
            Ok(None) => return,
            Err(stalled) => break stalled,
        }
    };
    let error = Error::new(ErrorKind::DeadlineExceeded, stalled.to_string()).with_code("stalled_stream");
    error.log();
    // The ack is held even without progress.
    let _ = acks.send(lines(&[rejected(None, &error)])).await;
}

/// Reads the next line and those that have arrived after it; none when the body ends or breaks.
async fn batch(source: &mut Source) -> Option<Vec<ParsedEvent>> {
    let mut batch = Vec::new();
    let mut n_bytes = 0;
    for n_lines in 0..LINES_AT_ONCE {
        let line = if n_lines == 0 {
            next(source).await?
        } else {
            match next(source).now_or_never() {
                Some(Some(line)) => line,
                // The next batch waits for more lines, and finds the end of the body again.
                None | Some(None) => break,
            }
        };
        n_bytes += line.as_ref().map_or(0, String::len);
        batch.push(match line {
            Ok(line) => read(line).await,
            Err(error) => Err(Box::new(rejected(None, &error))),
        });
        if n_bytes >= BATCH_BYTES {
            break;
        }
    }
    Some(batch)
}

async fn read(line: String) -> ParsedEvent {
    let refused = |error| Err(Box::new(rejected(None, &error)));
    off_if_large(line.len(), move || event::read(&line)).await.unwrap_or_else(refused)
}

/// Reads the next line that is not blank; at last, the error in the body's gzip. A broken connection has no reader of
/// acks.
async fn next(source: &mut Source) -> Option<Result<String, Error>> {
    loop {
        let line = match source.next().await? {
            Ok(line) => line,
            Err(error) => return corruption(&error).map(Err),
        };
        if line.as_ref().map_or(true, |line| !line.trim().is_empty()) {
            return Some(line);
        }
    }
}

async fn ack_lines(service: Arc<Service>, batch: Vec<ParsedEvent>) -> Bytes {
    let EventAcks { acks, failures } = service.apply_events(batch).await;
    failures.iter().for_each(Error::log);
    lines(&acks)
}

fn lines(acks: &[Ack]) -> Bytes {
    let mut lines = Vec::new();
    for ack in acks {
        // A struct of texts and numbers always serializes.
        lines.extend(serde_json::to_vec(ack).unwrap_or_default());
        lines.push(b'\n');
    }
    lines.into()
}
