//! The encoder in a loop, and the same texts through this server and the baseline servers.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use micro_reward::model::{Runtime, load_encoder};
use micro_reward::types::{Encode, Tokens};

use super::client::closed_loop;
use super::server::{Server, cpu_seconds, root};
use super::texts::Kind;
use super::{bundles, singles, texts};

const KINDS: [Kind; 3] = [Kind::Short, Kind::Mixed, Kind::Exactly(128)];

/// Duration of one load.
const SPAN: Duration = Duration::from_secs(6);

/// Loads of the same kind; the sides take turns, and the median counts.
const ROUNDS: usize = 3;

/// More requests than any load uses.
const MANY: usize = 12_000;

pub fn n_cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

/// Loads sessions of one thread, as the server does.
pub fn encoders(bundle: &Path, n: usize) -> Vec<Box<dyn Encode>> {
    let runtime = Runtime::load(&root().join("vendor/onnxruntime/libonnxruntime.so")).unwrap();
    load_encoder(&runtime, bundle, n).unwrap().sessions
}

/// Measures texts a second, one text at a time on a thread per session.
fn raw_rate(encoders: &mut [Box<dyn Encode>], tokens: &[Tokens]) -> f64 {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for encoder in encoders {
            scope.spawn(|| {
                while start.elapsed() < SPAN {
                    let text = &tokens[next.fetch_add(1, Ordering::Relaxed) % tokens.len()];
                    encoder.encode(&[text]).unwrap();
                }
            });
        }
    });
    next.into_inner() as f64 / start.elapsed().as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Compares the encoder alone with the server at 1, 8, 32 and 256 clients.
pub async fn beside_the_server() {
    const MIDDLE: usize = 32;
    const CLIENTS: [usize; 4] = [1, 8, MIDDLE, 256];
    let mut texts = texts();
    println!(
        "texts/s, medians of {ROUNDS}: raw is ONNX Runtime in a loop, one text at a time, a thread per core"
    );
    println!("encoder  texts       raw    1 client    8    32    256    ratio at 32    ratio per CPU second");
    for (name, dir) in bundles() {
        let mut encoders = encoders(&dir, n_cores());
        for kind in KINDS {
            let mut rates = vec![Vec::new(); 1 + CLIENTS.len()];
            let mut per_cpu_second = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                let tokens: Vec<Tokens> =
                    texts.some(kind, 2000).iter().map(|text| texts.tokens(text)).collect();
                let cpu = cpu_seconds(std::process::id());
                let rate = raw_rate(&mut encoders, &tokens);
                let cpu = cpu_seconds(std::process::id()) - cpu;
                per_cpu_second[0].push(rate * SPAN.as_secs_f64() / cpu);
                rates[0].push(rate);
                let server = Server::ours(&dir, &[]);
                for (idx, n_clients) in CLIENTS.into_iter().enumerate() {
                    let requests = singles(&texts.some(kind, MANY));
                    let cpu = server.cpu_seconds();
                    let seen = closed_loop(server.address, n_clients, SPAN, requests).await;
                    assert_eq!((seen.n_shed, seen.n_failed), (0, 0));
                    rates[1 + idx].push(seen.rate());
                    if n_clients == MIDDLE {
                        let cpu = server.cpu_seconds() - cpu;
                        per_cpu_second[1].push(seen.rate() * SPAN.as_secs_f64() / cpu);
                    }
                }
            }
            let rates: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
            let all: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
            let [raw, ours] = per_cpu_second.map(|mut rates| median(&mut rates));
            println!(
                "{name:8} {kind:10} {}    {:.2}    {:.2}",
                all.join("    "),
                rates[3] / rates[0],
                ours / raw
            );
        }
    }
}

/// Compares plain Python servers on the fp32 encoder with this server on both encoders, without a cache, at 32
/// clients.
pub async fn beside_peers() {
    let bundles = bundles();
    let Some((_, fp32)) = bundles.iter().find(|(name, _)| *name == "fp32") else { return };
    let mut texts = texts();
    println!("texts/s with 32 clients, no cache, medians of {ROUNDS}; the ratio is to the best baseline");
    for kind in [Kind::Mixed, Kind::Short] {
        let baselines: [(&str, &[&str]); 3] =
            [("unbatched", &[]), ("batched", &[]), ("batched", &["--max-batch", "4"])];
        let mut rates = vec![Vec::new(); baselines.len() + bundles.len()];
        for _ in 0..ROUNDS {
            for (idx, (name, args)) in baselines.into_iter().enumerate() {
                let server = Server::baseline(name, fp32, args);
                let seen = closed_loop(server.address, 32, SPAN, singles(&texts.some(kind, MANY))).await;
                assert_eq!(seen.n_failed, 0, "{name}");
                rates[idx].push(seen.rate());
            }
            for (idx, (_, dir)) in bundles.iter().enumerate() {
                let server = Server::ours(dir, &[("cache.max_bytes", "0")]);
                let seen = closed_loop(server.address, 32, SPAN, singles(&texts.some(kind, MANY))).await;
                assert_eq!((seen.n_shed, seen.n_failed), (0, 0));
                rates[baselines.len() + idx].push(seen.rate());
            }
        }
        let rates: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
        let best = rates[..baselines.len()].iter().copied().fold(0.0, f64::max);
        for (rate, (name, args)) in rates.iter().zip(baselines) {
            println!("{kind:10} FastAPI {name} {}, fp32    {rate:.0}", args.join(" "));
        }
        for (rate, (name, _)) in rates[baselines.len()..].iter().zip(&bundles) {
            println!("{kind:10} micro-reward, {name}    {rate:.0}    {:.2} x", rate / best);
        }
    }
}
