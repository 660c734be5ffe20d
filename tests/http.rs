//! The native verbs over HTTP, on the toy bundle with a clock that tests set.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Client, NOON, json_lines, numbers, start, toy};
use micro_reward::model::{Feature, Template};
use serde_json::{Value, json};

const KIND: &str = "thanks friend glad";
const EXACT: &str = "exactly seven percent";

fn item() -> Value {
    json!({ "prompt": "tell me about tea", "responses": [KIND, EXACT] })
}

fn pair(user: &str, id: usize, chosen: &str, rejected: &str) -> Value {
    json!({ "event_id": format!("{user}-{id}"), "user": user, "kind": "pair", "prompt": "tell me", "chosen": chosen,
            "rejected": rejected })
}

/// Starts an app on the toy bundle and runs `body` against it.
macro_rules! serve {
    ($client:ident, $clock:ident, $settings:expr, $body:block) => {{
        let (app, $clock) = start(&toy(), $settings).await;
        let $client = Client::new(app.address);
        $body
        app.stop().await;
        let _ = $clock;
    }};
}

#[tokio::test]
async fn users_of_opposite_taste_get_opposite_orders() {
    serve!(client, _clock, &[], {
        for id in 0..20 {
            for (user, chosen, rejected) in [("ann", KIND, EXACT), ("bob", EXACT, KIND)] {
                let (status, ack) = client.post("/feedback", &pair(user, id, chosen, rejected)).await;
                assert_eq!((status, &ack["status"]), (200, &json!("applied")), "{ack}");
                assert_eq!(ack["version"], json!(id + 1));
            }
        }
        for (user, best) in [("ann", 0), ("bob", 1)] {
            let (_, ranked) = client.post("/rank", &json!({ "user": user, "items": [item()] })).await;
            assert_eq!(ranked["items"][0]["order"][0], json!(best), "{ranked}");
            let sum: f64 = numbers(&ranked["items"][0]["best"]).iter().sum();
            assert!((sum - 1.0).abs() < 1e-9);
            let compare = json!({ "user": user, "prompt": "tell me", "a": KIND, "b": { "text": EXACT } });
            let (_, compared) = client.post("/compare", &compare).await;
            assert_eq!(compared["preference"].as_f64().unwrap() > 0.5, best == 0, "{compared}");
            let (_, view) = client.get(&format!("/users/{user}")).await;
            assert_eq!(view["n"], json!(20));
            assert!(numbers(&view["weights"])[best] > 0.9, "{view}");
        }
    });
}

#[tokio::test]
async fn the_router_prefers_the_head_that_fits_the_prompt() {
    serve!(client, _clock, &[], {
        let about =
            |prompt: &str| json!({ "detail": true, "items": [{ "prompt": prompt, "responses": ["tea"] }] });
        let (_, kind) = client.post("/score", &about("please friend")).await;
        let (_, exact) = client.post("/score", &about("measured percent")).await;
        let weights = |answer: &Value| numbers(&answer["items"][0]["weights"]);
        assert!(weights(&kind)[0] > weights(&kind)[1] && weights(&exact)[1] > weights(&exact)[0]);
        assert_eq!(kind["items"][0]["heads"][0].as_array().unwrap().len(), 4);
        let context = json!({ "context": "measured percent", "detail": true,
                              "items": [{ "prompt": "please friend", "responses": ["tea"] }] });
        let (_, steered) = client.post("/score", &context).await;
        assert!(weights(&steered)[1] > weights(&kind)[1]);
    });
}

#[tokio::test]
async fn scores_keep_the_requests_order_and_ids() {
    serve!(client, _clock, &[], {
        let request = json!({ "items": [
            { "prompt": "tea", "responses": [{ "id": "x", "text": KIND }, EXACT, "haha pirate banana"] },
            { "messages": [{ "role": "user", "content": "tea" }], "responses": [EXACT] } ] });
        let (status, answer) = client.post("/score", &request).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["items"][0]["ids"], json!(["x", null, null]));
        assert_eq!(answer["items"][1]["ids"], Value::Null);
        let (all, one) = (numbers(&answer["items"][0]["rewards"]), numbers(&answer["items"][1]["rewards"]));
        assert_eq!(all.len(), 3);
        assert!((all[1] - one[0]).abs() < 1e-5, "a lone user message is its content");
        assert_eq!(client.post("/score", &json!({ "items": [] })).await.1["items"], json!([]));
    });
}

