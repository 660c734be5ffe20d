//! Tracks whether the process is ready, draining, alive.
//!
//! The laws: ready means that the bundle is loaded and warmed up and that some model thread can take a text, and
//! draining ends readiness forever; alive means that every background thread and task lives and no model thread is
//! stuck. A busy server is both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::batch::Workers;
use crate::state::UserStore;
use crate::types::Liveness;

/// The state behind the probes.
#[derive(Debug)]
pub struct Health {
    workers: ArcSwapOption<Workers>,
    store: OnceLock<Arc<dyn UserStore>>,
    /// Liveness of every part but the model threads, which a reload replaces.
    parts: Mutex<Vec<Liveness>>,
    is_draining: AtomicBool,
    stall_limit: Duration,
}

impl Health {
    /// Creates the state of a process that is not ready yet.
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

    /// Sets the store of the ledgers, and watches its liveness.
    pub fn opened(&self, store: Arc<dyn UserStore>) {
        self.watch(store.liveness());
        self.store.get_or_init(|| store);
    }

    /// Adds parts without which the process is not alive.
    pub fn watch(&self, parts: Liveness) {
        self.parts.lock().push(parts);
    }

    /// Marks the bundle as loaded and warmed up; these threads run it.
    pub fn loaded(&self, workers: Arc<Workers>) {
        self.workers.store(Some(workers));
    }

    /// Marks the process as draining.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Returns the reason that the process is not ready, if it is not.
    #[must_use]
    pub fn not_ready(&self) -> Option<&'static str> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Some("draining");
        }
        match &*self.workers.load() {
            None => Some("loading the bundle"),
            Some(workers) if !workers.are_serving(self.stall_limit) => {
                Some("every model thread has been at one batch for longer than `health.stall_limit`")
            }
            Some(_) => None,
        }
    }

    /// Returns the trouble of the store, if any. It makes no replica less ready: scoring continues, and all
    /// would leave at once.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.store.get().and_then(|store| store.trouble())
    }

    /// Returns the reason that only a restart of the process would help, if it would.
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

    /// Marks the process as ending: a part that ends after this call is meant to.
    pub fn retire(&self) {
        self.parts.lock().iter().for_each(Liveness::retire);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::batch::{Budgets, EmbeddingCache, Encoders, Queue, QueueConfig};
    use crate::types::{Embedding, Encode, EncodeError, Kept, TextKey, Tokens};

    /// An encoder that waits until it is released.
    struct Held(Receiver<()>);

    impl Encode for Held {
        fn encode(&mut self, _: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
            let _ = self.0.recv();
            Err(EncodeError::Gone)
        }
    }

    #[test]
    fn while_every_model_thread_is_stuck_it_is_not_ready_and_once_one_is_not_it_is() {
        let config =
            QueueConfig { budgets: Budgets::fixed(1), max_texts: 10, n_threads: 2, seconds_per_token: 0.01 };
        let queue = Arc::new(Queue::new(config, Arc::new(EmbeddingCache::new(0))));
        let (let_go, held): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
        let mut held = held.into_iter().map(|held| Box::new(Held(held)) as Box<dyn Encode>);
        let encoders = Encoders { all: held.by_ref().take(2).collect(), small: held.collect() };
        let workers = Arc::new(Workers::spawn(&queue, encoders).unwrap());
        let health = Health::new(Duration::from_millis(1));
        assert_eq!(health.not_ready(), Some("loading the bundle"));
        health.loaded(workers.clone());
        assert_eq!(health.not_ready(), None);
        let text =
            |id| (TextKey([id; 16]), Tokens { ids: vec![1], type_ids: vec![0], kept: Kept::default() });
        let mut ticket = queue.open(2, None).unwrap();
        ticket.push(vec![text(1), text(2)]);
        // The thread for small requests is idle: it takes nothing while the others are busy with small ones.
        while health.not_ready().is_none() {
            std::thread::yield_now();
        }
        assert!(health.not_ready().unwrap().contains("health.stall_limit"));
        let_go[0].send(()).unwrap();
        let_go[1].send(()).unwrap();
        while health.not_ready().is_some() || health.not_alive().is_some() {
            std::thread::yield_now();
        }
        drop(let_go);
        workers.stop();
    }
}
