//! Real stores for the tests: `vendor/valkey/valkey-server` on free ports, killed on drop.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use micro_reward::state::{LedgerId, ValkeyConfig};
use tempfile::TempDir;

use super::changes::{K, RULES};
use super::{FakeClock, root};

/// A running store with a directory of its own.
pub struct Valkey {
    pub port: u16,
    pub dir: TempDir,
    args: Vec<String>,
    child: Child,
}

impl Valkey {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a store that keeps acked writes across a kill.
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub fn with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        // Another process may take the port before it is bound; then another port is tried.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            // Nodes of a cluster also listen at port + 10000.
            if port > 55_000 {
                continue;
            }
            if let Some(child) = spawn(&dir, port, &args) {
                return Self { port, dir, args, child };
            }
        }
        panic!("valkey-server does not start; is it in vendor/valkey? `scripts/setup --tests` puts it there");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the store again on the same port with its files.
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir, self.port, &self.args).unwrap();
    }

    /// Stops the answers, with all connections open.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Opens a connection for the test itself.
    pub async fn connect(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        // A test may have killed the store.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Starts a store; returns none if the port is taken.
fn spawn(dir: &TempDir, port: u16, args: &[String]) -> Option<Child> {
    let mut child = Command::new(root().join("vendor/valkey/valkey-server"))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "notice"])
        .args(args)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while log.read_line(&mut line).unwrap() > 0 {
        if line.contains("Ready to accept connections") {
            // The store must not block on a full pipe.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Some(child);
        }
        line.clear();
    }
    child.wait().unwrap();
    None
}

/// Returns settings for the rows of the tests. Every read asks the store.
pub fn config(server: &Valkey, prefix: &str) -> ValkeyConfig {
    ValkeyConfig {
        urls: vec![server.url().into()],
        is_cluster: false,
        username: String::new(),
        password: String::new().into(),
        user_key: String::new().into(),
        ca_pem: None,
        prefix: format!("{prefix}:"),
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        max_staleness: Duration::ZERO,
        ledger_id: LedgerId { n_heads: K, key: 7 },
        rules: RULES,
        max_users: 1000,
        cached_users: 100,
        outbox: None,
        is_sync: true,
        erase_within: Duration::from_secs(3600),
        clock: FakeClock::at(0),
    }
}
