//! Votes that users change, clear, send twice, too early or wrongly, over HTTP on the toy bundle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, NOON, json_lines, start, toy};
use serde_json::{Value, json};

fn thumb(user: &str, id: &str, up: bool) -> Value {
    json!({ "event_id": id, "user": user, "kind": "thumb", "prompt": "tea?", "response": "thanks friend", "up": up })
}

fn with(mut event: Value, more: &Value) -> Value {
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// Sends one valid event and returns its ack.
async fn say(client: &Client, event: &Value) -> Value {
    let (status, ack) = client.post("/feedback", event).await;
    assert_eq!(status, 200, "{event}: {ack}");
    ack
}

async fn refused(client: &Client, event: &Value) -> (Value, String) {
    let (status, problem) = client.post("/feedback", event).await;
    assert_eq!(status, 400, "{event}: {problem}");
    (problem["field"].clone(), problem["detail"].as_str().unwrap().to_owned())
}

/// Returns the evidence of a user, to the last bit, and its number of events.
async fn ledger(client: &Client, user: &str) -> Value {
    let (_, view) = client.get(&format!("/users/{user}")).await;
    json!([view["ledger"]["general"]["sums"], view["ledger"]["contexts"], view["n"]])
}

#[tokio::test]
async fn a_vote_that_was_taken_back_never_counts_again_and_says_so() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    assert_eq!(say(&client, &thumb("ann", "m", true)).await["status"], "applied");
    assert_eq!(client.delete("/feedback/m?user=ann").await.0, 200);
    let again = say(&client, &thumb("ann", "m", true)).await;
    assert_eq!((&again["status"], &again["version"]), (&json!("retracted"), &json!(2)));
    assert!(again["detail"].as_str().unwrap().contains("use a new id"), "{again}");
    assert_eq!(client.get("/users/ann").await.0, 404);
    // The retraction may come first.
    assert_eq!(client.delete("/feedback/early?user=ann").await.0, 404);
    assert_eq!(say(&client, &thumb("ann", "early", true)).await["status"], "retracted");
    assert_eq!(say(&client, &thumb("ann", "m2", true)).await["status"], "applied");
    app.stop().await;
}

#[tokio::test]
async fn the_same_id_with_other_content_is_a_conflict_with_the_hash_of_what_counts() {
    let (app, clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let vote = thumb("ann", "m", true);
    say(&client, &vote).await;
    let before = ledger(&client, "ann").await;
    clock.advance(1000);
    let mut kept = Vec::new();
    for other in [
        json!({ "up": false }),
        json!({ "response": "no" }),
        json!({ "prompt": "coffee?" }),
        json!({ "context": "at work" }),
        json!({ "replaces": "m0" }),
    ] {
        let ack = say(&client, &with(vote.clone(), &other)).await;
        assert_eq!(ack["status"], "conflict", "{other}: {ack}");
        assert!(
            ack["detail"].as_str().unwrap().contains("`replaces`") && ack.get("version").is_none(),
            "{ack}"
        );
        kept.push(ack["content"].as_str().unwrap().to_owned());
    }
    assert!(kept[0].len() == 16 && kept.iter().all(|content| *content == kept[0]), "{kept:?}");
    let pair = json!({ "event_id": "m", "user": "ann", "kind": "pair", "prompt": "tea?", "chosen": "thanks friend", "rejected": "no" });
    assert_eq!(say(&client, &pair).await["content"], kept[0].as_str());
    // A retry may differ in these fields.
    for same in [
        json!({}),
        json!({ "at": NOON + 500 }),
        json!({ "comment": "so kind", "metadata": { "app": "web" } }),
        json!({ "prompt": null, "messages": [{ "role": "user", "content": "tea?" }], "context": "" }),
    ] {
        let ack = say(&client, &with(vote.clone(), &same)).await;
        assert_eq!(ack["status"], "duplicate", "{same}: {ack}");
    }
    let item = json!({ "prompt": "tea?", "responses": [{ "id": "r", "text": "thanks friend" }, { "id": "no", "text": "no" }] });
    client.post("/score", &json!({ "items": [item] })).await;
    let by_id =
        |id: &str| json!({ "event_id": "m", "user": "ann", "kind": "thumb", "response_id": id, "up": true });
    assert_eq!(say(&client, &by_id("r")).await["status"], "duplicate");
    assert_eq!(say(&client, &by_id("no")).await["status"], "conflict");
    assert_eq!(ledger(&client, "ann").await, before);
    app.stop().await;
}

#[tokio::test]
async fn a_vote_that_replaces_another_counts_as_if_it_alone_had_been_cast() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let replaces = |event: Value, other: &str| with(event, &json!({ "replaces": other }));
    say(&client, &thumb("ben", "down", false)).await;
    say(&client, &thumb("ann", "m1", true)).await;
    let change = replaces(thumb("ann", "m2", false), "m1");
    let ack = say(&client, &change).await;
    assert_eq!(json!([ack["status"], ack["replaced"], ack["version"]]), json!(["applied", true, 2]), "{ack}");
    assert_eq!(ledger(&client, "ann").await, ledger(&client, "ben").await);
    let again = say(&client, &change).await;
    assert_eq!((&again["status"], again.get("replaced")), (&json!("duplicate"), None));
    assert_eq!(say(&client, &thumb("ann", "m1", true)).await["status"], "retracted");
    // The event can be replaced in turn, also as a line of a stream, and into another context.
    let back = with(replaces(thumb("ann", "m3", true), "m2"), &json!({ "context": "at work" }));
    let lines = format!("{back}\n{back}\n");
    let (_, acks) = client.post_text("/feedback", "application/x-ndjson", lines).await;
    let acks = json_lines(acks.as_str().unwrap());
    assert_eq!((&acks[0]["replaced"], &acks[1]["status"]), (&json!(true), &json!("duplicate")), "{acks:?}");
    say(&client, &with(thumb("cat", "up", true), &json!({ "context": "at work" }))).await;
    assert_eq!(ledger(&client, "ann").await, ledger(&client, "cat").await);
    // A cleared vote leaves nothing.
    assert_eq!(client.delete("/feedback/m3?user=ann").await.0, 200);
    assert_eq!(client.get("/users/ann").await.0, 404);
    app.stop().await;
}