#[tokio::test]
async fn feedback_twice_counts_once() {
    serve!(client, _clock, &[], {
        client.post("/feedback", &pair("ann", 1, KIND, EXACT)).await;
        let before = client.get("/users/ann").await;
        let (status, ack) = client.post("/feedback", &pair("ann", 1, KIND, EXACT)).await;
        assert_eq!((status, &ack["status"]), (200, &json!("duplicate")));
        assert_eq!(client.get("/users/ann").await, before);
    });
}

#[tokio::test]
async fn an_event_outside_of_the_time_window_changes_nothing() {
    serve!(client, clock, &[], {
        let at = |ms: i64| {
            let mut event = pair("ann", 1, KIND, EXACT);
            event["at"] = json!(jiff::Timestamp::from_millisecond(ms).unwrap().to_string());
            event
        };
        let (_, late) = client.post("/feedback", &at(NOON - 86_400_001)).await;
        assert_eq!(late["status"], json!("late"));
        let (status, early) = client.post("/feedback", &at(NOON + 300_001)).await;
        assert_eq!((status, &early["code"]), (400, &json!("event_in_the_future")));
        assert_eq!(client.get("/users/ann").await.0, 404);
        clock.advance(2);
        assert_eq!(client.post("/feedback", &at(NOON + 300_001)).await.1["status"], json!("applied"));
    });
}

#[tokio::test]
async fn evidence_fades_by_half_in_a_half_life() {
    serve!(client, clock, &[("posterior.half_life", "1h")], {
        client.post("/feedback", &pair("ann", 1, KIND, EXACT)).await;
        let evidence = |view: &Value| numbers(&view["evidence"])[0];
        let fresh = evidence(&client.get("/users/ann").await.1);
        clock.advance(3_600_000);
        let faded = evidence(&client.get("/users/ann").await.1);
        assert!(fresh > 0.1 && (faded - fresh / 2.0).abs() < 1e-6, "{fresh} {faded}");
    });
}

#[tokio::test]
async fn thumbs_and_ties_are_evidence_as_well() {
    serve!(client, _clock, &[], {
        let thumb = json!({ "event_id": "t", "user": "ann", "kind": "thumb", "prompt": "tea", "response": KIND, "up": true });
        assert_eq!(client.post("/feedback", &thumb).await.1["status"], json!("applied"));
        let weights = numbers(&client.get("/users/ann").await.1["weights"]);
        assert!(weights[0] > weights[1] && weights[0] > weights[2], "{weights:?}");
        let tie = json!({ "event_id": "t", "user": "bob", "kind": "tie", "prompt": "tea", "responses": [KIND, EXACT] });
        assert_eq!(client.post("/feedback", &tie).await.1["status"], json!("applied"));
        let weights = numbers(&client.get("/users/bob").await.1["weights"]);
        assert!(
            weights[2] > weights[0] && weights[2] > weights[1],
            "the indifferent head gains: {weights:?}"
        );
    });
}

#[tokio::test]
async fn an_array_is_acked_in_order_and_a_bad_event_is_rejected_alone() {
    serve!(client, _clock, &[], {
        let mut bad = pair("ann", 2, KIND, EXACT);
        bad["chosn"] = json!("x");
        let events =
            json!([pair("ann", 1, KIND, EXACT), bad, { "kind": "pair" }, pair("ann", 3, KIND, EXACT)]);
        let (status, acks) = client.post("/feedback", &events).await;
        assert_eq!(status, 200);
        let statuses: Vec<&Value> = acks.as_array().unwrap().iter().map(|ack| &ack["status"]).collect();
        assert_eq!(statuses, ["applied", "rejected", "rejected", "applied"]);
        assert_eq!(acks[1]["event_id"], json!("ann-2"));
        assert!(acks[1]["detail"].as_str().unwrap().contains("unknown field `chosn`"), "{acks}");
        assert_eq!(client.get("/users/ann").await.1["n"], json!(2));
    });
}

