//! Acked events survive kills of the process, a full disk and a stop.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

mod common;

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use common::server::{FREE, Server, command, signal, start};
use futures::StreamExt;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const N_KILLS: usize = 200;
const N_USERS: usize = 7;
const EVENTS_PER_KILL: usize = 300;

fn event(id: usize) -> Value {
    let (chosen, rejected) =
        if id.is_multiple_of(3) { ("thanks friend", "seven") } else { ("exactly seven", "glad") };
    json!({ "event_id": format!("e{id}"), "user": format!("u{}", id % N_USERS), "kind": "pair",
            "prompt": format!("tea {}", id % 5), "chosen": chosen, "rejected": rejected })
}

fn lines(ids: impl Iterator<Item = usize>) -> String {
    ids.map(|id| format!("{}\n", event(id))).collect()
}

async fn serve_in(dir: &Path) -> Server {
    start(command(&[&FREE[..], &["--data-dir", dir.to_str().unwrap()]].concat())).await
}

/// Sends lines and collects the acks as they arrive, until the stream ends or `on_ack` returns false.
async fn send(server: &Server, body: reqwest::Body, mut on_ack: impl FnMut(&Value) -> bool) -> Vec<Value> {
    let url = format!("{}/feedback", server.client.base);
    let request = server.client.http.post(url).header("content-type", "application/x-ndjson").body(body);
    let Ok(answer) = request.send().await else { return Vec::new() };
    let (mut stream, mut buffer, mut acks) = (answer.bytes_stream(), Vec::new(), Vec::new());
    while let Some(Ok(chunk)) = stream.next().await {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let ack: Value = serde_json::from_slice(&line).unwrap();
            let goes_on = on_ack(&ack);
            acks.push(ack);
            if !goes_on {
                return acks;
            }
        }
    }
    acks
}

