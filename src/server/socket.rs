//! The socket of one connection: the reset by its peer, the time it may take nothing, and the close.
//!
//! The laws: a peer is gone when it resets the connection or a write fails, and not when it only ends its sending
//! half; one that neither takes nor sends a byte for the write timeout loses the connection; and an answer to a
//! request whose body was not read is not lost to a reset.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Most bytes of an unread request that are read and dropped before its connection is closed: twice the default of
/// `server.max_body_bytes`, so that a client refused for load or size receives the refusal.
const LINGER_BYTES: u64 = 128 << 20;

/// Longest time for that, and longest pause without a byte; as nginx's `lingering_time` and `lingering_timeout`.
const LINGER: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(5)];

/// Bytes that are dropped at once.
const SCRATCH: usize = 64 << 10;

/// A TCP stream that keeps these laws.
pub struct Socket {
    stream: Arc<TcpStream>,
    write_timeout: Duration,
    /// Timer that runs while a write waits for the peer.
    patience: Option<Pin<Box<Sleep>>>,
    unread: Unread,
    lingering: Option<Lingering>,
}

/// A flag: the body of the connection's last HTTP/1 request has not been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Unread(Arc<AtomicBool>);

/// An unread request that is being dropped.
struct Lingering {
    bytes_left: u64,
    end: Instant,
    pause: Pin<Box<Sleep>>,
    scratch: Vec<u8>,
}

impl Socket {
    /// Creates a socket; `unread` is the flag that [`Unread::follow`] sets for the requests of this connection.
    pub fn new(stream: Arc<TcpStream>, write_timeout: Duration, unread: Unread) -> Self {
        Self { stream, write_timeout, patience: None, unread, lingering: None }
    }

    /// Writes, or fails at the end of the peer's time for it.
    fn within_time(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> Result<usize>,
    ) -> Poll<Result<usize>> {
        while self.stream.poll_write_ready(cx)?.is_ready() {
            match write(&self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => {
                    self.patience = None;
                    return Poll::Ready(written);
                }
            }
        }
        let patience = || Box::pin(tokio::time::sleep(self.write_timeout));
        ready!(self.patience.get_or_insert_with(patience).as_mut().poll(cx));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer took nothing for the write timeout")))
    }

    /// True if the kernel would answer a close with a reset, which takes the answer from the peer.
    fn has_unread(&self) -> bool {
        self.unread.0.load(Ordering::Relaxed)
            || rustix::io::ioctl_fionread(&*self.stream).is_ok_and(|n| n > 0)
    }
}

/// Waits until the peer resets the connection. A peer does so when its process dies or closes with bytes unread, and
/// in answer to bytes for a socket that is closed; a plain close looks like the end of its sending half until then.
pub async fn reset(stream: &TcpStream) {
    // An error means that the state of the socket can't be read any more, which is an end as well.
    let _ = stream.ready(Interest::ERROR).await;
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buffer) {
                Ok(n) => {
                    // A peer that sends is there: a client may send all of a body before it reads the first ack.
                    let timeout = self.write_timeout;
                    if let Some(patience) = self.patience.as_mut().filter(|_| n > 0) {
                        patience.as_mut().reset(Instant::now() + timeout);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.within_time(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.within_time(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the sending half; then drops what still comes of an unread request, within bounds.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.lingering.is_none() {
            // A peer that is gone sends no more bytes to drop.
            if rustix::net::shutdown(&*self.stream, Shutdown::Write).is_err() || !self.has_unread() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(Lingering::new());
        }
        let Self { stream, lingering: Some(lingering), .. } = &mut *self else {
            return Poll::Ready(Ok(()));
        };
        lingering.poll(cx, stream).map(Ok)
    }
}

impl Lingering {
    fn new() -> Self {
        let [longest, pause] = LINGER;
        let pause = Box::pin(tokio::time::sleep(pause));
        let end = Instant::now() + longest;
        Self { bytes_left: LINGER_BYTES, end, pause, scratch: vec![0; SCRATCH] }
    }

    /// Completes once the peer has sent all, or the bounds are reached.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &TcpStream) -> Poll<()> {
        while self.bytes_left > 0 && Instant::now() < self.end {
            let Poll::Ready(readable) = stream.poll_read_ready(cx) else {
                return self.pause.as_mut().poll(cx);
            };
            match readable.and_then(|()| stream.try_read(&mut self.scratch)) {
                Ok(n) if n > 0 => {
                    self.bytes_left = self.bytes_left.saturating_sub(n as u64);
                    let [_, pause] = LINGER;
                    self.pause.as_mut().reset(self.end.min(Instant::now() + pause));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl Unread {
    /// Wraps the body, which is unread until its end is found.
    pub fn follow<B: Body>(&self, body: B) -> Followed<B> {
        self.0.store(!body.is_end_stream(), Ordering::Relaxed);
        Followed { body, unread: self.clone() }
    }
}

/// A body that notes when it is read to its end.
pub struct Followed<B> {
    body: B,
    unread: Unread,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Followed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.unread.0.store(false, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
