//! Cost of the state, each figure beside its baseline:
//!
//!     cargo bench --bench state [-- ledger | engine | http | post | users N RESIDENT]
//!
//! `ledger`: changes of rows in memory, one thread. `engine`: the embedded engine, durable and not. `http`: NDJSON
//! feedback by id over a socket, durable, not, and in memory. `post`: one event at a time, beside the disk's own
//! fdatasync. `users`: memory and restart with N users, of whom RESIDENT may be in memory.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_types,
    reason = "a bench fails by panicking, says what it saw and measures real time"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use micro_reward::mixture::{Decay, pair};
use micro_reward::server::App;
use micro_reward::state::{
    Change, ChangeKind, Embedded, EmbeddedConfig, EventKey, LedgerEvent, LedgerId, MemoryStore, RowRules,
    UserKey, UserKeys, UserStore,
};
use micro_reward::types::config::{Config, Layers};
use micro_reward::types::{Judgment, ResolvedFeedback, ResolvedResponse, SystemClock};
use serde_json::{Value, json};

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of heads of models/default.
const K: usize = 11;
const RULES: RowRules =
    RowRules { n_heads: K, decay: Decay::NONE, max_age_ms: i64::MAX, max_events: 1 << 20 };

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let number = |idx: usize| args[idx].parse::<usize>().unwrap();
    match args.first().map(String::as_str) {
        Some("ledger") => runtime.block_on(ledger()),
        Some("engine") => runtime.block_on(engine()),
        Some("http") => runtime.block_on(http()),
        Some("post") => runtime.block_on(post()),
        Some("users") => runtime.block_on(users(number(1), number(2))),
        _ => runtime.block_on(async {
            ledger().await;
            engine().await;
            http().await;
            post().await;
            users(1_000_000, 1_000_000).await;
        }),
    }
}

fn user(n: usize) -> UserKey {
    UserKeys::default().of(&format!("user-{n}").parse().unwrap())
}

fn changes(ids: impl Iterator<Item = usize>, n_users: usize, resolved: bool) -> Vec<Change> {
    let margins: Vec<f64> = (0..K).map(|k| (k as f64 * 0.7).sin()).collect();
    let increment = pair(&margins);
    let said = |id: usize| ResolvedFeedback {
        event_id: format!("event-{id}").parse().unwrap(),
        user: format!("user-{}", id % n_users).parse().unwrap(),
        at_ms: id as i64,
        context: None,
        prompt: "How do I make tea that is not bitter?".into(),
        responses: ["Let it draw for two minutes, not more.", "Use colder water."]
            .map(|text| ResolvedResponse { id: None, text: text.into() })
            .into(),
        judgment: Judgment::Pair,
        replaces: None,
        comment: None,
        metadata: std::collections::BTreeMap::new(),
    };
    let change = |id: usize| {
        let event = LedgerEvent {
            key: EventKey(id as u64),
            at_ms: id as i64,
            context: None,
            question: None,
            increment: increment.clone(),
            content: Some(id as u64),
            replaces: None,
            resolved: resolved.then(|| Arc::new(said(id))),
        };
        Change { user: user(id % n_users), now_ms: id as i64, kind: ChangeKind::Add(event) }
    };
    ids.map(change).collect()
}

fn embedded(dir: &Path, resident_users: usize, is_sync: bool) -> Embedded {
    let config = EmbeddedConfig {
        dir: dir.to_owned(),
        ledger_id: LedgerId { n_heads: K, key: 1 },
        rules: RULES,
        max_users: usize::MAX,
        resident_users,
        is_sync,
        checkpoint_every: Duration::from_secs(60),
        retention: Duration::ZERO,
        erase_within: Duration::from_secs(3600),
    };
    Embedded::open(config, Arc::new(SystemClock)).unwrap()
}