async fn counts(server: &Server) -> HashMap<usize, u64> {
    let mut counts = HashMap::new();
    for user in 0..N_USERS {
        let (status, view) = server.client.get(&format!("/users/u{user}")).await;
        counts.insert(user, if status == 200 { view["n"].as_u64().unwrap() } else { 0 });
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_no_acked_event_and_count_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut server = serve_in(dir.path()).await;
    let (mut n_acked, mut n_killed_early) = (0, 0);
    for kill in 0..N_KILLS {
        let ids = kill * EVENTS_PER_KILL..(kill + 1) * EVENTS_PER_KILL;
        // Chunks of a few lines cause many commits; the kill comes after a random number of acks.
        let text = lines(ids.clone());
        let chunks: Vec<Result<Bytes, std::io::Error>> = text
            .as_bytes()
            .chunks(random.random_range(100..4000))
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let until = random.random_range(0..EVENTS_PER_KILL);
        let mut seen = 0;
        let acks = send(&server, body, |_| {
            seen += 1;
            seen <= until
        })
        .await;
        signal(&server, "KILL");
        server.child.wait().await.unwrap();
        n_acked += acks.len();
        n_killed_early += usize::from(acks.len() < EVENTS_PER_KILL);
        assert!(acks.iter().all(|ack| ack["status"] == "applied"), "{acks:?}");

        server = serve_in(dir.path()).await;
        let before: u64 = counts(&server).await.values().sum();
        assert!(before >= (kill * EVENTS_PER_KILL + acks.len()) as u64, "kill {kill} lost acked events");
        // The client sends everything again, as it can't know what arrived.
        let again = send(&server, lines(ids.clone()).into(), |_| true).await;
        assert_eq!(again.len(), EVENTS_PER_KILL);
        for ack in &again[..acks.len()] {
            assert_eq!(ack["status"], "duplicate", "kill {kill} lost {ack}");
        }
        let n_new = again.iter().filter(|ack| ack["status"] == "applied").count() as u64;
        let after = counts(&server).await;
        assert_eq!(after.values().sum::<u64>(), before + n_new);
        for (user, n) in after {
            let sent = (0..ids.end).filter(|id| id % N_USERS == user).count() as u64;
            assert_eq!(n, sent, "kill {kill}: user {user} counts {n} of {sent} events");
        }
    }
    println!("{n_acked} events were acked before {N_KILLS} kills, {n_killed_early} of them in mid-stream");
    assert!(n_killed_early > N_KILLS / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_merges_lose_no_acked_event_and_count_none_twice() {
    const N_ROUNDS: usize = 12;
    const N: usize = 120;
    let dir = tempfile::tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut server = serve_in(dir.path()).await;
    for round in 0..N_ROUNDS {
        let [visitor, account] = ["v", "a"].map(|name| format!("{name}{round}"));
        let said: String = (0..N)
            .map(|id| {
                let mut event = event(id);
                event["user"] = json!([&visitor, &account][id % 2]);
                format!("{event}\n")
            })
            .collect();
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            said.as_bytes().chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        let (merge_after, kill_after) = (random.random_range(0..N), random.random_range(0..N));
        let (path, from) = (format!("/users/{account}/merge"), json!({ "from": visitor }));
        let mut merge = None;
        let mut seen = 0;
        send(&server, body, |_| {
            seen += 1;
            if seen > merge_after && merge.is_none() {
                let (client, path, from) = (server.client.clone(), path.clone(), from.clone());
                merge = Some(tokio::spawn(async move {
                    let url = format!("{}{path}", client.base);
                    client.http.post(url).json(&from).send().await.is_ok()
                }));
            }
            seen <= kill_after.max(merge_after)
        })
        .await;
        signal(&server, "KILL");
        server.child.wait().await.unwrap();
        server = serve_in(dir.path()).await;
        // The client can't know what arrived, and sends all of it again.
        let (status, merged) = server.client.post(&path, &from).await;
        assert_eq!(status, 200, "round {round}: {merged}");
        assert_eq!(send(&server, said.into(), |_| true).await.len(), N);
        for user in [&visitor, &account] {
            let (_, view) = server.client.get(&format!("/users/{user}")).await;
            assert_eq!(view["n"], N, "round {round}: {view}");
        }
        assert_eq!(server.client.post(&path, &from).await.1["n"], N);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_feedback_and_loses_none_that_was_acked() {
    let dir = tempfile::tempdir().unwrap();
    // A limit on the size of files, in 512-byte blocks, is a full disk that needs no privileges.
    let limited = |blocks: &str| {
        let serve = command(&[&FREE[..], &["--data-dir", dir.path().to_str().unwrap()]].concat());
        let serve = serve.as_std();
        let mut shell = tokio::process::Command::new("sh");
        shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"")).arg("sh");
        shell.arg(serve.get_program()).args(serve.get_args()).current_dir(common::root());
        for (key, value) in serve.get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        shell.kill_on_drop(true).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        shell
    };
    let server = start(limited("8192")).await;
    let mut acked = Vec::new();
    let mut refused = None;
    for chunk in 0.. {
        let ids = chunk * 500..(chunk + 1) * 500;
        let acks = send(&server, lines(ids).into(), |_| true).await;
        acked.extend(acks.iter().filter(|ack| ack["status"] == "applied").cloned());
        refused = acks.into_iter().find(|ack| ack["status"] != "applied");
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        (&refused["code"], &refused["retryable"]),
        (&json!("store_unavailable"), &json!(true)),
        "{refused}"
    );
    assert!(acked.len() > 500);
    // The server continues to score.
    let score = json!({ "user": "u1", "items": [{ "prompt": "tea", "responses": ["thanks", "seven"] }] });
    assert_eq!(server.client.post("/score", &score).await.0, 200);
    drop(server);

    let server = serve_in(dir.path()).await;
    let ids = |acks: &[Value]| {
        acks.iter().map(|ack| ack["event_id"].as_str().unwrap()[1..].parse().unwrap()).collect()
    };
    let ids: Vec<usize> = ids(&acked);
    let again = send(&server, lines(ids.iter().copied()).into(), |_| true).await;
    assert_eq!(again.len(), acked.len());
    assert!(again.iter().all(|ack| ack["status"] == "duplicate"));
}

#[tokio::test]
async fn a_data_directory_that_is_not_one_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let data = file.join("data");
    let output =
        command(&[&FREE[..], &["--data-dir", data.to_str().unwrap()]].concat()).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("`state`") && said.contains("file/data"), "{said}");
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = serve_in(dir.path()).await;
    let second =
        command(&[&FREE[..], &["--data-dir", dir.path().to_str().unwrap()]].concat()).output().await.unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(64), "{said}");
    assert!(said.contains("another process owns this data directory"), "{said}");
}

#[tokio::test]
async fn a_stop_by_signal_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = serve_in(dir.path()).await;
    assert_eq!(send(&server, lines(0..100).into(), |_| true).await.len(), 100);
    let before = server.client.get("/users/u3").await.1;
    signal(&server, "TERM");
    assert!(server.child.wait().await.unwrap().success());
    let again = serve_in(dir.path()).await;
    assert_eq!(again.client.get("/users/u3").await.1, before);
}
