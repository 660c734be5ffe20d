//! The same cases over HTTP and gRPC: the same bytes once both are written as JSON, so the same bits of every double.

use micro_reward::transport::grpc::pb;
use micro_reward::types::{MergeAnswer, Retracted};
use serde::Serialize;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{EXACT, KIND, Server, code, field, messages, serve};
use crate::common::NOON;

/// Returns the answer of an HTTP server as it writes it.
async fn http(server: &Server, path: &str, body: Option<&Value>) -> (u16, String) {
    let url = format!("{}{path}", server.http.base);
    let request = match body {
        Some(body) => server.http.http.post(url).json(body),
        None => server.http.http.get(url),
    };
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Checks that both answers are the same bytes, or the same error.
fn same<A: Serialize>(case: &str, (status, text): (u16, String), grpc: Result<A, Status>) {
    match grpc {
        Ok(answer) => {
            assert_eq!(status, 200, "{case}: {text}");
            assert_eq!(serde_json::to_string(&answer).unwrap(), text, "{case}");
        }
        Err(found) => same_error(case, status, &serde_json::from_str(&text).unwrap(), &found),
    }
}

fn same_error(case: &str, status: u16, problem: &Value, found: &Status) {
    let expected = match status {
        400 => Code::InvalidArgument,
        404 => Code::NotFound,
        409 => Code::FailedPrecondition,
        413 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        _ => panic!("{case}: {problem}"),
    };
    assert_eq!(found.code(), expected, "{case}: {found:?}");
    assert_eq!(json!(code(found)), problem["code"], "{case}: {found:?}");
    assert_eq!(field(found).as_deref(), problem["field"].as_str(), "{case}: {found:?}");
    let details = found.get_error_details();
    let detail =
        details.bad_request().map_or_else(|| found.message(), |bad| &*bad.field_violations[0].description);
    // An error of parsing describes its input, JSON or a message.
    let expected = problem["detail"].as_str().unwrap();
    if detail != "missing" && !detail.contains("proto/") && !expected.contains("a whole number") {
        assert_eq!(detail, expected, "{case}");
    }
}

/// Adds feedback: Ann prefers kind responses, Bob exact ones, and Ann at work exact ones as well.
async fn teach(server: &Server) {
    for id in 0..9 {
        for (user, chosen, rejected, context) in
            [("ann", KIND, EXACT, None), ("bob", EXACT, KIND, None), ("ann", EXACT, KIND, Some("at work"))]
        {
            let event = json!({ "event_id": format!("{id}-{context:?}"), "user": user, "kind": "pair", "prompt": "tea",
                                "chosen": chosen, "rejected": rejected, "context": context });
            assert_eq!(server.http.post("/feedback", &event).await.1["status"], "applied");
        }
    }
}

fn requests() -> Vec<Value> {
    let item = json!({ "prompt": "tell me about tea", "responses": [KIND, EXACT, "haha pirate banana", ""] });
    let chat = json!({ "messages": [{ "role": "system", "content": "be kind" }, { "role": "user", "content": "tea" },
        { "role": "assistant", "content": "yes" }], "responses": [{ "id": "x", "text": KIND }, EXACT] });
    let long = json!({ "prompt": "haha ".repeat(100), "responses": ["haha ".repeat(100)] });
    let mut requests = vec![
        json!({ "items": [] }),
        json!({ "items": [item, chat, long] }),
        json!({ "items": [item, chat], "user": "ann", "detail": true }),
        json!({ "items": [item], "user": "bob", "context": "", "detail": true }),
        json!({ "items": [item], "user": "ann", "context": "at work", "detail": true }),
        json!({ "items": [item], "user": "nobody", "context": "measured percent" }),
    ];
    let objectives = [
        json!({ "objective": "mixture" }),
        json!({ "objective": "maxmin" }),
        json!({ "objective": "maxmin", "min_share": 0.3, "share_of": "population" }),
        json!({ "objective": "maxmin", "share_of": "weights" }),
        json!({ "objective": "quantile", "q": 0.1 }),
        json!({ "objective": "quantile", "q": 0.9, "over": "heads", "share_of": "population" }),
        json!({ "objective": "quantile", "q": 0.5, "over": "users" }),
        json!({ "objective": "population" }),
        // The requests from here on are wrong.
        json!({ "objective": "quantile" }),
        json!({ "objective": "quantile", "q": 1.5 }),
        json!({ "objective": "mixture", "q": 0.5 }),
        json!({ "objective": "population", "min_share": 0.5 }),
        json!({ "objective": "nonsense" }),
    ];
    for mut objective in objectives {
        objective["items"] = json!([item, chat]);
        objective["user"] = json!("ann");
        objective["detail"] = json!(true);
        requests.push(objective);
    }
    let wrong = [
        json!({ "prompt": "a", "responses": [] }),
        json!({ "responses": ["b"] }),
        json!({ "prompt": "a", "messages": [{ "role": "user", "content": "b" }], "responses": ["b"] }),
        json!({ "messages": [{ "role": "robot", "content": "b" }], "responses": ["b"] }),
        json!({ "prompt": "a", "responses": ["b", "x".repeat(1001)] }),
        json!({ "prompt": "x".repeat(1001), "responses": ["b"] }),
    ];
    requests.extend(wrong.into_iter().map(|item| json!({ "items": [item] })));
    // One id names two texts, two prompts, and the same response again.
    let named = |prompt: &str, texts: &[&str]| json!({ "prompt": prompt, "responses": texts.iter().map(|text| json!({ "id": "m1", "text": text })).collect::<Vec<_>>() });
    requests.push(json!({ "items": [named("tea", &[KIND, EXACT])] }));
    requests.push(json!({ "items": [named("tea", &[KIND]), named("coffee", &[KIND])] }));
    requests.push(json!({ "items": [named("tea", &[KIND, KIND]), named("tea", &[KIND])] }));
    requests.push(json!({ "items": [item], "user": "" }));
    requests.push(json!({ "items": [{ "prompt": "a", "responses": vec!["b"; 101] }] }));
    requests
}

const SETTINGS: [(&str, &str); 2] = [("server.max_text_bytes", "1000"), ("batch.max_queued_texts", "100")];

#[tokio::test]
async fn score_and_rank_answer_alike_to_the_last_bit() {
    let mut server = serve(&SETTINGS).await;
    teach(&server).await;
    for request in requests() {
        let case = request.to_string();
        let score = server.grpc.score(messages::score_request(&request)).await;
        let score = score.map(|answer| messages::score_answer(answer.into_inner()));
        same(&case, http(&server, "/score", Some(&request)).await, score);
        let rank = server.grpc.rank(messages::rank_request(&request)).await;
        let rank = rank.map(|answer| messages::rank_answer(answer.into_inner()));
        same(&case, http(&server, "/rank", Some(&request)).await, rank);
    }
    server.app.stop().await;
}

#[tokio::test]
async fn compare_and_elicit_answer_alike_to_the_last_bit() {
    let mut server = serve(&SETTINGS).await;
    teach(&server).await;
    for request in [
        json!({ "prompt": "tea", "a": KIND, "b": { "id": "b", "text": EXACT }, "user": "ann", "detail": true }),
        json!({ "messages": [{ "role": "user", "content": "tea" }], "a": KIND, "b": EXACT, "context": "at work" }),
        json!({ "a": KIND, "b": EXACT }),
        json!({ "prompt": "tea", "a": KIND }),
        json!({ "prompt": "tea", "a": KIND, "b": "x".repeat(1001) }),
    ] {
        let found = server.grpc.compare(messages::compare_request(&request)).await;
        let found = found.map(|answer| messages::compare_answer(answer.into_inner()));
        same(&request.to_string(), http(&server, "/compare", Some(&request)).await, found);
    }
    let candidates = json!([{ "id": "x", "prompt": "tea", "a": KIND, "b": EXACT }, { "prompt": "tea", "a": KIND, "b": "no" }]);
    for request in [
        json!({ "candidates": candidates, "user": "ann", "context": "at work" }),
        json!({ "candidates": candidates, "limit": 1 }),
        json!({ "candidates": [{ "a": "1", "b": "2" }] }),
        json!({ "candidates": candidates, "limit": 0 }),
    ] {
        let found = server.grpc.elicit(messages::elicit_request(&request)).await;
        let found = found.map(|answer| messages::elicit_answer(answer.into_inner()));
        same(&request.to_string(), http(&server, "/elicit", Some(&request)).await, found);
    }
    server.app.stop().await;
}

#[tokio::test]
async fn users_questions_and_models_answer_alike_to_the_last_bit() {
    let mut server = serve(&[]).await;
    teach(&server).await;
    for (user, context) in [("ann", None), ("ann", Some("at work")), ("bob", Some("")), ("nobody", None)] {
        let query =
            context.map_or_else(String::new, |context| format!("context={}", context.replace(' ', "+")));
        let (user, context) = (user.to_owned(), context.map(str::to_owned));
        let request = pb::GetUserRequest { user: user.clone(), context: context.clone() };
        let found =
            server.grpc.get_user(request).await.map(|answer| messages::user_view(answer.into_inner()));
        same(&user, http(&server, &format!("/users/{user}?{query}"), None).await, found);
        let found = server.grpc.next_question(pb::NextQuestionRequest { user: user.clone(), context }).await;
        let found = found.map(|answer| messages::next_question(answer.into_inner()));
        same(&user, http(&server, &format!("/elicit?user={user}&{query}"), None).await, found);
    }
    let models = server.grpc.list_models(pb::ListModelsRequest {}).await.unwrap().into_inner();
    same("models", http(&server, "/models", None).await, Ok(messages::model_view(models)));

    for (user, from) in [("bob", "visitor"), ("bob", "visitor"), ("bob", "bob"), ("visitor", "bob")] {
        let request = pb::MergeUserRequest { user: user.to_owned(), from: from.to_owned() };
        let found = server.grpc.merge_user(request).await.map(|answer| {
            let pb::MergeUserResponse { user, from, n, version } = answer.into_inner();
            MergeAnswer { user, from, n, version }
        });
        let path = format!("/users/{user}/merge");
        same(
            &format!("{from} into {user}"),
            http(&server, &path, Some(&json!({ "from": from }))).await,
            found,
        );
    }
    let request = pb::GetUserRequest { user: "visitor".to_owned(), context: None };
    let found = server.grpc.get_user(request).await.map(|answer| messages::user_view(answer.into_inner()));
    assert_eq!(found.as_ref().unwrap().merged_into.as_deref(), Some("bob"));
    same("visitor", http(&server, "/users/visitor", None).await, found);

    let erase = pb::EraseUserRequest { user: "ann".to_owned() };
    let receipt = server.grpc.erase_user(erase.clone()).await.unwrap().into_inner();
    assert!(receipt.existed && receipt.n == 18);
    assert_eq!(receipt.erased_at.unwrap().seconds, NOON / 1000);
    assert!(!server.grpc.erase_user(erase).await.unwrap().into_inner().existed);
    assert_eq!(server.http.get("/users/ann").await.0, 404);
    let nobody = server.grpc.erase_user(pb::EraseUserRequest::default()).await.unwrap_err();
    assert_eq!(field(&nobody).as_deref(), Some("user"));
    server.app.stop().await;
}

#[tokio::test]
async fn the_same_events_get_the_same_acks_and_end_in_the_same_row() {
    let settings = [("server.max_text_bytes", "1000"), ("posterior.half_life", "1h")];
    let (by_http, mut by_grpc) = (serve(&settings).await, serve(&settings).await);
    let at = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
    let events: Vec<Value> = [
        json!({ "kind": "pair", "prompt": "tea", "chosen": KIND, "rejected": EXACT }),
        json!({ "kind": "pair", "prompt": "tea", "chosen": KIND, "rejected": EXACT, "event_id": "0" }),
        json!({ "kind": "pair", "prompt": "tea", "chosen": KIND, "rejected": EXACT, "up": true }),
        json!({ "kind": "pair", "prompt": "tea", "chosen": KIND }),
        json!({ "kind": "tie", "prompt": "tea", "responses": [KIND, EXACT], "context": "at work" }),
        json!({ "kind": "tie", "prompt": "tea", "responses": [KIND] }),
        json!({ "kind": "thumb", "messages": [{ "role": "user", "content": "tea" }], "response": KIND, "up": false }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "x".repeat(1001), "up": false }),
        json!({ "kind": "thumb", "response": "x", "up": false }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "x", "up": true, "at": at(NOON - 7_200_123) }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "x", "up": true, "at": at(NOON - 86_400_001) }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "x", "up": true, "at": at(NOON + 300_001) }),
        json!({ "kind": "pair", "prompt": "tea", "chosen": EXACT, "rejected": KIND }),
        json!({ "kind": "ranking", "prompt": "tea", "responses": [KIND, "so so", EXACT] }),
        json!({ "kind": "rating", "prompt": "tea", "responses": [KIND, "so so", EXACT], "ratings": [0.1, 0.7, 0.1] }),
        json!({ "kind": "rating", "prompt": "tea", "responses": [KIND, EXACT], "ratings": [1.0] }),
        json!({ "kind": "correction", "prompt": "tea", "original": EXACT, "edited": KIND }),
        json!({ "kind": "pair", "chosen_id": "a", "rejected_id": "b" }),
        json!({ "kind": "correction", "original_id": "a", "edited": EXACT }),
        json!({ "kind": "thumb", "response_id": "nothing", "up": true }),
        json!({ "kind": "tie", "response_ids": ["a", "a"] }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "y", "up": true, "event_id": "vote" }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "y", "up": false, "event_id": "vote" }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "y", "up": false, "replaces": "vote", "comment": "oh" }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "y", "up": true, "event_id": "vote" }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "z", "up": true, "replaces": "to come",
            "metadata": { "app": "web" } }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "z", "up": true, "event_id": "own", "replaces": "own" }),
        json!({ "kind": "thumb", "prompt": "tea", "response": "z", "up": true, "metadata": { "k": "x".repeat(5000) } }),
    ]
    .into_iter()
    .enumerate()
    .map(|(id, mut event)| {
        event["event_id"] = event.get("event_id").cloned().unwrap_or_else(|| json!(id.to_string()));
        event["user"] = json!("ann");
        event
    })
    .collect();

    let scored = json!({ "items": [{ "prompt": "tea", "responses": [{ "id": "a", "text": KIND }, { "id": "b", "text": EXACT }] }] });
    for server in [&by_http, &by_grpc] {
        assert_eq!(server.http.post("/score", &scored).await.0, 200);
    }
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    let (_, acks) = by_http.http.post_text("/feedback", "application/x-ndjson", lines).await;
    let sent: Vec<pb::FeedbackRequest> =
        events.iter().map(|event| pb::FeedbackRequest { event: Some(messages::event(event)) }).collect();
    let mut found = by_grpc.grpc.feedback(futures::stream::iter(sent)).await.unwrap().into_inner();
    for line in acks.as_str().unwrap().lines() {
        let ack =
            messages::ack(found.message().await.unwrap().unwrap(), &serde_json::from_str(line).unwrap());
        assert_eq!(serde_json::to_string(&ack).unwrap(), line);
    }
    assert!(found.message().await.unwrap().is_none());
    let row = http(&by_http, "/users/ann", None).await;
    assert!(row.1.contains("\"n\":12"), "{}", row.1);
    assert_eq!(http(&by_grpc, "/users/ann", None).await, row);

    for id in ["4", "4", "never"] {
        let request = pb::RetractFeedbackRequest { user: "ann".to_owned(), event_id: id.to_owned() };
        let found = by_grpc.grpc.retract_feedback(request).await.map(|answer| {
            let pb::RetractFeedbackResponse { user, event_id, status, version } = answer.into_inner();
            assert_eq!(status, "retracted");
            Retracted { event_id, user, status: "retracted", version }
        });
        let url = format!("{}/feedback/{id}?user=ann", by_http.http.base);
        let answer = by_http.http.http.delete(url).send().await.unwrap();
        same(id, (answer.status().as_u16(), answer.text().await.unwrap()), found);
    }
    let row = http(&by_http, "/users/ann", None).await;
    let user = pb::GetUserRequest { user: "ann".to_owned(), context: None };
    let ledger = by_grpc.grpc.get_user(user).await.unwrap().into_inner().ledger;
    let import = pb::ImportUserRequest { user: "ann".to_owned(), ledger: ledger.clone() };
    let found = by_grpc.grpc.import_user(import).await.unwrap().into_inner().user.unwrap();
    assert_eq!(found.ledger, ledger);
    let mut view = messages::user_view(found);
    view.version -= 1;
    assert_eq!(serde_json::to_string(&view).unwrap(), row.1);
    let wrong = pb::Ledgers { heads: "0".to_owned(), ..ledger.unwrap() };
    let import = pb::ImportUserRequest { user: "ann".to_owned(), ledger: Some(wrong) };
    assert_eq!(by_grpc.grpc.import_user(import).await.unwrap_err().code(), Code::FailedPrecondition);
    by_http.app.stop().await;
    by_grpc.app.stop().await;
}