/// Returns a directory on the repository's disk: a default temporary directory may be in memory.
fn dir() -> tempfile::TempDir {
    std::fs::create_dir_all(root().join("target")).unwrap();
    tempfile::tempdir_in(root().join("target")).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

async fn ledger() {
    for (n_users, n_events) in [(100_000, 400_000), (10_000, 400_000)] {
        let store = MemoryStore::new(RULES, NonZeroUsize::MAX);
        let mut batches = Vec::new();
        for start in (0..n_events).step_by(1024) {
            batches.push(changes(start..(start + 1024).min(n_events), n_users, false));
        }
        let start = Instant::now();
        for batch in batches {
            store.change(batch).await.unwrap();
        }
        let rate = n_events as f64 / start.elapsed().as_secs_f64();
        println!(
            "ledger: {rate:.0} updates/s, one thread, K = {K}, {n_users} users, {} events each",
            n_events / n_users
        );
    }
}

async fn engine() {
    const N: usize = 400_000;
    let mut rates = Vec::new();
    for (name, is_sync) in [("durable", true), ("async", false)] {
        let dir = dir();
        let store = embedded(dir.path(), usize::MAX, is_sync);
        let batches: Vec<Vec<Change>> =
            (0..N).step_by(2048).map(|start| changes(start..(start + 2048).min(N), 100_000, true)).collect();
        let start = Instant::now();
        futures::stream::iter(batches)
            .map(|batch| store.change(batch))
            .buffered(4)
            .for_each(|done| async move {
                done.unwrap();
            })
            .await;
        let rate = N as f64 / start.elapsed().as_secs_f64();
        println!("engine: {rate:.0} events/s with texts, {name}, batches of 2048, 4 in flight");
        rates.push(rate);
        store.close().await;
    }
    println!("engine: durable / async {:.2}", rates[0] / rates[1]);
}

async fn app(engine: &str, durability: &str, dir: &Path) -> App {
    let set = |layers: Layers, key: &str, value: &str| layers.flag("bench", key, Some(value.to_owned()));
    let library = root().join("vendor/onnxruntime/libonnxruntime.so");
    let bundle = root().join("models/toy");
    let settings = [
        ("model.bundle", bundle.to_str().unwrap()),
        ("model.onnxruntime_library", library.to_str().unwrap()),
        ("server.listen", "127.0.0.1:0"),
        ("server.admin_listen", "127.0.0.1:0"),
        ("state.engine", engine),
        ("state.durability", durability),
        ("state.data_dir", dir.to_str().unwrap()),
    ];
    let layers =
        settings.into_iter().fold(Layers::defaults(), |layers, (key, value)| set(layers, key, value));
    App::start(Config::new(layers).unwrap(), Arc::new(SystemClock)).await.unwrap()
}

const N_HTTP: usize = 300_000;
const N_HTTP_USERS: usize = 10_000;

/// Measures NDJSON feedback: every body is ready before the clock starts; the client shares this process and its
/// cores.
async fn http() {
    let mut rates = Vec::new();
    for (engine, durability) in [("embedded", "sync"), ("embedded", "async"), ("memory", "sync")] {
        let dir = dir();
        let app = app(engine, durability, dir.path()).await;
        let (base, client) = (format!("http://{}", app.address), reqwest::Client::new());
        let responses: Vec<Value> =
            (0..1000).map(|n| json!({ "id": format!("r{n}"), "text": format!("thanks {n}") })).collect();
        let score = json!({ "items": [{ "prompt": "tea", "responses": responses }] });
        assert!(
            client.post(format!("{base}/score")).json(&score).send().await.unwrap().status().is_success()
        );
        let mut bodies = vec![String::new(); 4];
        for id in 0..N_HTTP {
            let (chosen, rejected, user) = (id % 1000, (id + 1 + id % 7) % 1000, id % N_HTTP_USERS);
            writeln!(bodies[id % 4], r#"{{"event_id":"e{id}","user":"user-{user}","kind":"pair","chosen_id":"r{chosen}","rejected_id":"r{rejected}"}}"#).unwrap();
        }
        let start = Instant::now();
        let mut streams = Vec::new();
        for body in bodies {
            let request =
                client.post(format!("{base}/feedback")).header("content-type", "application/x-ndjson");
            let request = request.body(body).send();
            streams.push(tokio::spawn(async move {
                let (mut acks, mut n_applied) = (request.await.unwrap().bytes_stream(), 0);
                while let Some(chunk) = acks.next().await {
                    n_applied += bytes_of(&chunk.unwrap());
                }
                n_applied
            }));
        }
        let mut n_acks = 0;
        for stream in streams {
            n_acks += stream.await.unwrap();
        }
        assert_eq!(n_acks, N_HTTP);
        let rate = N_HTTP as f64 / start.elapsed().as_secs_f64();
        println!("http: {rate:.0} events/s by id, NDJSON, 4 connections, {engine} {durability}");
        rates.push(rate);
        app.stop().await;
    }
    println!(
        "http: durable / not durable {:.2}, durable / memory {:.2}",
        rates[0] / rates[1],
        rates[0] / rates[2]
    );
}

fn bytes_of(chunk: &[u8]) -> usize {
    chunk.iter().filter(|&&byte| byte == b'\n').count()
}

async fn post() {
    const N: usize = 300;
    let dir = dir();
    let app = app("embedded", "sync", dir.path()).await;
    let (base, client) = (format!("http://{}", app.address), reqwest::Client::new());
    let score = json!({ "items": [{ "prompt": "tea", "responses": [{ "id": "a", "text": "thanks" }, { "id": "b", "text": "seven" }] }] });
    client.post(format!("{base}/score")).json(&score).send().await.unwrap();
    let mut file = std::fs::File::create(dir.path().join("fdatasync")).unwrap();
    let (mut posts, mut syncs) = (Vec::new(), Vec::new());
    for id in 0..N {
        let start = Instant::now();
        file.write_all(&[7; 256]).unwrap();
        file.sync_data().unwrap();
        syncs.push(start.elapsed());
        let event = json!({ "event_id": format!("e{id}"), "user": "ann", "kind": "pair", "chosen_id": "a", "rejected_id": "b" });
        let start = Instant::now();
        let ack: Value =
            client.post(format!("{base}/feedback")).json(&event).send().await.unwrap().json().await.unwrap();
        posts.push(start.elapsed());
        assert_eq!(ack["status"], "applied");
    }
    let p50 = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (post, sync) = (p50(&mut posts), p50(&mut syncs));
    println!(
        "post: p50 {post:?}, fdatasync of 256 bytes p50 {sync:?}, ratio {:.2}",
        post.as_secs_f64() / sync.as_secs_f64()
    );
    app.stop().await;
}

async fn users(n_users: usize, resident: usize) {
    let dir = dir();
    let before = resident_bytes();
    let store = embedded(dir.path(), resident, false);
    let start = Instant::now();
    for round in 0..2 {
        for at in (0..n_users).step_by(2048) {
            let ids = at..(at + 2048).min(n_users);
            store.change(changes(ids.map(|id| round * n_users + id), n_users, false)).await.unwrap();
        }
    }
    let rate = 2.0 * n_users as f64 / start.elapsed().as_secs_f64();
    let grown = resident_bytes() - before;
    println!(
        "users: {n_users} users of 2 events, at most {resident} rows resident: {rate:.0} events/s, {} MB more, {:.0} bytes a user",
        grown / 1_000_000,
        grown as f64 / n_users as f64
    );
    let start = Instant::now();
    store.close().await;
    drop(store);
    println!("users: stopped in {:.1} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let store = embedded(dir.path(), resident, false);
    println!("users: restarted in {:.1} s after a stop", start.elapsed().as_secs_f64());
    assert_eq!(store.n_users(), n_users);
    let start = Instant::now();
    let n_reads = 20_000;
    for n in 0..n_reads {
        let row = store.get(user((n * 7919) % n_users), 0).await.unwrap().row.unwrap();
        assert_eq!(row.version, 2);
    }
    println!(
        "users: {:.0} reads/s of rows on the disk, one by one",
        n_reads as f64 / start.elapsed().as_secs_f64()
    );
    // A kill leaves at most this tail in the journal.
    let n_tail = 900_000.min(n_users);
    for at in (0..n_tail).step_by(2048) {
        let ids = at..(at + 2048).min(n_tail);
        store.change(changes(ids.map(|id| 2 * n_users + id), n_users, false)).await.unwrap();
    }
    let copy = self::dir();
    let copied =
        std::process::Command::new("cp").arg("-r").arg(dir.path().join(".")).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    let start = Instant::now();
    let again = embedded(copy.path(), resident, false);
    println!(
        "users: restarted in {:.1} s after a kill, {n_tail} changes in the journal's tail",
        start.elapsed().as_secs_f64()
    );
    assert_eq!(again.n_users(), n_users);
}

/// Returns the resident memory of this process in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
