//! The pace of the streams of HTTP/2: one whose peer takes nothing is ended, and the connection's others continue.
//!
//! A stream's window can be shut while its connection moves, so that no write of the socket shows it. The law: a
//! stream that was given a piece of its answer, and within the write timeout neither asks for another nor sends a
//! piece of its request, is reset, which drops its permit and its work. No task is woken by the pieces of a request,
//! so that a stream that sends has up to twice the time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Instant;

use crate::transport::shared::guarded::watched;

/// Bytes of the largest piece of an answer, so that a slow reader is seen to read: a frame of HTTP/2.
const PIECE_BYTES: usize = 16 << 10;

tokio::task_local! {
    static PACE: Pace;
}

/// An executor that runs each stream of a connection as a task of its own, for as long as its peer keeps pace.
#[derive(Debug, Clone)]
pub struct Streams {
    /// Time that a peer may take nothing.
    pub write_timeout: Duration,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (pace, write_timeout) = (Pace::default(), self.write_timeout);
        tokio::spawn(PACE.scope(pace.clone(), async move {
            let mut stream = pin!(stream);
            let (mut patience, mut owed) = (pin!(tokio::time::sleep(write_timeout)), None);
            let kept_or_ended = poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let Some(piece) = pace.owed() else { return Poll::Pending };
                if owed.replace(piece) != Some(piece) {
                    patience.as_mut().reset(Instant::now() + write_timeout);
                }
                patience.as_mut().poll(cx)
            });
            kept_or_ended.await;
        }));
    }
}

/// A count that changes whenever a piece of a stream's answer is asked for or given: odd while the peer is still to
/// take one. A piece of its request counts as two.
#[derive(Debug, Clone, Default)]
struct Pace(Arc<AtomicUsize>);

impl Pace {
    fn asked(&self) {
        self.0.fetch_add(self.0.load(Ordering::Relaxed) % 2, Ordering::Relaxed);
    }

    fn gave(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn came(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
    }

    /// Returns the piece that the peer is still to take, another number after each piece that it has sent.
    fn owed(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|count| count % 2 == 1)
    }
}

/// Wraps the body of a request, so that the stream that runs this sees its pieces: a peer that sends is there, and
/// may send all before it reads. Outside of a [stream](Streams), the body stays as it is.
pub fn incoming(body: Body) -> Body {
    match PACE.try_with(Clone::clone) {
        Ok(pace) if !body.is_end_stream() => watched(body, pace, |pace, _| pace.came()),
        _ => body,
    }
}

/// Wraps the body of an answer, so that the stream that runs this sees its pieces taken. Outside of a
/// [stream](Streams), the body stays as it is.
pub fn outgoing(body: Body) -> Body {
    match PACE.try_with(Clone::clone) {
        Ok(pace) => Body::new(Pieces { body, rest: Bytes::new(), pace }),
        Err(_) => body,
    }
}

struct Pieces {
    body: Body,
    /// Rest of a frame that is larger than a piece.
    rest: Bytes,
    pace: Pace,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.pace.asked();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        self.pace.gave();
        let n_bytes = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(n_bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, n_rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + n_rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + n_rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use futures::StreamExt;
    use futures::channel::mpsc;
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    // The clock is paused and jumps ahead whenever all tasks wait for it.
    #[tokio::test(start_paused = true)]
    async fn who_goes_on_sending_keeps_a_stream_whose_answer_it_does_not_take() {
        let (client, pieces) = mpsc::unbounded::<Result<Bytes, Infallible>>();
        let (held, mut is_held) = oneshot::channel::<()>();
        Streams { write_timeout: PATIENCE }.execute(async move {
            let mut request = incoming(Body::from_stream(pieces)).into_data_stream();
            tokio::spawn(async move { while request.next().await.is_some() {} });
            let mut answer = outgoing(Body::from("an ack")).into_data_stream();
            assert!(answer.next().await.is_some());
            pending::<()>().await;
            drop(held);
        });
        for _ in 0..5 {
            tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
            client.unbounded_send(Ok(Bytes::from_static(b"a thumb"))).unwrap();
        }
        assert_eq!(is_held.try_recv(), Err(TryRecvError::Empty));
        let last = Instant::now();
        assert!(is_held.await.is_err(), "it is reset");
        assert!((PATIENCE..2 * PATIENCE).contains(&last.elapsed()), "{:?}", last.elapsed());
    }
}
