//! ONNX Runtime, loaded once per process from a shared library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::ep;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use parking_lot::Mutex;

use crate::types::config::Provider;

/// The loaded library. A process has one: the first path wins.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    /// Execution providers of encoders, best first.
    providers: Vec<Provider>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

/// The reason why ONNX Runtime can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The file does not exist.
    #[error("found no ONNX Runtime library at {0}, expected libonnxruntime.so; `make setup` puts it there")]
    Missing(PathBuf),
    /// The file is no library of ONNX Runtime, or too old.
    #[error("{path} can't be loaded as ONNX Runtime: {source}")]
    Load {
        /// The library.
        path: PathBuf,
        /// The error of the loader.
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
        Ok(LOADED.get_or_init(|| Self { environment, providers: vec![Provider::Cpu] }).clone())
    }

    /// Runs encoders on the first of `providers` (at least one) that can be used. The default is the CPU.
    #[must_use]
    pub fn with_providers(self, providers: Vec<Provider>) -> Self {
        Self { providers, ..self }
    }

    /// Opens a small graph, on the CPU.
    ///
    /// # Errors
    /// The error of ONNX Runtime about the file.
    pub(super) fn open(&self, path: &Path) -> Result<Session, ort::Error> {
        self.session(path, Provider::Cpu)
    }

    /// Opens an encoder on the first provider that can be used.
    ///
    /// # Errors
    /// The errors of ONNX Runtime about the file, by provider.
    pub(super) fn open_encoder(&self, path: &Path) -> Result<Session, String> {
        let mut refused = Vec::new();
        for &provider in &self.providers {
            match self.session(path, provider) {
                Ok(session) => return Ok(session),
                Err(error) if self.providers == [Provider::Cpu] => return Err(error.to_string()),
                Err(error) => {
                    tracing::warn!(%error, "the execution provider {} can't be used", provider.name());
                    refused.push(format!("{}: {error}", provider.name()));
                }
            }
        }
        Err(format!("no provider of `model.execution_providers` can be used: {}", refused.join("; ")))
    }

    /// Opens a session with one thread: model threads are the parallelism.
    fn session(&self, path: &Path, provider: Provider) -> Result<Session, ort::Error> {
        // Higher levels are slower on CPUs (`benches/baselines/run levels`). The level is the same for all providers,
        // as the embeddings of a quantized encoder can change with it.
        let builder = Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::Level1)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?;
        let mut builder = match provider {
            Provider::Cpu => builder,
            Provider::Cuda => {
                builder.with_execution_providers([ep::CUDA::default().build().error_on_failure()])?
            }
            Provider::Tensorrt => {
                builder.with_execution_providers([ep::TensorRT::default().build().error_on_failure()])?
            }
        };
        builder.commit_from_file(path)
    }
}
