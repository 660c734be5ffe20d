//! Retracting, merging, importing and erasing, through HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, numbers, start, toy, toy_with};
use serde_json::{Value, json};

fn pair(user: &str, id: &str) -> Value {
    json!({ "event_id": id, "user": user, "kind": "pair", "prompt": "tea", "chosen": "thanks friend", "rejected": "seven" })
}

fn thumb(user: &str, id: &str, context: &str) -> Value {
    json!({ "event_id": id, "user": user, "kind": "thumb", "prompt": "tea", "response": "thanks friend", "up": true, "context": context })
}

async fn server() -> (micro_reward::server::App, Client) {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    (app, client)
}

async fn said(client: &Client, events: &[Value]) {
    let (status, acks) = client.post("/feedback", &json!(events)).await;
    assert_eq!(status, 200);
    assert!(acks.as_array().unwrap().iter().all(|ack| ack["status"] == "applied"), "{acks}");
}

#[tokio::test]
async fn what_is_taken_back_never_counted() {
    let (_app, client) = server().await;
    said(&client, &[pair("ann", "e1")]).await;
    let (_, before) = client.get("/users/ann").await;
    said(&client, &[thumb("ann", "e2", "tone")]).await;
    let (status, taken) = client.delete("/feedback/e2?user=ann").await;
    assert_eq!((status, &taken["status"], &taken["version"]), (200, &json!("retracted"), &json!(3)));
    let (_, after) = client.get("/users/ann").await;
    assert_eq!((&before["ledger"], &before["weights"]), (&after["ledger"], &after["weights"]));
    // A retry of either the retraction or the event changes nothing more.
    assert_eq!(client.delete("/feedback/e2?user=ann").await.0, 200);
    let (_, ack) = client.post("/feedback", &thumb("ann", "e2", "tone")).await;
    assert_eq!(ack["status"], "retracted");
    assert_eq!(client.get("/users/ann").await.1["ledger"], before["ledger"]);
}

/// The weights are checked by their formula, from the served evidence: `log w = log prior + rate L` before the floor.
#[tokio::test]
async fn the_learning_rate_is_the_bundles_unless_one_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    toy_with(dir.path(), |manifest| manifest.learning_rate = 0.25);
    for (configured, rate) in [(None, 0.25), (Some("0.5"), 0.5), (Some("0"), 0.25)] {
        let settings: Vec<_> = configured.map(|rate| ("posterior.learning_rate", rate)).into_iter().collect();
        let settings = [&settings[..], &[("posterior.floor", "0")]].concat();
        let (app, _clock) = start(dir.path(), &settings).await;
        let client = Client::new(app.address);
        said(&client, &[pair("ann", "e1")]).await;
        let (_, user) = client.get("/users/ann").await;
        let (evidence, weights) = (numbers(&user["evidence"]), numbers(&user["weights"]));
        // The toy bundle's shares are equal.
        let total: f64 = evidence.iter().map(|nats| (rate * nats).exp()).sum();
        for (nats, weight) in evidence.iter().zip(weights) {
            assert!(((rate * nats).exp() / total - weight).abs() < 1e-9, "{rate}: {user}");
        }
    }
}

#[tokio::test]
async fn an_undo_that_overtakes_its_click_wins() {
    let (_app, client) = server().await;
    let (status, problem) = client.delete("/feedback/e1?user=ann").await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_event")));
    let (_, ack) = client.post("/feedback", &pair("ann", "e1")).await;
    assert_eq!(ack["status"], "retracted");
    assert_eq!(client.get("/users/ann").await.0, 404);
}

#[tokio::test]
async fn a_vote_can_be_taken_back_for_as_long_as_its_raw_event_is_kept() {
    const LATER: i64 = 25 * 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let kept = [("state.engine", "embedded"), ("state.data_dir", dir.path().to_str().unwrap())];
    for settings in [&kept[..], &[]] {
        let (app, clock) = start(&toy(), settings).await;
        let client = Client::new(app.address);
        said(&client, &[pair("ann", "e1")]).await;
        let (_, before) = client.get("/users/ann").await;
        said(&client, &[thumb("ann", "e2", "tone")]).await;
        clock.advance(LATER);
        let (status, answer) = client.delete("/feedback/e2?user=ann").await;
        if settings.is_empty() {
            assert_eq!((status, &answer["code"]), (404, &json!("unknown_event")));
            assert!(answer["detail"].as_str().unwrap().contains("keeps no raw events"), "{answer}");
            continue;
        }
        assert_eq!((status, &answer["status"], &answer["version"]), (200, &json!("retracted"), &json!(3)));
        for _ in 0..2 {
            assert_eq!(client.get("/users/ann").await.1["ledger"], before["ledger"]);
            assert_eq!(client.delete("/feedback/e2?user=ann").await.0, 200);
            clock.advance(LATER);
        }
        let url = format!("http://{}/export/preferences?type=unpaired", app.admin_address);
        assert_eq!(reqwest::get(url).await.unwrap().text().await.unwrap(), "");
        let (status, answer) = client.delete("/feedback/never?user=ann").await;
        assert!(status == 404 && answer["detail"].as_str().unwrap().contains("events.retention"), "{answer}");
    }
}