#[tokio::test]
async fn lines_are_acked_line_by_line() {
    serve!(client, _clock, &[], {
        let lines = format!("{}\n\nnot json\n{}\n", pair("ann", 1, KIND, EXACT), pair("ann", 1, KIND, EXACT));
        let (status, body) = client.post_text("/feedback", "application/x-ndjson", lines).await;
        assert_eq!(status, 200);
        let acks = json_lines(body.as_str().unwrap());
        assert_eq!(acks.len(), 3);
        assert_eq!((&acks[1]["status"], &acks[1]["code"]), (&json!("rejected"), &json!("malformed_json")));
        assert_eq!((&acks[0]["status"], &acks[2]["status"]), (&json!("applied"), &json!("duplicate")));
        assert_eq!(client.get("/users/ann").await.1["n"], json!(1));
    });
}

#[tokio::test]
async fn feedback_in_a_context_counts_there_in_full_and_elsewhere_in_part() {
    serve!(client, _clock, &[], {
        for id in 0..10 {
            let (mut formal, mut casual) = (pair("ann", id, EXACT, KIND), pair("ann", id + 10, KIND, EXACT));
            (formal["context"], casual["context"]) = (json!("formal"), json!("casual"));
            assert_eq!(client.post("/feedback", &formal).await.1["status"], json!("applied"));
            assert_eq!(client.post("/feedback", &casual).await.1["version"], json!(2 * id + 2));
        }
        let (_, view) = client.get("/users/ann").await;
        assert_eq!((&view["n"], &view["contexts"]), (&json!(20), &json!(2)), "{view}");
        for (context, best) in [("formal", 1), ("casual", 0)] {
            let (_, view) = client.get(&format!("/users/ann?context={context}")).await;
            assert_eq!((&view["n"], &view["context"]), (&json!(10), &json!(context)), "{view}");
            assert!(numbers(&view["weights"])[best] > 0.9, "{view}");
            assert!(numbers(&view["evidence"])[best] > 1.0, "{view}");
            let rank = json!({ "user": "ann", "context": context, "items": [item()] });
            assert_eq!(client.post("/rank", &rank).await.1["items"][0]["order"][0], json!(best));
        }
        let (_, other) = client.get("/users/ann?context=a+third").await;
        assert_eq!((&other["n"], &other["last_event"]), (&json!(0), &Value::Null), "{other}");
        let (kind, exact) = (&numbers(&other["weights"])[0], &numbers(&other["weights"])[1]);
        assert!((kind - exact).abs() < 0.01, "two contexts of opposite taste balance: {other}");
    });
}

#[tokio::test]
async fn an_empty_context_is_none() {
    serve!(client, _clock, &[], {
        let mut event = pair("ann", 1, KIND, EXACT);
        event["context"] = json!("");
        client.post("/feedback", &event).await;
        let (_, view) = client.get("/users/ann?context=").await;
        assert_eq!((&view["n"], &view["contexts"], &view["context"]), (&json!(1), &json!(0), &Value::Null));
    });
}

#[tokio::test]
async fn ten_thousand_contexts_cost_one_user_no_more_than_thirty_two_ledgers() {
    serve!(client, _clock, &[("feedback.max_age", "1h")], {
        let event = |id: usize| {
            let mut event = pair("ann", id, KIND, EXACT);
            event["context"] = json!(format!("context {id}"));
            event
        };
        for chunk in (0..10_000).collect::<Vec<_>>().chunks(2_000) {
            client.post("/feedback", &chunk.iter().map(|id| event(*id)).collect()).await;
        }
        let (_, view) = client.get("/users/ann").await;
        assert_eq!((&view["n"], &view["contexts"]), (&json!(10_000), &json!(32)), "{view}");
    });
}

#[tokio::test]
async fn erasing_takes_no_context() {
    serve!(client, _clock, &[], {
        client.post("/feedback", &pair("ann", 1, KIND, EXACT)).await;
        let (status, problem) = client.delete("/users/ann?context=formal").await;
        assert_eq!((status, &problem["field"]), (400, &json!("context")), "{problem}");
        let (status, problem) = client.get("/users/ann?contxt=formal").await;
        assert_eq!((status, &problem["field"]), (400, &json!("contxt")), "{problem}");
        assert_eq!(client.get("/users/ann").await.0, 200);
    });
}

#[tokio::test]
async fn an_erased_user_is_a_stranger() {
    serve!(client, _clock, &[], {
        client.post("/feedback", &pair("ann", 1, KIND, EXACT)).await;
        let (status, receipt) = client.delete("/users/ann").await;
        assert_eq!((status, &receipt["existed"], &receipt["n"]), (200, &json!(true), &json!(1)));
        assert_eq!(client.get("/users/ann").await.1["code"], json!("unknown_user"));
        assert_eq!(client.delete("/users/ann").await.1["existed"], json!(false));
    });
}

