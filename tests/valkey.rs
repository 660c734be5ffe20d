//! The shared engine on real servers: replicas, outages, the outbox, clusters.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::changes::{K, RULES, add, erase, event, replace, retract, user};
use common::json_lines;
use common::valkey::{Valkey, config};
use metrics_exporter_prometheus::PrometheusBuilder;
use micro_reward::mixture::{Decay, Ledgers};
use micro_reward::state::{
    Change, ChangeKind, Freshness, LedgerEvent, LedgerId, OpenError, Outcome, Row, RowRules, StoreError,
    UserKeys, UserStore, ValkeyConfig, ValkeyStore, fuzzing,
};
use micro_reward::telemetry::metric;
use micro_reward::types::{Event, UserId};
use redis::AsyncCommands;

/// Upper bound of every wait: a longer one is a defect.
const PATIENCE: Duration = Duration::from_secs(30);

async fn open(config: ValkeyConfig) -> ValkeyStore {
    ValkeyStore::open(config).await.unwrap()
}

async fn one(store: &ValkeyStore, change: Change) -> Outcome {
    store.change(vec![change]).await.unwrap()[0]
}

async fn row(store: &ValkeyStore, n: usize) -> Option<Row> {
    store.get(user(n), 0).await.unwrap().row
}

/// Returns the ledgers of a user with these events alone.
fn ledgers(n: usize, ids: impl IntoIterator<Item = usize>) -> Ledgers {
    let mut ledgers = Ledgers::new(K);
    for id in ids {
        let LedgerEvent { context, increment, at_ms, .. } = event(n, id);
        ledgers.add(context, &increment, at_ms, Decay::NONE);
    }
    ledgers
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} never came to be");
}

async fn until_back(store: &ValkeyStore) {
    until("the store's return", || async { store.trouble().is_none() }).await;
}

/// Returns settings of a replica that notices an outage soon and keeps rows for long.
fn patient(server: &Valkey) -> ValkeyConfig {
    ValkeyConfig {
        response_timeout: Duration::from_millis(300),
        max_staleness: PATIENCE * 10,
        ..config(server, "t")
    }
}

fn with_outbox(server: &Valkey, dir: &tempfile::TempDir) -> ValkeyConfig {
    ValkeyConfig { outbox: Some(dir.path().join("data")), ..patient(server) }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_change_one_user_lose_nothing() {
    let server = Valkey::start();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Arc::new(open(patient(&server)).await));
    }
    let tasks: Vec<_> = (0..24)
        .map(|task| {
            let store = replicas[task % 3].clone();
            tokio::spawn(async move {
                for id in (0..600).filter(|id| id % 24 == task) {
                    // Every tenth event comes twice, to another replica as well.
                    assert!(matches!(
                        one(&store, add(1, id)).await,
                        Outcome::Applied(_) | Outcome::Duplicate(_)
                    ));
                }
            })
        })
        .collect();
    let other = replicas[0].clone();
    let twice = tokio::spawn(async move {
        for id in (0..600).step_by(10) {
            one(&other, add(1, id)).await;
        }
    });
    for task in tasks {
        task.await.unwrap();
    }
    twice.await.unwrap();
    let reader = open(config(&server, "t")).await;
    let row = row(&reader, 1).await.unwrap();
    assert_eq!((row.version, &row.ledgers), (600, &ledgers(1, 0..600)));
    assert_eq!(reader.n_users(), 1);
}

#[tokio::test]
async fn one_feedback_of_a_known_user_is_one_call() {
    let server = Valkey::start();
    let store = open(patient(&server)).await;
    one(&store, add(1, 0)).await;
    let mut connection = server.connect().await;
    let calls = async |connection: &mut redis::aio::MultiplexedConnection| {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
        let of = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
        };
        (of("fcall"), of("get"))
    };
    let before = calls(&mut connection).await;
    for id in 1..11 {
        assert_eq!(one(&store, add(1, id)).await, Outcome::Applied(id as u64 + 1));
    }
    // The rows of a changed user are in the cache: neither the changes nor the reads ask the store for them.
    assert_eq!(row(&store, 1).await.unwrap().version, 11);
    let after = calls(&mut connection).await;
    assert_eq!(after.0 - before.0, 10);
    // Only the number of users is polled.
    assert!(after.1 - before.1 <= 2);
}

