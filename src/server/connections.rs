//! Listens, accepts, and serves connections until the server stops.
//!
//! The laws: a connection that is busy is never cut while its peer reads; one that is idle stays open for
//! `idle_timeout`, so that pools of clients find it; no number of connections uses up the descriptors that the state
//! and the other port need; and calls that are cancelled end no others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::Version;
use axum::response::Response;
use axum::{BoxError, Router};
use bytes::Bytes;
use futures::future::BoxFuture;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower::Service;

use super::pace::{Streams, incoming, outgoing};
use super::recorder::Raised;
use super::socket::{Socket, Unread, reset};
use crate::telemetry::metric;
use crate::transport::shared::guarded::keep;
use crate::transport::shared::streams::{Stopped, stop};
use crate::types::Liveness;

/// Connections that may wait to be accepted: trainers open thousands at once.
const BACKLOG: u32 = 4096;

/// Pause after an accept that failed for lack of a resource, such as descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Time between pings to a peer of HTTP/2, and its time to answer one.
const PING: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];

/// Time for a peer to agree that a connection is over.
const GOODBYE: Duration = Duration::from_secs(5);

/// Calls of one connection that may be cancelled before they were looked at; one more ends it with GOAWAY. h2 allows
/// 20, which a client with 200 calls and deadlines of milliseconds exceeds whenever this process has to wait for a
/// core. The bound is on memory: such a call holds its headers, 16 KiB at most, until the next look, which begins and
/// drops it. So a rapid reset (CVE-2023-44487) costs no more than as many calls that are sent to their end, of which
/// 200 are in work at once.
const CANCELLED_UNSEEN: usize = 1024;

/// Streams of one connection, over its whole life, that may be reset from here for data that their peer sent, such as
/// a piece of a body that was refused before; one more ends it with GOAWAY. h2 allows 1024, which a trainer's channel
/// reaches within days. Each costs half a kilobyte until the peer has read the reset, so that one that reads nothing
/// (RUSTSEC-2024-0003) holds 8 MiB, for the write timeout.
const RESET_FROM_HERE: usize = 16_384;

/// The bounds of one port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Upper bound of open connections; others wait to be accepted.
    pub max_connections: usize,
    /// Time that a connection may be without a request, which is also the time for the headers of the next one.
    pub idle_timeout: Duration,
    /// Time that a peer may neither take a byte that it is sent nor send one.
    pub write_timeout: Duration,
}

/// A listening port and the task that serves it. Dropping it closes the port at once.
#[derive(Debug)]
pub struct Port {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    liveness: Liveness,
}

impl Port {
    /// Serves `routes` on the connections that `listener` accepts.
    pub fn spawn(
        listener: TcpListener,
        routes: Router,
        limits: Limits,
        (stop, stopped): (watch::Sender<bool>, Stopped),
    ) -> Self {
        let liveness = Liveness::default();
        let part = liveness.part("a listener");
        let serve = async move {
            serve(listener, routes, limits, stopped).await;
            part.end();
        };
        Self { stop, task: tokio::spawn(serve), liveness }
    }

    /// Returns the liveness of the task that accepts.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Stops accepting and waits for the requests in flight; false if that took longer than `limit`.
    pub async fn close(mut self, limit: Duration) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(limit, &mut self.task).await.is_ok()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.liveness.retire();
        self.task.abort();
    }
}

/// Opens a port.
///
/// # Errors
/// The error of the operating system.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the descriptors of this process to as many as it may have, and returns how many. Shells and service
/// managers begin with 1024, which one trainer uses up.
pub fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let least = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => least.unwrap_or(u64::MAX),
    }
}

async fn serve(listener: TcpListener, routes: Router, limits: Limits, stopped: Stopped) {
    let mut builder = auto::Builder::new(Streams { write_timeout: limits.write_timeout });
    let [interval, timeout] = PING;
    builder.http1().half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .max_pending_accept_reset_streams(CANCELLED_UNSEEN)
        .max_local_error_reset_streams(RESET_FROM_HERE);
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut open = JoinSet::new();
    let mut stopping = pin!(stop(stopped.clone()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => break,
            _ = open.join_next(), if !open.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, place)) = accepted {
            let connection = talk(stream, builder.clone(), routes.clone(), limits, stopped.clone());
            open.spawn(async move { (connection.await, place).0 });
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Serves one connection until its peer ends it, until it was idle for too long, or until `stopped`.
async fn talk(
    stream: TcpStream,
    builder: auto::Builder<Streams>,
    routes: Router,
    limits: Limits,
    stopped: Stopped,
) {
    let _open = Raised::new(metric::CONNECTIONS);
    let in_flight = watch::Sender::new(0);
    let is_idle = |for_long| idle(in_flight.subscribe(), for_long);
    let (stream, unread) = (Arc::new(stream), Unread::default());
    let socket = Socket::new(stream.clone(), limits.write_timeout, unread.clone());
    let service = TowerToHyperService::new(Counting { routes, in_flight: in_flight.clone(), unread });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        // The requests in work have no peer to answer.
        () = reset(&stream) => return,
        () = stop(stopped) => None,
        () = is_idle(limits.idle_timeout) => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = reset(&stream) => return,
            () = is_idle(GOODBYE) => None,
        };
    }
    if let Some(Err(error)) = ended {
        // Peers disconnect and send malformed bytes, which is no failure of this server.
        tracing::debug!(error, "a connection ended early");
    }
}

