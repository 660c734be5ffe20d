//! Holds acks for a slow reader, while the events of its stream are read on.
//!
//! A client that sends a whole body before it reads the first ack would otherwise wait forever, as would the server.
//! The bounds: [`HELD_BYTES`] of one stream and [`ALL_HELD_BYTES`] of all together, beyond which a stream is read on
//! only after its acks are sent; and [`SILENCE_OF_LINES`] without a byte received or an ack sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::transport::shared::streams::SILENCE_OF_LINES;

/// Bytes of acks that one stream may hold: those of 400,000 thumbs.
const HELD_BYTES: u32 = 32 << 20;

/// Bytes of acks that all streams may hold.
const ALL_HELD_BYTES: usize = 256 << 20;

static ALL: Semaphore = Semaphore::const_new(ALL_HELD_BYTES);

/// The time of a stream's last progress.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Notes that bytes arrived, a batch was applied or an ack was sent.
    pub(super) fn made(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Awaits work that the peer may delay; an error after [`SILENCE_OF_LINES`] without progress.
    pub(super) async fn unless_stalled<F: Future>(&self, work: F) -> Result<F::Output, Stalled> {
        let stalled = async {
            loop {
                let last = *self.0.lock();
                tokio::time::sleep_until(last + SILENCE_OF_LINES).await;
                if *self.0.lock() == last {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = stalled => Err(Stalled),
        }
    }
}

/// The error of a stream in which neither side made progress for [`SILENCE_OF_LINES`].
#[derive(Debug)]
pub(super) struct Stalled;

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nothing came and no ack was taken for {SILENCE_OF_LINES:?}")
    }
}

/// Acks that wait, and the room that they take until they are sent.
struct Held {
    bytes: Bytes,
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<SemaphorePermit<'static>>,
}

/// The sending end of a stream's acks.
pub(super) struct Sender {
    held: UnboundedSender<Held>,
    room: Arc<Semaphore>,
    progress: Progress,
}

impl Sender {
    /// Holds acks once there is room. Without progress they are held as well, as their events are applied, and
    /// the stream is to end.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), Stalled> {
        let n_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(HELD_BYTES);
        let all = ALL.try_acquire_many(n_bytes).ok();
        // A stream may hold one batch while all streams together hold too much.
        let n_own = if all.is_some() { n_bytes } else { HELD_BYTES };
        let room = self.progress.unless_stalled(self.room.clone().acquire_many_owned(n_own)).await;
        let (own, stalled) = match room {
            Ok(own) => (own.ok(), Ok(())),
            Err(stalled) => (None, Err(stalled)),
        };
        // The task of the stream is about to be dropped if the receiver is gone.
        let _ = self.held.send(Held { bytes, _own: own, _all: all });
        stalled
    }
}

/// The acks of a stream, and the task that applies its events. Dropping them aborts the task.
pub(super) struct Acks {
    held: UnboundedReceiver<Held>,
    progress: Progress,
    task: JoinHandle<()>,
}

/// Returns the acks that `apply_events` sends, in their order.
pub(super) fn acks<F: Future<Output = ()> + Send + 'static>(
    progress: Progress,
    apply_events: impl FnOnce(Sender) -> F,
) -> Acks {
    let (sender, held) = unbounded_channel();
    let room = Arc::new(Semaphore::new(HELD_BYTES as usize));
    let sender = Sender { held: sender, room, progress: progress.clone() };
    // The task logs within the span of the request.
    let task = tokio::spawn(apply_events(sender).in_current_span());
    Acks { held, progress, task }
}

impl Stream for Acks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.held.poll_recv(cx).map(|held| {
            self.progress.made();
            held.map(|held| Ok(held.bytes))
        })
    }
}

impl Drop for Acks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;

    use super::*;

    const MIB: usize = 1 << 20;

    /// Returns a stream that sends one MiB after the other until it stalls, and the number sent by then with the time.
    fn send_until_stalled() -> (Acks, tokio::sync::oneshot::Receiver<(usize, Instant)>) {
        let (tell, stalled) = tokio::sync::oneshot::channel();
        let acks = acks(Progress::new(), |sender| async move {
            let mut n_sent = 0;
            while sender.send(vec![0; MIB].into()).await.is_ok() {
                n_sent += 1;
            }
            let _ = tell.send((n_sent, Instant::now()));
        });
        (acks, stalled)
    }

    #[tokio::test(start_paused = true)]
    async fn acks_wait_up_to_the_bound_and_none_is_lost_when_nobody_takes_them() {
        let start = Instant::now();
        let (acks, stalled) = send_until_stalled();
        let (n_sent, at) = stalled.await.unwrap();
        assert_eq!((n_sent * MIB, at - start), (HELD_BYTES as usize, SILENCE_OF_LINES));
        // The batch that found no room was applied, and waits as well.
        assert_eq!(acks.count().await, n_sent + 1);

        // A reader that takes one now and then is not stalled, and makes room for one each time.
        let start = Instant::now();
        let (mut acks, stalled) = send_until_stalled();
        for _ in 0..10 {
            tokio::time::sleep(SILENCE_OF_LINES - Duration::from_secs(1)).await;
            assert!(acks.next().await.is_some());
        }
        let last = Instant::now();
        let (n_sent, at) = stalled.await.unwrap();
        assert!(last - start > SILENCE_OF_LINES);
        assert_eq!((n_sent * MIB, at - last), (HELD_BYTES as usize + 10 * MIB, SILENCE_OF_LINES));

        // Each stream may hold one batch while all together hold too much.
        drop(acks);
        let held_by_others = ALL.acquire_many(u32::try_from(ALL_HELD_BYTES).unwrap()).await.unwrap();
        let (_acks, stalled) = send_until_stalled();
        assert_eq!(stalled.await.unwrap().0, 1);
        drop(held_by_others);
    }
}
