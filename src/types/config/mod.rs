//! Configuration: `default.toml` -> file -> environment -> flags, then checked as a whole.
//!
//! The embedded default file is the reference: a key that is not in it does not exist. All problems are
//! reported at once, each with its key and where it came from. Nothing else reads the environment.

mod check;
mod layers;
mod raw;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{Layers, Problem, Problems};

use crate::mixture::{Decay, Routing};
use crate::types::Secret;

/// The commented defaults, as users read them.
pub const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

/// A configuration that has been checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[model]`
    pub model: Model,
    /// `[batch]`
    pub batch: Batch,
    /// `[cache] max_bytes`; 0 keeps nothing.
    pub cache_bytes: u64,
    /// `[router]`
    pub router: Router,
    /// `[population]`
    pub population: Population,
    /// `[feedback]`
    pub feedback: FeedbackWindow,
    /// `[receipts]`
    pub receipts: ReceiptBounds,
    /// `[state]`
    pub state: State,
    /// `[valkey]`
    pub valkey: Valkey,
    /// `[events]`
    pub events: Events,
    /// `[health] stall_limit`
    pub stall_limit: Duration,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[log]`
    pub log: Log,
}

/// The two listeners and what a request may cost.
#[derive(Debug, Clone)]
pub struct Server {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub max_body_bytes: NonZeroUsize,
    /// Of all bodies at once; at least `max_body_bytes`.
    pub max_buffered_bytes: NonZeroUsize,
    pub max_text_bytes: NonZeroUsize,
    pub max_concurrent_requests: NonZeroUsize,
    pub request_timeout: Duration,
    pub max_connections: NonZeroUsize,
    /// How long a connection may be open without a request.
    pub idle_timeout: Duration,
    /// How long a peer may take no byte of what it is sent.
    pub write_timeout: Duration,
}

/// What is served.
#[derive(Debug, Clone)]
pub struct Model {
    pub bundle: PathBuf,
    pub onnxruntime_library: PathBuf,
    /// At least one, best first.
    pub execution_providers: Vec<Provider>,
}

/// What runs an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The cores of this machine.
    Cpu,
    /// A GPU by CUDA.
    Cuda,
    /// A GPU by TensorRT.
    Tensorrt,
}

impl Provider {
    pub(crate) const NAMES: &[(&str, Self)] =
        &[("cpu", Self::Cpu), ("cuda", Self::Cuda), ("tensorrt", Self::Tensorrt)];

    /// As it is spelled in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, provider)| *provider == self).map_or("", |(name, _)| name)
    }
}

/// The encoder's work queue.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    pub threads: NonZeroUsize,
    /// Further threads, for small requests while a large one has the others.
    pub small_threads: usize,
    /// None where it is measured.
    pub tokens: Option<NonZeroUsize>,
    pub queue_texts: NonZeroUsize,
}

/// From evidence to weights.
#[derive(Debug, Clone, Copy)]
pub struct Router {
    pub routing: Routing,
    pub decay: Decay,
    /// How likely a user's head is the same in another context, in [0, 1].
    pub transfer: f64,
}

/// The sample of users that stands for all of them.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    pub users: NonZeroUsize,
    pub refresh: Duration,
}

/// Which event times are taken.
#[derive(Debug, Clone, Copy)]
pub struct FeedbackWindow {
    pub max_age: Duration,
    pub max_skew: Duration,
    /// Events of one user that are remembered within `max_age`.
    pub max_events: NonZeroUsize,
}

/// How much is remembered of answers whose responses have ids, and for how long; with 0 bytes, nothing.
#[derive(Debug, Clone, Copy)]
pub struct ReceiptBounds {
    pub max_bytes: u64,
    pub ttl: Duration,
    /// Whether they survive a restart, in the data directory.
    pub is_kept: bool,
}

/// Where ledgers live.
#[derive(Debug, Clone)]
pub struct State {
    pub engine: Engine,
    /// Never empty for the embedded engine; for the shared one, empty is no outbox.
    pub data_dir: PathBuf,
    /// Whether an ack waits for the disk.
    pub is_sync: bool,
    pub max_users: NonZeroUsize,
    pub resident_users: NonZeroUsize,
    pub checkpoint_every: Duration,
    /// How old a row of the shared engine may be that is served without asking.
    pub max_staleness: Duration,
}

/// The shared store.
#[derive(Debug, Clone)]
pub struct Valkey {
    /// More than one for a cluster only. Secret as a whole: a url may hold a password.
    pub urls: Vec<Secret>,
    pub is_cluster: bool,
    pub username: String,
    pub password: Secret,
    /// By which users are known in the store; empty is none.
    pub user_key: Secret,
    pub ca_file: Option<PathBuf>,
    pub prefix: String,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

/// How long what was said is kept.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    pub retention: Duration,
    pub erase_within: Duration,
}

/// The state engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// In this process alone.
    Memory,
    /// In this process, and in a directory across restarts.
    Embedded,
    /// In Valkey or Redis, shared by any number of replicas.
    Valkey,
}

/// The bound on stopping: `linger + drain_timeout`.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    pub linger: Duration,
    pub drain_timeout: Duration,
}

/// What the log looks like.
#[derive(Debug, Clone)]
pub struct Log {
    pub json: bool,
    pub filter: String,
}

impl Config {
    /// Checks merged layers.
    ///
    /// # Errors
    /// All problems at once: of the layers themselves, and of every value that is out of range.
    pub fn new(layers: Layers) -> Result<Self, Problems> {
        raw::check(layers)
    }
}

/// The process environment, for [`Layers::environment`]. What is not UTF-8 is read as far as it is.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |raw: std::ffi::OsString| raw.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
