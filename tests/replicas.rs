//! Replicas as users run them: several `serve` processes on one store, through HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use common::valkey::Valkey;
use common::{Client, numbers, program, toy};
use futures::StreamExt;
use jiff::Timestamp;
use micro_reward::model::Manifest;
use micro_reward::state::{LedgerId, Row, UserStore, ValkeyConfig, ValkeyStore};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const N_USERS: usize = 500;
const N_EVENTS: usize = 10_000;
const N_TWICE: usize = 2000;

/// Events of one request, and requests in flight at once.
const AT_ONCE: (usize, usize) = (10, 12);

/// Upper bound of every wait: a longer one is a defect.
const PATIENCE: Duration = Duration::from_secs(120);

struct Replica {
    child: Child,
    client: Client,
    admin: Client,
}

impl Replica {
    async fn start(server: &Valkey, prefix: &str, max_staleness: &str, data_dir: &Path) -> Self {
        let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state", "valkey"];
        let mut child = Command::from(program())
            .args(args)
            .env("MICRO_REWARD__MODEL__BUNDLE", toy())
            .env("MICRO_REWARD__LOG__FORMAT", "json")
            .env("MICRO_REWARD__STATE__DATA_DIR", data_dir)
            .env("MICRO_REWARD__VALKEY__URL", server.url())
            .env("MICRO_REWARD__VALKEY__PREFIX", prefix)
            .env("MICRO_REWARD__STATE__MAX_STALENESS", max_staleness)
            .kill_on_drop(true)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready: Value = loop {
            let line = log.next_line().await.unwrap().unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["message"] == "ready" {
                break event;
            }
        };
        // The replica must not block on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        let client = |key: &str| Client::new(ready[key].as_str().unwrap().parse().unwrap());
        Self { client: client("address"), admin: client("admin_address"), child }
    }

    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.admin.get("/metrics").await;
        let line =
            text.as_str()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.to_owned();
        line.parse().ok()
    }
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} never came to be");
}

/// Returns the events, the same in every run that starts at `start`.
fn events(start: Timestamp) -> Vec<Value> {
    let texts = ["thanks friend", "seven", "exactly seven percent", "glad", "thanks", "please wait here"];
    let event = |n: usize| {
        let (a, b) = (texts[n % 6], texts[(n / 6 + 1 + n % 5) % 6]);
        let at = Timestamp::from_millisecond(start.as_millisecond() + n as i64).unwrap();
        let mut event = json!({ "event_id": format!("e{n}"), "user": format!("user-{}", (n * 7) % N_USERS),
            "kind": "pair", "prompt": "tell me", "chosen": a, "rejected": b, "at": at.to_string() });
        if n.is_multiple_of(3) {
            event["context"] = json!(format!("context-{}", n % 4));
        }
        event
    };
    (0..N_EVENTS).map(event).collect()
}

/// Sends events as a client that wants each acked: a failed request is sent again, to the next replica. Returns the
/// number of queued events.
async fn send(replicas: &[Mutex<Client>], events: &[Value]) -> usize {
    let (per_call, calls) = AT_ONCE;
    let mut n_queued = 0;
    let post = async |(idx, events): (usize, &[Value])| {
        for attempt in 0.. {
            let client = replicas[(idx + attempt) % replicas.len()].lock().clone();
            let call = client.http.post(format!("{}/feedback", client.base)).json(&events);
            let Ok(answer) = call.timeout(Duration::from_secs(20)).send().await else { continue };
            let Ok(acks) = answer.json::<Vec<Value>>().await else { continue };
            let of = |status: &str| acks.iter().filter(|ack| ack["status"] == status).count();
            if of("applied") + of("duplicate") + of("queued") == events.len() {
                return of("queued");
            }
        }
        0
    };
    let batches: Vec<(usize, &[Value])> = events.chunks(per_call).enumerate().collect();
    let mut sent = futures::stream::iter(batches).map(post).buffer_unordered(calls);
    while let Some(queued) = sent.next().await {
        n_queued += queued;
    }
    n_queued
}

