//! Feedback as lines: acks leave while events are still coming.
//!
//! Bounded: a stream holds one batch of lines, and reads no further while their acks can't leave or the store is
//! slow, so that the connection itself slows the sender. Nothing is dropped, and events are applied in their order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::MapErr;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio_util::codec::FramedRead;
use tokio_util::io::StreamReader;

use super::feedback;
use super::inflate::corruption;
use super::lines::Lines;
use crate::service::{Live, Read, Service, Settled, rejected};
use crate::types::{Error, Held};

/// Lines that are settled together: one fsync for all of them.
const LINES_AT_ONCE: usize = 2048;

/// A batch ends with the line that reaches this, so that long lines do not fill the memory.
const BATCH_BYTES: usize = 1 << 20;

/// The longest line: three texts of a MiB in the worst escaping fit.
const MAX_LINE_BYTES: usize = 24 << 20;

/// A stream that sends nothing for this long is ended, so that silent ones do not use up the permits.
const MAX_SILENCE: Duration = Duration::from_secs(300);

type Source =
    FramedRead<StreamReader<MapErr<BodyDataStream, fn(axum::Error) -> std::io::Error>, Bytes>, Lines>;

/// Ack lines in the order of the event lines. Batches are requests of their own: an open stream does not hold on to a bundle
/// that was replaced.
pub(super) fn acks(live: Live, body: Body, held: Held) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let to_io: fn(axum::Error) -> std::io::Error = std::io::Error::other;
    let reader = StreamReader::new(body.into_data_stream().map_err(to_io));
    let source = FramedRead::with_capacity(reader, Lines::new(MAX_LINE_BYTES, held), 64 << 10);
    futures::stream::unfold(source, |mut source| async move { Some((batch(&mut source).await?, source)) })
        .then(move |batch| ack_lines(live.now(), batch))
        .map(Ok)
}

/// The next line and what has arrived after it; none when the body ends, breaks, or is silent for too long.
async fn batch(source: &mut Source) -> Option<Vec<Read>> {
    let mut batch = Vec::new();
    let mut n_bytes = 0;
    for n_lines in 0..LINES_AT_ONCE {
        let line = if n_lines == 0 {
            tokio::time::timeout(MAX_SILENCE, next(source)).await.ok()??
        } else {
            match next(source).now_or_never() {
                Some(Some(line)) => line,
                // Nothing more now; an end is found again by the next batch.
                None | Some(None) => break,
            }
        };
        n_bytes += line.as_ref().map_or(0, String::len);
        batch.push(match line {
            Ok(line) => feedback::line(line).await,
            Err(error) => Err(rejected(None, &error)),
        });
        if n_bytes >= BATCH_BYTES {
            break;
        }
    }
    Some(batch)
}

/// The next line that is not blank; at last, what is wrong with the body's gzip. A connection that broke has nobody to ack to.
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

async fn ack_lines(service: Arc<Service>, batch: Vec<Read>) -> Bytes {
    let Settled { acks, failures } = service.settle(batch).await;
    failures.iter().for_each(Error::log);
    let mut lines = Vec::new();
    for ack in acks {
        // A struct of texts and numbers always serialises.
        lines.extend(serde_json::to_vec(&ack).unwrap_or_default());
        lines.push(b'\n');
    }
    lines.into()
}
