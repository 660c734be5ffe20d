//! The Prometheus recorder: what every metric means, its buckets, and gauges that are read when asked.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;

use crate::service::Live;
use crate::types::{Liveness, ModelView, metric};

/// Histograms drop what they have sorted into buckets this often, scraped or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of this process.
#[derive(Clone)]
pub struct Recorder {
    handle: Option<PrometheusHandle>,
    live: Arc<OnceLock<Live>>,
    /// What `MODEL_INFO` says is served.
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
            describe();
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
        Self { handle: handle.clone(), live: Arc::default(), model: Arc::default(), liveness }
    }

    /// Whether the upkeep lives.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Reads gauges from this service from now on.
    pub fn follow(&self, live: Live) {
        self.live.get_or_init(|| live);
        self.note_model();
    }

    /// Says which bundle is served, after it has changed.
    pub fn note_model(&self) {
        let Some(live) = self.live.get() else { return };
        let mut model = self.model.lock();
        let info = |model: &ModelView| {
            let (name, revision) = (model.name.clone(), model.revision.clone());
            gauge!(metric::MODEL_INFO, "name" => name, "revision" => revision)
        };
        if let Some(replaced) = &*model {
            info(replaced).set(0.0);
        }
        let served = live.now().model();
        info(&served).set(1.0);
        *model = Some(served);
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(service) = self.live.get().map(Live::now) {
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
        self.handle.as_ref().map(PrometheusHandle::render).unwrap_or_default()
    }
}

/// A gauge that is higher by one for as long as this lives.
#[derive(Debug)]
pub struct Raised(&'static str);

impl Raised {
    /// Raises it.
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
    // 100 us to about 2 minutes, by factors of 2.
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

fn describe() {
    describe_counter!(metric::REQUESTS, "Requests answered, by route and status or gRPC code");
    describe_histogram!(metric::REQUEST_SECONDS, Unit::Seconds, "Time from head to head, by route");
    describe_gauge!(metric::INFLIGHT, "Requests being answered now");
    describe_gauge!(metric::CONNECTIONS, "Connections that are open now, on both ports");
    describe_counter!(metric::SHED, "Requests refused for load, by reason");
    describe_histogram!(
        metric::STAGE_SECONDS,
        Unit::Seconds,
        "Time per stage: look_up, tokenize and heads per request, route per request, population per sample of users, encode per batch, queue_and_encode per text"
    );
    describe_gauge!(metric::QUEUE_DEPTH, "Texts waiting for a model thread now");
    describe_counter!(metric::ABANDONED, "Texts never encoded because their caller had gone");
    describe_histogram!(metric::BATCH_TEXTS, "Texts per batch");
    describe_histogram!(metric::BATCH_TOKENS, "Tokens per batch, padding included");
    describe_counter!(
        metric::CACHE_LOOKUPS,
        "Different texts of requests looked up among those encoded before, by result: hit or miss"
    );
    describe_gauge!(metric::CACHED_TEXTS, "Texts whose embedding is kept now");
    describe_gauge!(metric::CACHE_BYTES, Unit::Bytes, "About how much memory they hold");
    describe_counter!(metric::TRUNCATED, "Texts of which only the end was encoded");
    describe_counter!(metric::RESPONSES, "Responses scored");
    describe_counter!(metric::FEEDBACK, "Feedback events, by result");
    describe_histogram!(metric::FEEDBACK_LAG_SECONDS, Unit::Seconds, "From an event's time to its ack");
    describe_histogram!(metric::EFFECTIVE_HEADS, "Effective heads of the weights that scored an item");
    describe_gauge!(metric::USERS, "Users with a ledger now");
    describe_histogram!(
        metric::STORE_SECONDS,
        Unit::Seconds,
        "Time per operation of the store: commit of the journal, checkpoint, get and swap of the shared store"
    );
    describe_gauge!(
        metric::JOURNAL_BYTES,
        Unit::Bytes,
        "Bytes of the journal's segments at the last checkpoint"
    );
    describe_gauge!(metric::RESIDENT_ROWS, "Rows in memory at the last checkpoint");
    describe_counter!(
        metric::STORE_UNAVAILABLE,
        "Times that the store could not be read or written for a request"
    );
    describe_counter!(
        metric::UNREADABLE_ROWS,
        "Times that a user's row was found damaged; the log says whose"
    );
    describe_gauge!(metric::RECEIPTS, "Responses remembered by id now");
    describe_gauge!(metric::RECEIPT_BYTES, Unit::Bytes, "About how much memory they hold");
    describe_gauge!(metric::STORE_UP, "1 while the shared store can be reached, 0 while it can't");
    describe_counter!(
        metric::STORE_CONFLICTS,
        "Swaps that found another row than was known here, and were made anew on it"
    );
    describe_counter!(
        metric::STALE_READS,
        "Rows that were older than promised, or missing, because the store could not be reached"
    );
    describe_counter!(
        metric::OUTBOX_REFUSED,
        "Changes that had waited in the outbox and can't be made any more, by reason: late, conflict, or unreadable_row, which are in `state.data_dir`/dead_letters"
    );
    describe_gauge!(metric::OUTBOX_EVENTS, "Changes that wait in the outbox for the shared store");
    describe_gauge!(metric::MODEL_INFO, "1 for the bundle that is served, 0 for those that it has replaced");
}
