//! Ledgers rebuilt from raw events: `micro-reward rebuild` on a server's feedback, on the toy bundle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use common::changes::{K, RULES, add, event, user};
use common::{Client, FakeClock, NOON, program, start, toy, toy_with};
use micro_reward::server::App;
use micro_reward::state::{
    Change, ChangeKind, Embedded, EmbeddedConfig, EventLog, LedgerEvent, LedgerId, UserStore,
};
use serde_json::{Value, json};

const USERS: [&str; 5] = ["ann", "bob", "cat", "dan", "eve"];
const TEXTS: [&str; 4] = ["thanks friend glad", "exactly seven percent", "haha pirate banana", "no"];

async fn serve(bundle: &Path, dir: &Path) -> (App, Client) {
    let settings = [("state.engine", "embedded"), ("state.data_dir", dir.to_str().unwrap())];
    let (app, _) = start(bundle, &settings).await;
    let client = Client::new(app.address);
    (app, client)
}

fn rebuild(from: &Path, to: &Path, bundle: &Path) -> Output {
    program()
        .arg("rebuild")
        .arg("--from")
        .arg(from)
        .arg("--to")
        .arg(to)
        .arg("--bundle")
        .arg(bundle)
        .output()
        .unwrap()
}

#[track_caller]
fn rebuilds(from: &Path, to: &Path, bundle: &Path) -> String {
    let output = rebuild(from, to, bundle);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refuses(from: &Path, to: &Path, words: &[&str]) {
    let output = rebuild(from, to, &toy());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in {said}");
}

fn events(user: &str) -> Vec<Value> {
    let [a, b, c, d] = TEXTS;
    let of = |idx: usize, mut event: Value| {
        event["event_id"] = json!(format!("{idx}"));
        event["user"] = json!(user);
        event["at"] = json!(format!("2027-01-15T0{}:30:00Z", idx % 8));
        event
    };
    let events = [
        json!({ "kind": "pair", "prompt": "tea", "chosen": a, "rejected": b }),
        json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "r2" }),
        json!({ "kind": "tie", "prompt": "tea", "responses": [a, c], "context": "at work" }),
        json!({ "kind": "thumb", "response_id": "r1", "up": false, "context": "at home" }),
        json!({ "kind": "ranking", "prompt": "tea", "responses": [d, c, b, a] }),
        json!({ "kind": "ranking", "response_ids": ["r3", "r0", "r1"], "context": "at work" }),
        json!({ "kind": "rating", "prompt": "how is it", "responses": [a, b, c], "ratings": [1, 1, 5] }),
        json!({ "kind": "correction", "original_id": "r1", "edited": "thanks dear friend" }),
        json!({ "kind": "thumb", "prompt": "what", "response": b, "up": false }),
        // The vote changes from down to up; the retraction of the first of the two may come again.
        json!({ "kind": "thumb", "prompt": "what", "response": b, "up": true, "replaces": "8", "comment": "so exact" }),
        // The pair answers a question of the toy bundle.
        json!({ "kind": "pair", "prompt": "tell me about tea", "chosen": a, "rejected": b }),
        json!({ "kind": "thumb", "prompt": "what", "response": c, "up": true, "context": "only once" }),
    ];
    events.into_iter().enumerate().map(|(idx, event)| of(idx, event)).collect()
}

/// Adds every kind of feedback of all users; retracts some of it, erases two users, and adds feedback of one of them.
async fn say_everything(client: &Client) {
    for user in USERS {
        let named =
            TEXTS.iter().enumerate().map(|(idx, text)| json!({ "id": format!("r{idx}"), "text": text }));
        let item = json!({ "prompt": "tell me about it", "responses": named.collect::<Vec<_>>() });
        assert_eq!(client.post("/score", &json!({ "user": user, "items": [item] })).await.0, 200);
        let (status, acks) = client.post("/feedback", &json!(events(user))).await;
        assert!(
            status == 200 && acks.as_array().unwrap().iter().all(|ack| ack["status"] == "applied"),
            "{acks}"
        );
    }
    for event in [4, 11] {
        assert_eq!(client.delete(&format!("/feedback/{event}?user=bob")).await.0, 200);
    }
    // The retraction precedes its event.
    assert_eq!(client.delete("/feedback/early?user=bob").await.0, 404);
    assert_eq!(client.delete("/users/cat").await.0, 200);
    assert_eq!(client.delete("/users/dan").await.0, 200);
    let back = json!({ "event_id": "back", "user": "dan", "kind": "thumb", "prompt": "tea", "response": TEXTS[0], "up": true });
    assert_eq!(client.post("/feedback", &back).await.1["status"], "applied");
}

