//! Whether the process is ready, draining, alive.
//!
//! The laws: ready means that the bundle is loaded and warmed up, and draining ends it for ever; alive means that
//! every model thread lives and none is stuck. A busy server is alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::batch::Workers;
use crate::state::RouterStore;

/// The state behind the probes.
#[derive(Debug)]
pub struct Health {
    workers: ArcSwapOption<Workers>,
    store: OnceLock<Arc<dyn RouterStore>>,
    is_draining: AtomicBool,
    stall_limit: Duration,
}

impl Health {
    /// Not ready yet.
    #[must_use]
    pub fn new(stall_limit: Duration) -> Self {
        Self {
            workers: ArcSwapOption::empty(),
            store: OnceLock::new(),
            is_draining: AtomicBool::new(false),
            stall_limit,
        }
    }

    /// This is where ledgers live.
    pub fn opened(&self, store: Arc<dyn RouterStore>) {
        self.store.get_or_init(|| store);
    }

    /// The bundle is loaded, warmed up, and these threads run it from now on.
    pub fn loaded(&self, workers: Arc<Workers>) {
        self.workers.store(Some(workers));
    }

    /// No new traffic, please.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Why the process is not ready, if it is not.
    #[must_use]
    pub fn not_ready(&self) -> Option<&'static str> {
        match (self.workers.load().is_some(), self.is_draining.load(Ordering::Relaxed)) {
            (_, true) => Some("draining"),
            (false, false) => Some("loading the bundle"),
            (true, false) => None,
        }
    }

    /// What is wrong with the store. It makes no replica less ready: scoring goes on, and all would leave at once.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.store.get().and_then(|store| store.trouble())
    }

    /// Whether restarting the process would not help.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
            || self.workers.load().as_ref().is_none_or(|workers| workers.are_healthy(self.stall_limit))
    }
}
