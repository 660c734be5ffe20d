//! Batches that the server forms: one event, one caller or one user never fails another.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use common::{Client, FakeClock, NOON, change_tokenizer, json_lines, library, start, toy, toy_with};
use futures::{FutureExt, StreamExt};
use micro_reward::batch::{Budgets, EmbeddingCache, Encoders, Queue, QueueConfig, Workers};
use micro_reward::model::{Bundle, Runtime, sha256};
use micro_reward::service::{Model, ParsedEvent, Service, Settings};
use micro_reward::state::{
    Change, ChangeKind, LedgerId, MemoryStore, Outcome, Receipts, Row, RowRead, RowRules, StoreError,
    UserKey, UserKeys, UserStore,
};
use micro_reward::transport::grpc::pb;
use micro_reward::transport::grpc::pb::reward_service_client::RewardServiceClient;
use micro_reward::types::config::{Config, Layers};
use micro_reward::types::{AckStatus, Clock, Encode, Event, ScoreRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tonic::transport::Endpoint;

const NDJSON: &str = "application/x-ndjson";

/// Returns the toy bundle with a tokenizer that makes no token of a blank text.
fn without_special_tokens() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    toy_with(dir.path(), |manifest| {
        change_tokenizer(dir.path(), manifest, |tokenizer| tokenizer["post_processor"] = Value::Null);
    });
    dir
}

/// Returns the toy bundle with an encoder that fails on texts with the word "banana", whose embedding is NaN.
fn that_fails_on_bananas() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    toy_with(dir.path(), |manifest| {
        let path = dir.path().join("encoder.onnx");
        let mut graph = std::fs::read(&path).unwrap();
        // Word 19, "banana", is the fourth of the third theme.
        let number = |column: usize| {
            let noise = ((19 * 7 + column * 3) % 11) as f32 / 50.0 - 0.1;
            if column == 2 { 1.5 + noise } else { noise }
        };
        let row: Vec<u8> = (0..8).flat_map(|column| number(column).to_le_bytes()).collect();
        let at = graph.windows(row.len()).position(|window| window == row).unwrap();
        graph[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, graph).unwrap();
        manifest.encoder.graph.sha256 = sha256(&path).unwrap();
    });
    dir
}

fn thumb(user: &str, id: &str, response: &str) -> Value {
    json!({ "event_id": id, "user": user, "kind": "thumb", "prompt": "tea", "response": response, "up": true })
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|event| format!("{event}\n")).collect()
}

async fn stream(client: &Client, events: &[Value]) -> Vec<Value> {
    let (status, acks) = client.post_text("/feedback", NDJSON, lines(events)).await;
    assert_eq!(status, 200, "{acks}");
    let text = match acks {
        Value::String(text) => text,
        one => one.to_string(),
    };
    json_lines(&text)
}

fn statuses(acks: &[Value]) -> Vec<&str> {
    acks.iter().map(|ack| ack["code"].as_str().or_else(|| ack["status"].as_str()).unwrap()).collect()
}

#[tokio::test]
async fn a_batch_of_more_texts_than_may_wait_is_cut() {
    let (app, _) = start(&toy(), &[("batch.max_queued_texts", "8")]).await;
    let client = Client::new(app.address);
    let events = |user: &str| -> Vec<Value> {
        let text = |n: usize| format!("seven {} thanks", ["tea", "weather", "is", "it"][n % 4].repeat(n % 7));
        (0..40).map(|n| thumb(user, &format!("e{n}"), &format!("{} {n}", text(n)))).collect()
    };
    assert_eq!(statuses(&stream(&client, &events("ann")).await), ["applied"; 40]);
    let (status, acks) = client.post("/feedback", &json!(events("ben"))).await;
    assert_eq!((status, statuses(acks.as_array().unwrap())), (200, vec!["applied"; 40]));
    let (ann, ben) = (client.get("/users/ann").await.1, client.get("/users/ben").await.1);
    assert_eq!((&ann["ledger"], &ann["n"]), (&ben["ledger"], &json!(40)));
    // An event that is too large by itself is rejected, and no other.
    let ranking: Vec<String> = (0..10).map(|n| format!("tea {n}")).collect();
    let ranking =
        json!({ "event_id": "r", "user": "ann", "kind": "ranking", "prompt": "tea", "responses": ranking });
    let acks = stream(&client, &[thumb("ann", "f1", "glad"), ranking, thumb("ann", "f2", "wow")]).await;
    assert_eq!(statuses(&acks), ["applied", "too_many_texts", "applied"]);
    app.stop().await;
}

