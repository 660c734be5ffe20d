//! Listening, accepting, and serving connections until told to stop.
//!
//! The laws: a connection that is busy is never cut; one that is idle stays open for `idle_timeout`, so that pools of
//! clients find it; and no number of connections uses up the descriptors that the state and the other port need.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::types::metric;

/// Connections that may wait to be accepted: trainers open thousands at once.
const BACKLOG: u32 = 4096;

/// After an accept that failed for want of something, such as descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a peer of HTTP/2 is asked whether it is still there, and how long it may take to answer.
const PING: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(20)];

/// The bounds of one port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; others wait to be accepted.
    pub max_connections: usize,
    /// How long a connection may say nothing, and how long it may take to say what it wants.
    pub idle_timeout: Duration,
}

/// A listening port and the task that serves it. Dropping it closes the port at once.
#[derive(Debug)]
pub struct Port {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Port {
    /// Serves `routes` on what connects.
    pub fn spawn(
        listener: TcpListener,
        routes: Router,
        limits: Limits,
        (stop, stopped): (watch::Sender<bool>, watch::Receiver<bool>),
    ) -> Self {
        Self { stop, task: tokio::spawn(serve(listener, routes, limits, stopped)) }
    }

    /// Stops accepting and waits for what is in flight; false if that took longer than `limit`.
    pub async fn close(mut self, limit: Duration) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(limit, &mut self.task).await.is_ok()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a port.
///
/// # Errors
/// What the operating system says.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets this process have as many descriptors as it may, and returns how many. Shells and service managers begin with 1024,
/// which one trainer uses up.
pub fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let least = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => least.unwrap_or(u64::MAX),
    }
}

async fn serve(listener: TcpListener, routes: Router, limits: Limits, stopped: watch::Receiver<bool>) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle_timeout);
    let [interval, timeout] = PING;
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(interval).keep_alive_timeout(timeout);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut stopping = pin!(stop(stopped.clone()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let service = TowerToHyperService::new(routes.clone());
        let (builder, watcher, stopped) = (builder.clone(), open.watcher(), stopped.clone());
        tokio::spawn(async move {
            let _place = place;
            // The library's own limit begins with the first byte.
            let first = async { stream.peek(&mut [0]).await };
            let speaks = tokio::select! {
                () = stop(stopped) => false,
                first = tokio::time::timeout(limits.idle_timeout, first) => first.is_ok(),
            };
            if !speaks {
                return;
            }
            metrics::gauge!(metric::CONNECTIONS).increment(1.0);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                // Peers go away and talk nonsense: that is nobody's fault here.
                tracing::debug!(error, "a connection ended early");
            }
            metrics::gauge!(metric::CONNECTIONS).decrement(1.0);
        });
    }
    drop(listener);
    open.shutdown().await;
}

async fn stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
}

/// Waits for a place, then for somebody to take it; none where accepting failed.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // A peer that is gone already is no reason to pause.
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

    /// A port whose one route answers after `delay`.
    fn port(max_connections: usize, delay: Duration) -> (Port, SocketAddr) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move || async move {
            tokio::time::sleep(delay).await;
            "here"
        };
        let limits = Limits { max_connections, idle_timeout: IDLE };
        (Port::spawn(listener, Router::new().route("/", get(answer)), limits, watch::channel(false)), address)
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        let mut answer = vec![0; 1024];
        let n = stream.read(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
    }

    // The clock is paused and jumps ahead whenever all wait for it.
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
    async fn a_head_that_never_ends_holds_no_connection_for_ever() {
        let (_port, address) = port(10, Duration::ZERO);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_says_a_word_is_closed() {
        let (port, address) = port(10, Duration::ZERO);
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
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

    #[test]
    fn descriptors_are_raised_to_what_is_allowed() {
        let raised = raise_descriptors();
        assert_eq!(Some(raised), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), raised);
    }
}
