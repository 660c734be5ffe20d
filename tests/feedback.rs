//! Every kind of feedback, by texts and by the ids of scored responses, over HTTP on the toy bundle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, FakeClock, numbers, start, toy, toy_with};
use micro_reward::model::{Feature, Template};
use serde_json::{Value, json};

const PROMPT: &str = "tell me about tea";
const TEXTS: [&str; 5] = [
    "thanks friend glad",
    "exactly seven percent",
    "haha pirate banana",
    "no",
    "thanks exactly haha friend percent",
];
const IDS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];
const DAY_MS: i64 = 86_400_000;

/// Scores the five texts under the ids, for a user or for none.
async fn score(client: &Client, user: Option<&str>, prompt: &str) {
    let named = |(id, text): (&&str, &&str)| json!({ "id": id, "text": text });
    let responses: Vec<Value> = IDS.iter().zip(&TEXTS).map(named).collect();
    let mut request = json!({ "items": [{ "prompt": prompt, "responses": responses }] });
    if let Some(user) = user {
        request["user"] = json!(user);
    }
    let (status, answer) = client.post("/score", &request).await;
    assert_eq!(status, 200, "{answer}");
}

/// Returns an event of a user: `judgment` with an event id and the user.
fn event(user: &str, judgment: &Value) -> Value {
    let mut event =
        json!({ "event_id": judgment.to_string().chars().take(200).collect::<String>(), "user": user });
    event.as_object_mut().unwrap().extend(judgment.as_object().unwrap().clone());
    event
}

fn with_prompt(mut judgment: Value) -> Value {
    judgment["prompt"] = json!(PROMPT);
    judgment
}

async fn applied(client: &Client, event: &Value) {
    let (status, ack) = client.post("/feedback", event).await;
    assert_eq!((status, &ack["status"]), (200, &json!("applied")), "{event}: {ack}");
}

async fn refused(client: &Client, event: &Value, status: u16, code: &str, field: &str) -> String {
    let (found, problem) = client.post("/feedback", event).await;
    assert_eq!((found, &problem["code"]), (status, &json!(code)), "{event}: {problem}");
    assert_eq!(problem["field"], json!(field), "{event}: {problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

async fn evidence(client: &Client, user: &str) -> Vec<f64> {
    let (status, view) = client.get(&format!("/users/{user}")).await;
    assert_eq!((status, &view["n"]), (200, &json!(1)), "{view}");
    numbers(&view["evidence"])
}

/// Returns each kind with texts, and the same judgment with ids.
fn kinds() -> Vec<(Value, Value)> {
    let [a, b, c, d, e] = TEXTS;
    let edited = "thanks dear friend";
    let both = [
        (
            json!({ "kind": "pair", "chosen": a, "rejected": b }),
            json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "r1" }),
        ),
        (
            json!({ "kind": "tie", "responses": [a, c] }),
            json!({ "kind": "tie", "response_ids": ["r0", "r2"] }),
        ),
        (
            json!({ "kind": "thumb", "response": b, "up": true }),
            json!({ "kind": "thumb", "response_id": "r1", "up": true }),
        ),
        (
            json!({ "kind": "thumb", "response": c, "up": false }),
            json!({ "kind": "thumb", "response_id": "r2", "up": false }),
        ),
        (
            json!({ "kind": "ranking", "responses": [e, a, c, b, d] }),
            json!({ "kind": "ranking", "response_ids": ["r4", "r0", "r2", "r1", "r3"] }),
        ),
        (
            json!({ "kind": "rating", "responses": [a, b, c, d], "ratings": [5, 1, 3.5, 1] }),
            json!({ "kind": "rating", "response_ids": ["r0", "r1", "r2", "r3"], "ratings": [5, 1, 3.5, 1] }),
        ),
        (
            json!({ "kind": "correction", "original": b, "edited": edited }),
            json!({ "kind": "correction", "original_id": "r1", "edited": edited }),
        ),
    ];
    both.map(|(by_text, by_id)| (with_prompt(by_text), by_id)).into()
}

async fn check_each_kind(client: &Client) {
    score(client, None, PROMPT).await;
    for (idx, (by_text, by_id)) in kinds().into_iter().enumerate() {
        let (texter, clicker) = (format!("texter-{idx}"), format!("clicker-{idx}"));
        applied(client, &event(&texter, &by_text)).await;
        applied(client, &event(&clicker, &by_id)).await;
        let said = evidence(client, &texter).await;
        assert!(said.iter().any(|nats| nats.abs() > 0.01), "{by_text} says something: {said:?}");
        assert_eq!(said, evidence(client, &clicker).await, "{by_id}");
    }
}

