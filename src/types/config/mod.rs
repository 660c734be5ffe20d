//! Configuration: `default.toml` -> file -> environment -> flags, then checked as a whole.
//!
//! The embedded default file is the reference: a key that is not in it does not exist. All problems are reported at
//! once, each with its key and its origin. No other module reads the environment.

mod batch;
mod cache;
mod events;
mod feedback;
mod health;
mod layers;
mod log;
mod model;
mod population;
mod posterior;
mod responses;
mod section;
mod server;
mod shutdown;
mod state;
mod valkey;

pub use batch::Batch;
pub use cache::Cache;
pub use events::Events;
pub use feedback::Feedback;
pub use health::Health;
pub use layers::{ConfigProblem, ConfigProblems, Layers};
pub use log::Log;
pub use model::{Model, Provider};
pub use population::Population;
pub use posterior::Posterior;
pub use responses::Responses;
use section::Section;
pub use server::Server;
pub use shutdown::Shutdown;
pub use state::{Engine, State};
pub use valkey::Valkey;

/// The commented defaults, as users read them.
pub const DEFAULT_TOML: &str = include_str!("../../../config/default.toml");

/// A checked configuration; each field is the section of its name.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each type says what its section is")]
pub struct Config {
    pub server: Server,
    pub model: Model,
    pub batch: Batch,
    pub cache: Cache,
    pub posterior: Posterior,
    pub population: Population,
    pub feedback: Feedback,
    pub responses: Responses,
    pub state: State,
    pub valkey: Valkey,
    pub events: Events,
    pub health: Health,
    pub shutdown: Shutdown,
    pub log: Log,
}

impl Config {
    /// Checks merged layers.
    ///
    /// # Errors
    /// Returns all problems at once: of the layers themselves, of every value that is out of range, and of every key
    /// that has a default and that no section reads.
    pub fn new(mut layers: Layers) -> Result<Self, ConfigProblems> {
        let model = Model::read(Section::new(&mut layers, "model"));
        let config = Self {
            server: Server::read(Section::new(&mut layers, "server")),
            batch: Batch::read(
                Section::new(&mut layers, "batch"),
                model.execution_providers.first().copied(),
            ),
            model,
            cache: Cache::read(Section::new(&mut layers, "cache")),
            posterior: Posterior::read(Section::new(&mut layers, "posterior")),
            population: Population::read(Section::new(&mut layers, "population")),
            feedback: Feedback::read(Section::new(&mut layers, "feedback")),
            responses: Responses::read(Section::new(&mut layers, "responses")),
            state: State::read(Section::new(&mut layers, "state")),
            valkey: Valkey::read(Section::new(&mut layers, "valkey")),
            events: Events::read(Section::new(&mut layers, "events")),
            health: Health::read(Section::new(&mut layers, "health")),
            shutdown: Shutdown::read(Section::new(&mut layers, "shutdown")),
            log: Log::read(Section::new(&mut layers, "log")),
        };
        match layers.into_problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(ConfigProblems(problems)),
        }
    }
}

/// Returns the process environment, for [`Layers::environment`]. Bytes that are not UTF-8 become U+FFFD.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |raw: std::ffi::OsString| raw.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
