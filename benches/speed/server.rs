//! Servers as separate processes: this program and the baselines.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use micro_reward::types::config::environment;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A server process, which ends when this value is dropped.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts this program on `bundle` with these settings.
    pub fn ours(bundle: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_micro-reward"));
        // The shell may hold the settings of another server.
        for (name, _) in environment().filter(|(name, _)| name.starts_with("MICRO_REWARD__")) {
            command.env_remove(name);
        }
        command.current_dir(root()).arg("serve").arg("--bundle").arg(bundle);
        command.args(["--state", "memory", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.env("MICRO_REWARD__LOG__FORMAT", "json").env("MICRO_REWARD__SERVER__REQUEST_TIMEOUT", "1h");
        for (key, value) in settings {
            let name = format!("MICRO_REWARD__{}", key.to_uppercase().replace('.', "__"));
            command.env(name, value);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = process.stderr.take().unwrap();
        Self::wait(process, log, |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line["address"].as_str()?.parse().ok()
        })
    }

    /// Starts `benches/baselines/NAME.py` on `bundle`.
    pub fn baseline(name: &str, bundle: &Path, args: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut command = Command::new("benches/baselines/run");
        command.current_dir(root()).arg(name).arg("--bundle").arg(bundle).args(["--port", &port]).args(args);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = process.stdout.take().unwrap();
        Self::wait(process, output, |line| {
            let port = line.strip_prefix("listening on ")?.trim().parse().ok()?;
            Some(SocketAddr::from(([127, 0, 0, 1], port)))
        })
    }

    fn wait(
        process: Child,
        output: impl Read + Send + 'static,
        address: impl Fn(&str) -> Option<SocketAddr>,
    ) -> Self {
        let mut lines = BufReader::new(output).lines();
        let address = lines.find_map(|line| address(&line.unwrap())).expect("the server starts");
        // A thread reads the rest of the output, as a full pipe would block the server.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }

    /// Returns the CPU seconds that the server has used.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.process.id())
    }

    /// Returns the resident memory in MB.
    pub fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// Returns the CPU seconds that a process has used.
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}