#[tokio::test]
async fn a_visitor_who_signs_in_keeps_what_they_said_and_takes_nothing_from_the_account() {
    let dir = tempfile::tempdir().unwrap();
    let kept = [("state.engine", "embedded"), ("state.data_dir", dir.path().to_str().unwrap())];
    for settings in [&kept[..], &[]] {
        let (app, _clock) = start(&toy(), settings).await;
        let client = Client::new(app.address);
        // The same events under one id serve for comparison.
        said(&client, &[pair("all", "e1"), thumb("all", "e2", "tone"), thumb("all", "e3", "tone")]).await;
        said(
            &client,
            &[thumb("ann", "e3", "tone"), pair("visitor-7", "e1"), thumb("visitor-7", "e2", "tone")],
        )
        .await;
        let merge = json!({ "from": "visitor-7" });
        let (status, merged) = client.post("/users/ann/merge", &merge).await;
        assert_eq!((status, &merged["user"], &merged["n"]), (200, &json!("ann"), &json!(3)), "{merged}");
        assert_eq!(client.post("/users/ann/merge", &merge).await, (200, merged));
        let (_, all) = client.get("/users/all").await;
        let (_, ann) = client.get("/users/ann").await;
        let (_, visitor) = client.get("/users/visitor-7").await;
        for field in ["ledger", "weights", "evidence", "n"] {
            assert_eq!((&ann[field], &visitor[field]), (&all[field], &all[field]), "{field}");
        }
        assert_eq!((&visitor["merged_into"], &ann["merged_into"]), (&json!("ann"), &Value::Null));
        let score =
            |user| json!({ "user": user, "items": [{ "prompt": "tea", "responses": ["thanks", "seven"] }] });
        let (_, expected) = client.post("/score", &score("all")).await;
        for user in ["ann", "visitor-7"] {
            assert_eq!(client.post("/score", &score(user)).await.1, expected);
            assert_eq!(client.post("/feedback", &pair(user, "e1")).await.1["status"], "duplicate");
        }
        said(&client, &[pair("visitor-7", "e4")]).await;
        assert_eq!(client.delete("/feedback/e4?user=ann").await.0, 200);
        assert_eq!(client.delete("/feedback/e2?user=visitor-7").await.0, 200);
        assert_eq!(client.get("/users/ann").await.1["n"], 2);
        if !settings.is_empty() {
            let url = format!("http://{}/export/preferences?user=ann", app.admin_address);
            let exported = reqwest::get(url).await.unwrap().text().await.unwrap();
            assert!(
                exported.contains("\"event_id\":\"e1\"") && !exported.contains("visitor-7"),
                "{exported}"
            );
        }
        // An import by way of an old id would replace the account by mistake.
        let put =
            client.http.put(format!("{}/users/visitor-7", client.base)).json(&visitor).send().await.unwrap();
        assert_eq!(put.status(), 409);
        // The old id can be erased alone; the account takes its ids with it.
        client.post("/users/ann/merge", &json!({ "from": "visitor-8" })).await;
        assert_eq!(client.delete("/users/visitor-7").await.1["existed"], true);
        assert_eq!(client.get("/users/visitor-7").await.0, 404);
        assert_eq!(client.get("/users/ann").await.1["n"], 2);
        assert_eq!(client.delete("/users/ann").await.1["n"], 2);
        assert_eq!((client.get("/users/ann").await.0, client.get("/users/visitor-8").await.0), (404, 404));
    }
}

#[tokio::test]
async fn an_erased_account_takes_what_was_answered_under_its_ids() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let kept = [("state.data_dir", data_dir), ("responses.persist", "true")];
    let embedded = [kept[0], kept[1], ("state.engine", "embedded")];
    for settings in [&[][..], &kept, &embedded] {
        let (app, _clock) = start(&toy(), settings).await;
        let client = Client::new(app.address);
        let thumb = |id: &str| json!({ "event_id": id, "user": "visitor-7", "kind": "thumb", "response_id": "m", "up": true });
        let named = json!({ "user": "visitor-7", "items": [{ "prompt": "tea", "responses": [{ "id": "m", "text": "thanks" }] }] });
        client.post("/score", &named).await;
        said(&client, &[thumb("e1")]).await;
        assert_eq!(client.post("/users/ann/merge", &json!({ "from": "visitor-7" })).await.0, 200);
        said(&client, &[thumb("e2")]).await;
        assert_eq!(client.delete("/users/ann").await.1["n"], 2);
        let (status, problem) = client.post("/feedback", &thumb("e3")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("unknown_response")), "{settings:?}");
    }
}