/// Returns every user's row as the store has it.
async fn rows(server: &Valkey, prefix: &str) -> Vec<Option<Row>> {
    let mut connection = server.connect().await;
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{prefix}*")).query_async(&mut connection).await.unwrap();
    let key = keys[0].strip_prefix(prefix).unwrap().split(':').next().unwrap();
    let manifest = std::fs::read_to_string(toy().join("bundle.toml")).unwrap();
    let n_heads = toml::from_str::<Manifest>(&manifest).unwrap().heads.len();
    let ledger_id = LedgerId { n_heads, key: u64::from_str_radix(key, 16).unwrap() };
    let mut config =
        ValkeyConfig { ledger_id, prefix: prefix.to_owned(), ..common::valkey::config(server, "") };
    config.rules.n_heads = n_heads;
    let store = ValkeyStore::open(config).await.unwrap();
    let mut rows = Vec::new();
    for n in 0..N_USERS {
        let user = store.keys().of(&format!("user-{n}").parse().unwrap());
        rows.push(store.get(user, 0).await.unwrap().row);
    }
    rows
}

fn n_events(rows: &[Option<Row>]) -> u64 {
    rows.iter().flatten().map(|row| row.ledgers.n_events()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_through_kills_and_an_outage_end_in_the_sequential_state() {
    let mut server = Valkey::durable();
    let dir = tempfile::tempdir().unwrap();
    let data = |name: &str| dir.path().join(name);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let start = Timestamp::from_millisecond(since_epoch.as_millis() as i64 - 3_600_000).unwrap();
    let events = events(start);
    let mut shuffled: Vec<Value> = events.iter().chain(&events[..N_TWICE]).cloned().collect();
    shuffled.shuffle(&mut ChaCha8Rng::seed_from_u64(4));

    let a = Replica::start(&server, "mr:", "0s", &data("a")).await;
    let mut b = Replica::start(&server, "mr:", "0s", &data("b")).await;
    let mut c = Replica::start(&server, "mr:", "0s", &data("c")).await;
    let clients = [&a, &b, &c].map(|replica| Mutex::new(replica.client.clone()));

    let (early, rest) = shuffled.split_at(4000);
    let (during, late) = rest.split_at(4000);
    // One replica is killed amid traffic and stays away.
    let killed = async {
        until("some feedback", || async { a.metric("micro_reward_users").await > Some(100.0) }).await;
        b.kill().await;
    };
    let (n_queued, ()) = tokio::join!(send(&clients, early), killed);
    println!("queued before the outage: {n_queued}");

    // The store is away for 5 s; meanwhile another replica is killed with feedback in its outbox, and restarted.
    server.kill();
    let outage = tokio::time::sleep(Duration::from_secs(5));
    let restarted = async {
        until("queued feedback", || async { c.metric("micro_reward_outbox_events").await > Some(0.0) }).await;
        c.kill().await;
        c = Replica::start(&server, "mr:", "0s", &data("c")).await;
        *clients[2].lock() = c.client.clone();
    };
    let (n_queued, (), ()) = tokio::join!(send(&clients, during), restarted, outage);
    println!("queued during the outage: {n_queued}");
    assert!(n_queued > 0);
    server.restart();
    send(&clients, late).await;
    until("all feedback", || async { n_events(&rows(&server, "mr:").await) == N_EVENTS as u64 }).await;
    for replica in [&a, &c] {
        until("an empty outbox", || async {
            replica.metric("micro_reward_outbox_events").await == Some(0.0)
        })
        .await;
    }

    let alone = Replica::start(&server, "alone:", "0s", &data("alone")).await;
    for events in events.chunks(100) {
        let (status, acks) = alone.client.post("/feedback", &json!(events)).await;
        assert_eq!(status, 200);
        assert!(acks.as_array().unwrap().iter().all(|ack| ack["status"] == "applied"));
    }
    let (shared, expected) = (rows(&server, "mr:").await, rows(&server, "alone:").await);
    for (n, (shared, expected)) in shared.iter().zip(&expected).enumerate() {
        let (shared, expected) = (shared.as_ref().unwrap(), expected.as_ref().unwrap());
        let bytes = |row: &Row| postcard::to_allocvec(&(row.version, &row.ledgers, &row.answered)).unwrap();
        assert_eq!(bytes(shared), bytes(expected), "user-{n}");
        let path = format!("/users/user-{n}");
        let ((_, here), (_, there)) = (a.client.get(&path).await, alone.client.get(&path).await);
        assert_eq!((&here["n"], numbers(&here["evidence"])), (&there["n"], numbers(&there["evidence"])));
    }
}

#[tokio::test]
async fn an_outage_is_told_and_scoring_goes_on() {
    let (server, dir) = (Valkey::start(), tempfile::tempdir().unwrap());
    let replica = Replica::start(&server, "mr:", "1h", &dir.path().join("data")).await;
    let client = &replica.client;
    let feedback = |id: &str| json!({ "event_id": id, "user": "ann", "kind": "pair", "prompt": "tell me", "chosen": "thanks", "rejected": "seven" });
    let score = |user: &str, min_version: u64| json!({ "user": user, "min_version": min_version, "items": [{ "prompt": "tell me", "responses": ["thanks", "seven"] }] });
    let (_, ack) = client.post("/feedback", &feedback("1")).await;
    assert_eq!((&ack["status"], &ack["version"]), (&json!("applied"), &json!(1)));
    let (status, before) = client.post("/score", &score("ann", 1)).await;
    assert_eq!((status, before.get("stale")), (200, None));
    let (_, verbose) = replica.admin.get("/readyz?verbose").await;
    assert_eq!(verbose.as_str().unwrap(), "ready\nstore: ok\n");

    server.freeze();
    let (_, ack) = client.post("/feedback", &feedback("2")).await;
    assert_eq!((&ack["status"], ack.get("version")), (&json!("queued"), None));
    // A user without a row in the cache is scored as new, and the answer says so.
    let (status, unknown) = client.post("/score", &score("bob", 0)).await;
    assert_eq!((status, &unknown["stale"]), (200, &json!({ "age_ms": null })));
    // Ann's row is younger than the bound: the answer equals one with the store.
    let (status, same) = client.post("/score", &score("ann", 1)).await;
    assert_eq!((status, &same["items"], same.get("stale")), (200, &before["items"], None));
    // A later version than the cached one can't be read.
    let (status, problem) = client.post("/score", &score("ann", 2)).await;
    assert_eq!(
        (status, &problem["code"], &problem["field"]),
        (503, &json!("store_unavailable"), &json!("min_version"))
    );
    let population =
        json!({ "objective": "population", "items": [{ "prompt": "tell me", "responses": ["seven"] }] });
    let (status, population) = client.post("/rank", &population).await;
    assert_eq!((status, &population["stale"]), (200, &json!({ "age_ms": null })));
    let pair = json!({ "user": "bob", "prompt": "tell me", "a": "thanks", "b": "seven" });
    assert_eq!(client.post("/compare", &pair).await.1["stale"], json!({ "age_ms": null }));
    let ask = json!({ "user": "bob", "candidates": [{ "prompt": "tell me", "a": "thanks", "b": "seven" }] });
    assert_eq!(client.post("/elicit", &ask).await.1["stale"], json!({ "age_ms": null }));
    assert_eq!(client.get("/users/bob").await.0, 503);
    assert_eq!(client.delete("/users/ann").await.0, 503);
    let (status, verbose) = replica.admin.get("/readyz?verbose").await;
    assert!(status == 200 && verbose.as_str().unwrap().contains("store: the store can't be reached"));
    assert_eq!(replica.admin.get("/readyz").await, (200, json!("ready\n")));

    server.thaw();
    until("the queued feedback", || async { client.get("/users/ann").await.1["n"] == 2 }).await;
    let (status, after) = client.post("/score", &score("ann", 2)).await;
    assert_eq!((status, after.get("stale")), (200, None));
    assert_ne!(after["items"], before["items"]);
    assert_eq!(client.get("/users/bob").await.0, 404);
    assert_eq!(client.delete("/users/ann").await.0, 200);
}