/// Waits until no request has been in flight for the time `for_long`.
async fn idle(mut in_flight: watch::Receiver<usize>, for_long: Duration) {
    while in_flight.wait_for(|n| *n == 0).await.is_ok() {
        if tokio::time::timeout(for_long, in_flight.changed()).await.is_err() {
            break;
        }
    }
}

/// The routes of one connection, and the number of its requests that are not answered to the last byte.
#[derive(Clone)]
struct Counting {
    routes: Router,
    in_flight: watch::Sender<usize>,
    unread: Unread,
}

impl<B> Service<Request<B>> for Counting
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let in_flight = InFlight::new(&self.in_flight);
        // An HTTP/2 stream is refused by itself, and its connection stays open.
        let is_followed = request.version() < Version::HTTP_2;
        let request = match is_followed {
            true => request.map(|body| Body::new(self.unread.follow(body))),
            false => request.map(Body::new),
        };
        let mut routes = self.routes.clone();
        Box::pin(async move {
            let answer = routes.call(request.map(incoming)).await?;
            Ok(keep(answer, in_flight).map(outgoing))
        })
    }
}

struct InFlight(watch::Sender<usize>);

impl InFlight {
    fn new(in_flight: &watch::Sender<usize>) -> Self {
        in_flight.send_modify(|n| *n += 1);
        Self(in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// Waits for a place, then for a connection to take it; none where accepting failed.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // A peer that has disconnected already is no reason to pause.
            if !matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
            ) {
                tracing::warn!(%error, "no connection can be accepted now");
                tokio::time::sleep(PAUSE).await;
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const IDLE: Duration = Duration::from_secs(180);
    const WRITE: Duration = Duration::from_secs(60);

    /// Opens a port whose one route answers after `delay`.
    fn port(max_connections: usize, delay: Duration) -> (Port, SocketAddr) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move || async move {
            tokio::time::sleep(delay).await;
            "here"
        };
        let limits = Limits { max_connections, idle_timeout: IDLE, write_timeout: WRITE };
        (Port::spawn(listener, Router::new().route("/", get(answer)), limits, watch::channel(false)), address)
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        let mut answer = vec![0; 1024];
        let n = stream.read(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
    }

    // The clock is paused and jumps ahead whenever all tasks wait for it.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_stays_open_for_its_time_and_no_longer() {
        let (_port, address) = port(10, Duration::ZERO);
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            assert!(ask(&mut stream).await.unwrap().ends_with("here"));
            tokio::time::sleep(Duration::from_secs(150)).await;
        }
        assert!(ask(&mut stream).await.unwrap().ends_with("here"));
        let last = Instant::now();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
        assert!(last.elapsed() >= IDLE, "{:?}", last.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_a_peer_begins_with_it_holds_no_connection_for_ever() {
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
        let (port, address) = port(10, Duration::ZERO);
        for begin in
            [&b""[..], b"P", &PREFACE[..20], PREFACE, &[PREFACE, SETTINGS].concat(), b"GET / HTTP/1.1\r\n"]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begin).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        let mut silent = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(port.close(Duration::from_secs(10)).await, "it holds up no stop");
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_longer_than_an_idle_connection() {
        let (_port, address) = port(10, 2 * IDLE);
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut stream).await.unwrap().ends_with("here"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_all_places_taken_waits_for_one() {
        let (_port, address) = port(1, Duration::ZERO);
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut first).await.unwrap().ends_with("here"));
        let mut second = TcpStream::connect(address).await.unwrap();
        let soon = tokio::time::timeout(Duration::from_secs(60), ask(&mut second));
        assert!(soon.await.is_err(), "the first is still there");
        drop(first);
        let mut answer = vec![0; 1024];
        let n = second.read(&mut answer).await.unwrap();
        assert!(answer[..n].ends_with(b"here"));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_cuts_who_is_idle_and_waits_for_who_is_busy() {
        let (port, address) = port(10, Duration::from_secs(5));
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut idle).await.unwrap().ends_with("here"));
        let busy = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            ask(&mut stream).await.unwrap()
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(port.close(Duration::from_secs(60)).await);
        assert!(busy.await.unwrap().ends_with("here"));
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// Opens a port whose one route answers with more than two sockets hold.
    fn port_with_much() -> (Port, SocketAddr) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits { max_connections: 10, idle_timeout: 10 * IDLE, write_timeout: WRITE };
        let routes = Router::new().route("/", get(|| async { vec![0_u8; MUCH] }));
        (Port::spawn(listener, routes, limits, watch::channel(false)), address)
    }

    const MUCH: usize = 64 << 20;

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_byte_for_the_write_timeout_loses_the_connection() {
        let (_port, address) = port_with_much();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        tokio::time::sleep(WRITE + Duration::from_secs(1)).await;
        let mut taken = Vec::new();
        let _ = stream.read_to_end(&mut taken).await;
        assert!((1..MUCH).contains(&taken.len()), "{} bytes", taken.len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_slowly_gets_all_of_it() {
        let (_port, address) = port_with_much();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let (mut piece, mut n_taken) = (vec![0; 8 << 20], 0);
        loop {
            tokio::time::sleep(WRITE - Duration::from_secs(5)).await;
            let mut n_piece = 0;
            while n_piece < piece.len() {
                match stream.read(&mut piece[n_piece..]).await.unwrap() {
                    0 => break,
                    n => n_piece += n,
                }
            }
            n_taken += n_piece;
            if n_piece < piece.len() {
                break;
            }
        }
        assert!(n_taken > MUCH, "{n_taken} bytes");
    }

    #[test]
    fn descriptors_are_raised_to_what_is_allowed() {
        let raised = raise_descriptors();
        assert_eq!(Some(raised), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), raised);
    }
}
