//! The process: config -> bundle -> model threads -> service -> listeners -> drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::admission::{self, Admission};
use crate::batch::{Queue, QueueConfig, Workers};
use crate::health::Health;
use crate::metrics::Recorder;
use crate::model::{Bundle, BundleProblems, Runtime, RuntimeError, heads_fingerprint};
use crate::service::{Service, Settings};
use crate::state::{
    Embedded, EmbeddedConfig, Heads, MemoryStore, OpenError, RouterStore, Rules, ValkeyConfig, ValkeyStore,
};
use crate::types::config::{Config, Engine};
use crate::types::{Clock, Encode, key64};
use crate::{admin, grpc, http, observe, refusal};

/// Connections that may wait to be accepted: trainers open thousands at once.
const BACKLOG: u32 = 4096;

/// What a model thread gets to finish the batch it is at, once nobody awaits it.
const LAST_BATCH: Duration = Duration::from_secs(2);

/// What a probe or a scrape in flight gets.
const LAST_PROBE: Duration = Duration::from_millis(500);

/// A server that is up.
#[derive(Debug)]
pub struct App {
    /// Where traffic is served.
    pub address: SocketAddr,
    /// Where probes and metrics are served.
    pub admin_address: SocketAddr,
    health: Arc<Health>,
    workers: Arc<Workers>,
    store: Arc<dyn RouterStore>,
    traffic: Listener,
    /// What gRPC health checks are told.
    serving: grpc::Serving,
    admin: Listener,
    config: Config,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address can't be had.
    #[error("`{key}`: can't listen on {address}: {source}")]
    Listen {
        /// The config key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// ONNX Runtime can't be loaded.
    #[error("`model.onnxruntime_library`: {0}")]
    Runtime(#[from] RuntimeError),
    /// The bundle is not fit to serve.
    #[error("the bundle can't be served:\n{0}")]
    Bundle(#[from] BundleProblems),
    /// No thread for the model.
    #[error("the operating system gave no thread for the model: {0}")]
    Threads(std::io::Error),
    /// The data directory or the shared store can't be used.
    #[error("`state`: {0}")]
    State(#[from] OpenError),
    /// gRPC has no description of itself.
    #[error(transparent)]
    Grpc(#[from] grpc::DescriptorError),
    /// The loader ended early.
    #[error("the bundle's loader ended early")]
    Loader,
}

impl App {
    /// Loads the bundle and serves it. Both ports answer once this returns; probes answer before.
    ///
    /// # Errors
    /// When a port, the runtime or the bundle can't be had; nothing is left running.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let traffic = listen("server.listen", config.server.listen)?;
        let admin = listen("server.admin_listen", config.server.admin_listen)?;
        let (address, admin_address) = (local(&traffic, &config), local(&admin, &config));

        let health = Arc::new(Health::new(config.stall_limit));
        let recorder = Recorder::install();
        let admin =
            Listener::spawn(admin, admin::routes(health.clone(), recorder.clone()), watch::channel(false));

        let (bundle, encoders) = load(&config).await?;
        let queue = Arc::new(Queue::new(QueueConfig {
            max_batch_tokens: config.batch.tokens.get(),
            max_texts: config.batch.queue_texts.get(),
        }));
        let workers = Arc::new(Workers::spawn(&queue, encoders).map_err(StartError::Threads)?);
        let heads = heads(&config, &bundle);
        let store = open_store(&config, heads, clock.clone()).await?;
        let settings = Settings {
            router: config.router,
            window: config.feedback,
            population: config.population,
            receipts: config.receipts,
            heads: heads.key,
            max_text_bytes: config.server.max_text_bytes.get(),
        };
        let view = bundle.view();
        let service = Arc::new(Service::new(bundle, queue, store.clone(), clock, settings));
        recorder.follow(service.clone());
        let stop = watch::channel(false);
        let (routes, serving) = routes(service, &config, &stop.1).await?;
        let traffic = Listener::spawn(traffic, routes, stop);
        health.loaded(workers.clone(), store.clone());
        tracing::info!(%address, %admin_address, model = view.name, revision = view.revision,
            heads = view.heads.len(), model_threads = config.batch.threads, "ready");
        Ok(Self { address, admin_address, health, workers, store, traffic, serving, admin, config })
    }

    /// Stops within `linger + drain_timeout` and 2.5 s: says not ready, lingers, finishes what is in flight, ends.
    pub async fn stop(self) {
        let shutdown = self.config.shutdown;
        self.health.drain();
        self.serving.stop().await;
        tracing::info!(linger = ?shutdown.linger, drain_timeout = ?shutdown.drain_timeout, "draining");
        tokio::time::sleep(shutdown.linger).await;
        if !self.traffic.close(shutdown.drain_timeout).await {
            tracing::warn!("requests were still in flight at the end of the drain timeout");
        }
        self.store.close().await;
        let workers = self.workers;
        let joined = tokio::task::spawn_blocking(move || workers.stop());
        if !matches!(tokio::time::timeout(LAST_BATCH, joined).await, Ok(Ok(()))) {
            tracing::warn!("a model thread is stuck and is left behind");
        }
        self.admin.close(LAST_PROBE).await;
        tracing::info!("stopped");
    }
}

async fn load(config: &Config) -> Result<(Arc<Bundle>, Vec<Box<dyn Encode>>), StartError> {
    let (model, n_encoders) = (config.model.clone(), config.batch.threads.get());
    let load = move || -> Result<_, StartError> {
        let runtime = Runtime::load(&model.onnxruntime_library)?;
        Ok(Bundle::load(&runtime, &model.bundle, n_encoders)?)
    };
    let (bundle, encoders) = tokio::task::spawn_blocking(load).await.map_err(|_| StartError::Loader)??;
    let encoders = encoders.into_iter().map(|encoder| Box::new(encoder) as Box<dyn Encode>).collect();
    Ok((Arc::new(bundle), encoders))
}

/// Whose ledgers these are: sums of another half-life mean something else, as those of other heads do.
fn heads(config: &Config, bundle: &Bundle) -> Heads {
    let key = format!("{} {:?}", heads_fingerprint(bundle.manifest()), config.router.decay);
    Heads { n_heads: bundle.n_heads(), key: key64(key.as_bytes()) }
}

async fn open_store(
    config: &Config,
    heads: Heads,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn RouterStore>, StartError> {
    let rules = Rules {
        n_heads: heads.n_heads,
        decay: config.router.decay,
        max_age_ms: i64::try_from(config.feedback.max_age.as_millis()).unwrap_or(i64::MAX),
        max_events: config.feedback.max_events.get(),
    };
    let state = &config.state;
    match state.engine {
        Engine::Memory => Ok(Arc::new(MemoryStore::new(rules, state.max_users))),
        Engine::Embedded => {
            let config = EmbeddedConfig {
                dir: state.data_dir.clone(),
                heads,
                rules,
                max_users: state.max_users.get(),
                resident_users: state.resident_users.get(),
                is_sync: state.is_sync,
                checkpoint_every: state.checkpoint_every,
                retention: config.events.retention,
                erase_within: config.events.erase_within,
            };
            let open = tokio::task::spawn_blocking(move || Embedded::open(config, clock));
            Ok(Arc::new(open.await.map_err(|_| StartError::Loader)??))
        }
        Engine::Valkey => {
            let valkey = &config.valkey;
            let ca_pem = valkey.ca_file.as_ref().map(std::fs::read).transpose();
            let ca_pem = ca_pem.map_err(|error| OpenError::Valkey(format!("`valkey.ca_file`: {error}")))?;
            let config = ValkeyConfig {
                urls: valkey.urls.clone(),
                is_cluster: valkey.is_cluster,
                username: valkey.username.clone(),
                password: valkey.password.clone(),
                ca_pem,
                prefix: valkey.prefix.clone(),
                connect_timeout: valkey.connect_timeout,
                response_timeout: valkey.response_timeout,
                max_staleness: state.max_staleness,
                heads,
                rules,
                max_users: state.max_users.get(),
                cached_users: state.resident_users.get(),
                outbox: (!state.data_dir.as_os_str().is_empty()).then(|| state.data_dir.clone()),
                is_sync: state.is_sync,
            };
            Ok(Arc::new(ValkeyStore::open(config).await?))
        }
    }
}

/// Every traffic route with the layers around it, outermost last. Streams end when `stopped` turns true.
async fn routes(
    service: Arc<Service>,
    config: &Config,
    stopped: &grpc::Stopped,
) -> Result<(Router, grpc::Serving), grpc::DescriptorError> {
    let max_body_bytes = config.server.max_body_bytes.get();
    let admission = Admission::new(config.server.max_concurrent_requests, config.server.request_timeout);
    let verbs = http::routes(service.clone())
        .merge(grpc::routes(service, max_body_bytes, stopped)?)
        .layer(DefaultBodyLimit::max(max_body_bytes))
        // A panic of one request must not reach the metrics and the log as a dropped connection.
        .layer(CatchPanicLayer::custom(observe::panicked))
        // Within the observation, so that what is shed is counted and logged like any answer.
        .layer(middleware::from_fn_with_state(admission, admission::admit));
    // Health has to answer under load as well: it needs no permit.
    let (standard, serving) = grpc::standard(stopped).await?;
    let routes = verbs
        .merge(standard)
        // Around all that refuses, within the observation, which sees what the caller sees.
        .layer(middleware::from_fn(refusal::translate))
        .layer(middleware::from_fn(observe::observe))
        // The id is set before anything is logged and copied after everything is answered.
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    Ok((routes, serving))
}

/// A listening port and the task that serves it. Dropping it closes the port at once.
#[derive(Debug)]
struct Listener {
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Listener {
    fn spawn(
        listener: TcpListener,
        routes: Router,
        (stop, mut stopped): (watch::Sender<bool>, watch::Receiver<bool>),
    ) -> Self {
        let until_stopped = async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
        };
        let serve = axum::serve(listener, routes).with_graceful_shutdown(until_stopped);
        Self { stop, task: tokio::spawn(serve.into_future()) }
    }

    /// Stops accepting and waits for what is in flight; false if that took longer than `limit`.
    async fn close(mut self, limit: Duration) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(limit, &mut self.task).await.is_ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_nodelay(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| StartError::Listen { key, address, source })
}

fn local(listener: &TcpListener, config: &Config) -> SocketAddr {
    listener.local_addr().unwrap_or(config.server.listen)
}
