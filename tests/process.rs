//! The process as users run it: start, call, kill, restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::ExitStatus;

use common::server::{FREE, Server, command, serve, signal, wait_for};
use common::{json_lines, library, toy, toy_with};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Variable that turns off ONNX Runtime's reports; a program without it restarts itself with it.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

async fn refused(args: &[&str], words: &[&str]) {
    let output = command(args).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{words:?} not in {said}");
}

/// Returns the whole standard error of a refused start, as a log in JSON.
async fn logged(args: &[&str], variables: &[(&str, &str)]) -> Vec<Value> {
    let mut command = command(args);
    let output = command.envs(variables.iter().copied()).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    json_lines(&said)
}

fn score() -> Value {
    json!({ "items": [{ "prompt": "tell me", "responses": ["thanks", "seven"] }] })
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_exits_cleanly() {
    let mut server = serve(&[]).await;
    assert_eq!(server.client.post("/score", &score()).await.0, 200);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let client = server.client.clone();
            tokio::spawn(async move {
                client.http.post(format!("{}/score", client.base)).json(&score()).send().await
            })
        })
        .collect();
    signal(&server, "TERM");
    // A call arrives too late to be accepted, or is answered in full.
    for call in calls {
        if let Ok(answer) = call.await.unwrap() {
            assert_eq!(answer.status().as_u16(), 200);
            assert!(answer.json::<Value>().await.unwrap()["items"].is_array());
        }
    }
    wait_for(&mut server.log, "stopped").await;
    assert!(server.child.wait().await.unwrap().success());
}

#[tokio::test]
async fn sigterm_while_starting_ends_cleanly() {
    for _ in 0..10 {
        let args = [&FREE[..], &["--state", "memory"]].concat();
        let mut child = command(&args).env("MICRO_REWARD__LOG__FILTER", "trace").spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        // The first line is logged once the signal handlers are set.
        log.next_line().await.unwrap().unwrap();
        let id = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        while log.next_line().await.unwrap().is_some() {}
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn while_it_lingers_it_is_not_ready_but_serves() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[shutdown]\nready_delay = \"1h\"\n").unwrap();
    let mut server = serve(&["--config", config.path().to_str().unwrap()]).await;
    signal(&server, "TERM");
    wait_for(&mut server.log, "draining").await;
    let (status, why) = server.admin.get("/readyz").await;
    assert_eq!((status, why.as_str().unwrap().trim()), (503, "not ready: draining"));
    assert_eq!(server.admin.get("/livez").await.0, 200);
    assert_eq!(server.client.post("/score", &score()).await.0, 200);
}

#[tokio::test]
async fn an_open_stream_does_not_hold_the_process_beyond_its_bound() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[shutdown]\ndrain_timeout = \"100ms\"\n").unwrap();
    let mut server = serve(&["--config", config.path().to_str().unwrap()]).await;
    let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let body = reqwest::Body::wrap_stream(never);
    let url = format!("{}/feedback", server.client.base);
    let open = server.client.http.post(url).header("content-type", "application/x-ndjson").body(body).send();
    let open = open.await.unwrap();
    signal(&server, "TERM");
    assert!(server.child.wait().await.unwrap().success());
    drop(open);
}

/// Returns the number of model threads of the process.
fn model_threads(server: &Server) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id().unwrap())).unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("model-")).count()
}

