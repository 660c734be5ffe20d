//! Load beyond one caller's: a chat beside a trainer, overload, thousands of connections, hours.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Connection, closed_loop, open_loop, quantile, request};
use super::server::Server;
use super::texts::{Kind, Texts};
use super::{bundles, singles, texts};

/// Number of responses in a trainer's request.
const N_LARGE: usize = 10_000;

fn large(texts: &mut Texts, kind: Kind, n: usize) -> Vec<u8> {
    request(&json!({ "items": [{ "prompt": "Go on.", "responses": texts.some(kind, n) }] }).to_string(), "1h")
}

async fn one_by_one(server: &Server, requests: &[Vec<u8>]) -> Vec<Duration> {
    let mut connection = Connection::open(server.address).await.unwrap();
    let mut latencies = Vec::new();
    for request in requests {
        let start = Instant::now();
        assert_eq!(connection.send(request).await.unwrap().0, 200);
        latencies.push(start.elapsed());
        // A chat pauses between its requests; the trainer does not.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    latencies
}

/// Measures a chat's single requests, alone and beside a trainer's 10,000 responses.
pub async fn fairness() {
    const N: usize = 300;
    let mut texts = texts();
    for (name, dir) in bundles() {
        for interactive_threads in ["1", "0"] {
            for kind in [Kind::Short, Kind::Exactly(128)] {
                let server = Server::ours(&dir, &[("batch.interactive_threads", interactive_threads)]);
                let mut alone = one_by_one(&server, &singles(&texts.some(kind, N))).await;
                let batch = large(&mut texts, Kind::Mixed, N_LARGE);
                let address = server.address;
                let trainer = tokio::spawn(async move {
                    Connection::open(address).await.unwrap().send(&batch).await.unwrap().0
                });
                tokio::time::sleep(Duration::from_secs(1)).await;
                let mut beside = one_by_one(&server, &singles(&texts.some(kind, N))).await;
                assert!(!trainer.is_finished(), "the trainer's request was there all the time");
                trainer.abort();
                let [p50, p99] = [0.5, 0.99].map(|q| (quantile(&mut alone, q), quantile(&mut beside, q)));
                println!(
                    "{name}, interactive_threads {interactive_threads}: a chat's text, {kind}: p50 {:?} alone, {:?} beside; p99 {:?} alone, {:?} beside: {:.1} x",
                    p50.0,
                    p50.1,
                    p99.0,
                    p99.1,
                    p99.1.as_secs_f64() / p99.0.as_secs_f64()
                );
            }
        }
    }
}

/// Counts the answers a second at the peak, and those in time at ten times as many requests, whose callers wait 2 s.
pub async fn overload() {
    const SPAN: Duration = Duration::from_secs(20);
    let mut texts = texts();
    for (name, dir) in bundles() {
        let server = Server::ours(&dir, &[]);
        let peak =
            closed_loop(server.address, 32, SPAN, singles(&texts.some(Kind::Mixed, 12_000))).await.rate();
        let rate = 10.0 * peak;
        let single = |text: &String| {
            request(&json!({ "items": [{ "prompt": text, "responses": [text] }] }).to_string(), "2s")
        };
        let n = (rate * SPAN.as_secs_f64()) as usize + 1;
        let requests = Arc::new(texts.some(Kind::Mixed, n).iter().map(single).collect());
        let mut seen = open_loop(server.address, rate, SPAN, requests).await;
        println!(
            "{name}: {peak:.0} answers/s at the peak; at {rate:.0} requests/s {:.0} answers/s in time: {:.2} x; p99 {:?}, {} shed, {} failed",
            seen.rate(),
            seen.rate() / peak,
            seen.quantile(0.99),
            seen.n_shed,
            seen.n_failed
        );
    }
}

/// Opens 5,000 connections at once with one sample each; compares one connection with a connection for every call.
pub async fn connections() {
    const N: usize = 5000;
    let mut texts = texts();
    let (name, dir) = bundles().remove(0);
    let server = Server::ours(&dir, &[]);
    let requests = singles(&texts.some(Kind::Short, N));
    let start = Instant::now();
    let call = |idx: usize| {
        let (requests, address) = (requests.clone(), server.address);
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            std::io::Result::Ok(connection.send(&requests[idx]).await?.0)
        })
    };
    let calls: Vec<_> = (0..N).map(call).collect();
    let mut n_answered = 0;
    for call in calls {
        n_answered += usize::from(matches!(call.await.unwrap(), Ok(200)));
    }
    println!(
        "{name}: {N} connections at once, one short text each: {n_answered} answered with 200 in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    // Every text is cached by this point, so that only the connections differ.
    let mut kept = Connection::open(server.address).await.unwrap();
    let start = Instant::now();
    for request in requests.iter() {
        assert_eq!(kept.send(request).await.unwrap().0, 200);
    }
    let on_one = start.elapsed();
    let start = Instant::now();
    for request in requests.iter() {
        assert_eq!(Connection::open(server.address).await.unwrap().send(request).await.unwrap().0, 200);
    }
    println!(
        "{name}: {N} known texts one by one: {:?} a call on one connection, {:?} with a connection per call",
        on_one / N as u32,
        start.elapsed() / N as u32
    );
}

/// Prints the resident memory once a minute under mixed load.
pub async fn soak(minutes: u64) {
    let mut texts = texts();
    let (name, dir) = bundles().remove(0);
    // A small cache is full after a minute, so that cached entries do not look like a leak.
    let server = Server::ours(&dir, &[("cache.max_bytes", "16777216"), ("responses.max_bytes", "16777216")]);
    let start = Instant::now();
    let mut n_answers = 0;
    for minute in 0..minutes {
        let until = Duration::from_secs(60 * (minute + 1));
        while start.elapsed() < until {
            let batch = large(&mut texts, Kind::Mixed, 256);
            let address = server.address;
            let trainer = tokio::spawn(async move {
                Connection::open(address).await.unwrap().send(&batch).await.unwrap().0
            });
            let some = texts.some(Kind::Mixed, 200);
            let users: Vec<Vec<u8>> = some
                .iter()
                .enumerate()
                .cycle()
                .take(100_000)
                .map(|(idx, text)| {
                    let response = json!({ "id": format!("r{idx}"), "text": text });
                    let item = json!({ "prompt": text, "responses": [response] });
                    request(&json!({ "user": format!("u{idx}"), "items": [item] }).to_string(), "1h")
                })
                .collect();
            let seen = closed_loop(server.address, 8, Duration::from_secs(4), Arc::new(users)).await;
            assert_eq!(trainer.await.unwrap(), 200);
            n_answers += seen.latencies.len();
        }
        println!(
            "{name}: after {} min: {:.1} MB resident, {n_answers} answers",
            minute + 1,
            server.resident_mb()
        );
    }
}
