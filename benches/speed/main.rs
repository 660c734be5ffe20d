//! Cost of the server beside the encoder, and the work that it saves; each figure has its baseline from the same run:
//!
//!     cargo bench --bench speed [-- raw | peers | grpo | latency | fairness | overload | connections]
//!     cargo bench --bench speed [-- growth | json | soak MINUTES]
//!
//! `raw`: the encoder in a loop, and the same texts through the server. `peers`: plain Python servers
//! (`benches/baselines`) and this server. `grpo`: 64 prompts with 16 responses each, at once, one by one, and again.
//! `latency`: a cached text and a new one. `fairness`: a chat beside a trainer. `overload`: ten times the peak rate.
//! `connections`: thousands at once, and one per call. `growth`: heads, users, responses, lengths. `json`: parsers.
//! `soak`: memory over time. Without a name: all but `soak`.
//!
//! Servers are separate processes. They, the clients and the baselines share the cores of this machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_types,
    reason = "a bench fails by panicking, says what it saw and measures real time"
)]

mod client;
mod growth;
mod json;
mod load;
mod raw;
mod server;
mod shapes;
mod texts;

use std::path::PathBuf;
use std::sync::Arc;

use micro_reward::model::Tokenizer;
use serde_json::json;

use client::request;
use server::root;
use texts::Texts;

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The bundles to measure: int8, which is the default, and fp32.
const BUNDLES: [(&str, &str); 2] = [("int8", "models/default"), ("fp32", "models/fp32")];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let names: Vec<&str> = match args.first().map(String::as_str) {
        None => {
            vec!["raw", "peers", "grpo", "latency", "fairness", "overload", "connections", "growth", "json"]
        }
        Some(name) => vec![name],
    };
    for name in names {
        println!("\n== {name}");
        match name {
            "raw" => runtime.block_on(raw::beside_the_server()),
            "peers" => runtime.block_on(raw::beside_peers()),
            "grpo" => runtime.block_on(shapes::grpo()),
            "latency" => runtime.block_on(shapes::latency()),
            "fairness" => runtime.block_on(load::fairness()),
            "overload" => runtime.block_on(load::overload()),
            "connections" => runtime.block_on(load::connections()),
            "growth" => runtime.block_on(growth::all()),
            "json" => json::parsers(),
            "soak" => {
                runtime.block_on(load::soak(args.get(1).map_or(30, |minutes| minutes.parse().unwrap())));
            }
            name => {
                panic!("found the name {name}; the first lines of benches/speed/main.rs say which there are")
            }
        }
    }
}

/// Returns the bundles that have an encoder; fp32 has one after `make bundle-fp32`.
fn bundles() -> Vec<(&'static str, PathBuf)> {
    let bundles = BUNDLES.map(|(name, dir)| (name, root().join(dir)));
    let is_here = |dir: &PathBuf| dir.join("encoder.onnx").exists() && dir.join("tokenizer.json").exists();
    for (name, dir) in bundles.iter().filter(|(_, dir)| !is_here(dir)) {
        println!("{name}: left out, because {} has no encoder", dir.display());
    }
    bundles.into_iter().filter(|(_, dir)| is_here(dir)).collect()
}

fn texts() -> Texts {
    let (_, dir) = bundles().remove(0);
    Texts::new(&root(), Tokenizer::load(&dir.join("tokenizer.json"), 512).unwrap())
}

/// Returns requests of one text each: prompt and response are the same, so that every side encodes it once.
fn singles(texts: &[String]) -> Arc<Vec<Vec<u8>>> {
    let single = |text: &String| json!({ "items": [{ "prompt": text, "responses": [text] }] }).to_string();
    Arc::new(texts.iter().map(|text| request(&single(text), "1h")).collect())
}
