//! One function per verb, free of any transport: the same answer over HTTP and gRPC.
//!
//! Owns the path of a request: check, tokenize, encode, score every head, route. Deliberately knows no status
//! code, no header and no socket.

mod apply_events;
mod elicit;
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
use crate::mixture::{Evidence, Weights};
use crate::model::Bundle;
use crate::state::{Accounts, Freshness, LedgerId, Receipts, Row, StoreError, UserKeys, UserStore};
use crate::telemetry::metric;
use crate::types::config::{Feedback, Population, Posterior};
use crate::types::{Clock, Error, ErrorKind, HeadsFingerprint, ModelView, Stale, UserId, key64};

pub use apply_events::{EventAcks, ParsedEvent, rejected};
pub use handle::{Model, ServiceHandle};

/// Everything a verb needs. One per bundle that is served, shared by all requests; state outlives the bundle.
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

/// What the configuration says about verbs.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// From evidence to weights.
    pub posterior: Posterior,
    /// Which event times are taken.
    pub window: Feedback,
    /// The sample of the users.
    pub population: Population,
    /// Of the heads' ledgers.
    pub ledger_id: LedgerId,
    /// The longest prompt or response, in bytes.
    pub max_text_bytes: usize,
}

impl Service {
    /// A service over a model and a store for its K heads.
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

    /// The same service with another model, over the same state.
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

    /// The identity of the bundle's heads.
    #[must_use]
    pub fn heads(&self) -> &HeadsFingerprint {
        &self.heads
    }

    /// The threads that run the bundle's encoder.
    #[must_use]
    pub fn workers(&self) -> Arc<Workers> {
        self.workers.clone()
    }

    /// The bundle that is served, with its queue and its threads.
    #[must_use]
    pub fn served(&self) -> Model {
        Model { bundle: self.bundle.clone(), queue: self.queue.clone(), workers: self.workers.clone() }
    }

    /// The bundle that is served.
    #[must_use]
    pub fn model(&self) -> ModelView {
        self.bundle.view()
    }

    /// How many users have a ledger, and how many texts wait for a model thread.
    #[must_use]
    pub fn gauges(&self) -> (usize, usize) {
        (self.accounts.store().n_users(), self.queue.depth())
    }

    /// How many responses are remembered by id, and about how many bytes they hold.
    #[must_use]
    pub fn receipts(&self) -> (u64, u64) {
        self.receipts.size()
    }

    /// The embeddings that are kept, whatever bundle is served.
    #[must_use]
    pub fn cache(&self) -> Arc<EmbeddingCache> {
        self.queue.cache().clone()
    }

    /// The users and their ids, for who makes ledgers anew.
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

    /// What is known of a user, no older than `min_version`, and how old it is if the store can't be reached.
    ///
    /// Without the store an older row does for whoever did not ask for a version, and for nobody who did.
    async fn row(
        &self,
        user: Option<&UserId>,
        min_version: u64,
    ) -> Result<(Option<Row>, Option<Stale>), Error> {
        let Some(user) = user else { return Ok((None, None)) };
        let reading = self.accounts.get(self.keys.of(user), min_version).await.map_err(unavailable)?;
        let age_ms = match reading.freshness {
            Freshness::Current => return Ok((reading.row, None)),
            Freshness::Stale(age) => Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            Freshness::Unknown => None,
        };
        metrics::counter!(metric::STALE_READS).increment(1);
        let version = reading.row.as_ref().map_or(0, |row| row.version);
        if version < min_version {
            metrics::counter!(metric::STORE_UNAVAILABLE).increment(1);
            let detail =
                format!("only version {version} of the user is known here, and no newer one can be read now");
            return Err(Error::new(ErrorKind::StoreUnavailable, detail).with_field("min_version"));
        }
        Ok((reading.row, Some(Stale { age_ms })))
    }

    /// What a row says as of now; without one, nothing.
    fn evidence(&self, row: Option<&Row>) -> Evidence {
        row.map_or_else(
            || Evidence::none(self.bundle.n_heads()),
            |row| row.ledgers.evidence(self.now_ms(), self.settings.posterior.decay),
        )
    }

    /// The weights of a user in general or in a context; without evidence, the prior's, floored.
    fn weights(&self, log_prior: &[f64], evidence: &Evidence, asked: Option<u64>) -> Weights {
        let Posterior { routing, transfer, .. } = self.settings.posterior;
        evidence.weights(log_prior, asked, routing, transfer)
    }

    /// A context that can be asked about. An empty one is none: templates send it where there is no criterion.
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

/// What ledgers know a context by.
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

/// A user's row is damaged. Sending it again does not help, other than after the row was mended or the user erased.
fn unreadable() -> Error {
    Error::new(ErrorKind::Internal, "what is kept of this user can't be read").with_code("unreadable_row")
}