/// Returns all that the API shows of the users, with the ledgers to the last bit; the versions of erased users
/// differ.
async fn seen(client: &Client) -> Vec<Value> {
    let mut seen = Vec::new();
    for user in USERS {
        for query in ["", "?context=at+work"] {
            let (_, mut view) = client.get(&format!("/users/{user}{query}")).await;
            if user == "dan" {
                view.as_object_mut().unwrap().remove("version");
            }
            seen.push(view);
        }
        seen.push(client.get(&format!("/elicit?user={user}")).await.1);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bundle_gives_the_ledgers_that_were_served_and_refuses_what_they_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, again] = ["old", "new", "again"].map(|name| dir.path().join(name));
    let (app, client) = serve(&toy(), &old).await;
    say_everything(&client).await;
    let before = seen(&client).await;
    assert!(before[0]["ledger"]["general"]["sums"].is_array() && before[0]["n"] == 11, "{}", before[0]);
    let exported = export(&app).await;
    app.stop().await;

    let said = rebuilds(&old, &new, &toy());
    // Ann, bob and eve have twelve events each, and dan, who has returned, has one.
    assert_eq!(said.trim_end(), format!("{}: ledgers of 4 users out of 37 events", new.display()));
    rebuilds(&new, &again, &toy());
    for dir in [&new, &again] {
        let (app, client) = serve(&toy(), dir).await;
        assert_eq!(seen(&client).await, before);
        assert_eq!(export(&app).await, exported);
        for (user, event, status) in [
            ("ann", 0, "duplicate"),
            ("ann", 8, "retracted"),
            ("ann", 9, "duplicate"),
            ("bob", 4, "retracted"),
            ("cat", 0, "late"),
        ] {
            let ack = client.post("/feedback", &events(user)[event]).await.1;
            assert_eq!(ack["status"], status, "{user} {event}: {ack}");
        }
        let mut early = events("bob")[0].clone();
        early["event_id"] = json!("early");
        assert_eq!(client.post("/feedback", &early).await.1["status"], "retracted");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_from_before_there_were_secrets_is_rebuilt_into_one_with() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    let (app, client) = serve(&toy(), &old).await;
    say_everything(&client).await;
    let before = seen(&client).await;
    app.stop().await;
    // The rest of the directory does not tell how users are hashed.
    for file in ["secret", "rows.redb"] {
        std::fs::remove_file(old.join(file)).unwrap();
    }
    rebuilds(&old, &new, &toy());
    assert!(new.join("secret").exists() && !old.join("secret").exists());
    let (app, client) = serve(&toy(), &new).await;
    assert_eq!(seen(&client).await, before);
    app.stop().await;
}

async fn export(app: &App) -> String {
    let url = format!("http://{}/export/preferences", app.admin_address);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_heads_get_the_ledgers_that_they_would_have_had() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, handle, bundle] = ["old", "new", "live", "bundle"].map(|name| dir.path().join(name));
    std::fs::create_dir(&bundle).unwrap();
    toy_with(&bundle, |manifest| {
        manifest.heads[0].beta = 2.0;
        manifest.heads[1].mean = -1.0;
    });
    let (app, client) = serve(&toy(), &old).await;
    say_everything(&client).await;
    let of_toy = seen(&client).await;
    app.stop().await;
    rebuilds(&old, &new, &bundle);
    let (app, client) = serve(&bundle, &handle).await;
    say_everything(&client).await;
    let expected = seen(&client).await;
    app.stop().await;
    let (app, client) = serve(&bundle, &new).await;
    assert_eq!(seen(&client).await, expected);
    assert_ne!(expected[0]["ledger"], of_toy[0]["ledger"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_late_is_taken_back_from_the_ledgers_of_other_heads_too() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, handle, bundle] = ["old", "new", "live", "bundle"].map(|name| dir.path().join(name));
    std::fs::create_dir(&bundle).unwrap();
    toy_with(&bundle, |manifest| manifest.heads[0].beta = 2.0);
    let mut expected = Vec::new();
    for (bundle, dir) in [(&toy(), &old), (&bundle, &handle)] {
        let settings = [("state.engine", "embedded"), ("state.data_dir", dir.to_str().unwrap())];
        let (app, clock) = start(bundle, &settings).await;
        let client = Client::new(app.address);
        say_everything(&client).await;
        clock.advance(25 * 3_600_000);
        for (user, event) in [("ann", 0), ("ann", 3), ("bob", 4), ("eve", 9)] {
            assert_eq!(client.delete(&format!("/feedback/{event}?user={user}")).await.0, 200);
        }
        expected = seen(&client).await;
        app.stop().await;
    }
    rebuilds(&old, &new, &bundle);
    let (app, client) = serve(&bundle, &new).await;
    assert_eq!(seen(&client).await, expected);
    assert_eq!((&expected[0]["n"], &expected[12]["n"]), (&json!(9), &json!(10)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_are_made_again_with_the_ledgers_of_other_heads() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, handle, bundle] = ["old", "new", "live", "bundle"].map(|name| dir.path().join(name));
    std::fs::create_dir(&bundle).unwrap();
    toy_with(&bundle, |manifest| manifest.heads[0].beta = 2.0);
    let (mut expected, mut exported) = (Vec::new(), String::new());
    for (bundle, dir) in [(&toy(), &old), (&bundle, &handle)] {
        let settings = [("state.engine", "embedded"), ("state.data_dir", dir.to_str().unwrap())];
        let (app, clock) = start(bundle, &settings).await;
        let client = Client::new(app.address);
        say_everything(&client).await;
        for (user, from) in [("ann", "bob"), ("eve", "ann"), ("eve", "nobody")] {
            let (status, merged) =
                client.post(&format!("/users/{user}/merge"), &json!({ "from": from })).await;
            assert_eq!(status, 200, "{merged}");
        }
        let late = json!({ "event_id": "late", "user": "bob", "kind": "thumb", "prompt": "tea", "response": "no", "up": true });
        assert_eq!(client.post("/feedback", &late).await.1["status"], "applied");
        clock.advance(25 * 3_600_000);
        for (user, event) in [("eve", "3"), ("bob", "late")] {
            assert_eq!(client.delete(&format!("/feedback/{event}?user={user}")).await.0, 200);
        }
        expected = seen(&client).await;
        exported = export(&app).await;
        app.stop().await;
    }
    rebuilds(&old, &new, &bundle);
    let (app, client) = serve(&bundle, &new).await;
    assert_eq!(seen(&client).await, expected);
    assert_eq!(expected[0]["merged_into"], "eve");
    assert_eq!(export(&app).await, exported);
    app.stop().await;
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_of_whom_older_events_are_no_longer_kept() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    let (app, client) = serve(&toy(), &old).await;
    say_everything(&client).await;
    app.stop().await;
    let first = segments(&old);
    let (app, client) = serve(&toy(), &old).await;
    let more = json!({ "event_id": "more", "user": "ann", "kind": "thumb", "prompt": "tea", "response": "no", "up": true });
    assert_eq!(client.post("/feedback", &more).await.1["status"], "applied");
    app.stop().await;
    first.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let said = rebuilds(&old, &new, &toy());
    assert!(said.contains("ledgers of 1 users out of 1 events"), "{said}");
    // The users are ann, bob, dan and eve: cat was erased and has no feedback since.
    assert!(said.contains("4 users have said more than the events that are still kept"), "{said}");
    // Copies of events are as old as the events, so that they are kept no longer.
    let log = EventLog::open(&new).unwrap();
    let said_at: Vec<i64> = log.standing().unwrap().map(|logged| logged.unwrap().change.now_ms).collect();
    assert_eq!(said_at, [NOON]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_without_texts_and_imports_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    let config = EmbeddedConfig {
        dir: old.clone(),
        ledger_id: LedgerId { n_heads: K, key: 7 },
        rules: RULES,
        max_users: 1000,
        resident_users: 1000,
        is_sync: true,
        checkpoint_every: Duration::from_secs(3600),
        retention: Duration::from_secs(3600),
        erase_within: Duration::from_secs(3600),
    };
    let store = Embedded::open(config, FakeClock::at(1000)).unwrap();
    let silent = LedgerEvent { resolved: None, ..event(2, 9) };
    let silent = Change { user: user(2), now_ms: 9, kind: ChangeKind::Add(silent) };
    store.change(vec![add(1, 1), add(1, 2), silent]).await.unwrap();
    let ledgers = store.get(user(1), 0).await.unwrap().row.unwrap().ledgers;
    store.change(vec![common::changes::import(3, &ledgers)]).await.unwrap();
    // A kill leaves the directory without a row in the file of rows.
    let killed = dir.path().join("killed");
    std::fs::create_dir_all(killed.join("journal")).unwrap();
    for file in ["VERSION", "secret"] {
        std::fs::copy(old.join(file), killed.join(file)).unwrap();
    }
    segments(&old).iter().for_each(|path| {
        std::fs::copy(path, killed.join("journal").join(path.file_name().unwrap())).unwrap();
    });
    store.close().await;
    drop(store);
    for from in [&old, &killed] {
        let said = rebuilds(from, &new, &toy());
        let expected = [
            "ledgers of 1 users out of 2 events",
            "1 events were kept without texts",
            "1 users have imported evidence of other heads",
            "2 users have said more",
        ];
        assert!(expected.iter().all(|line| said.contains(line)), "{said}");
        std::fs::remove_dir_all(&new).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_rows_were_not_written_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [old, other, new] = ["old", "other", "new"].map(|name| dir.path().join(name));
    for dir in [&old, &other] {
        let (app, client) = serve(&toy(), dir).await;
        say_everything(&client).await;
        app.stop().await;
    }
    std::fs::copy(other.join("secret"), old.join("secret")).unwrap();
    refuses(&old, &new, &["secret", "found another secret than the rows"]);
    std::fs::remove_file(old.join("secret")).unwrap();
    refuses(&old, &new, &["secret", "found nothing"]);
    assert!(!new.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_of_a_directory_from_before_there_were_secrets_are_rebuilt_into_one_with() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name));
    // A directory with data and no secret continues without one.
    let (app, client) = serve(&toy(), &old).await;
    let thumb = |user: &str| json!({ "event_id": user, "user": user, "kind": "thumb", "prompt": "tea", "response": "no", "up": true });
    client.post("/feedback", &thumb("fay")).await;
    app.stop().await;
    for file in ["secret", "rows.redb"] {
        std::fs::remove_file(old.join(file)).unwrap();
    }
    let (app, client) = serve(&toy(), &old).await;
    assert!(!old.join("secret").exists());
    for user in ["ann", "bob", "cat"] {
        client.post("/feedback", &thumb(user)).await;
    }
    for (user, from) in [("ann", "bob"), ("cat", "ann")] {
        assert_eq!(client.post(&format!("/users/{user}/merge"), &json!({ "from": from })).await.0, 200);
    }
    let merged = client.get("/users/bob").await.1;
    app.stop().await;
    rebuilds(&old, &new, &toy());
    let (app, client) = serve(&toy(), &new).await;
    assert_eq!(client.get("/users/bob").await.1, merged);
    assert_eq!((&merged["merged_into"], &merged["n"]), (&json!("cat"), &json!(3)));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rebuilt_is_refused_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new, taken] = ["old", "new", "taken"].map(|name| dir.path().join(name));
    refuses(&dir.path().join("nowhere"), &new, &["--from", "nowhere"]);
    assert!(!dir.path().join("nowhere").exists());
    let (app, client) = serve(&toy(), &old).await;
    say_everything(&client).await;
    refuses(&old, &new, &["another process owns"]);
    app.stop().await;
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("file"), "").unwrap();
    refuses(&old, &taken, &["--to", "taken"]);
    refuses(&old, &old, &["--to", "old"]);
    let segment = segments(&old).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    refuses(&old, &new, &["fails its checksum", ".log"]);
    let mut left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["old", "taken"]);
}
