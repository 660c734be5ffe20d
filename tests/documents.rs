//! Every command of docs/api.md runs, in its order, and returns the answer written below it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking and says what it saw")]

mod common;

use std::path::Path;

use common::{root, start, toy};
use serde_json::Value;
use tokio::process::Command;

/// A block of commands and its expected outcome.
struct Block {
    commands: String,
    is_refused: bool,
    answer: Option<Value>,
}

/// Returns the fenced blocks of a page with the kinds that their fences name.
fn fenced(page: &str) -> Vec<(String, String)> {
    let mut parts = page.split("\n```");
    parts.next();
    let part = |[block, _]: [&str; 2]| {
        let (kind, text) = block.split_once('\n').unwrap();
        (kind.to_owned(), text.to_owned())
    };
    parts.collect::<Vec<_>>().chunks_exact(2).map(|pair| part([pair[0], pair[1]])).collect()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (kind, text) in fenced(page) {
        match kind.as_str() {
            "sh" | "sh refused" => {
                blocks.push(Block { commands: text, is_refused: kind != "sh", answer: None });
            }
            "json" => {
                blocks.last_mut().unwrap().answer = Some(serde_json::from_str(&text).unwrap());
            }
            // Another server or another program is needed for these blocks.
            "console" => {}
            other => panic!("found a block of \"{other}\""),
        }
    }
    blocks
}

/// A `curl` that fails on a refusal, as the page's own `-sf` does.
const FAILING_CURL: &str =
    r#"curl() { case $1 in -sf) ;; *) set -- --fail-with-body "$@" ;; esac; command curl "$@"; }"#;

/// Runs commands as they are written, but against the server of this test; a refused command fails.
async fn run(commands: &str, [traffic, admin]: [&str; 2], dir: &Path) -> (bool, String) {
    let ports = ["80".to_owned() + "80", "80".to_owned() + "81"].map(|port| format!("localhost:{port}"));
    let commands = commands.replace(&ports[0], traffic).replace(&ports[1], admin);
    let script = format!("{FAILING_CURL}\nset -euo pipefail\n{commands}");
    let output = Command::new("bash").args(["-c", &script]).current_dir(dir).output().await.unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    (output.status.success(), said.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_api_by_example_does_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("state.engine", "embedded"), ("state.data_dir", dir.path().to_str().unwrap())];
    let (app, _clock) = start(&toy(), &settings).await;
    let (traffic, admin) = (app.address.to_string(), app.admin_address.to_string());
    let here = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    let blocks = blocks(&page);
    let (header, rest) = blocks.split_first().unwrap();
    assert!(header.commands.starts_with("H=") && rest.len() > 15, "{} blocks", rest.len());
    for Block { commands, is_refused, answer } in rest {
        let (succeeded, said) =
            run(&format!("{}\n{commands}", header.commands), [&traffic, &admin], here.path()).await;
        assert_eq!(succeeded, !is_refused, "{commands}\n{said}");
        if let Some(answer) = answer {
            let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
            assert_eq!(said, *answer, "{commands}");
        }
    }
    let exported = std::fs::read_to_string(here.path().join("thumbs.jsonl")).unwrap();
    assert!(exported.lines().count() > 0, "what was said is exported");
    app.stop().await;
}