#[tokio::test]
async fn sighup_loads_the_bundle_again_and_the_old_model_threads_end() {
    let mut server = serve(&[]).await;
    let before = model_threads(&server);
    for _ in 0..3 {
        signal(&server, "HUP");
        assert!(wait_for(&mut server.log, "reloaded").await["revision"].is_string());
        assert_eq!(server.client.post("/score", &score()).await.0, 200);
    }
    let mut n_looks = 0;
    while model_threads(&server) != before {
        n_looks += 1;
        assert!(n_looks < 200, "{} model threads, expected {before}", model_threads(&server));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    signal(&server, "TERM");
    assert!(server.child.wait().await.unwrap().success());
}

/// Returns the path of the program's file.
fn binary() -> std::path::PathBuf {
    common::program().get_program().into()
}

/// Returns the names of a process in `ps` and `top`: its name and its first argument.
fn names(id: u32) -> [String; 2] {
    ["comm", "cmdline"].map(|file| {
        let text = std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap();
        text.split(['\0', '\n']).next().unwrap().to_owned()
    })
}

#[tokio::test]
async fn the_process_keeps_its_name_when_it_starts_over() {
    let mut command = command(&[&FREE[..], &["--state", "memory"]].concat());
    // Without the variable the program restarts itself in an environment that has it.
    command.env_remove(NO_TELEMETRY);
    let server = common::server::start(command).await;
    let id = server.child.id().unwrap();
    let environment = std::fs::read_to_string(format!("/proc/{id}/environ")).unwrap();
    assert!(environment.contains(NO_TELEMETRY), "it has started over");
    assert_eq!(names(id), ["micro-reward", binary().to_str().unwrap()]);
}

#[tokio::test]
async fn a_program_whose_file_has_gone_starts_over_as_well() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = dir.path().join("gone");
    std::fs::hard_link(binary(), &program).unwrap();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "exec 9<\"$0\"; rm \"$0\"; exec /proc/self/fd/9 --version"]).arg(&program);
    let output = command.env_remove(NO_TELEMETRY).output().await.unwrap();
    assert!(output.status.success() && !program.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("micro-reward"));
}

/// Returns the messages that are logged up to `last`.
async fn messages_until(server: &mut Server, last: &str) -> Vec<String> {
    let mut messages = Vec::new();
    while messages.last().is_none_or(|message| message != last) {
        let line = server.log.next_line().await.unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        messages.push(event["message"].as_str().unwrap_or_default().to_owned());
    }
    messages
}

#[tokio::test]
async fn a_reload_measures_another_encoder_only() {
    let mut server = serve(&[]).await;
    signal(&server, "HUP");
    let said = messages_until(&mut server, "reloaded").await;
    let n_said = |said: &[String], what: &str| said.iter().filter(|message| *message == what).count();
    assert_eq!((n_said(&said, "measured"), n_said(&said, "measured before")), (0, 1), "{said:?}");
    let other = tempfile::tempdir().unwrap();
    toy_with(other.path(), |manifest| manifest.encoder.max_tokens -= 1);
    // Its heads are others as well, so that it is not served.
    let (status, problem) = server.admin.post("/models/reload", &json!({ "bundle": other.path() })).await;
    assert_eq!((status, &problem["code"]), (409, &json!("other_heads")), "{problem}");
    let said = messages_until(&mut server, "measured").await;
    assert_eq!(n_said(&said, "measured before"), 0, "{said:?}");
}

#[tokio::test]
async fn after_kill_9_it_starts_again_on_the_same_port() {
    let mut server = serve(&[]).await;
    let port = server.client.base.rsplit(':').next().unwrap().to_owned();
    signal(&server, "KILL");
    let status: ExitStatus = server.child.wait().await.unwrap();
    assert!(!status.success());
    let address = format!("127.0.0.1:{port}");
    let mut child = command(&["serve", "--listen", &address, "--state", "memory"]).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    wait_for(&mut log, "ready").await;
    assert_eq!(server.client.post("/score", &score()).await.0, 200);
}

#[tokio::test]
async fn a_port_in_use_is_refused_by_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&["serve", "--listen", &address], &["server.listen", &address, "in use"]).await;
}

#[tokio::test]
async fn a_config_with_five_faults_is_refused_with_all_five() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let text =
        "[server]\nlisten = 1\nmax_text_bytes = 0\n[feedback]\nmax_age = \"old\"\n[batch]\nsize = 1\n[x]\n";
    std::fs::write(config.path(), text).unwrap();
    let words = ["`server.listen`", "`server.max_text_bytes`", "`feedback.max_age`", "`batch.size`", "`x`"];
    refused(&["serve", "--config", config.path().to_str().unwrap()], &words).await;
}

