//! Cost of a request as one axis grows: heads, users, responses, lengths.

use std::path::Path;
use std::time::{Duration, Instant};

use micro_reward::fit::OnnxGraph;
use micro_reward::model::{MANIFEST, Manifest, fingerprint, sha256};
use ndarray::Array2;
use serde_json::json;

use super::client::{Connection, quantile, request};
use super::server::Server;
use super::texts::Kind;
use super::{bundles, singles, texts};

pub async fn all() {
    heads().await;
    users().await;
    responses().await;
    lengths().await;
}

/// Copies a bundle, applies `change` and updates its revision, so that a server can load it.
fn changed(from: &Path, change: impl FnOnce(&mut Manifest, &Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join(MANIFEST);
    let mut manifest: Manifest = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut manifest, dir.path());
    manifest.revision = fingerprint(&manifest);
    std::fs::write(path, toml::to_string(&manifest).unwrap()).unwrap();
    dir
}

/// Returns the median time of `n` sends, after one that does not count.
async fn median(server: &Server, request: &[u8], n: usize) -> Duration {
    let mut connection = Connection::open(server.address).await.unwrap();
    assert_eq!(connection.send(request).await.unwrap().0, 200);
    let mut times = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        assert_eq!(connection.send(request).await.unwrap().0, 200);
        times.push(start.elapsed());
    }
    quantile(&mut times, 0.5)
}

async fn heads() {
    let (_, dir) = bundles().remove(0);
    let mut texts = texts();
    let body =
        json!({ "items": [{ "prompt": "Go on.", "responses": texts.some(Kind::Short, 64) }] }).to_string();
    for n_heads in [1, 4, 16, 64] {
        let bundle = changed(&dir, |manifest, dir| {
            let head = manifest.heads[0].clone();
            manifest.heads = vec![head; n_heads];
            for (idx, head) in manifest.heads.iter_mut().enumerate() {
                (head.name, head.prior) = (format!("head-{idx}"), 1.0 / n_heads as f64);
            }
            // The heads read embedding and length, 384 + 1 inputs; the router maps the embedding to 128 units and
            // these to heads.
            let wave =
                |shape: (usize, usize)| Array2::from_shape_fn(shape, |(i, j)| ((i * 7 + j) as f32).sin());
            let graphs = [
                ("heads.onnx", OnnxGraph::heads(&wave((385, n_heads)))),
                (
                    "router.onnx",
                    OnnxGraph::router(
                        [&wave((384, 128)), &wave((1, 128))],
                        [&wave((128, n_heads)), &wave((1, n_heads))],
                    ),
                ),
            ];
            for (name, graph) in graphs {
                std::fs::write(dir.join(name), graph.into_bytes()).unwrap();
            }
            manifest.heads_graph.sha256 = sha256(&dir.join("heads.onnx")).unwrap();
            manifest.router_graph.sha256 = sha256(&dir.join("router.onnx")).unwrap();
        });
        let server = Server::ours(bundle.path(), &[]);
        let time = median(&server, &request(&body, "1h"), 300).await;
        println!("heads: K = {n_heads}: {time:?} for 64 known responses");
    }
}

async fn users() {
    const LINES: usize = 4096;
    let (_, dir) = bundles().remove(0);
    let mut texts = texts();
    let text = texts.one_of(Kind::Short);
    let server = Server::ours(&dir, &[]);
    let client = reqwest::Client::new();
    let base = format!("http://{}", server.address);
    let named = json!({ "items": [{ "prompt": text, "responses": [{ "id": "a", "text": text }, { "id": "b", "text": "No." }] }] });
    client.post(format!("{base}/score")).json(&named).send().await.unwrap();
    let mut n_users = 0;
    for target in [1, 1000, 100_000, 1_000_000] {
        while n_users < target {
            let line = |n: usize| {
                json!({ "event_id": "e", "user": format!("user-{n}"), "kind": "pair", "chosen_id": "a", "rejected_id": "b" })
                    .to_string() + "\n"
            };
            let last = (n_users + LINES).min(target);
            let body: String = (n_users..last).map(line).collect();
            let sent = client
                .post(format!("{base}/feedback"))
                .header("content-type", "application/x-ndjson")
                .body(body);
            assert_eq!(sent.send().await.unwrap().text().await.unwrap().lines().count(), last - n_users);
            n_users = last;
        }
        let ask = json!({ "user": format!("user-{}", n_users / 2), "items": [{ "prompt": text, "responses": [text] }] });
        let time = median(&server, &request(&ask.to_string(), "1h"), 2000).await;
        println!(
            "users: {n_users}: {time:?} for a known text of one of them, {:.0} MB resident",
            server.resident_mb()
        );
    }
}

async fn responses() {
    let (_, dir) = bundles().remove(0);
    let mut texts = texts();
    let server = Server::ours(&dir, &[]);
    for n in [1, 10, 100, 1000, 10_000] {
        let responses = texts.some(Kind::Short, n);
        let body = json!({ "items": [{ "prompt": "Go on.", "responses": responses }] }).to_string();
        let ask = request(&body, "1h");
        let mut connection = Connection::open(server.address).await.unwrap();
        let start = Instant::now();
        assert_eq!(connection.send(&ask).await.unwrap().0, 200);
        let first = start.elapsed();
        let again = median(&server, &ask, (3000 / n).max(5)).await;
        println!(
            "responses: {n}: {:?} each, {:?} each when they are known",
            first / n as u32,
            again / n as u32
        );
    }
}

async fn lengths() {
    let (name, dir) = bundles().remove(0);
    let mut texts = texts();
    let server = Server::ours(&dir, &[]);
    let mut connection = Connection::open(server.address).await.unwrap();
    for length in [16, 32, 64, 128, 256, 512] {
        let requests = singles(&texts.some(Kind::Exactly(length), 60));
        let mut times = Vec::new();
        for request in requests.iter() {
            let start = Instant::now();
            assert_eq!(connection.send(request).await.unwrap().0, 200);
            times.push(start.elapsed());
        }
        let p50 = quantile(&mut times, 0.5);
        println!(
            "lengths: {name}, {length} tokens: {p50:?} for a new text, {:?} a token",
            p50 / length as u32
        );
    }
}
