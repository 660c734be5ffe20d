//! The server as a process.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::{Client, program, toy};

/// A server process, killed on drop, with its data directory.
pub struct Server {
    pub child: Child,
    pub log: Lines<BufReader<ChildStderr>>,
    pub client: Client,
    pub admin: Client,
    _dir: Option<TempDir>,
}

impl Server {
    /// Returns the address of the traffic port.
    pub fn address(&self) -> SocketAddr {
        self.client.base.strip_prefix("http://").unwrap().parse().unwrap()
    }
}

/// Returns a command that runs the program on the toy bundle.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::from(program());
    command.args(args).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("MICRO_REWARD__LOG__FORMAT", "json").env("MICRO_REWARD__MODEL__BUNDLE", toy());
    command
}

/// Starts a server on free ports with a data directory of its own.
pub async fn serve(args: &[&str]) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let server = start(command(&[&FREE[..], &["--data-dir", path], args].concat())).await;
    Server { _dir: Some(dir), ..server }
}

/// Arguments of `serve` on free ports.
pub const FREE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

/// Starts a server and waits until it is ready.
pub async fn start(mut command: Command) -> Server {
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = wait_for(&mut log, "ready").await;
    let client = |key: &str| Client::new(ready[key].as_str().unwrap().parse().unwrap());
    Server { client: client("address"), admin: client("admin_address"), child, log, _dir: None }
}

/// Reads up to the first log line with this message.
pub async fn wait_for(log: &mut Lines<BufReader<ChildStderr>>, message: &str) -> Value {
    loop {
        let line = log.next_line().await.unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        if event["message"] == message {
            return event;
        }
    }
}

/// Sends a signal to a server.
pub fn signal(server: &Server, name: &str) {
    let id = server.child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}
