//! Builds the parts of a process: `serve` starts with them, a reload builds the model, `rebuild` uses them offline.
//!
//! One place for all three makes the ledgers of a rebuild the ones that `serve` looks for.

use std::path::Path;
use std::sync::Arc;

use crate::batch::{Budgets, EmbeddingCache, Encoders, Measured, Queue, QueueConfig, Workers};
use crate::model::{Bundle, BundleProblems, Encoder, Runtime, RuntimeError};
use crate::service::{Model, Settings};
use crate::state::{EmbeddedConfig, LedgerId, OpenError, Receipts, RowRules, ValkeyConfig};
use crate::types::config::Config;
use crate::types::{Clock, Encode, key64};

/// The reason that there is no model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// ONNX Runtime can't be loaded.
    #[error("`model.onnxruntime_library`: {0}")]
    Runtime(#[from] RuntimeError),
    /// The bundle is not fit to serve.
    #[error("the bundle can't be served:\n{0}")]
    Bundle(#[from] BundleProblems),
    /// The encoder fails on a text of some length.
    #[error("the encoder's speed can't be measured: {0}")]
    Measure(String),
    /// There is no thread for the model.
    #[error("the operating system gave no thread for the model: {0}")]
    Threads(#[from] std::io::Error),
}

/// Loads the bundle in `dir`, warmed up and measured, with its model threads. The measurement of `served` is reused
/// for the same encoder: under load, a new one would measure how busy the device is. Blocks.
///
/// # Errors
/// All problems of the bundle at once; no thread is left running.
pub fn load(
    config: &Config,
    dir: &Path,
    cache: &Arc<EmbeddingCache>,
    served: Option<&Model>,
) -> Result<Model, LoadError> {
    let runtime = Runtime::load(&config.model.onnxruntime_library)?;
    let runtime = runtime.with_providers(config.model.execution_providers.clone());
    let (n_threads, n_small) = (config.batch.threads.get(), config.batch.interactive_threads);
    let (bundle, mut encoders) = Bundle::load(&runtime, dir, n_threads + n_small)?;
    let known = served.filter(|served| served.bundle.encoder_revision() == bundle.encoder_revision());
    let Measured { budgets, seconds_per_token } = match known {
        Some(served) => served.queue.measured(),
        None => measure(&bundle, &mut encoders[0])?,
    };
    let may_batch = encoders[0].may_batch();
    // An encoder that takes texts one by one gains nothing from a batch, whose first text would only wait for the last.
    let fixed = config.batch.tokens.filter(|_| may_batch);
    let budgets = fixed.map_or(budgets, |tokens| Budgets::fixed(tokens.get()));
    let how = if known.is_some() { "measured before" } else { "measured" };
    tracing::info!(batches = %budgets, may_batch, tokens_per_second = n_threads as f64 / seconds_per_token, "{how}");
    let max_texts = config.batch.max_queued_texts.get();
    let queue = QueueConfig { budgets, max_texts, n_threads, seconds_per_token };
    let queue = Arc::new(Queue::new(queue, cache.clone()));
    let mut all: Vec<_> = encoders.into_iter().map(|encoder| Box::new(encoder) as Box<dyn Encode>).collect();
    let small = all.split_off(n_threads);
    let encoders = Encoders { all, small };
    let workers = Arc::new(Workers::spawn(&queue, encoders)?);
    Ok(Model { bundle: Arc::new(bundle), queue, workers })
}

fn measure(bundle: &Bundle, encoder: &mut Encoder) -> Result<Measured, LoadError> {
    let sample = bundle.sample().map_err(|error| LoadError::Measure(error.to_string()))?;
    let max_tokens = bundle.manifest().encoder.max_tokens;
    Budgets::measure(encoder, &sample, max_tokens).map_err(|error| LoadError::Measure(error.to_string()))
}

/// Returns the settings of the verbs, over the ledgers of this model.
#[must_use]
pub fn settings(config: &Config, model: &Model) -> Settings {
    Settings {
        posterior: config.posterior,
        window: config.feedback,
        population: config.population,
        ledger_id: ledger_id(config, model),
        max_text_bytes: config.server.max_text_bytes.get(),
    }
}

/// Returns the rules of the rows.
#[must_use]
pub fn rules(config: &Config, model: &Model) -> RowRules {
    RowRules {
        n_heads: model.bundle.n_heads(),
        decay: config.posterior.decay,
        max_age_ms: i64::try_from(config.feedback.max_age.as_millis()).unwrap_or(i64::MAX),
        max_events: config.feedback.max_events.get(),
    }
}

/// Returns the identity of the ledgers: sums of another half-life mean something else, as those of other heads do.
#[must_use]
pub fn ledger_id(config: &Config, model: &Model) -> LedgerId {
    let key = format!("{} {:?}", model.heads(), config.posterior.decay);
    LedgerId { n_heads: model.bundle.n_heads(), key: key64(key.as_bytes()) }
}

/// Creates the receipts.
///
/// # Errors
/// The reason that the directory for them can't be used.
pub fn receipts(config: &Config, now_ms: i64) -> Result<Receipts, OpenError> {
    let bounds = config.responses;
    match bounds.is_persisted {
        true => Receipts::kept_in(&config.state.data_dir.join("receipts"), bounds, now_ms),
        false => Ok(Receipts::new(bounds)),
    }
}

/// Returns the configuration of the embedded engine for a model, in the configured directory.
#[must_use]
pub fn embedded(config: &Config, model: &Model) -> EmbeddedConfig {
    let state = &config.state;
    EmbeddedConfig {
        dir: state.data_dir.clone(),
        ledger_id: ledger_id(config, model),
        rules: rules(config, model),
        max_users: state.max_users.get(),
        resident_users: state.resident_users.get(),
        is_sync: state.is_sync,
        checkpoint_every: state.checkpoint_every,
        retention: config.events.retention,
        erase_within: config.events.erase_within,
    }
}

/// Returns the configuration of the shared engine for a model.
///
/// # Errors
/// The reason that the file of certificates can't be read.
pub fn valkey(config: &Config, model: &Model, clock: Arc<dyn Clock>) -> Result<ValkeyConfig, OpenError> {
    let (state, valkey) = (&config.state, &config.valkey);
    let ca_pem = valkey.ca_file.as_ref().map(std::fs::read).transpose();
    Ok(ValkeyConfig {
        urls: valkey.urls.clone(),
        is_cluster: valkey.is_cluster,
        username: valkey.username.clone(),
        password: valkey.password.clone(),
        user_key: valkey.user_key.clone(),
        ca_pem: ca_pem.map_err(|error| OpenError::Valkey(format!("`valkey.ca_file`: {error}")))?,
        prefix: valkey.prefix.clone(),
        connect_timeout: valkey.connect_timeout,
        response_timeout: valkey.response_timeout,
        max_staleness: state.max_staleness,
        ledger_id: ledger_id(config, model),
        rules: rules(config, model),
        max_users: state.max_users.get(),
        cached_users: state.resident_users.get(),
        outbox: (!state.data_dir.as_os_str().is_empty()).then(|| state.data_dir.clone()),
        is_sync: state.is_sync,
        erase_within: config.events.erase_within,
        clock,
    })
}