#[tokio::test]
async fn a_text_that_can_not_be_tokenized_is_its_events_error() {
    let bundle = without_special_tokens();
    let (app, _) = start(bundle.path(), &[]).await;
    let client = Client::new(app.address);
    let pair = |id: &str, chosen: &str, rejected: &str| json!({ "event_id": id, "user": "ann", "kind": "pair", "prompt": "tea", "chosen": chosen, "rejected": rejected });
    let tie = json!({ "event_id": "e4", "user": "ben", "kind": "tie", "prompt": "tea", "responses": ["glad", " "] });
    let events = [
        thumb("ann", "e1", "glad"),
        thumb("ann", "e2", " "),
        pair("e3", "wow", "\t"),
        tie,
        pair("e5", "glad", "wow"),
    ];
    let acks = stream(&client, &events).await;
    let no = "untokenizable_text";
    assert_eq!(statuses(&acks), ["applied", no, no, no, "applied"]);
    for (ack, field) in [(&acks[1], "response: "), (&acks[2], "rejected: "), (&acks[3], "responses[1]: ")] {
        assert!(ack["detail"].as_str().unwrap().starts_with(field), "{ack}");
        assert_eq!(ack.get("retryable"), None, "it will never be taken: {ack}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_text_that_the_encoder_fails_on_is_its_events_error() {
    let bundle = that_fails_on_bananas();
    let (app, _) = start(bundle.path(), &[]).await;
    let client = Client::new(app.address);
    let events = [thumb("ann", "e1", "glad"), thumb("ann", "e2", "banana"), thumb("ben", "e3", "wow")];
    let acks = stream(&client, &events).await;
    assert_eq!(statuses(&acks), ["applied", "model_unavailable", "applied"]);
    assert!(acks[1]["detail"].as_str().unwrap().starts_with("response: "), "{}", acks[1]);
    app.stop().await;
}

#[tokio::test]
async fn the_error_of_a_text_names_its_path() {
    let bundle = without_special_tokens();
    let (app, _) = start(bundle.path(), &[]).await;
    let client = Client::new(app.address);
    let item = |prompt: &str, responses: [&str; 2]| json!({ "prompt": prompt, "responses": responses });
    let items = |item: Value| json!({ "items": [{ "prompt": "tea", "responses": ["glad"] }, item] });
    let pair = |prompt: &str, a: &str, b: &str| json!({ "prompt": prompt, "a": a, "b": b });
    let candidates =
        |pair: Value| json!({ "candidates": [{ "prompt": "tea", "a": "glad", "b": "wow" }, pair] });
    let cases = [
        ("/score", items(item("tea", ["glad", " "])), "items[1].responses[1]"),
        ("/score", items(item(" ", ["glad", "wow"])), "items[1].prompt"),
        ("/rank", items(item("tea", [" ", "wow"])), "items[1].responses[0]"),
        ("/compare", pair("tea", " ", "wow"), "a"),
        ("/compare", pair("tea", "wow", " "), "b"),
        ("/compare", pair(" ", "wow", "glad"), "prompt"),
        ("/elicit", candidates(pair("tea", " ", "wow")), "candidates[1].a"),
        ("/elicit", candidates(pair("tea", "wow", " ")), "candidates[1].b"),
        ("/elicit", candidates(pair(" ", "wow", "glad")), "candidates[1].prompt"),
    ];
    for (path, request, field) in cases {
        let (status, problem) = client.post(path, &request).await;
        assert_eq!(
            (status, &problem["code"]),
            (400, &json!("untokenizable_text")),
            "{path} {request}: {problem}"
        );
        assert_eq!(problem["field"], json!(field), "{path} {request}");
    }
    app.stop().await;
}

/// Pseudorandom numbers that are the same in every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Returns an event that is good, or bad in one of many ways.
    fn event(&mut self) -> Value {
        let word = |draws: &mut Self| {
            let words = ["thanks", "friend", "seven", "exactly", "pirate", "haha", "tea"];
            format!("{} {}", draws.one_of(&words), draws.one_of(&words))
        };
        let user = self.one_of(&["ann", "ben", "cat", "dan", "eve"]);
        // Ids are few, so that events come twice, by text and by id, and under the ids of failed events.
        let mut event = json!({ "event_id": format!("e{}", self.below(60)), "user": user, "prompt": "tea" });
        let (text, other) = (word(self), word(self));
        let judgment = match self.below(14) {
            0..4 => json!({ "kind": "thumb", "response": text, "up": self.below(2) == 0 }),
            4..6 => json!({ "kind": "pair", "chosen": text, "rejected": other }),
            6 => json!({ "kind": "thumb", "response": " ", "up": true }),
            7 => json!({ "kind": "correction", "original": text, "edited": "  " }),
            8 => json!({ "kind": "pair", "chosen": "long ".repeat(60), "rejected": other }),
            9 => {
                let responses: Vec<String> = (0..10).map(|n| format!("{text} {n}")).collect();
                json!({ "kind": "ranking", "responses": responses })
            }
            10 => json!({ "kind": "thumb", "response_id": "nobody", "up": true, "prompt": null }),
            11 => json!({ "kind": "thumb", "response_id": "known", "up": true, "prompt": null }),
            12 => json!({ "kind": "thumb", "up": true }),
            _ => json!({ "kind": "tie", "responses": [text, other], "at": "2000-01-01T00:00:00Z" }),
        };
        event.as_object_mut().unwrap().extend(judgment.as_object().unwrap().clone());
        if self.below(4) == 0 {
            event["context"] = json!("tone");
        }
        event
    }
}

/// Returns the answer to one event as the ack that it would have in a batch.
fn as_ack((status, answer): (u16, Value)) -> Value {
    if status == 200 {
        return answer;
    }
    let field = answer["field"].as_str().map(|field| format!("{field}: ")).unwrap_or_default();
    let mut ack = json!({
        "status": "rejected", "code": answer["code"], "detail": format!("{field}{}", answer["detail"].as_str().unwrap())
    });
    if [429, 503].contains(&status) || answer["code"] == "unknown_response" {
        ack["retryable"] = json!(true);
    }
    ack
}

/// Returns a detail without the event's place in an array.
fn without_place(said: &str) -> &str {
    let Some((place, rest)) = said.strip_prefix('[').and_then(|said| said.split_once(']')) else {
        return said;
    };
    if place.parse::<usize>().is_ok() { rest.trim_start_matches(['.', ':', ' ']) } else { said }
}

async fn is_settled_as_alone(settings: [&[(&str, &str)]; 2], seed: u64) {
    let bundle = without_special_tokens();
    let strict = [
        ("batch.max_queued_texts", "9"),
        ("server.max_text_bytes", "200"),
        ("feedback.max_events", "12"),
        ("feedback.max_age", "1h"),
        ("state.max_users", "4"),
    ];
    let mut servers = Vec::new();
    for settings in settings {
        let settings: Vec<(&str, &str)> = strict.iter().chain(settings).copied().collect();
        let (app, clock) = start(bundle.path(), &settings).await;
        let client = Client::new(app.address);
        let known =
            json!({ "items": [{ "prompt": "tea", "responses": [{ "id": "known", "text": "glad" }] }] });
        assert_eq!(client.post("/score", &known).await.0, 200);
        servers.push((app, clock, client));
    }
    let mut draws = Draws(seed);
    let mut n_of_code = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        let n = 1 + draws.below(30);
        let events: Vec<Value> = (0..n).map(|_| draws.event()).collect();
        let (_, _, together) = &servers[0];
        let acks = match draws.below(2) {
            0 => stream(together, &events).await,
            _ => {
                let (status, acks) = together.post("/feedback", &json!(events)).await;
                if status == 200 {
                    acks.as_array().unwrap().clone()
                } else {
                    // No event of the batch can be applied yet; alone, each is refused so.
                    vec![json!({ "status": "rejected", "code": acks["code"], "retryable": true }); n]
                }
            }
        };
        let (_, _, alone) = &servers[1];
        for (event, ack) in events.iter().zip(&acks) {
            let expected = as_ack(alone.post("/feedback", event).await);
            for key in ["status", "code", "version", "retryable", "detail"] {
                let is_told = key != "detail" || ack.get(key).is_some();
                // In an array the detail begins with the event's place.
                let found =
                    ack[key].as_str().map_or_else(|| ack[key].clone(), |said| json!(without_place(said)));
                assert!(!is_told || found == expected[key], "{event}: {ack}, alone {expected}");
            }
            let code = ack["code"].as_str().or_else(|| ack["status"].as_str()).unwrap();
            *n_of_code.entry(code.to_owned()).or_default() += 1;
        }
        for (_, clock, _) in &servers {
            clock.advance(300_000);
        }
    }
    for user in ["ann", "ben", "cat", "dan", "eve"] {
        let of = async |client: &Client| client.get(&format!("/users/{user}")).await;
        assert_eq!(of(&servers[0].2).await, of(&servers[1].2).await, "{user}");
    }
    for code in [
        "applied",
        "duplicate",
        "late",
        "untokenizable_text",
        "too_large",
        "too_many_texts",
        "unknown_response",
    ]
    .into_iter()
    .chain(["invalid_field", "store_full"])
    {
        assert!(n_of_code.contains_key(code), "{code} was not tried: {n_of_code:?}");
    }
    for (app, ..) in servers {
        app.stop().await;
    }
}