#[tokio::test]
async fn a_vote_that_overtakes_the_one_it_replaces_wins() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    say(&client, &thumb("ben", "down", false)).await;
    let ack = say(&client, &with(thumb("ann", "m2", false), &json!({ "replaces": "m1" }))).await;
    assert_eq!((&ack["status"], &ack["replaced"]), (&json!("applied"), &json!(false)));
    assert_eq!(say(&client, &thumb("ann", "m1", true)).await["status"], "retracted");
    assert_eq!(ledger(&client, "ann").await, ledger(&client, "ben").await);
    let own = with(thumb("ann", "m4", true), &json!({ "replaces": "m4" }));
    let (field, detail) = refused(&client, &own).await;
    assert!(field == "replaces" && detail.contains("own id"), "{field}: {detail}");
    app.stop().await;
}

#[tokio::test]
async fn a_click_that_overtakes_its_answer_is_to_be_sent_again() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let click = json!({ "event_id": "m", "user": "ann", "kind": "thumb", "response_id": "r", "up": true });
    let url = format!("{}/feedback", client.base);
    let answer = client.http.post(url).json(&click).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (404, &"1".parse().unwrap()));
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["field"]), (&json!("unknown_response"), &json!("response_id")));
    let (_, acks) = client.post("/feedback", &json!([click])).await;
    let ack = &acks[0];
    assert_eq!(
        json!([ack["status"], ack["code"], ack["retryable"], ack["retry_after_ms"]]),
        json!(["rejected", "unknown_response", true, 1000]),
    );
    let item = json!({ "prompt": "tea?", "responses": [{ "id": "r", "text": "thanks friend" }] });
    client.post("/score", &json!({ "user": "ann", "items": [item] })).await;
    assert_eq!(say(&client, &click).await["status"], "applied");
    app.stop().await;
}

#[tokio::test]
async fn a_retry_whose_response_is_forgotten_is_still_a_retry() {
    let (app, clock) = start(&toy(), &[("responses.ttl", "1s")]).await;
    let client = Client::new(app.address);
    let item = json!({ "prompt": "tea?", "responses": [{ "id": "r", "text": "thanks friend" }] });
    client.post("/score", &json!({ "user": "ann", "items": [item] })).await;
    let click =
        |id: &str| json!({ "event_id": id, "user": "ann", "kind": "thumb", "response_id": "r", "up": true });
    say(&client, &click("m1")).await;
    say(&client, &click("m2")).await;
    assert_eq!(client.delete("/feedback/m2?user=ann").await.0, 200);
    clock.advance(2000);
    assert_eq!(say(&client, &click("m1")).await["status"], "duplicate");
    assert_eq!(say(&client, &click("m2")).await["status"], "retracted");
    assert_eq!(client.post("/feedback", &click("m3")).await.0, 404);
    app.stop().await;
}

#[tokio::test]
async fn times_are_read_as_texts_seconds_and_milliseconds() {
    // Evidence fades fast enough that a second is visible.
    let (app, _) = start(&toy(), &[("posterior.half_life", "1m")]).await;
    let client = Client::new(app.address);
    let at = NOON - 12_500;
    let rfc = jiff::Timestamp::from_millisecond(at).unwrap().to_string();
    let forms = [json!(rfc), json!(at), json!(at as f64 / 1000.0), json!(format!("{at}"))];
    for (idx, form) in forms.iter().enumerate() {
        let user = format!("u{idx}");
        assert_eq!(
            say(&client, &with(thumb(&user, "m", true), &json!({ "at": form }))).await["status"],
            "applied"
        );
        let (_, view) = client.get(&format!("/users/{user}")).await;
        assert_eq!(view["ledger"]["general"]["last_at_ms"], at, "{form}");
    }
    say(&client, &with(thumb("now", "m", true), &json!({ "at": null }))).await;
    assert_eq!(client.get("/users/now").await.1["ledger"]["general"]["last_at_ms"], NOON);
    for (wrong, words) in [
        (json!("yesterday"), "found \"yesterday\", expected a time such as \"2026-01-31T12:00:00Z\""),
        (json!("2026-01-31T12:00:00"), "no offset from UTC"),
        (json!(at * 1000), "seconds or milliseconds since 1970"),
        (json!({ "seconds": 1 }), "expected a time such as"),
        (json!(true), "expected a time such as"),
    ] {
        let (field, detail) = refused(&client, &with(thumb("ann", "m", true), &json!({ "at": wrong }))).await;
        assert!(field == "at" && detail.contains(words), "{wrong}: {field}: {detail}");
    }
    app.stop().await;
}

