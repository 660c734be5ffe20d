//! Raw events as training data, over HTTP on the toy bundle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use common::{Client, json_lines, library, program, start, toy};
use micro_reward::server::App;
use serde_json::{Value, json};

async fn serve(dir: &Path) -> (App, Client, Client) {
    let dir = dir.to_str().unwrap();
    let (app, _) = start(&toy(), &[("state.engine", "embedded"), ("state.data_dir", dir)]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    (app, client, admin)
}

async fn say(client: &Client, events: &[Value]) {
    let (status, acks) = client.post("/feedback", &json!(events)).await;
    assert_eq!(status, 200, "{acks}");
    assert!(acks.as_array().unwrap().iter().all(|ack| ack["status"] == "applied"), "{acks}");
}

async fn text(admin: &Client, query: &str) -> String {
    let url = format!("{}/export/preferences{query}", admin.base);
    let answer = admin.http.get(url).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    answer.text().await.unwrap()
}

async fn rows(admin: &Client, query: &str) -> Vec<Value> {
    json_lines(&text(admin, query).await)
}

fn segment(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

/// Overwrites two bytes that lie this many bytes before the end of the journal.
fn spoil(dir: &Path, before_end: i64) {
    let mut file = std::fs::OpenOptions::new().write(true).open(segment(dir)).unwrap();
    file.seek(SeekFrom::End(-before_end)).unwrap();
    file.write_all(b"\xff\xff").unwrap();
}

#[tokio::test]
async fn every_kind_is_a_row_of_trl_or_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, client, admin) = serve(dir.path()).await;
    assert_eq!(text(&admin, "").await, "");
    let scored = json!({ "user": "ann", "items": [{ "prompt": "tea?", "responses": [{ "id": "1", "text": "thanks" }, { "id": "2", "text": "no" }] }] });
    assert_eq!(client.post("/score", &scored).await.0, 200);
    let event = |id: &str, rest: Value| {
        let mut event = json!({ "event_id": id, "user": "ann", "at": "2027-01-15T07:00:00Z" });
        event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        event
    };
    say(&client, &[
        event("pair", json!({ "kind": "pair", "prompt": "p", "chosen": "a", "rejected": "b", "context": "at work",
            "comment": "shorter", "metadata": { "app": "web", "page": "7" } })),
        event("by id", json!({ "kind": "pair", "chosen_id": "2", "rejected_id": "1" })),
        event("tie", json!({ "kind": "tie", "prompt": "p", "responses": ["a", "b"] })),
        event("thumb", json!({ "kind": "thumb", "prompt": "p", "response": "a \"line\"\n", "up": false })),
        event("ranking", json!({ "kind": "ranking", "prompt": "p", "responses": ["a", "b", "c"] })),
        event("rating", json!({ "kind": "rating", "prompt": "p", "responses": ["a", "b", "c"], "ratings": [1, 2, 1] })),
        event("correction", json!({ "kind": "correction", "prompt": "p", "original": "a", "edited": "b" })),
    ])
    .await;

    let found = rows(&admin, "?type=preference&format=jsonl").await;
    let said = |row: &Value| json!([row["event_id"], row["prompt"], row["chosen"], row["rejected"]]);
    let expected = [
        json!(["pair", "p", "a", "b"]),
        json!(["by id", "tea?", "no", "thanks"]),
        json!(["ranking", "p", "a", "b"]),
        json!(["ranking", "p", "a", "c"]),
        json!(["ranking", "p", "b", "c"]),
        json!(["rating", "p", "b", "a"]),
        json!(["rating", "p", "b", "c"]),
        json!(["correction", "p", "b", "a"]),
    ];
    assert_eq!(found.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!(found, rows(&admin, "").await);
    let third = 1.0 / 3.0;
    let weights: Vec<f64> = found.iter().map(|row| row["weight"].as_f64().unwrap()).collect();
    assert_eq!(weights, [1.0, 1.0, third, third, third, third, third, 1.0]);
    let whole = json!({ "prompt": "p", "chosen": "a", "rejected": "b", "weight": 1.0, "user": "ann", "context": "at work",
        "at": "2027-01-15T07:00:00Z", "kind": "pair", "event_id": "pair", "comment": "shorter",
        "metadata": { "app": "web", "page": "7" } });
    assert_eq!(found[0], whole);
    assert!(found[1].as_object().unwrap().contains_key("context"), "every row has every column");

    let thumb = json!({ "prompt": "p", "completion": "a \"line\"\n", "label": false, "user": "ann", "context": null,
        "at": "2027-01-15T07:00:00Z", "kind": "thumb", "event_id": "thumb", "comment": null, "metadata": null });
    assert_eq!(rows(&admin, "?type=unpaired").await, [thumb]);
}

#[tokio::test]
async fn what_was_taken_back_or_erased_is_left_out_and_the_rest_can_be_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, client, admin) = serve(dir.path()).await;
    let event = |user: &str, id: &str, hour: u8| {
        json!({ "event_id": id, "user": user, "kind": "pair", "prompt": "p", "chosen": id, "rejected": "b",
            "at": format!("2027-01-15T{hour:02}:00:00Z") })
    };
    let said = [("ann", "1", 5), ("bob", "2", 6), ("ann", "3", 7), ("eve", "4", 7), ("bob x", "5", 7)];
    say(&client, &said.map(|(user, id, hour)| event(user, id, hour))).await;
    assert_eq!(client.delete("/feedback/3?user=ann").await.0, 200);
    assert_eq!(client.delete("/users/eve").await.0, 200);
    let ids = async |query: &str| {
        let rows = rows(&admin, query).await;
        rows.iter().map(|row| row["event_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("").await, "1 2 5");
    assert_eq!(ids("?user=ann").await, "1");
    assert_eq!(ids("?user=bob%20x").await, "5");
    assert_eq!(ids("?since=2027-01-15T06:00:00Z").await, "2 5");
    assert_eq!(ids("?until=2027-01-15T06:00:00Z").await, "1");
    assert_eq!(ids("?since=1799992800").await, "2 5");
    assert_eq!(ids("?until=1799992800000").await, "1");
    assert_eq!(ids("?since=2027-01-15T08:00:00%2B02:00&until=2027-01-15T07:00:00Z").await, "2");
    assert_eq!(ids("?since=2028-01-01T00:00:00Z").await, "");
    for (query, field) in [
        ("type=dpo", "type"),
        ("format=csv", "format"),
        ("since=yesterday", "since"),
        ("user=", "user"),
        ("limit=1", "limit"),
    ] {
        let (status, problem) = admin.get(&format!("/export/preferences?{query}")).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{problem}");
    }
    assert_eq!(
        client.get("/export/preferences").await.1["code"],
        "no_route",
        "the traffic port has no such thing"
    );
}

#[tokio::test]
async fn a_vote_that_was_changed_is_one_row_and_one_that_was_cleared_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, client, admin) = serve(dir.path()).await;
    let thumb = |id: &str, up: bool, replaces: Option<&str>| json!({ "event_id": id, "user": "ann", "kind": "thumb", "prompt": "p", "response": "a", "up": up, "replaces": replaces });
    say(&client, &[thumb("1", true, None), thumb("2", false, Some("1")), thumb("3", true, Some("2"))]).await;
    // Event 6 arrives before event 5, which it replaces.
    say(&client, &[thumb("6", true, Some("5"))]).await;
    assert_eq!(client.post("/feedback", &thumb("5", false, Some("4"))).await.1["status"], "retracted");
    assert_eq!(client.post("/feedback", &thumb("4", true, None)).await.1["status"], "retracted");
    say(&client, &[thumb("7", true, None), thumb("8", false, Some("7"))]).await;
    assert_eq!(client.delete("/feedback/8?user=ann").await.0, 200);
    let said = |row: &Value| json!([row["event_id"], row["label"]]);
    let rows = rows(&admin, "?type=unpaired").await;
    assert_eq!(rows.iter().map(said).collect::<Vec<_>>(), [json!(["3", true]), json!(["6", true])]);
}

