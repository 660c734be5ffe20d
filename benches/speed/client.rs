//! HTTP client of the bench, cheap because it shares the cores with the server that it measures.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An HTTP/1.1 connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends one request as made by [`request`]; returns the status and the body, which lies in the buffer.
    pub async fn send(&mut self, request: &[u8]) -> std::io::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = find(&self.buffer, b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
            let total = end + 4 + length.trim().parse::<usize>().unwrap();
            while self.buffer.len() < total {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            let status = head[9..12].parse().unwrap();
            return Ok((status, &self.buffer[end + 4..total]));
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Returns a POST of JSON to /score with the request timeout `timeout`, such as "2s".
pub fn request(body: &str, timeout: &str) -> Vec<u8> {
    format!(
        "POST /score HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\nx-request-timeout: {timeout}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The answers that clients received within a span of time.
#[derive(Default)]
pub struct Seen {
    /// Latencies of the answers with status 200.
    pub latencies: Vec<Duration>,
    pub n_shed: usize,
    pub n_failed: usize,
    pub span: Duration,
}

impl Seen {
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.span.as_secs_f64()
    }

    pub fn quantile(&mut self, q: f64) -> Duration {
        quantile(&mut self.latencies, q)
    }

    fn note(&mut self, status: u16, latency: Duration) {
        match status {
            200 => self.latencies.push(latency),
            503 => self.n_shed += 1,
            _ => self.n_failed += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.n_shed += other.n_shed;
        self.n_failed += other.n_failed;
    }
}

pub fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q).round() as usize]
}

/// Runs clients that each send the next request when they have the answer to the last: each of `requests` once, until
/// `span` is over. The first fifth of the span does not count.
pub async fn closed_loop(
    address: SocketAddr,
    n_clients: usize,
    span: Duration,
    requests: Arc<Vec<Vec<u8>>>,
) -> Seen {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let (from, to) = (start + span / 5, start + span);
    let client = |_| {
        let (next, requests) = (next.clone(), requests.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let mut seen = Seen::default();
            loop {
                let idx = next.fetch_add(1, Ordering::Relaxed);
                assert!(idx < requests.len(), "{idx} requests were not enough for {span:?}");
                let sent = Instant::now();
                let (status, _) = connection.send(&requests[idx]).await.unwrap();
                let now = Instant::now();
                if now > to {
                    return seen;
                }
                if now > from {
                    seen.note(status, now - sent);
                }
            }
        })
    };
    let clients: Vec<_> = (0..n_clients).map(client).collect();
    let mut seen = Seen { span: to - from, ..Seen::default() };
    for client in clients {
        seen.add(client.await.unwrap());
    }
    seen
}

/// Runs clients that each send a request when it is due, `rate` a second between them; latency counts from the send,
/// as a sleep on busy cores ends late.
pub fn paced(address: SocketAddr, rate: f64, n_clients: usize, span: Duration, requests: &[Vec<u8>]) -> Seen {
    let start = Instant::now();
    let client = |first: usize| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut seen, mut buffer) = (Seen::default(), vec![0; 1 << 16]);
        for n in (first..).step_by(n_clients) {
            let due = start + Duration::from_secs_f64(n as f64 / rate);
            if due > start + span {
                return seen;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            stream.write_all(&requests[n % requests.len()]).unwrap();
            // The answer to one text arrives in one piece.
            let n_read = stream.read(&mut buffer).unwrap();
            assert!(buffer[..n_read].starts_with(b"HTTP/1.1 200"));
            if due > start + span / 5 {
                seen.note(200, sent.elapsed());
            }
        }
        seen
    };
    let mut all = Seen { span: span - span / 5, ..Seen::default() };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..n_clients).map(|first| scope.spawn(move || client(first))).collect();
        clients.into_iter().for_each(|client| all.add(client.join().unwrap()));
    });
    all
}

/// Sends `rate` requests a second in rotation, regardless of the answers; latency counts from when a request is due.
pub async fn open_loop(address: SocketAddr, rate: f64, span: Duration, requests: Arc<Vec<Vec<u8>>>) -> Seen {
    const TICK: Duration = Duration::from_millis(1);
    let (idle, n_sent) = (Arc::new(parking_lot::Mutex::new(Vec::<Connection>::new())), AtomicUsize::new(0));
    let (results, mut seen_by) = tokio::sync::mpsc::unbounded_channel();
    let start = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    while start.elapsed() < span {
        ticks.tick().await;
        let due = (start.elapsed().as_secs_f64() * rate) as usize;
        while n_sent.load(Ordering::Relaxed) < due {
            let idx = n_sent.fetch_add(1, Ordering::Relaxed);
            let (idle, requests, results) = (idle.clone(), requests.clone(), results.clone());
            let due_at = start + Duration::from_secs_f64((idx + 1) as f64 / rate);
            tokio::spawn(async move {
                let pooled = idle.lock().pop();
                let outcome = async {
                    let mut connection = match pooled {
                        Some(connection) => connection,
                        None => Connection::open(address).await?,
                    };
                    let (status, _) = connection.send(&requests[idx % requests.len()]).await?;
                    idle.lock().push(connection);
                    std::io::Result::Ok(status)
                };
                let status = outcome.await.unwrap_or(0);
                let _ = results.send((status, due_at.elapsed(), start.elapsed()));
            });
        }
    }
    drop(results);
    let (from, mut seen) = (span / 5, Seen { span: span - span / 5, ..Seen::default() });
    while let Some((status, latency, at)) = seen_by.recv().await {
        if from < at && at < span {
            seen.note(status, latency);
        }
    }
    seen
}
