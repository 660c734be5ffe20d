//! Whether the process is ready, draining, alive.
//!
//! The laws: ready means that the bundle is loaded and warmed up, and draining ends it for ever; alive means that
//! every background thread and task lives and no model thread is stuck. A busy server is alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::batch::Workers;
use crate::state::RouterStore;
use crate::types::Liveness;

/// The state behind the probes.
#[derive(Debug)]
pub struct Health {
    workers: ArcSwapOption<Workers>,
    store: OnceLock<Arc<dyn RouterStore>>,
    /// Of everything but model threads, which a reload replaces.
    parts: Mutex<Vec<Liveness>>,
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
            parts: Mutex::default(),
            is_draining: AtomicBool::new(false),
            stall_limit,
        }
    }

    /// This is where ledgers live.
    pub fn opened(&self, store: Arc<dyn RouterStore>) {
        self.watch(store.liveness());
        self.store.get_or_init(|| store);
    }

    /// The process is not alive without these.
    pub fn watch(&self, parts: Liveness) {
        self.parts.lock().push(parts);
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

    /// Why only restarting the process would help, if it would.
    #[must_use]
    pub fn not_alive(&self) -> Option<Arc<str>> {
        if self.is_draining.load(Ordering::Relaxed) {
            return None;
        }
        let workers = self.workers.load();
        let of_workers = || workers.as_ref().and_then(|workers| workers.liveness().trouble());
        let is_stuck = || workers.as_ref().is_some_and(|workers| !workers.are_moving(self.stall_limit));
        let dead = self.parts.lock().iter().find_map(Liveness::trouble).or_else(of_workers);
        dead.or_else(|| is_stuck().then(|| "a model thread is stuck".into()))
    }

    /// The process ends: what ends from now on is meant to.
    pub fn retire(&self) {
        self.parts.lock().iter().for_each(Liveness::retire);
    }
}
