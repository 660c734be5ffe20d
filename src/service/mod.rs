//! One function per verb, free of any transport: the same answer over HTTP and whatever comes later.
//!
//! Owns the path of a request: check, tokenise, encode, score every head, route. Deliberately knows no status
//! code, no header and no socket.

mod feedback;
mod judge;
mod rank;
mod score;
mod users;

use std::sync::Arc;

use crate::batch::Queue;
use crate::mixture::Weights;
use crate::model::Bundle;
use crate::state::{RouterStore, Row, StoreError};
use crate::types::config::{FeedbackWindow, Router};
use crate::types::{Clock, Error, ErrorKind, ModelView, UserId};

/// Everything a verb needs. One per process, shared by all requests.
pub struct Service {
    bundle: Arc<Bundle>,
    queue: Arc<Queue>,
    store: Arc<dyn RouterStore>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

/// What the configuration says about verbs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// From evidence to weights.
    pub router: Router,
    /// Which event times are taken.
    pub window: FeedbackWindow,
    /// The longest prompt or response, in bytes.
    pub max_text_bytes: usize,
}

impl Service {
    /// A service over a loaded bundle, the queue of its model threads, and a store for its K heads.
    pub fn new(
        bundle: Arc<Bundle>,
        queue: Arc<Queue>,
        store: Arc<dyn RouterStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        Self { bundle, queue, store, clock, settings }
    }

    /// The bundle that is served.
    #[must_use]
    pub fn model(&self) -> ModelView {
        self.bundle.view()
    }

    /// How many users have a ledger, and how many texts wait for a model thread.
    #[must_use]
    pub fn gauges(&self) -> (usize, usize) {
        (self.store.n_users(), self.queue.depth())
    }

    fn revision(&self) -> String {
        self.bundle.manifest().revision.clone()
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    async fn row(&self, user: Option<&UserId>) -> Result<Option<Row>, Error> {
        match user {
            Some(user) => self.store.get(user).await.map_err(unavailable),
            None => Ok(None),
        }
    }

    /// `w(u, x) = softmax(log pi(x) + eta L_u)`, floored; without a row, the prior alone.
    fn weights(&self, log_prior: &[f64], row: Option<&Row>) -> Weights {
        let Router { routing, decay } = self.settings.router;
        let evidence =
            row.map_or_else(|| vec![0.0; log_prior.len()], |row| row.ledger.evidence(self.now_ms(), decay));
        Weights::posterior(log_prior, &evidence, routing)
    }

    fn check_size(&self, text: &str, field: impl FnOnce() -> String) -> Result<(), Error> {
        let (found, limit) = (text.len(), self.settings.max_text_bytes);
        if found <= limit {
            return Ok(());
        }
        let detail = format!("found a text of {found} bytes, expected at most {limit}");
        Err(Error::new(ErrorKind::TooLarge, detail).with_field(field()))
    }
}

fn unavailable(error: StoreError) -> Error {
    Error::new(ErrorKind::StoreUnavailable, "the ledgers can't be read or written now").with_source(error)
}