#[tokio::test]
async fn events_are_settled_together_as_they_would_be_alone() {
    for seed in 1..3 {
        is_settled_as_alone([&[], &[]], seed).await;
    }
}

#[tokio::test]
async fn events_are_settled_together_as_they_would_be_alone_by_the_embedded_engine() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, other] = [0, 1].map(|idx: usize| {
        let path = dirs[idx].path().to_str().unwrap();
        [
            ("state.engine", "embedded"),
            ("state.data_dir", path),
            ("state.durability", "async"),
            ("state.resident_users", "2"),
        ]
    });
    is_settled_as_alone([&one, &other], 3).await;
}

/// Replaces every user's row by bytes that are no row.
fn spoil(dir: &Path) {
    use redb::ReadableTable;
    let rows = redb::TableDefinition::<[u8; 16], &[u8]>::new("rows");
    let database = redb::Database::open(dir.join("rows.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let mut table = write.open_table(rows).unwrap();
    let users: Vec<[u8; 16]> = table.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
    assert!(!users.is_empty());
    for user in users {
        table.insert(user, &b"garbage"[..]).unwrap();
    }
    drop(table);
    write.commit().unwrap();
}

#[tokio::test]
async fn a_row_that_can_not_be_read_is_an_error_of_its_users_events_however_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("state.engine", "embedded"), ("state.data_dir", dir.path().to_str().unwrap())];
    let (app, _) = start(&toy(), &settings).await;
    let client = Client::new(app.address);
    assert_eq!(client.post("/feedback", &thumb("ann", "e0", "glad")).await.0, 200);
    app.stop().await;
    spoil(dir.path());

    let (app, _) = start(&toy(), &settings).await;
    let client = Client::new(app.address);
    let events = |way: &str| {
        [("ann", 1), ("ben", 2), ("ann", 3), ("cat", 4)]
            .map(|(user, n)| thumb(user, &format!("{way} {n}"), "wow"))
    };
    let expected = ["unreadable_row", "applied", "unreadable_row", "applied"];
    let (status, acks) = client.post("/feedback", &json!(events("array"))).await;
    assert_eq!((status, statuses(acks.as_array().unwrap())), (200, expected.to_vec()), "{acks}");
    let acks = stream(&client, &events("lines")).await;
    assert_eq!(statuses(&acks), expected);
    assert!(acks[0].get("retryable").is_none(), "sending it again does not help: {}", acks[0]);

    let channel = Endpoint::from_shared(client.base.clone()).unwrap().connect_lazy();
    let mut grpc = RewardServiceClient::new(channel);
    let message = |event: Value| {
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        let event = pb::Event {
            event_id: text("event_id"),
            user: text("user"),
            kind: pb::EventKind::Thumb.into(),
            prompt: Some(text("prompt")),
            response: Some(text("response")),
            up: Some(true),
            ..pb::Event::default()
        };
        pb::FeedbackRequest { event: Some(event) }
    };
    let sent = futures::stream::iter(events("messages").map(message));
    let acks = grpc.feedback(sent).await.unwrap().into_inner();
    let told: Vec<_> = acks.map(|ack| ack.unwrap()).map(|ack| (ack.status(), ack.code)).collect().await;
    let applied = (pb::AckStatus::Applied, None);
    let unreadable = (pb::AckStatus::Rejected, Some("unreadable_row".to_owned()));
    assert_eq!(told, [unreadable.clone(), applied.clone(), unreadable, applied]);
    // A lone event is refused as this server's fault, with the code of its ack in a batch.
    let (status, problem) = client.post("/feedback", &thumb("ann", "alone", "wow")).await;
    assert_eq!((status, &problem["code"]), (500, &json!("unreadable_row")), "{problem}");
    assert_eq!(client.get("/users/ben").await.1["n"], 3);
    app.stop().await;
}

