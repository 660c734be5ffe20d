//! Informative questions over HTTP on the toy bundle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::{Client, json_lines, numbers, start, toy, toy_with};
use serde_json::{Value, json};

const KIND: &str = "thanks friend glad";
const EXACT: &str = "exactly seven percent";
const N_QUESTIONS: u64 = 6;

async fn ask(client: &Client, query: &str) -> Value {
    let (status, answer) = client.get(&format!("/elicit?{query}")).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Returns every head's margin for `a` over `b`.
async fn margins(client: &Client, question: &Value) -> Vec<f64> {
    let item = json!({ "prompt": question["prompt"], "responses": [question["a"], question["b"]] });
    let (_, answer) = client.post("/score", &json!({ "detail": true, "items": [item] })).await;
    let heads = &answer["items"][0]["heads"];
    numbers(&heads[0]).iter().zip(numbers(&heads[1])).map(|(a, b)| a - b).collect()
}

/// Returns the answer of a user with the taste of one head.
async fn answer(client: &Client, user: &str, question: &Value, head: usize) -> Value {
    let (mut chosen, mut rejected) = (&question["a"], &question["b"]);
    if margins(client, question).await[head] < 0.0 {
        std::mem::swap(&mut chosen, &mut rejected);
    }
    json!({ "event_id": question["id"], "user": user, "kind": "pair", "prompt": question["prompt"],
            "chosen": chosen, "rejected": rejected })
}

async fn feed(client: &Client, event: &Value, status: &str) {
    let (_, ack) = client.post("/feedback", event).await;
    assert_eq!(ack["status"], json!(status), "{event}: {ack}");
}

#[tokio::test]
async fn five_answers_move_the_weights_to_the_right_head() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    for (head, user) in ["kind", "exact", "playful", "brief"].into_iter().enumerate() {
        for _ in 0..5 {
            let question = ask(&client, &format!("user={user}")).await["question"].clone();
            feed(&client, &answer(&client, user, &question, head).await, "applied").await;
        }
        let weights = numbers(&client.get(&format!("/users/{user}")).await.1["weights"]);
        assert!(weights[head] > 0.8, "{user}: {weights:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_answered_question_is_not_asked_again() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let mut asked = BTreeSet::new();
    for n in 0..N_QUESTIONS {
        let next = ask(&client, "user=ann").await;
        assert_eq!((&next["answered"], &next["of"]), (&json!(n), &json!(N_QUESTIONS)));
        let question = &next["question"];
        assert_eq!(ask(&client, "user=ann").await, next, "asking changes nothing");
        assert!(asked.insert(question["id"].to_string()), "{question}");
        let texts = [&question["b"], &question["a"]];
        let event = match n % 2 {
            0 => answer(&client, "ann", question, 0).await,
            _ => json!({ "event_id": question["id"], "user": "ann", "kind": "tie",
                         "messages": [{ "role": "user", "content": question["prompt"] }], "responses": texts }),
        };
        feed(&client, &event, "applied").await;
    }
    let done = ask(&client, "user=ann").await;
    assert_eq!((&done["question"], &done["answered"]), (&Value::Null, &json!(N_QUESTIONS)));
    assert!(done.as_object().unwrap().contains_key("question"), "null is said");
    assert_eq!(ask(&client, "user=bob").await["answered"], json!(0));
    client.delete("/users/ann").await;
    assert_eq!(ask(&client, "user=ann").await["answered"], json!(0), "erasing forgets the answers");
    app.stop().await;
}

#[tokio::test]
async fn the_next_question_is_the_one_that_the_candidates_rank_first() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let text = std::fs::read_to_string(toy().join("questions.jsonl")).unwrap();
    let candidates = json_lines(&text);
    let (status, ranked) = client.post("/elicit", &json!({ "user": "ann", "candidates": candidates })).await;
    assert_eq!((status, ranked["candidates"].as_array().unwrap().len()), (200, 6), "{ranked}");
    let nats: Vec<f64> =
        ranked["candidates"].as_array().unwrap().iter().map(|c| c["information"].as_f64().unwrap()).collect();
    assert!(nats.is_sorted_by(|a, b| a >= b) && nats.iter().all(|x| (0.0..=0.694).contains(x)), "{nats:?}");
    let next = ask(&client, "user=ann").await;
    assert!(next["question"]["information"].as_f64().unwrap() > 0.1, "{next}");
    assert_eq!(next["revision"], ranked["revision"]);
    app.stop().await;
}

#[tokio::test]
async fn the_most_informative_candidate_comes_first() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let dull = json!({ "prompt": "tea", "a": "tea", "b": { "id": "x", "text": "tea" } });
    let candidates = json!([dull, { "id": "telling", "prompt": "tea", "a": KIND, "b": EXACT }, dull]);
    let request = json!({ "candidates": candidates });
    let (_, ranked) = client.post("/elicit", &request).await;
    let order = |answer: &Value| -> Vec<u64> {
        answer["candidates"].as_array().unwrap().iter().map(|c| c["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(order(&ranked), [1, 0, 2], "a tie keeps the request's order: {ranked}");
    assert_eq!(
        (&ranked["candidates"][0]["id"], &ranked["candidates"][1]["id"]),
        (&json!("telling"), &Value::Null)
    );
    assert!((ranked["candidates"][1]["preference"].as_f64().unwrap() - 0.5).abs() < 1e-6);

    let mut limited = request.clone();
    limited["limit"] = json!(1);
    assert_eq!(order(&client.post("/elicit", &limited).await.1), [1]);
    assert_eq!(client.post("/elicit", &json!({ "candidates": [] })).await.1["candidates"], json!([]));

    // Once Ann's taste is known, her answer is predictable, so that it is less informative.
    for id in 0..20 {
        let event = json!({ "event_id": format!("{id}"), "user": "ann", "kind": "pair", "prompt": "tea", "chosen": KIND, "rejected": EXACT });
        feed(&client, &event, "applied").await;
    }
    let mut known = request.clone();
    known["user"] = json!("ann");
    let (_, known) = client.post("/elicit", &known).await;
    let first = |answer: &Value, field: &str| {
        let candidates = answer["candidates"].as_array().unwrap();
        candidates.iter().find(|c| c["index"] == json!(1)).unwrap()[field].as_f64().unwrap()
    };
    assert!(first(&known, "information") < first(&ranked, "information") / 2.0, "{known} {ranked}");
    assert!(first(&known, "preference") > 0.8, "{known}");
    app.stop().await;
}

#[tokio::test]
async fn a_duplicate_answer_counts_once() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let question = ask(&client, "user=ann").await["question"].clone();
    let event = answer(&client, "ann", &question, 0).await;
    feed(&client, &event, "applied").await;
    let after = (ask(&client, "user=ann").await, client.get("/users/ann").await);
    feed(&client, &event, "duplicate").await;
    assert_eq!((ask(&client, "user=ann").await, client.get("/users/ann").await), after);
    app.stop().await;
}

#[tokio::test]
async fn other_feedback_answers_no_question() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let question = ask(&client, "user=ann").await["question"].clone();
    let mut event = answer(&client, "ann", &question, 0).await;
    event["prompt"] = json!("another prompt");
    feed(&client, &event, "applied").await;
    let thumb = json!({ "event_id": "t", "user": "ann", "kind": "thumb", "prompt": question["prompt"],
                        "response": question["a"], "up": true });
    feed(&client, &thumb, "applied").await;
    assert_eq!(ask(&client, "user=ann").await["answered"], json!(0));
    app.stop().await;
}

#[tokio::test]
async fn a_question_is_answered_in_its_context_alone() {
    let (app, _) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let question = ask(&client, "user=ann&context=at+work").await["question"].clone();
    let mut event = answer(&client, "ann", &question, 1).await;
    event["context"] = json!("at work");
    feed(&client, &event, "applied").await;
    let work = ask(&client, "user=ann&context=at%20work").await;
    assert_eq!(work["answered"], json!(1));
    assert_ne!(work["question"]["id"], question["id"]);
    assert_eq!(ask(&client, "user=ann").await["answered"], json!(0));
    assert_eq!(ask(&client, "user=ann&context=at+home").await["answered"], json!(0));
    app.stop().await;
}

#[tokio::test]
async fn bad_input_to_elicit_is_answered_by_name() {
    let (app, _) = start(&toy(), &[("server.max_text_bytes", "100"), ("batch.max_queued_texts", "20")]).await;
    let client = Client::new(app.address);
    let long = "x".repeat(101);
    let pair = json!({ "prompt": "p", "a": "1", "b": "2" });
    let with = |field: &str, value: Value| {
        let mut second = pair.clone();
        second[field] = value;
        json!({ "candidates": [pair, second] })
    };
    let different = |n: usize| json!({ "prompt": "p", "a": format!("a{n}"), "b": format!("b{n}") });
    let many: Vec<Value> = (0..11).map(different).collect();
    let cases = [
        (json!({}), 400, "invalid_field", json!("candidates")),
        (json!({ "candidates": [pair], "limit": 0 }), 400, "invalid_field", json!("limit")),
        (json!({ "candidates": [pair], "limit": "3" }), 400, "invalid_field", json!("limit")),
        (json!({ "candidates": [pair], "usr": "x" }), 400, "invalid_field", json!("usr")),
        (json!({ "candidates": [pair], "user": "" }), 400, "invalid_field", json!("user")),
        (json!({ "candidates": [pair], "context": long }), 413, "too_large", json!("context")),
        (
            json!({ "candidates": [{ "prompt": "p", "a": "1" }] }),
            400,
            "invalid_field",
            json!("candidates[0].b"),
        ),
        (with("b", json!({ "txt": 1 })), 400, "invalid_field", json!("candidates[1].b.txt")),
        (with("c", json!("3")), 400, "invalid_field", json!("candidates[1].c")),
        (with("a", json!(long)), 413, "too_large", json!("candidates[1].a")),
        (with("messages", json!([])), 400, "invalid_field", json!("candidates[1].messages")),
        (json!({ "candidates": many }), 413, "too_many_texts", Value::Null),
    ];
    for (body, status, code, field) in cases {
        let (found, problem) = client.post("/elicit", &body).await;
        assert_eq!(
            (found, &problem["code"], &problem["field"]),
            (status, &json!(code), &field),
            "{body}: {problem}"
        );
    }
    for (query, status, field) in [
        ("", 400, "user"),
        ("user=", 400, "user"),
        ("context=x", 400, "user"),
        ("user=a&user=b", 400, "user"),
        ("user=a&limit=1", 400, "limit"),
        (&format!("user=a&context={long}"), 413, "context"),
    ] {
        let (found, problem) = client.get(&format!("/elicit?{query}")).await;
        assert_eq!((found, &problem["field"]), (status, &json!(field)), "{query}: {problem}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_bundle_without_questions_says_so() {
    let dir = tempfile::tempdir().unwrap();
    toy_with(dir.path(), |manifest| manifest.questions = None);
    let (app, _) = start(dir.path(), &[]).await;
    let client = Client::new(app.address);
    let (status, problem) = client.get("/elicit?user=ann").await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_questions")), "{problem}");
    assert_eq!(client.get("/models").await.1["questions"], json!(0));
    app.stop().await;
}