#[tokio::test]
async fn every_kind_by_id_says_what_it_says_by_text() {
    let (app, _) = start(&toy(), &[]).await;
    check_each_kind(&Client::new(app.address)).await;
    app.stop().await;
}

#[tokio::test]
async fn ids_work_where_heads_read_the_prompt_as_well() {
    let dir = tempfile::tempdir().unwrap();
    toy_with(dir.path(), |manifest| {
        manifest.input.template = Template::Pair;
        manifest.input.features = vec![Feature::Prompt, Feature::Response, Feature::LogLength];
    });
    let (app, _) = start(dir.path(), &[]).await;
    check_each_kind(&Client::new(app.address)).await;
    app.stop().await;
}

#[tokio::test]
async fn kinds_agree_with_one_another() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let [a, b, ..] = TEXTS;
    let pair = with_prompt(json!({ "kind": "pair", "chosen": a, "rejected": b }));
    let tie = with_prompt(json!({ "kind": "tie", "responses": [a, b] }));
    let alike = [
        (json!({ "kind": "ranking", "responses": [a, b] }), &pair),
        (json!({ "kind": "rating", "responses": [b, a], "ratings": [-1, 0.5] }), &pair),
        (json!({ "kind": "correction", "original": b, "edited": a }), &pair),
        (json!({ "kind": "rating", "responses": [a, b], "ratings": [4, 4] }), &tie),
    ];
    applied(&client, &event("pair", &pair)).await;
    applied(&client, &event("tie", &tie)).await;
    for (idx, (judgment, as_what)) in alike.into_iter().enumerate() {
        let user = format!("u{idx}");
        applied(&client, &event(&user, &with_prompt(judgment))).await;
        assert_eq!(
            evidence(&client, &user).await,
            evidence(&client, as_what["kind"].as_str().unwrap()).await,
            "{idx}"
        );
    }
    app.stop().await;
}

#[tokio::test]
async fn a_ranking_of_five_weighs_no_more_than_a_pair() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let range = |nats: Vec<f64>| {
        nats.iter().copied().fold(f64::MIN, f64::max) - nats.iter().copied().fold(f64::MAX, f64::min)
    };
    applied(&client, &event("all", &with_prompt(json!({ "kind": "ranking", "responses": TEXTS })))).await;
    let mut strongest = 0.0_f64;
    for (i, chosen) in TEXTS.iter().enumerate() {
        for (j, rejected) in TEXTS.iter().enumerate().skip(i + 1) {
            let user = format!("pair-{i}-{j}");
            let pair = with_prompt(json!({ "kind": "pair", "chosen": chosen, "rejected": rejected }));
            applied(&client, &event(&user, &pair)).await;
            strongest = strongest.max(range(evidence(&client, &user).await));
        }
    }
    let of_all = range(evidence(&client, "all").await);
    assert!(of_all > 0.01 && of_all <= strongest + 1e-9, "{of_all} {strongest}");
    app.stop().await;
}

#[tokio::test]
async fn what_is_not_remembered_is_refused_by_its_field() {
    let (app, clock): (_, std::sync::Arc<FakeClock>) = start(&toy(), &[("responses.ttl", "1d")]).await;
    let client = Client::new(app.address);
    let thumb = |id: &str| json!({ "kind": "thumb", "response_id": id, "up": true });
    let pair = json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "r9" });
    score(&client, Some("ann"), PROMPT).await;
    let said = refused(&client, &event("ann", &thumb("r9")), 404, "unknown_response", "response_id").await;
    assert!(said.contains("send the prompt and the text"), "{said}");
    refused(&client, &event("ann", &pair), 404, "unknown_response", "rejected_id").await;
    let ranking = json!({ "kind": "ranking", "response_ids": ["r0", "r1", "r9"] });
    refused(&client, &event("ann", &ranking), 404, "unknown_response", "response_ids[2]").await;
    refused(&client, &event("ann", &thumb("")), 404, "unknown_response", "response_id").await;
    refused(&client, &event("ben", &thumb("r0")), 404, "unknown_response", "response_id").await;
    applied(&client, &event("ann", &thumb("r0"))).await;

    score(&client, None, PROMPT).await;
    applied(&client, &event("ben", &thumb("r0"))).await;

    clock.advance(DAY_MS - 1);
    applied(&client, &event("ann", &thumb("r1"))).await;
    clock.advance(1);
    refused(&client, &event("ann", &thumb("r2")), 404, "unknown_response", "response_id").await;
    score(&client, Some("ann"), PROMPT).await;
    applied(&client, &event("ann", &thumb("r2"))).await;

    client.delete("/users/ann").await;
    refused(&client, &event("ann", &thumb("r3")), 404, "unknown_response", "response_id").await;
    app.stop().await;
}