#[tokio::test]
async fn a_refused_start_is_json_where_the_log_is_json() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[log]\nformat = \"json\"\n[server]\nlisten = 1\n[batch]\nsize = 1\n")
        .unwrap();
    let faulty = ["serve", "--config", config.path().to_str().unwrap()];
    // The environment sets JSON as well, for the cases whose file does not.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        (&["serve", "--listen", &address], &[], &["`server.listen`", "in use"]),
        (&[&FREE[..], &["--bundle", "nowhere"]].concat(), &[], &["bundle.toml", "can't be read"]),
        (&FREE, &[], &["`state`", "/dev/null/data"]),
        (&["serve", "--config", "nowhere.toml"], &[], &["nowhere.toml", "can't be read"]),
        (&faulty, &[("MICRO_REWARD__LOG__FILTER", "off")], &["`batch.size`", "`server.listen`"]),
    ];
    for (args, variables, words) in cases {
        let lines = logged(args, variables).await;
        let last = lines.last().unwrap();
        assert_eq!((&last["level"], &last["exit_code"]), (&json!("ERROR"), &json!(64)), "{last}");
        let message = last["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{words:?} not in {message}");
        assert_eq!(lines.iter().filter(|line| line["level"] == "ERROR").count(), 1, "said once");
    }
}

#[tokio::test]
async fn a_refused_start_is_for_people_where_the_log_is_or_can_not_be_told() {
    for format in ["text", "jsn"] {
        let mut command = command(&["serve", "--listen", "x"]);
        let output = command.env("MICRO_REWARD__LOG__FORMAT", format).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64));
        assert!(said.starts_with("micro-reward: ") && said.contains("`server.listen`"), "{said}");
    }
}

#[tokio::test]
async fn a_bundle_that_is_not_there_is_refused() {
    let words = ["bundle.toml", "can't be read"];
    refused(
        &["serve", "--bundle", "nowhere", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
        &words,
    )
    .await;
    refused(&["check", "--bundle", "nowhere"], &words).await;
}

#[tokio::test]
async fn a_library_that_is_not_onnx_runtime_is_refused() {
    let mut command = command(&["check"]);
    let output =
        command.env("MICRO_REWARD__MODEL__ONNXRUNTIME_LIBRARY", "Cargo.toml").output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Cargo.toml can't be loaded as ONNX Runtime"));
}

#[tokio::test]
async fn check_says_that_a_good_bundle_is_fit() {
    let output = command(&["check"]).output().await.unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("fit to serve"));
}

#[tokio::test]
async fn fit_learns_a_bundle_that_serves_and_the_same_seed_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    let rows = (0..60).map(|i| {
        let (kind, exact) = (format!("thanks friend {}", "glad ".repeat(i % 3)), "exactly seven percent".to_owned());
        let (user, chosen, rejected) = if i % 2 == 0 { ("ann", kind, exact) } else { ("bob", exact, kind) };
        let split = if i < 50 { "train" } else { "test" };
        json!({ "user": user, "prompt": "tea", "chosen": chosen, "rejected": rejected, "split": split, "group": user })
    });
    std::fs::write(&data, rows.map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let mut bundles = Vec::new();
    for name in ["a", "b"] {
        let out = dir.path().join(name);
        let path = |p: &std::path::Path| p.to_str().unwrap().to_owned();
        let (toy, data, out, cache, library) =
            (path(&toy()), path(&data), path(&out), path(&dir.path().join("cache")), path(&library()));
        let args = ["fit", "--encoder", &toy, "--data", &data, "--out", &out, "--k", "2", "--cache", &cache];
        let tail = ["--onnxruntime-library", &library, "--name", "x", "--batch", "32", "--epochs", "20"];
        let output = command(&[&args[..], &tail[..]].concat()).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).unwrap().contains("data/ann"));
        bundles.push(
            ["bundle.toml", "heads.onnx", "router.onnx"]
                .map(|file| std::fs::read(format!("{out}/{file}")).unwrap()),
        );
    }
    assert_eq!(bundles[0], bundles[1]);
    let server = serve(&["--bundle", dir.path().join("a").to_str().unwrap()]).await;
    assert_eq!(server.client.post("/score", &score()).await.0, 200);
}

#[tokio::test]
async fn fit_names_the_file_and_line_of_a_bad_row() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.jsonl");
    std::fs::write(&data, "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\"}\n{\"prompt\": \"p\", \"chosen_id\": \"7\", \"rejected_id\": \"8\"}\n").unwrap();
    let (data, out) = (data.to_str().unwrap(), dir.path().join("out"));
    let args = ["fit", "--encoder", "models/toy", "--data", data, "--out", out.to_str().unwrap()];
    refused(&args, &["data.jsonl:2", "`chosen_id`", "7"]).await;
}
