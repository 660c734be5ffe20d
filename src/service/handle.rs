//! Holds the model behind the service, and replaces it while requests are answered.
//!
//! The law: a request takes the service once, at its beginning, and so has one bundle to its end. The model threads
//! of a replaced bundle end with its last request.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Service;
use crate::batch::{Queue, Workers};
use crate::model::{Bundle, heads_fingerprint};
use crate::types::HeadsFingerprint;

/// A loaded bundle and the threads that run its encoder.
#[derive(Debug, Clone)]
pub struct Model {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// The queue of texts that wait for its encoder.
    pub queue: Arc<Queue>,
    /// Its model threads, which end with the last owner of this.
    pub workers: Arc<Workers>,
}

impl Model {
    /// Returns the identity on which evidence and raw rewards depend: bundles with the same one can be served
    /// over the same ledgers.
    #[must_use]
    pub fn heads(&self) -> HeadsFingerprint {
        heads_fingerprint(self.bundle.manifest())
    }
}

/// The current service, shared by all clones.
#[derive(Clone)]
pub struct ServiceHandle(Arc<ArcSwap<Service>>);

impl ServiceHandle {
    /// Creates a handle to this service.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(service)))
    }

    /// Returns the service for a request that begins now. Long work that consists of many requests, such as a stream,
    /// calls this for each of them.
    #[must_use]
    pub fn current(&self) -> Arc<Service> {
        self.0.load_full()
    }

    /// Answers requests that begin after this call with another model, over the same ledgers: its heads must be the
    /// same.
    pub fn replace(&self, model: Model) {
        self.0.store(Arc::new(self.current().with(model)));
    }
}