#[tokio::test]
async fn responses_to_different_prompts_are_not_compared() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    score(&client, None, PROMPT).await;
    let other = json!({ "prompt": "something else", "responses": [{ "id": "s0", "text": TEXTS[0] }] });
    client.post("/score", &json!({ "items": [other] })).await;
    let pair = json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "s0" });
    refused(&client, &event("ann", &pair), 400, "different_prompts", "rejected_id").await;
    let same = json!({ "prompt": PROMPT, "responses": [{ "id": "s1", "text": TEXTS[1] }] });
    client.post("/score", &json!({ "items": [same] })).await;
    let pair = json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "s1" });
    applied(&client, &event("ann", &pair)).await;
    app.stop().await;
}

#[tokio::test]
async fn fields_that_do_not_fit_the_kind_are_refused_by_name() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    score(&client, None, PROMPT).await;
    let many: Vec<String> = (0..65).map(|n| format!("{n}")).collect();
    let cases = [
        (json!({ "kind": "pair" }), "chosen", "or `chosen_id`"),
        (json!({ "kind": "pair", "chosen_id": "r0" }), "rejected_id", "missing; a pair needs it"),
        (json!({ "kind": "pair", "chosen_id": "r0", "rejected": "x" }), "rejected", "beside `chosen_id`"),
        (
            json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "r1", "prompt": "p" }),
            "prompt",
            "beside `chosen_id`",
        ),
        (
            json!({ "kind": "thumb", "response_id": "r0", "up": true, "messages": [] }),
            "messages",
            "`response_id`",
        ),
        (json!({ "kind": "pair", "chosen_id": "r0", "rejected_id": "r0" }), "rejected_id", "twice"),
        (json!({ "kind": "ranking", "response_ids": ["r0", "r1", "r0"] }), "response_ids[2]", "twice"),
        (
            json!({ "kind": "tie", "response_ids": ["r0", "r1", "r2"] }),
            "response_ids",
            "found 3 responses, expected 2",
        ),
        (
            json!({ "kind": "ranking", "prompt": "p", "responses": ["x"] }),
            "responses",
            "found 1 responses, expected 2 to 64",
        ),
        (
            json!({ "kind": "ranking", "response_ids": many }),
            "response_ids",
            "found 65 responses, expected 2 to 64",
        ),
        (
            json!({ "kind": "ranking", "response_ids": ["r0", "r1"], "ratings": [1, 2] }),
            "ratings",
            "does not belong to a ranking",
        ),
        (json!({ "kind": "rating", "response_ids": ["r0", "r1"] }), "ratings", "missing"),
        (
            json!({ "kind": "rating", "response_ids": ["r0", "r1"], "ratings": [1] }),
            "ratings",
            "1 ratings for 2",
        ),
        (json!({ "kind": "correction", "original_id": "r0" }), "edited", "missing; a correction needs it"),
        (json!({ "kind": "correction", "edited": "x" }), "original", "or `original_id`"),
        (json!({ "kind": "correction", "original": "x", "edited": "y" }), "prompt", "missing"),
        (
            json!({ "kind": "pair", "chosen": "x", "rejected": "y", "edited": "z" }),
            "edited",
            "does not belong to a pair",
        ),
    ];
    for (judgment, field, words) in cases {
        let said = refused(&client, &event("ann", &judgment), 400, "invalid_field", field).await;
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let infinite = r#"{"event_id": "i", "user": "ann", "kind": "rating", "response_ids": ["r0", "r1"], "ratings": [1, 1e999]}"#;
    let (status, problem) = client.post_text("/feedback", "application/json", infinite.to_owned()).await;
    assert_eq!(status, 400, "{problem}");
    assert_eq!(client.get("/users/ann").await.0, 404);
    app.stop().await;
}