#[tokio::test]
async fn an_engine_without_events_says_so() {
    let (app, _) = start(&toy(), &[]).await;
    let (status, problem) = Client::new(app.admin_address).get("/export/preferences").await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_events")));
}

#[tokio::test]
async fn fit_learns_from_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, client, admin) = serve(&dir.path().join("data")).await;
    for user in 0..8 {
        let event = |n: usize| {
            let kind = format!("thanks friend{}", " glad".repeat(n % 4));
            let exact = format!("exactly seven{}", " percent".repeat(n % 3));
            let responses = if user % 2 == 0 { [kind, exact] } else { [exact, kind] };
            json!({ "event_id": format!("{n}"), "user": format!("u{user}"), "kind": "ranking", "prompt": "tea?",
                "context": if n.is_multiple_of(2) { json!("at work") } else { Value::Null }, "responses": responses })
        };
        say(&client, &(0..10).map(event).collect::<Vec<_>>()).await;
    }
    let data = dir.path().join("said.jsonl");
    std::fs::write(&data, text(&admin, "").await).unwrap();
    let mut fit = program();
    fit.args(["fit", "--k", "2", "--ridge", "1", "--encoder"]).arg(toy()).arg("--data").arg(&data);
    fit.arg("--cache").arg(dir.path().join("cache")).arg("--onnxruntime-library").arg(library());
    let output = fit.arg("--out").arg(dir.path().join("bundle")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = program().args(["check", "--bundle"]).arg(dir.path().join("bundle")).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&said).contains("2 heads"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_refused_or_breaks_the_body_off() {
    let dir = tempfile::tempdir().unwrap();
    let (_app, client, admin) = serve(dir.path()).await;
    let long = "thanks ".repeat(50_000);
    for n in 0..100 {
        say(&client, &[json!({ "event_id": n.to_string(), "user": "ann", "kind": "thumb", "prompt": "p", "response": long, "up": true })]).await;
    }
    let url = format!("{}/export/preferences?type=unpaired", admin.base);
    let whole = admin.http.get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(whole.lines().count(), 100);
    // The first pass is complete when the head arrives; the second waits for the reader.
    let answer = admin.http.get(&url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    spoil(dir.path(), 1000);
    assert!(answer.text().await.is_err(), "the body must not look whole");
    let (status, problem) = admin.get("/export/preferences").await;
    assert_eq!((status, &problem["code"]), (503, &json!("unreadable_journal")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(".log"), "{problem}");
}