/// A memory engine that can be blocked, counted, and made unreachable.
#[derive(Debug)]
struct Gated {
    inner: MemoryStore,
    n_samples: AtomicUsize,
    is_away: AtomicBool,
    /// One permit for each erasure and each sample that may end.
    gate: Semaphore,
}

#[async_trait]
impl UserStore for Gated {
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable { engine: "gated", source: None });
        }
        if changes.iter().any(|change| matches!(change.kind, ChangeKind::Erase)) {
            self.gate.acquire().await.unwrap().forget();
        }
        self.inner.change(changes).await
    }

    async fn get(&self, user: UserKey, min_version: u64) -> Result<RowRead, StoreError> {
        self.inner.get(user, min_version).await
    }

    async fn durable(&self) -> Result<(), StoreError> {
        match self.is_away.load(Ordering::SeqCst) {
            true => Err(StoreError::Journal("the disk is full".into())),
            false => Ok(()),
        }
    }

    async fn sample(&self, n: usize) -> Result<Vec<Row>, StoreError> {
        self.n_samples.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.inner.sample(n).await
    }

    fn keys(&self) -> UserKeys {
        self.inner.keys()
    }

    fn n_users(&self) -> usize {
        self.inner.n_users()
    }
}

fn service() -> (Arc<Service>, Arc<Gated>) {
    let config =
        Config::new(Layers::defaults().flag("test", "state.engine", Some("memory".to_owned()))).unwrap();
    let model = load(&toy());
    let rules = RowRules {
        n_heads: model.bundle.n_heads(),
        decay: config.posterior.decay,
        max_age_ms: 86_400_000,
        max_events: config.feedback.max_events.get(),
    };
    let settings = Settings {
        posterior: config.posterior,
        window: config.feedback,
        population: config.population,
        ledger_id: LedgerId { n_heads: rules.n_heads, key: 7 },
        max_text_bytes: config.server.max_text_bytes.get(),
    };
    let inner = MemoryStore::new(rules, NonZeroUsize::new(1000).unwrap());
    let (n_samples, is_away) = (AtomicUsize::new(0), AtomicBool::new(false));
    let store = Arc::new(Gated { inner, n_samples, is_away, gate: Semaphore::new(0) });
    let clock: Arc<dyn Clock> = FakeClock::at(NOON);
    let service = Service::new(model, store.clone(), Receipts::new(config.responses), clock, settings);
    (Arc::new(service), store)
}

