//! One function per verb, free of any transport: the same answer over HTTP and gRPC.
//!
//! The module owns the path of a request: check, tokenize, encode, score every head, route. It deliberately knows no
//! status code, no header and no socket.

mod apply_events;
mod elicit;
mod evidence;
mod export;
mod feedback;
mod handle;
mod merge;
mod pipeline;
mod population;
mod question_margins;
mod rank;
mod relearn;
mod remember;
mod resolve;
mod score;
mod transfer;
mod users;
mod work;

use std::sync::Arc;

use crate::batch::{EmbeddingCache, Queue, Workers};
use crate::model::Bundle;
use crate::state::{Accounts, LedgerId, Receipts, StoreError, UserKeys, UserStore};
use crate::telemetry::metric;
use crate::types::config::{Feedback, Population, Posterior};
use crate::types::{Clock, Error, ErrorKind, HeadsFingerprint, ModelView, key64};

pub use apply_events::{EventAcks, ParsedEvent, rejected};
pub use handle::{Model, ServiceHandle};

/// The parts that verbs need. There is one per served bundle, shared by all requests; state outlives the bundle.
pub struct Service {
    bundle: Arc<Bundle>,
    revision: String,
    heads: HeadsFingerprint,
    queue: Arc<Queue>,
    workers: Arc<Workers>,
    accounts: Arc<Accounts>,
    keys: UserKeys,
    receipts: Arc<Receipts>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    population: Arc<population::Population>,
    tokenizer_budget: Arc<pipeline::TokenizerBudget>,
    questions: question_margins::Questions,
}

/// The configuration of the verbs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Rules from evidence to weights.
    pub posterior: Posterior,
    /// Window of accepted event times.
    pub window: Feedback,
    /// Size and refresh interval of the sample of users.
    pub population: Population,
    /// Identity of the heads' ledgers.
    pub ledger_id: LedgerId,
    /// Length of the longest prompt or response, in bytes.
    pub max_text_bytes: usize,
}

impl Service {
    /// Creates a service over a model and a store for its K heads.
    pub fn new(
        model: Model,
        store: Arc<dyn UserStore>,
        receipts: Receipts,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let receipts = receipts.of_users(store.keys());
        let accounts = Arc::new(Accounts::new(store, clock.clone()));
        Self::over(model, accounts, Arc::new(receipts), clock, settings, Arc::default(), Arc::default())
    }

    /// Returns the same service with another model, over the same state.
    fn with(&self, model: Model) -> Self {
        let Self { accounts, receipts, clock, settings, population, tokenizer_budget, .. } = self;
        let (accounts, receipts, clock) = (accounts.clone(), receipts.clone(), clock.clone());
        Self::over(model, accounts, receipts, clock, *settings, population.clone(), tokenizer_budget.clone())
    }

    fn over(
        model: Model,
        accounts: Arc<Accounts>,
        receipts: Arc<Receipts>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        population: Arc<population::Population>,
        tokenizer_budget: Arc<pipeline::TokenizerBudget>,
    ) -> Self {
        let heads = model.heads();
        let Model { bundle, queue, workers } = model;
        let questions = question_margins::Questions::new(bundle.questions());
        let revision = bundle.manifest().revision.clone();
        Self {
            bundle,
            revision,
            heads,
            queue,
            workers,
            keys: accounts.store().keys(),
            accounts,
            receipts,
            clock,
            settings,
            population,
            tokenizer_budget,
            questions,
        }
    }

    /// Returns the identity of the bundle's heads.
    #[must_use]
    pub fn heads(&self) -> &HeadsFingerprint {
        &self.heads
    }

    /// Returns the threads that run the bundle's encoder.
    #[must_use]
    pub fn workers(&self) -> Arc<Workers> {
        self.workers.clone()
    }

    /// Returns the served bundle, with its queue and its threads.
    #[must_use]
    pub fn served(&self) -> Model {
        Model { bundle: self.bundle.clone(), queue: self.queue.clone(), workers: self.workers.clone() }
    }

    /// Returns the view of the served bundle.
    #[must_use]
    pub fn model(&self) -> ModelView {
        self.bundle.view()
    }

    /// Returns the number of users with a ledger, and of texts that wait for a model thread.
    #[must_use]
    pub fn gauges(&self) -> (usize, usize) {
        (self.accounts.store().n_users(), self.queue.depth())
    }

    /// Returns the number of responses remembered by id, and about how many bytes they hold.
    #[must_use]
    pub fn receipts(&self) -> (u64, u64) {
        self.receipts.size()
    }

    /// Returns the cache of embeddings, the same for every served bundle.
    #[must_use]
    pub fn cache(&self) -> Arc<EmbeddingCache> {
        self.queue.cache().clone()
    }

    /// Returns the users and their ids, for a rebuild of ledgers.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    fn revision(&self) -> String {
        self.revision.clone()
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Checks the size of a context. An empty one is none: templates send it where there is no criterion.
    fn check_context(&self, context: Option<String>) -> Result<Option<String>, Error> {
        if let Some(context) = &context {
            self.check_size(context, || "context".to_owned())?;
        }
        Ok(context.filter(|context| !context.is_empty()))
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

/// Returns the key of a context in ledgers.
fn context_key(context: Option<&str>) -> Option<u64> {
    context.map(|context| key64(context.as_bytes()))
}

fn unavailable(error: StoreError) -> Error {
    if error.is_of_one_row() {
        return unreadable().with_source(error);
    }
    metrics::counter!(metric::STORE_UNAVAILABLE).increment(1);
    Error::new(ErrorKind::StoreUnavailable, "the ledgers can't be read or written now").with_source(error)
}

/// Returns the error for a damaged row. A retry helps only after the row was repaired or the user erased.
fn unreadable() -> Error {
    Error::new(ErrorKind::Internal, "what is kept of this user can't be read").with_code("unreadable_row")
}