#[tokio::test]
async fn a_merge_that_makes_no_sense_is_refused_by_name() {
    let (_app, client) = server().await;
    for (user, from) in [("b", "a"), ("d", "c")] {
        assert_eq!(client.post(&format!("/users/{user}/merge"), &json!({ "from": from })).await.0, 200);
    }
    for (user, body, status, code) in [
        ("b", json!({ "from": "b" }), 400, "invalid_field"),
        ("b", json!({ "from": "" }), 400, "invalid_field"),
        ("b", json!({}), 400, "invalid_field"),
        ("b", json!({ "from": "x", "into": "y" }), 400, "invalid_field"),
        ("a", json!({ "from": "b" }), 409, "merge_cycle"),
        ("d", json!({ "from": "a" }), 409, "merged_user"),
    ] {
        let (found, problem) = client.post(&format!("/users/{user}/merge"), &body).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{body}: {problem}");
        let names_from = body.get("from").is_some() && body.get("into").is_none();
        assert!(problem["field"] == "from" || !names_from, "{problem}");
    }
    // Ids without a row can be merged, and later feedback follows.
    said(&client, &[pair("c", "e1")]).await;
    assert_eq!(client.get("/users/d").await.1["n"], 1);
}

#[tokio::test]
async fn an_undo_needs_to_say_whose_feedback() {
    let (_app, client) = server().await;
    said(&client, &[pair("ann", "e1")]).await;
    let (status, problem) = client.delete("/feedback/e1").await;
    assert_eq!((status, &problem["field"]), (400, &json!("user")));
    assert_eq!(client.delete("/feedback/e1?user=ben").await.0, 404);
    assert_eq!(client.get("/users/ann").await.1["n"], 1);
}

#[tokio::test]
async fn evidence_is_carried_over_to_the_last_bit() {
    let (_app, client) = server().await;
    said(&client, &[pair("ann", "e1"), pair("ann", "e2"), thumb("ann", "e3", "tone")]).await;
    let (_, ann) = client.get("/users/ann").await;
    let (_other_app, other) = server().await;
    let put = |client: &Client, body: &Value| {
        let request = client.http.put(format!("{}/users/ann", client.base)).json(body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let (status, carried) = put(&other, &ann).await;
    assert_eq!(status, 200, "{carried}");
    for field in ["ledger", "weights", "evidence", "n", "last_event", "contexts"] {
        assert_eq!(carried[field], ann[field], "{field}");
    }
    let mut wrong = ann.clone();
    wrong["ledger"]["heads"] = json!("0000000000000000");
    let (status, problem) = put(&other, &wrong).await;
    assert_eq!(
        (status, &problem["code"], &problem["field"]),
        (409, &json!("other_heads"), &json!("ledger.heads"))
    );
    for (path, value) in [
        ("/ledger/general/sums", json!([1, 2])),
        ("/ledger/general/sums", json!([i64::MAX, 0, 0, 0])),
        ("/ledger/general/n", json!(0)),
        ("/ledger/general/epoch", json!(99)),
        ("/ledger/general/last_at_ms", json!(i64::MAX)),
        ("/ledger/contexts", json!({ "tone": ann["ledger"]["general"] })),
    ] {
        let mut wrong = ann.clone();
        *wrong.pointer_mut(path).unwrap() = value;
        let (status, problem) = put(&other, &wrong).await;
        assert_eq!(status, 400, "{path}: {problem}");
        let named = path[1..].replace('/', ".");
        assert!(problem["field"].as_str().unwrap().starts_with(&named) || path.ends_with("/n"), "{problem}");
    }
    assert_eq!(other.get("/users/ann").await.1["ledger"], ann["ledger"]);
}

#[tokio::test]
async fn an_erased_user_is_a_stranger_and_late_events_do_not_bring_them_back() {
    let (app, clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    said(&client, &[pair("ann", "e1"), pair("ann", "e2")]).await;
    let before = "2027-01-15T08:00:00Z";
    clock.advance(60_000);
    let (status, receipt) = client.delete("/users/ann").await;
    assert_eq!((status, &receipt["existed"], &receipt["n"]), (200, &json!(true), &json!(2)));
    let (_, again) = client.delete("/users/ann").await;
    assert_eq!((&again["existed"], &again["n"]), (&json!(false), &json!(0)));
    assert_eq!(client.post("/feedback", &pair("ann", "e1")).await.1["status"], "retracted");
    let mut late = pair("ann", "e3");
    late["at"] = json!(before);
    assert_eq!(client.post("/feedback", &late).await.1["status"], "late");
    assert_eq!(client.get("/users/ann").await.0, 404);
    said(&client, &[pair("ann", "e4")]).await;
    assert_eq!(numbers(&client.get("/users/ann").await.1["evidence"]).len(), 4);
}