/// Number of texts that may wait for the encoder of [`load`].
const MAX_TEXTS: usize = 100;

fn load(dir: &Path) -> Model {
    let runtime = Runtime::load(&library()).unwrap();
    let (bundle, encoders) = Bundle::load(&runtime, dir, 1).unwrap();
    let budgets = Budgets::fixed(1024);
    let queue = QueueConfig { budgets, max_texts: MAX_TEXTS, n_threads: 1, seconds_per_token: 1e-6 };
    let queue = Arc::new(Queue::new(queue, Arc::new(EmbeddingCache::new(1 << 20))));
    let all = encoders.into_iter().map(|encoder| Box::new(encoder) as Box<dyn Encode>).collect();
    let workers = Workers::spawn(&queue, Encoders { all, small: Vec::new() }).unwrap();
    Model { bundle: Arc::new(bundle), queue, workers: Arc::new(workers) }
}

fn request(request: Value) -> ScoreRequest {
    serde_json::from_value(request).unwrap()
}

fn read(event: Value) -> ParsedEvent {
    Ok(serde_json::from_value::<Event>(event).unwrap())
}

async fn remember(service: &Service, user: &str, id: &str) {
    let responses = json!([{ "id": id, "text": "glad" }]);
    let items = json!([{ "prompt": "tea", "responses": responses }]);
    service.score(request(json!({ "user": user, "items": items }))).await.unwrap();
}

fn by_id(user: &str, event_id: &str, id: &str) -> Value {
    json!({ "event_id": event_id, "user": user, "kind": "thumb", "response_id": id, "up": true })
}