#[tokio::test]
async fn a_replica_reads_its_own_writes_and_others_by_version() {
    let server = Valkey::start();
    let (here, there) = (open(patient(&server)).await, open(patient(&server)).await);
    assert_eq!(one(&here, add(1, 1)).await, Outcome::Applied(1));
    assert_eq!(row(&there, 1).await.unwrap().version, 1);
    assert_eq!(one(&here, add(1, 2)).await, Outcome::Applied(2));
    assert_eq!(row(&here, 1).await.unwrap().version, 2);
    // Within its bound the other replica serves its cached row, unless a later version is asked for.
    assert_eq!(row(&there, 1).await.unwrap().version, 1);
    let reading = there.get(user(1), 2).await.unwrap();
    assert_eq!((reading.row.unwrap().version, reading.freshness), (2, Freshness::Current));
    // A version that does not exist yet is no error: the newest is returned.
    assert_eq!(there.get(user(1), 9).await.unwrap().row.unwrap().version, 2);
    // A change on top of an old row is made on the new one.
    assert_eq!(one(&there, add(1, 3)).await, Outcome::Applied(3));
    assert_eq!(here.get(user(1), 3).await.unwrap().row.unwrap().ledgers, ledgers(1, 1..4));
}

#[tokio::test]
async fn a_row_is_read_anew_once_it_is_older_than_the_bound() {
    let server = Valkey::start();
    let bound = Duration::from_millis(100);
    let (here, there) =
        (open(patient(&server)).await, open(ValkeyConfig { max_staleness: bound, ..patient(&server) }).await);
    one(&here, add(1, 1)).await;
    assert_eq!(row(&there, 1).await.unwrap().version, 1);
    let start = tokio::time::Instant::now();
    one(&here, add(1, 2)).await;
    until("the second version", || async { row(&there, 1).await.unwrap().version == 2 }).await;
    assert!(start.elapsed() < PATIENCE / 10);
}

