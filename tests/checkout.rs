//! Tests leave alone a checkout in use: its running server, its settings in the shell and its data in `data/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::server::{FREE, command, serve, signal};
use common::{Client, program, root, start, toy};
use serde_json::json;

fn event(id: &str) -> serde_json::Value {
    json!({ "event_id": id, "user": "ann", "kind": "pair", "prompt": "tea", "chosen": "thanks", "rejected": "seven" })
}

/// Returns every file below a directory with its bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

/// Returns this checkout with a `data` directory that holds feedback for other heads than those of the tests.
async fn in_use() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "data" {
            symlink(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    let data = dir.path().join("data");
    let settings = [
        ("state.engine", "embedded"),
        ("state.data_dir", data.to_str().unwrap()),
        ("posterior.half_life", "30d"),
    ];
    let (app, _) = start(&toy(), &settings).await;
    let (_, ack) = Client::new(app.address).post("/feedback", &event("e1")).await;
    assert_eq!(ack["status"], "applied");
    app.stop().await;
    let taken =
        command(&[&FREE[..], &["--data-dir", data.to_str().unwrap()]].concat()).output().await.unwrap();
    assert_eq!(taken.status.code(), Some(64), "the data belongs to other heads");
    dir
}

#[tokio::test]
async fn a_test_uses_the_program_from_start_to_stop_and_offline() {
    let mut server = serve(&[]).await;
    let (_, ack) = server.client.post("/feedback", &event("e1")).await;
    assert_eq!(ack["status"], "applied");
    signal(&server, "TERM");
    assert!(server.child.wait().await.unwrap().success());
    let (app, _) = start(&toy(), &[]).await;
    app.stop().await;
    let said = program().args(["check", "--bundle", "models/toy"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test]
async fn tests_touch_nothing_of_a_server_that_is_used_in_their_checkout() {
    let checkout = in_use().await;
    let data = checkout.path().join("data");
    let before = files(&data);
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = |idx: usize| ports[idx].local_addr().unwrap().to_string();
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", "a_test_uses_the_program_from_start_to_stop_and_offline"]);
    tests.current_dir(checkout.path()).env("CARGO_MANIFEST_DIR", checkout.path());
    tests
        .env("MICRO_REWARD__SERVER__LISTEN", address(0))
        .env("MICRO_REWARD__SERVER__ADMIN_LISTEN", address(1))
        .env("MICRO_REWARD__STATE__DATA_DIR", &data)
        .env("MICRO_REWARD__MODEL__BUNDLE", "models/theirs")
        .env("MICRO_REWARD__LOG__FILTER", "off")
        .env("MICRO_REWARD__OF__AN_OLDER_VERSION", "1");
    let output = tests.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    for port in ports {
        port.set_nonblocking(true).unwrap();
        assert_eq!(port.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody called it");
    }
    assert_eq!(files(&data), before);
}
