//! ONNX Runtime, loaded once per process from a shared library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use parking_lot::Mutex;

/// The loaded library. A process has one: the first path wins.
#[derive(Clone)]
pub struct Runtime(Environment);

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

/// Why ONNX Runtime can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such file.
    #[error("found no ONNX Runtime library at {0}, expected libonnxruntime.so; `make setup` puts it there")]
    Missing(PathBuf),
    /// The file is no library of ONNX Runtime, or too old.
    #[error("{path} can't be loaded as ONNX Runtime: {source}")]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Runtime {
    /// Loads the library at `path`, or returns the one this process has.
    ///
    /// # Errors
    /// When the file is missing or is not a fitting ONNX Runtime.
    pub fn load(path: &Path) -> Result<Self, RuntimeError> {
        static LOADED: OnceLock<Runtime> = OnceLock::new();
        static LOADING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = LOADING.lock();
        if let Some(runtime) = LOADED.get() {
            return Ok(runtime.clone());
        }
        if !path.exists() {
            return Err(RuntimeError::Missing(path.to_owned()));
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| RuntimeError::Load {
            path: path.to_owned(),
            source,
        };
        let builder = ort::init_from(path).map_err(|error| failed(error.to_string().into()))?;
        let environment =
            builder.with_telemetry(false).build().map_err(|error| failed(error.to_string().into()))?;
        environment.set_log_level(ort::logging::LogLevel::Warning);
        Ok(LOADED.get_or_init(|| Self(environment)).clone())
    }

    /// Opens a graph with one thread: model threads are the parallelism.
    ///
    /// # Errors
    /// What ONNX Runtime says of the file.
    pub(super) fn open(&self, path: &Path) -> Result<Session, ort::Error> {
        // Level 1 was 15 to 20 % faster than all optimisations for the default encoder on CPU.
        Session::builder(&self.0)?
            .with_optimization_level(GraphOptimizationLevel::Level1)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .commit_from_file(path)
    }
}