#[tokio::test]
async fn an_outage_ages_rows_and_refuses_changes() {
    let server = Valkey::start();
    let store = open(ValkeyConfig { max_staleness: Duration::ZERO, ..patient(&server) }).await;
    one(&store, add(1, 1)).await;
    server.freeze();
    let reading = store.get(user(1), 0).await.unwrap();
    assert_eq!(reading.row.unwrap().ledgers, ledgers(1, 1..2));
    assert!(matches!(reading.freshness, Freshness::Stale(age) if age >= Duration::from_millis(300)));
    assert!(store.trouble().unwrap().contains("can't be reached"));
    // The circuit is open: no other call waits.
    let start = tokio::time::Instant::now();
    for n in 0..1000 {
        let reading = store.get(user(n + 10), 0).await.unwrap();
        assert_eq!((reading.row, reading.freshness), (None, Freshness::Unknown));
    }
    assert!(matches!(store.change(vec![add(2, 1)]).await, Err(StoreError::Unreachable { .. })));
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    server.thaw();
    until_back(&store).await;
    assert_eq!(store.get(user(1), 0).await.unwrap().freshness, Freshness::Current);
    assert_eq!(one(&store, add(2, 1)).await, Outcome::Applied(1));
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_counts_once() {
    let (server, dir) = (Valkey::start(), tempfile::tempdir().unwrap());
    let store = open(with_outbox(&server, &dir)).await;
    one(&store, add(1, 1)).await;
    server.freeze();
    // The change is in the frozen server's socket: it will be made, after this replica has given it up.
    assert_eq!(one(&store, add(1, 2)).await, Outcome::Queued);
    server.thaw();
    let reader = open(config(&server, "t")).await;
    until("the queued change", || async { row(&reader, 1).await.unwrap().version >= 2 }).await;
    until("an empty outbox", || async { n_segments_with_events(&dir) == 0 }).await;
    let row = row(&reader, 1).await.unwrap();
    assert_eq!((row.version, row.ledgers), (2, ledgers(1, 1..3)));
}

/// Drops a store without closing it, and opens another once the tasks of the first have released the directory.
async fn reopen(store: ValkeyStore, config: ValkeyConfig) -> Result<ValkeyStore, OpenError> {
    drop(store);
    loop {
        match ValkeyStore::open(config.clone()).await {
            Err(OpenError::Owned { .. }) => tokio::task::yield_now().await,
            opened => return opened,
        }
    }
}

/// Returns the number of the outbox's segments that hold more than their header.
fn n_segments_with_events(dir: &tempfile::TempDir) -> usize {
    let (header, _) = fuzzing::segment(LedgerId { n_heads: K, key: 7 }, &[]);
    let segments = std::fs::read_dir(dir.path().join("data/outbox")).unwrap();
    let is_written = |file: std::fs::Metadata| file.len() > header.len() as u64;
    segments.filter(|entry| entry.as_ref().unwrap().metadata().is_ok_and(is_written)).count()
}

#[tokio::test]
async fn feedback_waits_in_the_outbox_and_survives_both_sides_restart() {
    let (mut server, dir) = (Valkey::durable(), tempfile::tempdir().unwrap());
    let store = open(with_outbox(&server, &dir)).await;
    store.change((0..10).map(|id| add(1, id)).collect()).await.unwrap();
    server.kill();
    let queued = store.change((10..20).map(|id| add(1, id)).collect()).await.unwrap();
    assert_eq!(queued, [Outcome::Queued; 10]);
    assert_eq!(one(&store, retract(1, 3)).await, Outcome::Queued);
    // Votes change during the outage; the retraction of a replaced event takes nothing more back.
    assert_eq!(one(&store, replace(1, 20, 4)).await, Outcome::Queued);
    assert_eq!(one(&store, replace(1, 21, 12)).await, Outcome::Queued);
    assert_eq!(one(&store, retract(1, 12)).await, Outcome::Queued);
    // A retry of a queued event is queued as well; neither counts twice.
    assert_eq!(one(&store, add(1, 15)).await, Outcome::Queued);
    assert_eq!(one(&store, add(1, 5)).await, Outcome::Queued);
    // A change that could undo later feedback is not queued.
    assert!(matches!(store.change(vec![erase(1, 50)]).await, Err(StoreError::Unreachable { .. })));
    // Scoring continues with the store's cached rows.
    assert_eq!(row(&store, 1).await.unwrap().ledgers, ledgers(1, 0..10));
    let store = reopen(store, with_outbox(&server, &dir)).await.unwrap();
    assert_eq!(one(&store, add(2, 1)).await, Outcome::Queued);
    assert_eq!(store.get(user(1), 0).await.unwrap().freshness, Freshness::Unknown);
    server.restart();
    let reader = open(config(&server, "t")).await;
    until("all that waited", || async {
        row(&reader, 2).await.is_some()
            && row(&reader, 1).await.is_some_and(|row| row.ledgers.n_events() == 19)
    })
    .await;
    assert_eq!(
        row(&reader, 1).await.unwrap().ledgers,
        ledgers(1, (0..22).filter(|id| ![3, 4, 12].contains(id)))
    );
    until("an empty outbox", || async { n_segments_with_events(&dir) == 0 }).await;
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn an_outbox_of_other_heads_is_refused() {
    let (mut server, dir) = (Valkey::start(), tempfile::tempdir().unwrap());
    let store = open(with_outbox(&server, &dir)).await;
    server.kill();
    assert_eq!(one(&store, add(1, 1)).await, Outcome::Queued);
    let other = ValkeyConfig { ledger_id: LedgerId { n_heads: K, key: 8 }, ..with_outbox(&server, &dir) };
    assert!(matches!(reopen(store, other).await, Err(OpenError::OtherLedgerId { .. })));
}

#[tokio::test]
async fn ledgers_of_other_heads_never_mix() {
    let server = Valkey::start();
    let ours = open(config(&server, "t")).await;
    let theirs =
        open(ValkeyConfig { ledger_id: LedgerId { n_heads: K, key: 8 }, ..config(&server, "t") }).await;
    one(&ours, add(1, 1)).await;
    assert_eq!(row(&theirs, 1).await, None);
    assert_eq!((ours.n_users(), theirs.n_users()), (1, 0));
}

#[tokio::test]
async fn functions_that_are_flushed_are_loaded_again() {
    let server = Valkey::start();
    let store = open(patient(&server)).await;
    one(&store, add(1, 1)).await;
    let _: () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut server.connect().await).await.unwrap();
    assert_eq!(one(&store, add(1, 2)).await, Outcome::Applied(2));
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn a_library_that_is_there_is_left_alone() {
    let server = Valkey::start();
    let mut connection = server.connect().await;
    let code = "#!lua name=somebody_elses\nredis.register_function('theirs', function() return 7 end)";
    let _: () = redis::cmd("FUNCTION").arg("LOAD").arg(code).query_async(&mut connection).await.unwrap();
    drop(open(patient(&server)).await);
    one(&open(patient(&server)).await, add(1, 1)).await;
    let seven: i64 = redis::cmd("FCALL").arg("theirs").arg(0).query_async(&mut connection).await.unwrap();
    assert_eq!(seven, 7);
}

#[tokio::test]
async fn a_tombstone_expires_and_a_row_does_not() {
    let server = Valkey::start();
    let store = open(patient(&server)).await;
    store.change(vec![add(1, 1), add(2, 1), erase(1, 50)]).await.unwrap();
    let mut connection = server.connect().await;
    let key = |n| format!("t:{:016x}:{}", 7, user(n));
    let (ttl, none): (i64, i64) =
        (connection.pttl(key(1)).await.unwrap(), connection.pttl(key(2)).await.unwrap());
    assert!(ttl > RULES.max_age_ms && ttl <= RULES.max_age_ms + 3_600_000, "{ttl}");
    assert_eq!(none, -1);
    // New feedback makes it a row again.
    one(&store, add(1, 60)).await;
    assert_eq!(connection.pttl::<_, i64>(key(1)).await.unwrap(), -1);
    // The user of an expired tombstone is new, even where the tombstone is cached.
    let _: () = connection.del(key(1)).await.unwrap();
    assert_eq!(one(&store, add(1, 61)).await, Outcome::Applied(1));
}

#[tokio::test]
async fn a_row_that_rots_is_an_error_of_its_user_alone() {
    let server = Valkey::start();
    one(&open(patient(&server)).await, add(1, 1)).await;
    let mut connection = server.connect().await;
    let key = format!("t:{:016x}:{}", 7, user(1));
    let bytes: Vec<u8> = connection.get(&key).await.unwrap();
    let _: () = connection.setrange(&key, 12, vec![bytes[12] ^ 1]).await.unwrap();
    let store = open(patient(&server)).await;
    // A key that does not hold a row is an error too.
    let _: () = connection.rpush(format!("t:{:016x}:{}", 7, user(3)), "x").await.unwrap();
    for n in [1, 3] {
        assert!(matches!(store.get(user(n), 0).await, Err(StoreError::Damaged { .. })));
        let outcomes = store.change(vec![add(n, 2), retract(n, 1), add(2, n)]).await.unwrap();
        assert!(matches!(outcomes[..], [Outcome::Unreadable, Outcome::Unreadable, Outcome::Applied(_)]));
    }
    assert_eq!(store.trouble(), None);
    assert_eq!(store.sample(10).await.unwrap(), [row(&store, 2).await.unwrap()]);
    // An erasure need not read the row.
    assert_eq!(one(&store, erase(1, 50)).await, Outcome::Applied(1));
    assert_eq!(store.n_users(), 1);
    assert_eq!(one(&store, add(1, 2)).await, Outcome::Late);
    assert_eq!(one(&store, add(1, 60)).await, Outcome::Applied(2));
}

#[tokio::test]
async fn who_has_a_key_of_another_type_can_be_erased() {
    let server = Valkey::start();
    let mut connection = server.connect().await;
    let key = |n| format!("t:{:016x}:{}", 7, user(n));
    let _: () = connection.rpush(key(1), "x").await.unwrap();
    let _: () = connection.hset(key(2), "field", "x").await.unwrap();
    let store = open(patient(&server)).await;
    one(&store, add(3, 1)).await;
    // The first key is new to this replica, and the second has been read.
    assert!(matches!(store.get(user(2), 0).await, Err(StoreError::Damaged { .. })));
    for n in [1, 2] {
        let outcomes = store.change(vec![add(n, 2), erase(n, 50), add(n, 3)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Unreadable, Outcome::Applied(1), Outcome::Late]);
        assert!(row(&store, n).await.unwrap().is_tombstone());
        let ttl: i64 = connection.pttl(key(n)).await.unwrap();
        assert!(ttl > RULES.max_age_ms, "{ttl}");
        assert_eq!(one(&store, add(n, 60)).await, Outcome::Applied(2));
        assert_eq!(row(&store, n).await.unwrap().ledgers, ledgers(n, [60]));
    }
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn an_erasure_overwrites_no_row_that_another_replica_has_put_in_place_of_what_was_none() {
    let server = Valkey::start();
    let mut connection = server.connect().await;
    let key = format!("t:{:016x}:{}", 7, user(1));
    let _: () = connection.rpush(&key, "x").await.unwrap();
    let store = open(patient(&server)).await;
    assert!(store.get(user(1), 0).await.is_err());
    // The cached key is out of date.
    let _: () = connection.del(&key).await.unwrap();
    let other = open(config(&server, "t")).await;
    one(&other, add(1, 60)).await;
    assert_eq!(one(&store, erase(1, 50)).await, Outcome::Applied(2));
    assert_eq!(one(&store, add(1, 60)).await, Outcome::Retracted { version: 2, is_news: false });
}

/// Returns the path of the file of dead letters.
fn dead_letters_file(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("data/dead_letters/unreadable_row.ndjson")
}

/// Returns the lines of the dead letters.
fn dead_letters(dir: &tempfile::TempDir) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dead_letters_file(dir)).unwrap_or_default();
    json_lines(&text)
}

#[tokio::test]
async fn the_outbox_sets_aside_what_is_of_a_row_that_can_not_be_read() {
    // The recorder is this thread's, on which all tasks of this test run.
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let refused = |reason: &str| {
        let name = format!("{}{{reason=\"{reason}\"}} ", metric::OUTBOX_REFUSED);
        let text = recorder.handle().render();
        text.lines().find_map(|line| Some(line.strip_prefix(&name)?.to_owned()))
    };
    let (mut server, dir) = (Valkey::durable(), tempfile::tempdir().unwrap());
    let store = open(with_outbox(&server, &dir)).await;
    store.change(vec![add(1, 1), add(2, 1)]).await.unwrap();
    let key = |n| format!("t:{:016x}:{}", 7, user(n));
    let _: () = server.connect().await.set(key(1), "garbage").await.unwrap();
    server.kill();
    let other = LedgerEvent { content: Some(0), ..event(2, 1) };
    let other = Change { kind: ChangeKind::Add(other), ..add(2, 1) };
    let changes = vec![add(1, 2), add(2, 2), retract(1, 1), add(1, 3), add(2, 3), other];
    assert_eq!(store.change(changes).await.unwrap(), [Outcome::Queued; 6]);
    server.restart();
    until("an empty outbox", || async { n_segments_with_events(&dir) == 0 }).await;
    assert_eq!(row(&store, 2).await.unwrap().ledgers, ledgers(2, 1..4));
    until("the outbox's ease", || async { store.trouble().is_none() }).await;
    let counted = ["unreadable_row", "conflict", "late"].map(|reason| refused(reason).unwrap());
    assert_eq!(counted, ["3", "1", "0"]);
    let kept = dead_letters(&dir);
    let ids: Vec<_> = kept.iter().map(|line| line["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["event-2", "event-3"]);
    assert!(kept.iter().all(|line| line["user"] == "user-1" && line["chosen"] == "thanks"));
    // An erasure removes the user's dead letters too.
    assert!(matches!(one(&store, erase(1, 50)).await, Outcome::Applied(_)));
    assert_eq!(dead_letters(&dir), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn dead_letters_can_be_sent_again_and_one_that_a_kill_tore_spoils_no_other() {
    let (mut server, dir) = (Valkey::durable(), tempfile::tempdir().unwrap());
    let store = open(with_outbox(&server, &dir)).await;
    let key = format!("t:{:016x}:{}", 7, user(1));
    let _: () = server.connect().await.set(key, "garbage").await.unwrap();
    for ids in [2..4, 4..6] {
        server.kill();
        let queued = store.change(ids.map(|id| add(1, id)).collect()).await.unwrap();
        assert_eq!(queued, [Outcome::Queued; 2]);
        server.restart();
        until("an empty outbox", || async { n_segments_with_events(&dir) == 0 }).await;
        let mut file = std::fs::OpenOptions::new().append(true).open(dead_letters_file(&dir)).unwrap();
        file.write_all(br#"{"event_id":"event-9","user":"us"#).unwrap();
    }
    let text = std::fs::read_to_string(dead_letters_file(&dir)).unwrap();
    let events: Vec<Option<Event>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
    let ids = events.iter().map(|event| event.as_ref().map(|event| event.event_id.to_string()));
    let id = |n: usize| Some(format!("event-{n}"));
    assert_eq!(ids.collect::<Vec<_>>(), [id(2), id(3), None, id(4), id(5), None]);

    let (app, clock) = common::start(&common::toy(), &[]).await;
    // The clock is set to the time of the events.
    clock.0.store(10, Ordering::SeqCst);
    let client = common::Client::new(app.address);
    let (status, acks) = client.post_text("/feedback", "application/x-ndjson", text).await;
    assert_eq!(status, 200, "{acks}");
    let statuses = json_lines(acks.as_str().unwrap()).into_iter().map(|ack| ack["status"].clone());
    assert_eq!(
        statuses.collect::<Vec<_>>(),
        ["applied", "applied", "rejected", "applied", "applied", "rejected"]
    );
    assert_eq!(client.get("/users/user-1").await.1["n"], 4);
    app.stop().await;
}

#[tokio::test]
async fn dead_letters_of_who_is_erased_on_another_replica_leave_too() {
    let (mut server, dir) = (Valkey::durable(), tempfile::tempdir().unwrap());
    let soon = ValkeyConfig { erase_within: Duration::from_millis(1), ..with_outbox(&server, &dir) };
    let store = open(soon).await;
    let key = |n| format!("t:{:016x}:{}", 7, user(n));
    for n in [1, 2] {
        let _: () = server.connect().await.set(key(n), "garbage").await.unwrap();
    }
    server.kill();
    assert_eq!(store.change(vec![add(1, 2), add(2, 3)]).await.unwrap(), [Outcome::Queued; 2]);
    server.restart();
    until("dead letters", || async { dead_letters(&dir).len() == 2 }).await;
    let other = open(config(&server, "t")).await;
    assert!(matches!(one(&other, erase(1, 50)).await, Outcome::Applied(_)));
    until("the other's alone", || async { dead_letters(&dir).len() == 1 }).await;
    assert_eq!(dead_letters(&dir)[0]["user"], "user-2");
}

#[tokio::test]
async fn what_finds_no_room_waits_in_the_outbox_and_holds_up_nobody() {
    let (mut server, dir) = (Valkey::durable(), tempfile::tempdir().unwrap());
    let clock = common::FakeClock::at(100);
    let rules = RowRules { max_events: 3, ..RULES };
    let strict = || ValkeyConfig { rules, max_users: 2, clock: clock.clone(), ..with_outbox(&server, &dir) };
    let store = open(strict()).await;
    store.change((0..3).map(|id| add(1, id)).chain([add(2, 1)]).collect()).await.unwrap();
    let config = strict();
    server.kill();
    // The first user has too many events, the third finds no room, and the second is behind both.
    let changes = vec![add(1, 3), add(3, 1), add(2, 2)];
    assert_eq!(store.change(changes).await.unwrap(), [Outcome::Queued; 3]);
    server.restart();
    until("the second user's", || async { row(&store, 2).await.unwrap().ledgers == ledgers(2, 1..3) }).await;
    assert_eq!(row(&store, 1).await.unwrap().ledgers, ledgers(1, 0..3));
    assert_eq!(row(&store, 3).await, None);
    // Queued events wait across a restart too.
    store.close().await;
    let store = reopen(store, config).await.unwrap();
    assert!(n_segments_with_events(&dir) > 0);
    clock.advance(RULES.max_age_ms + 1);
    until("what has aged", || async { row(&store, 1).await.unwrap().ledgers == ledgers(1, 0..4) }).await;
    assert_eq!(row(&store, 3).await, None);
    one(&store, erase(2, 50)).await;
    until("room for the third", || async { row(&store, 3).await.is_some() }).await;
    assert_eq!(row(&store, 3).await.unwrap().ledgers, ledgers(3, [1]));
    until("an empty outbox", || async { n_segments_with_events(&dir) == 0 }).await;
}

#[tokio::test]
async fn the_password_is_needed_and_never_shown() {
    let server = Valkey::with(&["--requirepass", "hush-hush"]);
    let with = |password: &str| ValkeyConfig { password: password.to_owned().into(), ..patient(&server) };
    let store = open(with("hush-hush")).await;
    assert_eq!(one(&store, add(1, 1)).await, Outcome::Applied(1));
    assert!(!format!("{:?} {store:?}", with("hush-hush")).contains("hush"));
    let refused = ValkeyStore::open(with("wrong-one")).await.unwrap_err().to_string();
    assert!(!refused.contains("wrong-one"), "{refused}");
    let urls = vec![format!("redis://:hush-hush@127.0.0.1:{}", server.port).into()];
    let by_url = ValkeyConfig { urls, ..patient(&server) };
    assert!(!format!("{by_url:?}").contains("hush"));
    assert_eq!(one(&open(by_url).await, add(1, 2)).await, Outcome::Applied(2));
}

#[tokio::test]
async fn a_login_with_the_least_rights_is_enough() {
    let server = Valkey::start();
    // Another login has loaded the functions.
    drop(open(patient(&server)).await);
    let mut setuser = redis::cmd("ACL");
    setuser.arg("SETUSER").arg("app").arg("on").arg(">pw").arg("~t:*");
    let rights = "get fcall zrange set getrange incrby zadd zrem zcard zremrangebyrank";
    rights.split(' ').for_each(|right| _ = setuser.arg(format!("+{right}")));
    let _: () = setuser.query_async(&mut server.connect().await).await.unwrap();
    let login =
        ValkeyConfig { username: "app".to_owned(), password: "pw".to_owned().into(), ..patient(&server) };
    let store = open(login).await;
    assert_eq!(store.trouble(), None);
    assert_eq!(one(&store, add(1, 1)).await, Outcome::Applied(1));
    assert_eq!((store.n_users(), store.sample(5).await.unwrap().len()), (1, 1));
}

#[tokio::test]
async fn a_store_that_is_away_at_the_start_is_found_later() {
    let mut server = Valkey::durable();
    server.kill();
    let store = open(patient(&server)).await;
    assert_eq!(store.get(user(1), 0).await.unwrap().freshness, Freshness::Unknown);
    server.restart();
    until_back(&store).await;
    assert_eq!(one(&store, add(1, 1)).await, Outcome::Applied(1));
}

#[tokio::test]
async fn replicas_know_users_by_the_same_secret_or_are_refused() {
    let server = Valkey::start();
    let keyed =
        |key: &str, prefix: &str| ValkeyConfig { user_key: key.to_owned().into(), ..config(&server, prefix) };
    let ann: UserId = "ann".parse().unwrap();
    let (a, b) = (
        open(keyed("a secret of the service", "k")).await,
        open(keyed("a secret of the service", "k")).await,
    );
    assert_eq!(a.keys().of(&ann), b.keys().of(&ann));
    assert_ne!(a.keys().of(&ann), UserKeys::default().of(&ann));
    let said = Change { user: a.keys().of(&ann), ..add(0, 1) };
    assert!(matches!(one(&a, said).await, Outcome::Applied(1)));
    assert!(b.get(b.keys().of(&ann), 0).await.unwrap().row.is_some());
    for other in ["another secret than theirs", ""] {
        let refused = ValkeyStore::open(keyed(other, "k")).await.unwrap_err().to_string();
        assert!(refused.contains("`valkey.user_key`") && !refused.contains("secret of"), "{refused}");
    }
    // A store that was filled without a secret continues without one.
    let old = open(keyed("", "o")).await;
    one(&old, add(0, 1)).await;
    let mut connection = server.connect().await;
    let note: Vec<String> = redis::cmd("KEYS").arg("o:*secret").query_async(&mut connection).await.unwrap();
    let _: i64 = redis::cmd("DEL").arg(note).query_async(&mut connection).await.unwrap();
    assert!(ValkeyStore::open(keyed("a secret of the service", "o")).await.is_err());
    open(keyed("", "o")).await;
}
