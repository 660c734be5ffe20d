//! Parts that several test binaries share: a running app on the toy bundle, a clock, a small client.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

pub mod changes;
pub mod http2;
pub mod server;
pub mod valkey;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use micro_reward::fit::OnnxGraph;
use micro_reward::model::{Feature, Features, FileHash, MANIFEST, Manifest, Ranges, fingerprint, sha256};
use micro_reward::server::App;
use micro_reward::surface::{Lexical, N_STYLE, buckets};
use micro_reward::types::Clock;
use micro_reward::types::config::{Config, Layers, environment};
use ndarray::Array2;
use serde_json::Value;

/// Returns the repository's root, where cargo runs the tests.
pub fn root() -> PathBuf {
    let told = environment().find(|(name, _)| name == "CARGO_MANIFEST_DIR");
    PathBuf::from(told.map_or_else(|| env!("CARGO_MANIFEST_DIR").to_owned(), |(_, dir)| dir))
}

/// Settings that keep a test away from the ports, the directory and the store of a server that is used in this
/// checkout: a test that names none of its own gets free ports, and a start that needs the others is refused.
const NOTHING_OF_THE_USERS: [(&str, &str); 4] = [
    ("server.listen", "127.0.0.1:0"),
    ("server.admin_listen", "127.0.0.1:0"),
    ("state.data_dir", "/dev/null/data"),
    ("valkey.url", "redis://127.0.0.1:1"),
];

/// Returns the program as users run it, in the root, without the settings of the environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_micro-reward"));
    command.current_dir(root());
    for (name, _) in environment().filter(|(name, _)| name.starts_with("MICRO_REWARD__")) {
        command.env_remove(name);
    }
    for (key, value) in NOTHING_OF_THE_USERS {
        command.env(format!("MICRO_REWARD__{}", key.to_uppercase().replace('.', "__")), value);
    }
    command.env("MICRO_REWARD__MODEL__ONNXRUNTIME_LIBRARY", library());
    command
}

/// Returns the path at which `make setup` places the ONNX Runtime library.
pub fn library() -> PathBuf {
    root().join("vendor/onnxruntime/libonnxruntime.so")
}

/// Returns the shared data, or none with a printed reason.
pub fn shared_data(test: &str) -> Option<PathBuf> {
    let dir = root().join("../shared/data");
    if dir.join("hh-rlhf.jsonl.gz").exists() {
        return Some(dir);
    }
    println!("{test}: skipped, because there is no ../shared/data");
    None
}

/// A clock that tests set.
#[derive(Debug)]
pub struct FakeClock(pub AtomicI64);

impl FakeClock {
    pub fn at(ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(ms)))
    }

    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// Time at which tests start, in ms.
pub const NOON: i64 = 1_800_000_000_000;

/// Starts an app on free ports with the bundle and the overriding settings (key, value).
pub async fn start(bundle: &Path, settings: &[(&str, &str)]) -> (App, Arc<FakeClock>) {
    let clock = FakeClock::at(NOON);
    (start_by(clock.clone(), bundle, settings).await, clock)
}

/// Starts an app as [`start`] does, with any clock.
pub async fn start_by(clock: Arc<dyn Clock>, bundle: &Path, settings: &[(&str, &str)]) -> App {
    let bundle = bundle.to_str().unwrap().to_owned();
    let mut layers = Layers::defaults()
        .flag("test", "model.bundle", Some(bundle))
        .flag("test", "model.onnxruntime_library", Some(library().to_str().unwrap().to_owned()))
        .flag("test", "state.engine", Some("memory".to_owned()));
    for (key, value) in NOTHING_OF_THE_USERS.iter().chain(settings) {
        layers = layers.flag("test", key, Some((*value).to_owned()));
    }
    App::start(Config::new(layers).unwrap(), clock).await.unwrap()
}

/// Returns the toy bundle's directory.
pub fn toy() -> PathBuf {
    root().join("models/toy")
}

/// Writes a changed copy of the toy bundle to `dir`; its heads are padded at the front with copies of their first
/// rows to the number of columns of the changed features.
pub fn toy_with(dir: &Path, change: impl FnOnce(&mut Manifest)) {
    for entry in std::fs::read_dir(toy()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.join(MANIFEST);
    let mut manifest: Manifest = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut manifest);
    let lexical = manifest.input.lexical.as_ref().and_then(|file| std::fs::read(dir.join(&file.file)).ok());
    let lexical = lexical.and_then(|bytes| Lexical::from_bytes(&bytes).ok());
    let n_lexical = lexical.as_ref().map_or(0, Lexical::n_columns);
    let n_columns = Features::new(&manifest.input, 8, n_lexical).n_columns();
    let first = n_columns - 9;
    let liked = |row: usize, column: usize| row % 8 == column && column < 3 && row + 1 < n_columns;
    let weights = Array2::from_shape_fn((n_columns, 4), |(row, column)| {
        if liked(if row < first { row } else { row - first }, column) { 6.0 } else { 0.0 }
    });
    std::fs::write(dir.join("heads.onnx"), OnnxGraph::heads(&weights).into_bytes()).unwrap();
    manifest.heads_graph.sha256 = sha256(&dir.join("heads.onnx")).unwrap();
    manifest.revision = fingerprint(&manifest);
    std::fs::write(&path, toml::to_string(&manifest).unwrap()).unwrap();
}

/// Makes the heads of a copy of the toy bundle read style and words as well, within [`toy_with`].
pub fn with_surface(dir: &Path, manifest: &mut Manifest) {
    let terms = buckets(&(4..30).collect::<Vec<u32>>());
    let idf = (0..terms.len()).map(|i| 1.0 + i as f32 / 9.0).collect();
    let projection: Vec<f32> = (0..terms.len() * 5).map(|i| (i as f32).sin() / 5.0).collect();
    let path = dir.join("lexical.safetensors");
    std::fs::write(&path, Lexical::new(terms, idf, &projection, 5).to_bytes().unwrap()).unwrap();
    let file = FileHash { file: "lexical.safetensors".to_owned(), sha256: sha256(&path).unwrap() };
    manifest.input.lexical = Some(file);
    manifest.input.features.extend([Feature::Style, Feature::Lexical]);
    manifest.input.ranges.insert(Feature::Style, Ranges::Each(vec![[0.0, 4.0]; N_STYLE]));
}

/// Changes the tokenizer of a copy of the toy bundle, within [`toy_with`].
pub fn change_tokenizer(dir: &Path, manifest: &mut Manifest, change: impl FnOnce(&mut Value)) {
    let path = dir.join(&manifest.encoder.tokenizer.file);
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut tokenizer);
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    manifest.encoder.tokenizer.sha256 = sha256(&path).unwrap();
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    pub base: String,
    pub http: reqwest::Client,
}

impl Client {
    pub fn new(address: std::net::SocketAddr) -> Self {
        Self { base: format!("http://{address}"), http: reqwest::Client::new() }
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_text(path, "application/json", body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, content_type: &str, body: String) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.base)).header("content-type", content_type);
        answer(request.body(body).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.http.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(self.http.delete(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, Value) {
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.base)).body(body);
        let with =
            |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        answer(headers.iter().fold(request, with).send().await.unwrap()).await
    }

    /// Returns a metric's value, of the client of an admin port; none before it exists.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics").await;
        page.as_str()
            .unwrap()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Parses lines of JSON, such as acks.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the numbers of a JSON array.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}
