//! Replacing the bundle of a running server, over HTTP on the toy bundle and changed copies of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Client, numbers, start, toy, toy_with};
use micro_reward::fit::OnnxGraph;
use micro_reward::model::{MANIFEST, Manifest, fingerprint, sha256};
use ndarray::Array2;
use serde_json::{Value, json};

fn manifest(dir: &Path) -> Manifest {
    toml::from_str(&std::fs::read_to_string(dir.join(MANIFEST)).unwrap()).unwrap()
}

/// Writes a copy of the toy bundle with the same heads, but another router, shares, name and no questions.
fn sibling(dir: &Path) {
    for entry in std::fs::read_dir(toy()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let column = |of: usize| Array2::from_shape_fn((8, 4), |(_, k)| if k == of { 3.0 } else { 0.0 });
    let (hidden, output) =
        (column(3), Array2::from_shape_fn((4, 4), |(_, k)| if k == 3 { 2.0 } else { 0.0 }));
    let bias = Array2::from_shape_fn((1, 4), |(_, k)| if k == 3 { 1.0 } else { 0.0 });
    let router = OnnxGraph::router([&hidden, &bias], [&output, &bias]);
    std::fs::write(dir.join("router.onnx"), router.into_bytes()).unwrap();
    let mut manifest = manifest(dir);
    manifest.name = "sibling".to_owned();
    manifest.questions = None;
    manifest.heads.iter_mut().zip([0.1, 0.2, 0.3, 0.4]).for_each(|(head, prior)| head.prior = prior);
    manifest.router_graph.sha256 = sha256(&dir.join("router.onnx")).unwrap();
    manifest.revision = fingerprint(&manifest);
    std::fs::write(dir.join(MANIFEST), toml::to_string(&manifest).unwrap()).unwrap();
}

fn score() -> Value {
    let responses = json!(["thanks friend glad", "exactly seven percent", "no"]);
    json!({ "user": "ann", "detail": true, "items": [{ "prompt": "tell me about tea", "responses": responses }] })
}

async fn reload(admin: &Client, bundle: &Path) -> (u16, Value) {
    admin.post("/models/reload", &json!({ "bundle": bundle })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_loses_no_request_and_every_answer_is_of_one_bundle() {
    let other = tempfile::tempdir().unwrap();
    sibling(other.path());
    let (app, _) = start(&toy(), &[("batch.threads", "1")]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));

    // Each bundle has its own answer, recorded here without concurrent reloads.
    let mut expected = HashMap::new();
    for bundle in [other.path().to_owned(), toy()] {
        let (status, view) = reload(&admin, &bundle).await;
        assert_eq!(status, 200, "{view}");
        let (_, answer) = client.post("/score", &score()).await;
        assert_eq!(answer["revision"], view["revision"]);
        expected.insert(view["revision"].as_str().unwrap().to_owned(), answer);
    }
    assert_eq!(expected.len(), 2);
    let weights: Vec<_> = expected.values().map(|answer| numbers(&answer["items"][0]["weights"])).collect();
    assert_ne!(weights[0], weights[1]);

    let (expected, is_over) = (Arc::new(expected), Arc::new(AtomicBool::new(false)));
    let hammer = |_| {
        let (client, expected, is_over) = (client.clone(), expected.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut seen: HashMap<String, usize> = HashMap::new();
            while !is_over.load(Ordering::Relaxed) {
                let (status, answer) = client.post("/score", &score()).await;
                assert_eq!(status, 200, "{answer}");
                let revision = answer["revision"].as_str().unwrap().to_owned();
                assert_eq!(Some(&answer), expected.get(&revision));
                *seen.entry(revision).or_default() += 1;
            }
            seen
        })
    };
    let tasks: Vec<_> = (0..8).map(hammer).collect();
    for idx in 0..20 {
        let bundle = if idx % 2 == 0 { other.path().to_owned() } else { toy() };
        let (status, view) = reload(&admin, &bundle).await;
        assert_eq!(status, 200, "{view}");
        assert_eq!(client.get("/models").await.1, view);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for task in tasks {
        task.await.unwrap().into_iter().for_each(|(revision, n)| *seen.entry(revision).or_default() += n);
    }
    assert!(seen.len() == 2 && seen.values().all(|&n| n > 10), "{seen:?}");
    assert_eq!(admin.get("/livez").await.0, 200);
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_take_the_place_of_the_old_bundle_changes_nothing() {
    let (broken, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sibling(broken.path());
    std::fs::write(broken.path().join("router.onnx"), "no graph").unwrap();
    std::fs::remove_file(broken.path().join("heads.onnx")).unwrap();
    toy_with(others.path(), |manifest| manifest.heads[0].beta = 2.0);
    let (app, _) = start(&toy(), &[]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    let before = client.post("/score", &score()).await;

    let (status, problem) = reload(&admin, broken.path()).await;
    assert_eq!(
        (status, &problem["code"], &problem["field"]),
        (400, &json!("broken_bundle"), &json!("bundle"))
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("heads.onnx: can't be read") && detail.contains("router.onnx: found sha256"),
        "{detail}"
    );
    let (status, problem) = reload(&admin, Path::new("nowhere")).await;
    assert_eq!((status, &problem["code"]), (400, &json!("broken_bundle")), "{problem}");

    let (status, problem) = reload(&admin, others.path()).await;
    assert_eq!((status, &problem["code"]), (409, &json!("other_heads")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("micro-reward rebuild"), "{problem}");

    let (status, problem) = admin.post("/models/reload", &json!({ "bundel": "x" })).await;
    assert_eq!((status, &problem["field"]), (400, &json!("bundel")), "{problem}");
    assert_eq!(client.post("/models/reload", &json!({})).await.0, 404, "not a route of the traffic port");
    assert_eq!(client.post("/score", &score()).await, before);
}

#[tokio::test]
async fn without_a_name_it_is_the_configured_bundle_that_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    sibling(dir.path());
    let (app, _) = start(dir.path(), &[]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    assert_eq!(client.get("/elicit?user=ann").await.1["code"], "no_questions");
    let mut changed = manifest(dir.path());
    (changed.name, changed.questions) = ("changed".to_owned(), manifest(&toy()).questions);
    std::fs::write(dir.path().join(MANIFEST), toml::to_string(&changed).unwrap()).unwrap();
    // The request needs no body.
    let answer = admin.http.post(format!("{}/models/reload", admin.base)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(client.get("/models").await.1["name"], "changed");
    assert!(client.get("/elicit?user=ann").await.1["question"].is_object());
    let metrics = admin.get("/metrics").await.1.as_str().unwrap().to_owned();
    let info = |name: &str| {
        metrics.lines().find(|line| line.contains(&format!("name=\"{name}\""))).unwrap().to_owned()
    };
    assert!(info("changed").ends_with(" 1"), "{}", info("changed"));
}

#[tokio::test]
async fn of_two_reloads_at_once_one_is_refused() {
    let (app, _) = start(&toy(), &[]).await;
    let admin = Client::new(app.admin_address);
    let body = json!({});
    let calls = (0..4).map(|_| admin.post("/models/reload", &body));
    let mut statuses: Vec<u16> =
        futures::future::join_all(calls).await.into_iter().map(|(status, _)| status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[3], 409);
}

#[tokio::test]
async fn feedback_by_id_and_evidence_outlive_a_reload() {
    let other = tempfile::tempdir().unwrap();
    sibling(other.path());
    let (app, _) = start(&toy(), &[]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    let responses = json!([{ "id": "a", "text": "thanks friend" }, { "id": "b", "text": "exactly seven" }]);
    let request = json!({ "user": "ann", "items": [{ "prompt": "tea", "responses": responses }] });
    assert_eq!(client.post("/score", &request).await.0, 200);
    assert_eq!(reload(&admin, other.path()).await.0, 200);
    let by_id =
        json!({ "event_id": "1", "user": "ann", "kind": "pair", "chosen_id": "a", "rejected_id": "b" });
    let by_text = json!({ "event_id": "1", "user": "bob", "kind": "pair", "prompt": "tea", "chosen": "thanks friend",
        "rejected": "exactly seven" });
    for event in [by_id, by_text] {
        assert_eq!(client.post("/feedback", &event).await.1["status"], "applied");
    }
    assert_eq!(reload(&admin, &toy()).await.0, 200);
    let (ann, bob) = (client.get("/users/ann").await.1, client.get("/users/bob").await.1);
    assert_eq!(ann["evidence"], bob["evidence"]);
    assert!(numbers(&ann["evidence"])[0] > 0.1, "{ann}");
}