/// Sends one bad request, and checks the status, code and words of its answer.
async fn refused(client: &Client, path: &str, body: &str, status: u16, code: &str, words: &[&str]) {
    let (found, problem) = client.post_text(path, "application/json", body.to_owned()).await;
    assert_eq!((found, &problem["code"]), (status, &json!(code)), "{path}: {problem}");
    let said = problem.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in {said}");
}

#[tokio::test]
async fn bad_input_is_answered_by_name_and_the_server_serves_on() {
    serve!(client, _clock, &[("server.max_text_bytes", "1000"), ("server.max_body_bytes", "20000")], {
        let score = |item: &str| format!(r#"{{"items": [{item}]}}"#);
        let long = "x".repeat(1001);
        let cases: Vec<(&str, String, u16, &str, Vec<&str>)> = vec![
            ("/score", "{".to_owned(), 400, "malformed_json", vec!["EOF", "line 1"]),
            ("/score", "{} x".to_owned(), 400, "invalid_field", vec!["missing field `items`"]),
            ("/score", score(r#"{"prompt": "a", "responses": ["b"], "respones": 1}"#), 400, "invalid_field", vec!["unknown field `respones`", "items[0]"]),
            ("/score", score(r#"{"prompt": "a", "responses": ["b", {"txt": 1}]}"#), 400, "invalid_field", vec!["items[0].responses[1]", "txt"]),
            ("/score", score(r#"{"prompt": "a", "responses": ["b", 3]}"#), 400, "invalid_field", vec!["items[0].responses[1]", "a text or an object"]),
            ("/score", score(r#"{"prompt": "a", "responses": []}"#), 400, "invalid_field", vec!["items[0].responses", "at least one"]),
            ("/score", score(r#"{"responses": ["b"]}"#), 400, "invalid_field", vec!["items[0].prompt", "missing"]),
            ("/score", score(r#"{"prompt": "a", "messages": [], "responses": ["b"]}"#), 400, "invalid_field", vec!["items[0].messages"]),
            ("/score", score(r#"{"messages": [{"role": "robot", "content": ""}], "responses": ["b"]}"#), 400, "invalid_field", vec!["items[0].messages[0].role", "robot"]),
            ("/score", score(&format!(r#"{{"prompt": "a", "responses": ["{long}"]}}"#)), 413, "too_large", vec!["items[0].responses[0]", "1001", "1000"]),
            ("/score", "x".repeat(20_001), 413, "too_large", vec!["server.max_body_bytes"]),
            ("/score", r#"{"user": "", "items": []}"#.to_owned(), 400, "invalid_field", vec!["user", "0 bytes"]),
            ("/feedback", r#"{"event_id": "a", "user": "u", "kind": "pair", "prompt": "p", "chosen": "c"}"#.to_owned(), 400, "invalid_field", vec!["rejected", "missing"]),
            ("/feedback", r#"{"event_id": "a", "user": "u", "kind": "pair", "prompt": "p", "chosen": "c", "rejected": "r", "up": true}"#.to_owned(), 400, "invalid_field", vec!["up", "does not belong to a pair"]),
            ("/feedback", r#"{"event_id": "a", "user": "u", "kind": "wave"}"#.to_owned(), 400, "invalid_field", vec!["kind", "wave"]),
            ("/feedback", r#"{"event_id": "a", "user": "u", "kind": "tie", "prompt": "p", "responses": ["x"]}"#.to_owned(), 400, "invalid_field", vec!["responses", "found 1", "expected 2"]),
            ("/feedback", format!(r#"{{"event_id": "a", "user": "u", "kind": "tie", "prompt": "p", "responses": ["x", "y"], "context": "{long}"}}"#), 413, "too_large", vec!["context", "1001"]),
            ("/nowhere", "{}".to_owned(), 404, "no_route", vec!["/nowhere"]),
            ("/models", "{}".to_owned(), 405, "method_not_allowed", vec!["/models", "POST"]),
        ];
        for (path, body, status, code, words) in cases {
            refused(&client, path, &body, status, code, &words).await;
        }
        refused(
            &client,
            "/compare",
            r#"{"a": "1", "b": "2"}"#,
            400,
            "invalid_field",
            &["\"field\":\"prompt\""],
        )
        .await;
        let long = format!(r#"{{"prompt": "p", "a": "1", "b": "{}"}}"#, "x".repeat(1001));
        refused(&client, "/compare", &long, 413, "too_large", &["\"field\":\"b\""]).await;
        refused(&client, "/score", r#"["ann", null, []]"#, 400, "invalid_field", &["expected an object"])
            .await;
        let zipped = client.http.post(format!("{}/score", client.base)).header("content-encoding", "br");
        let zipped = zipped.header("content-type", "application/json").body("{}").send().await.unwrap();
        assert_eq!(zipped.status().as_u16(), 415);
        let (status, problem) = client.post_text("/score", "text/plain", "{}".to_owned()).await;
        assert_eq!((status, &problem["code"]), (415, &json!("unsupported_media")));
        assert_eq!(client.post("/score", &json!({ "items": [item()] })).await.0, 200);
    });
}

#[tokio::test]
async fn a_text_of_ten_megabytes_is_refused_by_default() {
    serve!(client, _clock, &[], {
        let text = "word ".repeat(2 << 20);
        let request = json!({ "items": [{ "prompt": "a", "responses": [text] }] });
        let (status, problem) = client.post("/score", &request).await;
        assert_eq!((status, &problem["field"]), (413, &json!("items[0].responses[0]")), "{problem}");
    });
}

#[tokio::test]
async fn a_long_text_keeps_its_end_and_is_reported() {
    serve!(client, _clock, &[], {
        let long = format!("{} {KIND}", "haha ".repeat(100));
        let request = json!({ "items": [{ "prompt": long, "responses": [long, KIND] }] });
        let (_, answer) = client.post("/score", &request).await;
        assert_eq!(answer["items"][0]["truncated"], json!([true, false]));
        assert_eq!(answer["items"][0]["prompt_truncated"], json!(true));
    });
}

#[tokio::test]
async fn too_much_work_is_shed_with_retry_after() {
    serve!(client, _clock, &[("server.max_concurrent_requests", "1")], {
        // A body without an end holds the only permit.
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
        let stream = futures::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        let slow = client
            .http
            .post(format!("{}/feedback", client.base))
            .header("content-type", "application/x-ndjson");
        sender.send(Ok(format!("{}\n", pair("ann", 1, KIND, EXACT)).into())).await.unwrap();
        let mut open = slow.body(reqwest::Body::wrap_stream(stream)).send().await.unwrap();
        let ack = open.chunk().await.unwrap().unwrap();
        assert!(
            ack.starts_with(b"{\"event_id\":\"ann-1\",\"status\":\"applied\""),
            "acked while the body is open"
        );
        let shed = client
            .http
            .post(format!("{}/score", client.base))
            .json(&json!({ "items": [] }))
            .send()
            .await
            .unwrap();
        assert_eq!((shed.status().as_u16(), shed.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        drop(sender);
        while open.chunk().await.unwrap().is_some() {}
        drop(open);
        while client.post("/score", &json!({ "items": [] })).await.0 == 503 {
            tokio::task::yield_now().await;
        }
    });
}

#[tokio::test]
async fn a_request_with_more_texts_than_the_queue_holds_is_refused_for_good() {
    serve!(client, _clock, &[("batch.max_queued_texts", "10")], {
        let responses: Vec<String> = (0..11).map(|n| format!("b{n}")).collect();
        let request = json!({ "items": [{ "prompt": "a", "responses": responses }] });
        let (status, problem) = client.post("/score", &request).await;
        assert_eq!((status, &problem["code"]), (413, &json!("too_many_texts")), "{problem}");
        let responses = vec!["b"; 11];
        let request = json!({ "items": [{ "prompt": "a", "responses": responses }] });
        let (status, problem) = client.post("/score", &request).await;
        let expected = json!("found 11 responses, expected at most 10 in one request");
        assert_eq!((status, &problem["detail"]), (413, &expected), "they are rows, though one text");
    });
}

#[tokio::test]
async fn a_context_counts_for_every_item() {
    serve!(client, _clock, &[("server.max_text_bytes", "20000000")], {
        let items: Vec<Value> =
            (0..20).map(|n| json!({ "prompt": n.to_string(), "responses": ["b"] })).collect();
        let request = json!({ "context": "c".repeat(15_000_000), "items": items });
        let (status, problem) = client.post("/score", &request).await;
        assert_eq!((status, &problem["code"]), (413, &json!("too_much_text")), "{problem}");
    });
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    serve!(client, _clock, &[("server.request_timeout", "50ms")], {
        let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let request =
            client.http.post(format!("{}/score", client.base)).header("content-type", "application/json");
        let answer = request.body(reqwest::Body::wrap_stream(never)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 504);
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], json!("deadline_exceeded"));
    });
}

#[tokio::test]
async fn a_line_that_cannot_be_read_does_not_end_its_stream() {
    serve!(client, _clock, &[], {
        let good = |id| format!("{}\n", pair("ann", id, KIND, EXACT)).into_bytes();
        let body =
            [good(1), b"\xff\n".to_vec(), vec![b'x'; (24 << 20) + 1], b"\n".to_vec(), good(2)].concat();
        let url = format!("{}/feedback", client.base);
        let request = client.http.post(url).header("content-type", "application/x-ndjson").body(body);
        let text = request.send().await.unwrap().text().await.unwrap();
        let acks = json_lines(&text);
        let statuses: Vec<&str> = acks.iter().map(|ack| ack["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["applied", "rejected", "rejected", "applied"]);
        assert_eq!((&acks[1]["code"], &acks[2]["code"]), (&json!("malformed_json"), &json!("too_large")));
    });
}

#[tokio::test]
async fn a_user_id_that_is_not_utf8_is_refused_by_name() {
    serve!(client, _clock, &[], {
        let (status, problem) = client.get("/users/%FF").await;
        assert_eq!((status, &problem["field"]), (400, &json!("id")), "{problem}");
    });
}

#[tokio::test]
async fn a_pair_template_scores_prompt_and_response_together() {
    let dir = tempfile::tempdir().unwrap();
    common::toy_with(dir.path(), |manifest| {
        manifest.input.template = Template::Pair;
        manifest.input.features = vec![Feature::Prompt, Feature::Response, Feature::LogLength];
    });
    let (app, _) = start(dir.path(), &[]).await;
    let client = Client::new(app.address);
    let item = |prompt: &str| json!({ "prompt": prompt, "responses": [KIND, EXACT] });
    let request = json!({ "detail": true, "items": [item("tea"), item("thanks friend")] });
    let (status, answer) = client.post("/score", &request).await;
    assert_eq!(status, 200, "{answer}");
    // The heads of this variant read the prompt's first columns too: the kind head prefers a kind prompt.
    let kind = |item: usize| answer["items"][item]["heads"][1][0].as_f64().unwrap();
    assert!(kind(1) > kind(0), "{answer}");
    assert_eq!(client.post("/feedback", &pair("ann", 1, KIND, EXACT)).await.1["status"], json!("applied"));
    app.stop().await;
}

#[tokio::test]
async fn the_admin_port_has_probes_and_metrics() {
    let (app, _) = start(&toy(), &[]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    client.post("/score", &json!({ "user": "secret-user", "items": [item()] })).await;
    client.post("/feedback", &pair("secret-user", 1, KIND, EXACT)).await;
    assert_eq!((admin.get("/livez").await.0, admin.get("/readyz").await.0), (200, 200));
    let (_, text) = admin.get("/metrics").await;
    let text = text.as_str().unwrap();
    for line in [
        "micro_reward_requests_total{protocol=\"http\",route=\"/score\"",
        "micro_reward_feedback_total{result=\"applied\"}",
        "micro_reward_users ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("secret-user"), "no user id is a label");
    assert_eq!(client.get("/metrics").await.0, 404);
    app.stop().await;
}

#[tokio::test]
async fn request_ids_go_in_and_out() {
    serve!(client, _clock, &[], {
        let request = client.http.get(format!("{}/models", client.base));
        let named = request.try_clone().unwrap().header("x-request-id", "abc").send().await.unwrap();
        let nameless = request.send().await.unwrap();
        assert_eq!(named.headers()["x-request-id"], "abc");
        assert!(!nameless.headers()["x-request-id"].is_empty());
    });
}

#[tokio::test]
async fn the_openapi_document_names_every_route() {
    serve!(client, _clock, &[], {
        let (_, document) = client.get("/openapi.json").await;
        for path in ["/score", "/rank", "/compare", "/elicit", "/feedback", "/users/{id}", "/models"] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
    });
}