#[tokio::test]
async fn texts_and_ids_of_one_call_are_settled_together_in_order() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    score(&client, None, PROMPT).await;
    let mut events = Vec::new();
    for (idx, (by_text, by_id)) in kinds().into_iter().enumerate() {
        let unknown = json!({ "kind": "thumb", "response_id": format!("nobody-{idx}"), "up": true });
        events.extend([
            event(&format!("texter-{idx}"), &by_text),
            event("ann", &unknown),
            event(&format!("clicker-{idx}"), &by_id),
        ]);
    }
    let (status, acks) = client.post("/feedback", &json!(events)).await;
    assert_eq!(status, 200, "{acks}");
    for (idx, ack) in acks.as_array().unwrap().iter().enumerate() {
        let (status, code) = if idx % 3 == 1 {
            (json!("rejected"), json!("unknown_response"))
        } else {
            (json!("applied"), Value::Null)
        };
        assert_eq!((&ack["status"], &ack["code"]), (&status, &code), "{idx}: {ack}");
    }
    for idx in 0..kinds().len() {
        let (texter, clicker) = (format!("texter-{idx}"), format!("clicker-{idx}"));
        assert_eq!(evidence(&client, &texter).await, evidence(&client, &clicker).await, "{idx}");
    }
    let again = client.post("/feedback", &events[2]).await.1;
    assert_eq!(again["status"], json!("duplicate"));
    app.stop().await;
}

