//! Request shapes: groups of responses as policy trainers send them, and single responses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use micro_reward::types::Tokens;
use serde_json::json;

use super::client::{Connection, closed_loop, paced, quantile, request};
use super::raw::encoders;
use super::server::Server;
use super::texts::{Kind, Texts};
use super::{bundles, singles, texts};

const N_PROMPTS: usize = 64;
const N_RESPONSES: usize = 16;

struct Groups(Vec<(String, Vec<String>)>);

impl Groups {
    fn new(texts: &mut Texts) -> Self {
        let group = |_| (texts.one_of(Kind::Mixed), texts.some(Kind::Mixed, N_RESPONSES));
        Self((0..N_PROMPTS).map(group).collect())
    }

    fn at_once(&self) -> Vec<u8> {
        let item =
            |(prompt, responses): &(String, Vec<String>)| json!({ "prompt": prompt, "responses": responses });
        request(&json!({ "items": self.0.iter().map(item).collect::<Vec<_>>() }).to_string(), "1h")
    }

    fn one_by_one(&self) -> Vec<Vec<u8>> {
        let pairs =
            self.0.iter().flat_map(|(prompt, responses)| responses.iter().map(move |text| (prompt, text)));
        let one =
            |(prompt, text)| json!({ "items": [{ "prompt": prompt, "responses": [text] }] }).to_string();
        pairs.map(|pair| request(&one(pair), "1h")).collect()
    }
}

/// Measures 64 prompts with 16 responses each: one by one, at once, and again.
pub async fn grpo() {
    const N_AGAIN: usize = 50;
    let n = (N_PROMPTS * N_RESPONSES) as f64;
    let mut texts = texts();
    for (name, dir) in bundles() {
        let mut rates = Vec::new();
        // The single requests find no cache, by one caller and by 32; then a server with a cache scores all at once,
        // and the same again.
        let server = Server::ours(&dir, &[("cache.max_bytes", "0")]);
        let address = server.address;
        for n_callers in [1, 32] {
            let requests = Arc::new(Groups::new(&mut texts).one_by_one());
            let start = Instant::now();
            let calls = (0..n_callers).map(|first| {
                let requests = requests.clone();
                tokio::spawn(async move {
                    let mut connection = Connection::open(address).await.unwrap();
                    for request in requests.iter().skip(first).step_by(n_callers) {
                        assert_eq!(connection.send(request).await.unwrap().0, 200);
                    }
                })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap();
            }
            rates.push(n / start.elapsed().as_secs_f64());
        }
        drop(server);
        let server = Server::ours(&dir, &[]);
        let mut connection = Connection::open(server.address).await.unwrap();
        let groups = Groups::new(&mut texts).at_once();
        let start = Instant::now();
        assert_eq!(connection.send(&groups).await.unwrap().0, 200);
        rates.push(n / start.elapsed().as_secs_f64());
        println!(
            "{name}: {:.0} responses/s one by one, {:.0} by 32 callers, {:.0} at once: {:.2} x and {:.2} x",
            rates[0],
            rates[1],
            rates[2],
            rates[2] / rates[0],
            rates[2] / rates[1]
        );
        let (start, cpu) = (Instant::now(), server.cpu_seconds());
        for _ in 0..N_AGAIN {
            assert_eq!(connection.send(&groups).await.unwrap().0, 200);
        }
        let n_again = n * N_AGAIN as f64;
        println!(
            "{name}: again {:.0} responses/s, {:.0} per second of the server's CPU",
            n_again / start.elapsed().as_secs_f64(),
            n_again / (server.cpu_seconds() - cpu)
        );
    }
}

/// Measures a cached text at half load, and a new one beside the encoder alone.
pub async fn latency() {
    const SPAN: Duration = Duration::from_secs(8);
    let mut texts = texts();
    for (name, dir) in bundles() {
        let server = Server::ours(&dir, &[]);
        let known = singles(&texts.some(Kind::Mixed, 500));
        let mut connection = Connection::open(server.address).await.unwrap();
        for request in known.iter() {
            connection.send(request).await.unwrap();
        }
        let mut alone: Vec<Duration> = Vec::new();
        for request in known.iter().cycle().take(5000) {
            let start = Instant::now();
            connection.send(request).await.unwrap();
            alone.push(start.elapsed());
        }
        let many = Arc::new(known.iter().cycle().take(400_000).cloned().collect::<Vec<_>>());
        // The span is short, as the clients send tens of thousands of requests a second.
        let peak = closed_loop(server.address, 32, SPAN / 4, many).await.rate();
        let mut half = paced(server.address, peak / 2.0, 8, SPAN, &known);
        println!(
            "{name}: known texts: {peak:.0} requests/s at most; p50 {:?}, p99 {:?} at half of it ({:.0}/s); p50 {:?} by one caller",
            half.quantile(0.5),
            half.quantile(0.99),
            half.rate(),
            quantile(&mut alone, 0.5)
        );
        for kind in [Kind::Short, Kind::Exactly(128)] {
            miss(name, kind, &server, &mut texts, &mut encoders(&dir, 1)[0]).await;
        }
    }
}

async fn miss(
    name: &str,
    kind: Kind,
    server: &Server,
    texts: &mut Texts,
    encoder: &mut Box<dyn micro_reward::types::Encode>,
) {
    const N: usize = 200;
    let mut connection = Connection::open(server.address).await.unwrap();
    let texts_of_it = texts.some(kind, N);
    let tokens: Vec<Tokens> = texts_of_it.iter().map(|text| texts.tokens(text)).collect();
    let (mut raw, mut through) = (Vec::new(), Vec::new());
    // The sides take turns, so that both run under the same conditions of the machine.
    for (request, tokens) in singles(&texts_of_it).iter().zip(&tokens) {
        let start = Instant::now();
        encoder.encode(&[tokens]).unwrap();
        raw.push(start.elapsed());
        let start = Instant::now();
        assert_eq!(connection.send(request).await.unwrap().0, 200);
        through.push(start.elapsed());
    }
    let (raw, through) = (quantile(&mut raw, 0.5), quantile(&mut through, 0.5));
    let beside = through.as_micros() as i128 - raw.as_micros() as i128;
    println!(
        "{name}: a lone text, {kind}: p50 {through:?}, the encoder alone {raw:?}, {beside} us beside it"
    );
}
