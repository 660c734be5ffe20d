//! Loads another bundle beside the one that is served, then serves it in its place.
//!
//! The law: a bundle that can't be served in place of the old one changes nothing. One reload runs at a time; it
//! continues when its caller disconnects.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::assembly::{self, LoadError};
use super::health::Health;
use super::recorder::Recorder;
use crate::service::{Model, ServiceHandle};
use crate::types::config::Config;
use crate::types::{Error, ErrorKind, ModelView};

/// A handle that replaces the bundle of a running server.
pub struct Reloader {
    handle: ServiceHandle,
    health: Arc<Health>,
    recorder: Recorder,
    config: Config,
    /// Lock that the reload in progress holds.
    turn: Arc<Mutex<()>>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Reloader {
    /// Creates a reloader for a server that is up.
    #[must_use]
    pub fn new(handle: ServiceHandle, health: Arc<Health>, recorder: Recorder, config: Config) -> Self {
        Self { handle, health, recorder, config, turn: Arc::default() }
    }

    /// Returns the service whose model is replaced.
    #[must_use]
    pub fn handle(&self) -> &ServiceHandle {
        &self.handle
    }

    /// Loads the bundle in `dir`, or the configured one again, and answers requests that begin from then on with it.
    ///
    /// # Errors
    /// `Conflict` while another reload is in progress, and for other heads than those of the ledgers; `Invalid` with
    /// all problems of the bundle. The old one is served as before.
    pub async fn reload(self: &Arc<Self>, dir: Option<PathBuf>) -> Result<ModelView, Error> {
        let Ok(turn) = self.turn.clone().try_lock_owned() else {
            let error = Error::new(ErrorKind::Conflict, "another reload is going on");
            return Err(error.with_code("reload_in_progress"));
        };
        let reloader = self.clone();
        let reload = tokio::spawn(async move {
            let reloaded = reloader.replace(dir).await;
            drop(turn);
            // The reader of this line may reload again, so that the turn ends before it.
            if let Ok(view) = &reloaded {
                tracing::info!(model = view.name, revision = view.revision, "reloaded");
            }
            reloaded
        });
        reload.await.unwrap_or_else(|error| Err(ended_early(error)))
    }

    /// Waits for the reload in progress; no other begins while the answer lives.
    pub async fn end(&self) -> OwnedMutexGuard<()> {
        self.turn.clone().lock_owned().await
    }

    async fn replace(&self, dir: Option<PathBuf>) -> Result<ModelView, Error> {
        let config = self.config.clone();
        let dir = dir.unwrap_or_else(|| config.model.bundle.clone());
        let service = self.handle.current();
        let (cache, served) = (service.cache(), service.served());
        drop(service);
        let load = tokio::task::spawn_blocking(move || assembly::load(&config, &dir, &cache, Some(&served)));
        let model = load.await.map_err(ended_early)?.map_err(unfit)?;
        self.check_heads(&model)?;
        self.health.loaded(model.workers.clone());
        self.handle.replace(model);
        self.recorder.note_model();
        Ok(self.handle.current().model())
    }

    /// Checks that the heads are the same: ledgers are sums of their scores.
    fn check_heads(&self, model: &Model) -> Result<(), Error> {
        let (found, service) = (model.heads(), self.handle.current());
        if found == *service.heads() {
            return Ok(());
        }
        let detail = format!(
            "found the heads {found}, expected {}, which the ledgers are of. To serve the others: stop the server, make \
             ledgers of them by `micro-reward rebuild --from DATA_DIR --to NEW_DIR --bundle BUNDLE`, and start it with \
             both",
            service.heads()
        );
        Err(Error::new(ErrorKind::Conflict, detail).with_code("other_heads").with_field("bundle"))
    }
}

fn unfit(error: LoadError) -> Error {
    match error {
        LoadError::Bundle(problems) => {
            Error::invalid_field("bundle", problems.to_string()).with_code("broken_bundle")
        }
        LoadError::Runtime(_) | LoadError::Measure(_) | LoadError::Threads(_) => {
            Error::new(ErrorKind::Internal, "the bundle could not be loaded").with_source(error)
        }
    }
}

fn ended_early(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "the reload ended early").with_source(error)
}