#[tokio::test]
async fn rank_compare_and_elicit_remember_ids_too() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let response = |id: &str| json!({ "id": id, "text": TEXTS[0] });
    let ranked = json!({ "items": [{ "prompt": PROMPT, "responses": [response("of-rank")] }] });
    let compared = json!({ "prompt": PROMPT, "a": response("of-compare"), "b": TEXTS[1] });
    let asked = json!({ "candidates": [{ "prompt": PROMPT, "a": TEXTS[1], "b": response("of-elicit") }] });
    for (path, request) in [("/rank", ranked), ("/compare", compared), ("/elicit", asked)] {
        let (status, answer) = client.post(path, &request).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let mut said = Vec::new();
    for id in ["of-rank", "of-compare", "of-elicit"] {
        applied(&client, &event(id, &json!({ "kind": "thumb", "response_id": id, "up": true }))).await;
        said.push(evidence(&client, id).await);
    }
    assert!(said[0] == said[1] && said[1] == said[2], "{said:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_question_is_answered_by_the_ids_of_its_texts() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let (_, asked) = client.get("/elicit?user=ann").await;
    let question = &asked["question"];
    let responses = json!([{ "id": "qa", "text": question["a"] }, { "id": "qb", "text": question["b"] }]);
    let item = json!({ "prompt": question["prompt"], "responses": responses });
    client.post("/score", &json!({ "user": "ann", "items": [item] })).await;
    applied(&client, &event("ann", &json!({ "kind": "ranking", "response_ids": ["qb", "qa"] }))).await;
    let (_, next) = client.get("/elicit?user=ann").await;
    assert_eq!(next["answered"], json!(1), "{next}");
    assert_ne!(next["question"]["id"], question["id"]);
    app.stop().await;
}

#[tokio::test]
async fn memory_is_bounded_and_the_oldest_receipts_go_first() {
    let (app, _) = start(&toy(), &[("responses.max_bytes", "100000")]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    for call in 0..50 {
        let id = |n: usize| json!({ "id": format!("{call}-{n}"), "text": TEXTS[n] });
        let item = json!({ "prompt": "long ".repeat(100), "responses": [id(0), id(1), id(2), id(3), id(4)] });
        client.post("/score", &json!({ "user": "ann", "items": [item] })).await;
    }
    // Other apps of this process set the same gauges on their own requests: only bounds that hold for all apps are
    // checked.
    let (n, bytes) = (
        admin.metric("micro_reward_receipts").await.unwrap(),
        admin.metric("micro_reward_receipt_bytes").await.unwrap(),
    );
    assert!((0.0..250.0).contains(&n) && (0.0..=100_000.0).contains(&bytes), "{n} {bytes}");
    let thumb = |id: &str| event("ann", &json!({ "kind": "thumb", "response_id": id, "up": true }));
    refused(&client, &thumb("0-0"), 404, "unknown_response", "response_id").await;
    applied(&client, &thumb("49-0")).await;
    app.stop().await;
}

#[tokio::test]
async fn receipts_can_be_turned_off() {
    let (app, _) = start(&toy(), &[("responses.max_bytes", "0")]).await;
    let client = Client::new(app.address);
    score(&client, Some("ann"), PROMPT).await;
    let thumb = event("ann", &json!({ "kind": "thumb", "response_id": "r0", "up": true }));
    refused(&client, &thumb, 404, "unknown_response", "response_id").await;
    app.stop().await;
}

#[tokio::test]
async fn an_id_that_names_two_responses_of_a_request_is_refused_by_the_path_of_the_second() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let named = |text: &str| json!({ "id": "m1", "text": text });
    let item = |prompt: &str, responses: Value| json!({ "prompt": prompt, "responses": responses });
    let of_one_item = json!([item("tea", json!(["no", named("thanks"), named("seven")]))]);
    let of_two_texts = json!([item("tea", json!([named("thanks")])), item("tea", json!([named("seven")]))]);
    let of_two_prompts =
        json!([item("tea", json!([named("thanks")])), item("coffee", json!([named("thanks")]))]);
    for (items, field, detail) in [
        (of_one_item, "items[0].responses[2].id", "of items[0].responses[1] again with another text"),
        (of_two_texts, "items[1].responses[0].id", "of items[0].responses[0] again with another text"),
        (of_two_prompts, "items[1].responses[0].id", "of items[0].responses[0] again with another prompt"),
    ] {
        for path in ["/score", "/rank"] {
            refused_ids(&client, path, &json!({ "user": "ann", "items": items }), field, detail).await;
        }
    }
    let compared = json!({ "user": "ann", "prompt": "tea", "a": named("thanks"), "b": named("seven") });
    refused_ids(&client, "/compare", &compared, "b.id", "of a again with another text").await;
    let candidate = |prompt: &str, b: Value| json!({ "prompt": prompt, "a": named("thanks"), "b": b });
    let asked = json!({ "user": "ann", "candidates": [candidate("tea", json!("no")), candidate("coffee", json!("no"))] });
    refused_ids(
        &client,
        "/elicit",
        &asked,
        "candidates[1].a.id",
        "of candidates[0].a again with another prompt",
    )
    .await;
    let asked = json!({ "user": "ann", "candidates": [candidate("tea", named("seven"))] });
    refused_ids(
        &client,
        "/elicit",
        &asked,
        "candidates[0].b.id",
        "of candidates[0].a again with another text",
    )
    .await;
    // A refused request leaves no receipt.
    let thumb = event("ann", &json!({ "kind": "thumb", "response_id": "m1", "up": true }));
    let (_, problem) = client.post("/feedback", &thumb).await;
    assert_eq!(problem["code"], "unknown_response", "{problem}");
    app.stop().await;
}

async fn refused_ids(client: &Client, path: &str, request: &Value, field: &str, detail: &str) {
    let (status, problem) = client.post(path, request).await;
    assert_eq!((status, &problem["field"]), (400, &json!(field)), "{path} {request}: {problem}");
    let found = problem["detail"].as_str().unwrap();
    assert!(found.contains(detail) && found.contains("expected one response under an id"), "{problem}");
}

#[tokio::test]
async fn the_same_response_may_come_again_under_its_id_and_an_empty_id_is_none() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let named = |id: &str, text: &str| json!({ "id": id, "text": text });
    let item = json!({ "prompt": "tea", "responses": [named("m1", "thanks"), named("m1", "thanks"), named("", "a"), named("", "b")] });
    let (status, answer) = client.post("/score", &json!({ "items": [item, item] })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["items"][1]["ids"], json!(["m1", "m1", "", ""]));
    app.stop().await;
}

#[tokio::test]
async fn of_an_id_that_comes_again_in_a_later_request_the_newest_counts() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    for text in [TEXTS[0], TEXTS[1]] {
        let item = json!({ "prompt": PROMPT, "responses": [{ "id": "m1", "text": text }] });
        assert_eq!(client.post("/score", &json!({ "user": "ann", "items": [item] })).await.0, 200);
    }
    applied(&client, &event("ann", &json!({ "kind": "thumb", "response_id": "m1", "up": true }))).await;
    applied(
        &client,
        &event("ben", &with_prompt(json!({ "kind": "thumb", "response": TEXTS[1], "up": true }))),
    )
    .await;
    assert_eq!(evidence(&client, "ann").await, evidence(&client, "ben").await);
    app.stop().await;
}
