//! Work that the server avoids: texts that are cached, repeated, without a caller, or past their deadline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::server::{FREE, Server, command, serve};
use common::toy;
use micro_reward::transport::grpc::pb;
use micro_reward::transport::grpc::pb::reward_service_client::RewardServiceClient;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

/// Returns a metric's value; 0 before it exists.
async fn n_of(server: &Server, name: &str) -> f64 {
    server.admin.metric(name).await.unwrap_or_default()
}

/// Returns the number of texts that the encoder has encoded.
async fn n_encoded(server: &Server) -> f64 {
    n_of(server, "micro_reward_stage_seconds_count{stage=\"queue_and_encode\"}").await
}

async fn score(server: &Server, items: Value) -> Value {
    let (status, answer) = server.client.post("/score", &json!({ "items": items })).await;
    assert_eq!(status, 200, "{answer}");
    answer["items"].clone()
}

#[tokio::test]
async fn a_text_is_encoded_once_however_often_it_is_asked_for() {
    let server = serve(&["--state", "memory"]).await;
    let items = json!([
        { "prompt": "tell me", "responses": ["thanks", "seven", "thanks"] },
        { "prompt": "tell me", "responses": ["seven", "tell me"] },
    ]);
    let first = score(&server, items.clone()).await;
    assert_eq!(n_encoded(&server).await, 3.0, "three different texts");
    assert_eq!(first[0]["rewards"][0], first[0]["rewards"][2]);
    assert_eq!(score(&server, items).await, first);
    assert_eq!(n_encoded(&server).await, 3.0);
    assert_eq!(n_of(&server, "micro_reward_cache_lookups_total{result=\"hit\"}").await, 3.0);
    assert_eq!(n_of(&server, "micro_reward_cache_lookups_total{result=\"miss\"}").await, 3.0);
    assert_eq!(n_of(&server, "micro_reward_cached_texts").await, 3.0);
}

#[tokio::test]
async fn without_a_cache_the_answer_is_the_same() {
    let [with, without] = ["268435456", "0"].map(|bytes| {
        let mut command = command(&[&FREE[..], &["--state", "memory"]].concat());
        command.env("MICRO_REWARD__CACHE__MAX_BYTES", bytes);
        common::server::start(command)
    });
    let (with, without) = (with.await, without.await);
    let items = json!([{ "prompt": "tell me", "responses": ["thanks", "seven"] }]);
    let expected = score(&with, items.clone()).await;
    for _ in 0..2 {
        assert_eq!(score(&without, items.clone()).await, expected);
    }
    assert_eq!(n_encoded(&without).await, 6.0);
}

#[tokio::test]
async fn a_bundle_with_the_same_encoder_finds_what_is_known() {
    let server = serve(&["--state", "memory"]).await;
    let items = json!([{ "prompt": "tell me", "responses": ["thanks", "seven"] }]);
    let first = score(&server, items.clone()).await;
    let n_before = n_encoded(&server).await;
    let (status, answer) = server.admin.post("/models/reload", &json!({ "bundle": toy() })).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(score(&server, items).await, first);
    assert_eq!(n_encoded(&server).await, n_before);
}

/// Number of texts of a large request.
const MANY: usize = 30_000;

fn responses() -> Vec<String> {
    (0..MANY).map(|n| format!("seven {n} {} thanks", n * 7)).collect()
}

/// Checks that the texts of a large request are dropped and others are served, after its caller has disconnected
/// during the encoding.
async fn its_texts_are_dropped(server: &Server) {
    while n_of(server, "micro_reward_inflight_requests").await > 0.0 {}
    // The tokenizer may hold the last few texts, which it drops when it has tokenized them.
    while n_of(server, "micro_reward_queue_texts").await > 0.0 {}
    assert!(n_encoded(server).await < MANY as f64);
    let items = score(server, json!([{ "prompt": "tell me", "responses": ["no"] }])).await;
    assert_eq!(items.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_texts_of_a_client_that_resets_its_connection_are_dropped() {
    let server = serve(&["--state", "memory"]).await;
    let body = json!({ "items": [{ "prompt": "tell me", "responses": responses() }] }).to_string();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    while n_encoded(&server).await == 0.0 {}
    stream.set_zero_linger().unwrap();
    drop(stream);
    its_texts_are_dropped(&server).await;
}

#[tokio::test]
async fn the_texts_of_a_call_that_is_cancelled_are_dropped_and_its_channel_stays() {
    let server = serve(&["--state", "memory"]).await;
    let channel = Endpoint::from_shared(server.client.base.clone()).unwrap().connect_lazy();
    let mut grpc = RewardServiceClient::new(channel);
    let response = |text: String| pb::Response { text, ..Default::default() };
    let request = |responses: Vec<String>| {
        let responses = responses.into_iter().map(response).collect();
        let item = pb::ScoreItem { prompt: Some("tell me".to_owned()), responses, ..Default::default() };
        pb::ScoreRequest { items: vec![item], ..Default::default() }
    };
    let mut other = grpc.clone();
    let large = request(responses());
    let call = tokio::spawn(async move { other.score(large).await });
    while n_encoded(&server).await == 0.0 {}
    call.abort();
    its_texts_are_dropped(&server).await;
    assert!(grpc.score(request(vec!["thanks".to_owned()])).await.is_ok());
}

#[tokio::test]
async fn a_caller_says_how_long_it_waits() {
    let server = serve(&["--state", "memory"]).await;
    let ask = |timeout: &'static str| {
        let body =
            json!({ "items": [{ "prompt": "tell me", "responses": [format!("thanks for {timeout}")] }] });
        let request = server.client.http.post(format!("{}/score", server.client.base));
        let request = request.header("x-request-timeout", timeout).json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    assert_eq!(ask("10s").await.0, 200);
    for nonsense in ["soon", "5", "-1s", "18446744073709551615s 1000ms"] {
        let (status, problem) = ask(nonsense).await;
        assert_eq!((status, &problem["field"]), (400, &json!("x-request-timeout")), "{nonsense}");
    }
    let (status, problem) = ask("0s").await;
    assert_eq!((status, &problem["code"]), (504, &json!("deadline_exceeded")), "{problem}");
}

#[tokio::test]
async fn a_caller_says_once_how_long_it_waits() {
    let server = serve(&["--state", "memory"]).await;
    let request = server.client.http.post(format!("{}/score", server.client.base));
    let request = request.header("x-request-timeout", "2s").header("x-request-timeout", "3s");
    let answer = request.json(&json!({ "items": [] })).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(
        problem["detail"],
        "found \"2s\" and 1 more, expected one duration such as \"2s\" or \"500ms\""
    );
}