#[tokio::test]
async fn feedback_by_id_is_taken_while_the_encoder_is_gone() {
    let (service, _) = service();
    remember(&service, "ann", "r1").await;
    let workers = service.workers();
    tokio::task::spawn_blocking(move || workers.stop()).await.unwrap();
    let events = vec![
        read(thumb("ann", "e1", "wow")),
        read(by_id("ann", "e2", "r1")),
        read(thumb("ben", "e3", "thanks")),
        read(by_id("ann", "e4", "nobody")),
        // A cached text needs no encoder.
        read(thumb("ben", "e5", "glad")),
    ];
    let settled = service.apply_events(events).await;
    let told: Vec<_> = settled.acks.iter().map(|ack| (ack.status, ack.code, ack.retryable)).collect();
    let gone = (AckStatus::Rejected, Some("model_unavailable"), true);
    let applied = (AckStatus::Applied, None, false);
    let unknown = (AckStatus::Rejected, Some("unknown_response"), true);
    assert_eq!(told, [gone, applied, gone, unknown, applied]);
    // Failures of one reason are logged once, regardless of the number of events.
    let failures: Vec<_> =
        settled.failures.iter().filter(|error| error.code() == "model_unavailable").collect();
    assert_eq!(failures.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_away_is_an_error_of_what_needs_it() {
    let (service, store) = service();
    store.is_away.store(true, Ordering::SeqCst);
    let bad = json!({ "event_id": "e2", "user": "ann", "kind": "thumb", "up": true });
    let events =
        || vec![read(thumb("ann", "e1", "wow")), read(bad.clone()), read(thumb("ben", "e3", "glad"))];
    let settled = service.apply_events(events()).await;
    let told: Vec<_> = settled.acks.iter().map(|ack| (ack.code, ack.retryable)).collect();
    let away = (Some("store_unavailable"), true);
    assert_eq!(told, [away, (Some("invalid_field"), false), away]);
    assert_eq!(settled.failures.len(), 1);
    assert!(settled.any().is_ok(), "not all of them may come again");
    let in_vain =
        service.apply_events(vec![read(thumb("ann", "e1", "wow")), read(thumb("ben", "e3", "glad"))]).await;
    assert_eq!(in_vain.any().unwrap_err().code(), "store_unavailable");
    store.is_away.store(false, Ordering::SeqCst);
    assert!(service.apply_events(events()).await.acks.iter().all(|ack| !ack.retryable));
}

#[tokio::test]
async fn a_retry_of_what_is_not_durable_yet_is_not_acked() {
    let (service, store) = service();
    service.apply_events(vec![read(thumb("ann", "e1", "glad"))]).await;
    // The row holds the event, and no receipt holds the response.
    let retry = || vec![read(by_id("ann", "e1", "gone"))];
    store.is_away.store(true, Ordering::SeqCst);
    let ack = service.apply_events(retry()).await.acks.remove(0);
    assert_eq!((ack.status, ack.code, ack.retryable), (AckStatus::Rejected, Some("store_unavailable"), true));
    store.is_away.store(false, Ordering::SeqCst);
    let ack = service.apply_events(retry()).await.acks.remove(0);
    assert_eq!(ack.status, AckStatus::Duplicate);
}

#[tokio::test]
async fn a_retry_of_what_was_replaced_in_its_batch_is_told_so() {
    let (service, _) = service();
    service.apply_events(vec![read(thumb("ann", "e1", "glad"))]).await;
    let mut other = thumb("ann", "e2", "glad");
    other["replaces"] = json!("e1");
    let retry = |id: &str| read(by_id("ann", id, "gone"));
    let acks = service.apply_events(vec![retry("e1"), read(other), retry("e1"), retry("e2")]).await.acks;
    let told: Vec<_> = acks.iter().map(|ack| (ack.status, ack.version)).collect();
    let expected = [
        (AckStatus::Duplicate, Some(1)),
        (AckStatus::Applied, Some(2)),
        (AckStatus::Retracted, Some(2)),
        (AckStatus::Duplicate, Some(2)),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_sample_that_outlasts_its_callers_is_taken_once() {
    let (service, store) = service();
    service.apply_events(vec![read(thumb("ann", "e1", "thanks"))]).await;
    let ask = || {
        let items = json!([{ "prompt": "tea", "responses": ["glad", "wow"] }]);
        service.score(request(json!({ "objective": "population", "items": items })))
    };
    for _ in 0..3 {
        let mut asked = Box::pin(ask());
        // Each caller is dropped before the sample is complete, once it waits for it.
        let until = async {
            while store.n_samples.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = &mut asked => panic!("the sample can't be there"),
            () = until => {}
        }
        assert!(asked.as_mut().now_or_never().is_none());
    }
    let (one, other) = (ask(), ask());
    store.gate.add_permits(1);
    let (one, other) = tokio::join!(one, other);
    assert_eq!((one.unwrap().users, other.unwrap().users), (Some(1), Some(1)));
    assert_eq!(store.n_samples.load(Ordering::SeqCst), 1);
    // The next request uses the sample that the others have waited for.
    assert_eq!(ask().await.unwrap().users, Some(1));
    assert_eq!(store.n_samples.load(Ordering::SeqCst), 1);
}

/// Returns a request of as many texts as may wait, each of about `n_bytes`.
fn many(name: &str, n_bytes: usize) -> ScoreRequest {
    let responses: Vec<String> =
        (1..MAX_TEXTS).map(|n| format!("{name} {n} {}", "tea".repeat(n_bytes / 3))).collect();
    request(json!({ "items": [{ "prompt": name, "responses": responses }] }))
}

#[test]
fn a_request_that_nobody_awaits_any_more_is_not_worked_on_and_lets_go_of_everything() {
    // One thread runs blocking work, so that this test decides when such work begins.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let (service, _) = service();
        let Model { bundle, queue, workers } = service.served();
        let held = || (Arc::strong_count(&bundle), Arc::strong_count(&queue));
        let idle = held();
        // Long texts exceed the bytes that an async thread looks up at once; short ones, the texts that it tokenizes
        // at once.
        for n_bytes in [3000, 30] {
            let (begin, begun) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || begun.recv());
            let left = many("left", n_bytes);
            let mut asked = Box::pin(service.score(left));
            for _ in 0..3 {
                assert!(asked.as_mut().now_or_never().is_none(), "its work can't begin");
            }
            assert!(held().0 > idle.0, "its work has the bundle");
            drop(asked);
            drop(begin);
            busy.await.unwrap().unwrap_err();
            // This task takes its turn behind the dropped work.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            assert_eq!(held(), idle, "of {n_bytes} bytes");
            assert_eq!((service.gauges().1, service.cache().size()), (0, (0, 0)), "nothing was encoded");
        }
        // The queue has room for as many texts as before.
        for name in ["one", "two"] {
            service.score(many(name, 30)).await.unwrap();
        }
        tokio::task::spawn_blocking(move || workers.stop()).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_dropped_at_any_moment_leaves_room_for_others() {
    let (service, _) = service();
    let Model { bundle, queue, .. } = service.served();
    let held = || (Arc::strong_count(&bundle), Arc::strong_count(&queue));
    let idle = held();
    let mut n_amid = 0;
    for (n, n_polls) in (0..6).cycle().take(24).enumerate() {
        let mut n_left = n_polls;
        let mut asked = Box::pin(service.score(many(&format!("dropped {n}"), 3000)));
        let is_answered = std::future::poll_fn(|cx| {
            if n_left == 0 {
                return Poll::Ready(false);
            }
            n_left -= 1;
            asked.as_mut().poll(cx).map(|answer| answer.is_ok())
        })
        .await;
        drop(asked);
        while held() != idle || service.gauges().1 > 0 {
            tokio::task::yield_now().await;
        }
        service.score(many(&format!("after {n}"), 30)).await.unwrap();
        n_amid += usize::from(n_polls > 0 && !is_answered);
    }
    // The number of polls that an answer takes depends on the threads that work for it.
    assert!(n_amid > 0, "no request was dropped amid its work");
}

#[tokio::test]
async fn an_erasure_whose_caller_hangs_up_leaves_no_receipt() {
    let (service, store) = service();
    remember(&service, "ann", "r1").await;
    let ann = "ann".parse().unwrap();
    let mut erasure = Box::pin(service.erase(&ann));
    assert!(erasure.as_mut().now_or_never().is_none());
    drop(erasure);
    store.gate.add_permits(1);
    // Every id is a new event; the loop ends at the first that no receipt resolves.
    for n in 0.. {
        let ack = service.apply_events(vec![read(by_id("ann", &format!("e{n}"), "r1"))]).await.acks.remove(0);
        if ack.code == Some("unknown_response") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(store.gate.available_permits(), 0, "the row was erased");
}