#[tokio::test]
async fn likely_slips_are_told_what_to_send() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let of = |judgment: Value| with(json!({ "event_id": "m", "user": "ann", "prompt": "tea?" }), &judgment);
    for (judgment, field, words) in [
        (
            json!({ "kind": "rating", "responses": ["a"], "ratings": [5] }),
            "responses",
            "is a thumb, with `up`",
        ),
        (json!({ "kind": "like", "response": "a" }), "kind", "send a \"thumb\" with `up` true"),
        (json!({ "kind": "Thumbs_Down", "response": "a" }), "kind", "send a \"thumb\" with `up` false"),
        (
            json!({ "kind": "score", "response": "a" }),
            "kind",
            "send a \"rating\" of several responses, or a \"thumb\"",
        ),
        (json!({ "kind": "none", "response": "a" }), "kind", "DELETE /feedback"),
        (json!({ "kind": "zebra", "response": "a" }), "kind", "found \"zebra\", expected \"pair\", \"tie\""),
        (
            json!({ "kind": "thumb", "response": "a", "up": 1 }),
            "up",
            "true for a thumb up or false for a thumb down",
        ),
        (json!({ "kind": "thumb", "response": "a", "up": "up" }), "up", "true for a thumb up"),
        (
            json!({ "kind": "thumb", "response": "a", "ratings": [1] }),
            "ratings",
            "which has `up`: true or false",
        ),
        (
            json!({ "kind": "rating", "responses": ["a", "b"], "ratings": [5, "4"] }),
            "ratings[1]",
            "a number such as 4",
        ),
        (json!({ "kind": "rating", "responses": ["a", "b"], "up": true }), "up", "which has `ratings`"),
    ] {
        let (found, detail) = refused(&client, &of(judgment.clone())).await;
        assert!(found == field && detail.contains(words), "{judgment}: {found}: {detail}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_rides_along_is_bounded_by_name() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let long = |n: usize| "x".repeat(n);
    for (more, field, words) in [
        (json!({ "metadata": { "a": "1", "stars": 5 } }), "metadata.stars", "expected a text"),
        (json!({ "metadata": { "a": long(4000), "page": long(100) } }), "metadata.page", "found 4105 bytes"),
        (json!({ "metadata": "web" }), "metadata", "expected an object"),
        (json!({ "comment": long(16_385) }), "comment", "found 16385 bytes, expected at most 16384"),
    ] {
        let (found, detail) = refused(&client, &with(thumb("ann", "m", true), &more)).await;
        assert!(found == field && detail.contains(words), "{found}: {detail}");
    }
    let most = json!({ "metadata": { "a": long(4000), "page": long(91) }, "comment": long(16_384) });
    assert_eq!(say(&client, &with(thumb("ann", "m", true), &most)).await["status"], "applied");
    say(&client, &thumb("ben", "m", true)).await;
    assert_eq!(ledger(&client, "ann").await, ledger(&client, "ben").await);
    app.stop().await;
}

#[tokio::test]
async fn a_user_who_says_too_much_is_told_when_there_is_room() {
    let (app, clock) = start(&toy(), &[("feedback.max_events", "2"), ("feedback.max_age", "10s")]).await;
    let client = Client::new(app.address);
    say(&client, &thumb("ann", "1", true)).await;
    clock.advance(3500);
    say(&client, &thumb("ann", "2", true)).await;
    let url = format!("{}/feedback", client.base);
    let answer = client.http.post(url).json(&thumb("ann", "3", true)).send().await.unwrap();
    // The first event is remembered for 10 s, of which 3.5 have passed.
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"7".parse().unwrap()));
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "too_many_events");
    let (_, acks) =
        client.post("/feedback", &json!([thumb("ann", "3", true), thumb("ben", "1", true)])).await;
    assert_eq!(
        json!([acks[0]["code"], acks[0]["retryable"], acks[0]["retry_after_ms"], acks[1]["status"]]),
        json!(["too_many_events", true, 7000, "applied"]),
    );
    clock.advance(7000);
    assert_eq!(say(&client, &thumb("ann", "3", true)).await["status"], "applied");
    app.stop().await;
}
