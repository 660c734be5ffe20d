//! The model behind the service, and changing it while requests are answered.
//!
//! The law: a request takes the service once, at its beginning, and so has one bundle to its end. The last request of a
//! bundle that was replaced takes its model threads with it.

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
    /// Where texts wait for its encoder.
    pub queue: Arc<Queue>,
    /// Its model threads, which end with the last owner of this.
    pub workers: Arc<Workers>,
}

impl Model {
    /// What evidence and raw rewards depend on: bundles with the same can be served over the same ledgers.
    #[must_use]
    pub fn heads(&self) -> HeadsFingerprint {
        heads_fingerprint(self.bundle.manifest())
    }
}

/// The service as it is now. Clones see the same.
#[derive(Clone)]
pub struct ServiceHandle(Arc<ArcSwap<Service>>);

impl ServiceHandle {
    /// Begins with this service.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(service)))
    }

    /// The service for a request that begins now. What takes long and is made of many, such as a stream, takes it
    /// anew for each of them.
    #[must_use]
    pub fn current(&self) -> Arc<Service> {
        self.0.load_full()
    }

    /// Answers requests that begin from now on with another model, over the same ledgers: its heads must be the same.
    pub fn replace(&self, model: Model) {
        self.0.store(Arc::new(self.current().with(model)));
    }
}
