//! The Prometheus recorder: the buckets of histograms, and gauges that each scrape reads.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::gauge;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

use crate::service::ServiceHandle;
use crate::telemetry::metric;
use crate::types::{Liveness, ModelView};

/// Time after which histograms drop the samples that they have sorted into buckets, scraped or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of this process.
#[derive(Clone)]
pub struct Recorder {
    prometheus: Option<PrometheusHandle>,
    service: Arc<OnceLock<ServiceHandle>>,
    /// The model that `MODEL_INFO` reports as served.
    model: Arc<Mutex<Option<ModelView>>>,
    liveness: Liveness,
}

impl Recorder {
    /// Installs the recorder; a process has one, however often this is called. Needs a tokio runtime.
    #[must_use]
    pub fn install() -> Self {
        static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let installed = builder().and_then(PrometheusBuilder::install_recorder);
            metric::describe();
            installed.inspect_err(|error| tracing::error!(%error, "there will be no metrics")).ok()
        });
        let liveness = Liveness::default();
        if let Some(handle) = handle.clone() {
            let part = liveness.part("the upkeep of metrics");
            tokio::spawn(async move {
                let _part = part;
                loop {
                    tokio::time::sleep(UPKEEP).await;
                    handle.run_upkeep();
                }
            });
        }
        Self { prometheus: handle.clone(), service: Arc::default(), model: Arc::default(), liveness }
    }

    /// Returns the liveness of the upkeep.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Reads gauges from this service in every scrape that follows.
    pub fn follow(&self, handle: ServiceHandle) {
        self.service.get_or_init(|| handle);
        self.note_model();
    }

    /// Reports the served bundle in `MODEL_INFO`, after it has changed.
    pub fn note_model(&self) {
        let Some(handle) = self.service.get() else { return };
        let mut model = self.model.lock();
        let info = |model: &ModelView| {
            let (name, revision) = (model.name.clone(), model.revision.clone());
            gauge!(metric::MODEL_INFO, "name" => name, "revision" => revision)
        };
        if let Some(replaced) = &*model {
            info(replaced).set(0.0);
        }
        let served = handle.current().model();
        info(&served).set(1.0);
        *model = Some(served);
    }

    /// Renders the metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(service) = self.service.get().map(ServiceHandle::current) {
            let (n_users, n_waiting) = service.gauges();
            gauge!(metric::USERS).set(n_users as f64);
            gauge!(metric::QUEUE_DEPTH).set(n_waiting as f64);
            let (n_receipts, receipt_bytes) = service.receipts();
            gauge!(metric::RECEIPTS).set(n_receipts as f64);
            gauge!(metric::RECEIPT_BYTES).set(receipt_bytes as f64);
            let (n_cached, cache_bytes) = service.cache().size();
            gauge!(metric::CACHED_TEXTS).set(n_cached as f64);
            gauge!(metric::CACHE_BYTES).set(cache_bytes as f64);
        }
        self.prometheus.as_ref().map(PrometheusHandle::render).unwrap_or_default()
    }
}

/// A gauge that is higher by one for as long as this lives.
#[derive(Debug)]
pub struct Raised(&'static str);

impl Raised {
    /// Raises the gauge.
    #[must_use]
    pub fn new(gauge: &'static str) -> Self {
        gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}

fn builder() -> Result<PrometheusBuilder, metrics_exporter_prometheus::BuildError> {
    use metrics_exporter_prometheus::Matcher::{Full, Suffix};
    // The buckets span 100 us to 52 s, by factors of 2.
    let seconds: Vec<f64> = (0..20).map(|i| 1e-4 * f64::from(1 << i)).collect();
    let counts: Vec<f64> = (0..16).map(|i| f64::from(1 << i)).collect();
    let lags = [0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0];
    let heads: Vec<f64> = (2..=16).map(|i| f64::from(i) / 2.0).collect();
    PrometheusBuilder::new()
        .set_buckets_for_metric(Suffix("_seconds".to_owned()), &seconds)?
        .set_buckets_for_metric(Full(metric::FEEDBACK_LAG_SECONDS.to_owned()), &lags)?
        .set_buckets_for_metric(Full(metric::BATCH_TEXTS.to_owned()), &counts)?
        .set_buckets_for_metric(Full(metric::BATCH_TOKENS.to_owned()), &counts)?
        .set_buckets_for_metric(Full(metric::EFFECTIVE_HEADS.to_owned()), &heads)
}
