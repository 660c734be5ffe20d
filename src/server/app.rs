//! The process: config -> bundle -> model threads -> service -> listeners -> drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::admin::{self, Started};
use super::assembly::{self, LoadError};
use super::connections::{self, Limits, Port};
use super::health::Health;
use super::layers::{self, Admission};
use super::recorder::Recorder;
use super::reload::Reloader;
use crate::batch::EmbeddingCache;
use crate::service::{Model, Service, ServiceHandle};
use crate::state::{Embedded, MemoryStore, OpenError, UserStore, ValkeyStore};
use crate::transport::shared::streams::Stopped;
use crate::transport::{grpc, http};
use crate::types::config::{Config, Engine};
use crate::types::{Bodies, Clock};

/// Connections of the admin port: probes, scrapes and operators.
const ADMIN_CONNECTIONS: usize = 256;

/// Descriptors reserved for everything but connections.
const OTHER_DESCRIPTORS: u64 = 512;

/// Time for a model thread to finish its batch, once no caller awaits it.
const LAST_BATCH: Duration = Duration::from_secs(2);

/// Time for a reload in flight.
const LAST_RELOAD: Duration = Duration::from_secs(10);

/// Time for a probe or a scrape in flight.
const LAST_PROBE: Duration = Duration::from_millis(500);

/// A server that is up.
#[derive(Debug)]
pub struct App {
    /// Address of the traffic port.
    pub address: SocketAddr,
    /// Address of the admin port.
    pub admin_address: SocketAddr,
    health: Arc<Health>,
    reloader: Arc<Reloader>,
    store: Arc<dyn UserStore>,
    traffic: Port,
    /// Status of the gRPC health checks.
    serving: grpc::Serving,
    admin: Port,
    config: Config,
}

/// The reason that the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener can't have its address.
    #[error("`{key}`: can't listen on {address}: {source}")]
    Listen {
        /// The config key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The model can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The data directory or the shared store can't be used.
    #[error("`state`: {0}")]
    State(#[from] OpenError),
    /// The descriptors of gRPC can't be read.
    #[error(transparent)]
    Grpc(#[from] grpc::DescriptorError),
    /// A thread of the start panicked.
    #[error("loading {0} ended early")]
    EndedEarly(&'static str),
}

impl App {
    /// Loads the bundle and serves it. Both ports answer once this returns; probes answer before.
    ///
    /// # Errors
    /// The reason that a port, the runtime, the bundle or the store can't be used; no part is left running.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let health = Arc::new(Health::new(config.health.stall_limit));
        let started = Self::begin(config, clock, health.clone()).await;
        // The parts that have begun end as well, which is no failure of theirs.
        started.inspect_err(|_| health.retire())
    }

    async fn begin(config: Config, clock: Arc<dyn Clock>, health: Arc<Health>) -> Result<Self, StartError> {
        let traffic = listen("server.listen", config.server.listen)?;
        let admin = listen("server.admin_listen", config.server.admin_listen)?;
        let address = traffic.local_addr().unwrap_or(config.server.listen);
        let admin_address = admin.local_addr().unwrap_or(config.server.admin_listen);

        let recorder = Recorder::install();
        health.watch(recorder.liveness());
        let started = Started::default();
        let limits = |max_connections| Limits {
            max_connections,
            idle_timeout: config.server.idle_timeout,
            write_timeout: config.server.write_timeout,
        };
        let routes_of_admin =
            admin::routes(health.clone(), recorder.clone(), started.clone(), bodies(&config));
        let admin = Port::spawn(admin, routes_of_admin, limits(ADMIN_CONNECTIONS), watch::channel(false));
        health.watch(admin.liveness());

        let model = load(&config).await?;
        let store = open_store(&config, &model, clock.clone()).await?;
        let receipts = assembly::receipts(&config, clock.now().as_millisecond())?;
        health.watch(receipts.liveness());
        let (workers, settings) = (model.workers.clone(), assembly::settings(&config, &model));
        let handle = ServiceHandle::new(Service::new(model, store.clone(), receipts, clock, settings));
        recorder.follow(handle.clone());
        let stop = watch::channel(false);
        let (routes, serving) = routes(&handle, &config, &stop.1).await?;
        let traffic = Port::spawn(traffic, routes, limits(max_connections(&config)), stop);
        health.watch(traffic.liveness());
        health.opened(store.clone());
        health.loaded(workers);
        let view = handle.current().model();
        let reloader = Arc::new(Reloader::new(handle, health.clone(), recorder, config.clone()));
        started.get_or_init(|| reloader.clone());
        tracing::info!(%address, %admin_address, model = view.name, revision = view.revision,
            heads = view.heads.len(), model_threads = config.batch.threads, "ready");
        Ok(Self { address, admin_address, health, reloader, store, traffic, serving, admin, config })
    }

    /// Loads the configured bundle again, beside all other work; the log has the result.
    pub fn reload(&self) {
        let reloader = self.reloader.clone();
        tokio::spawn(async move {
            if let Err(error) = reloader.reload(None).await {
                tracing::error!(code = error.code(), "not reloaded: {error}");
            }
        });
    }

    /// Stops: reports not ready, waits `ready_delay`, finishes the requests in flight, saves the state, ends. Takes
    /// at most `ready_delay + drain_timeout`, 2.5 s (12.5 s during a reload), and the time of a last checkpoint,
    /// which a kill may cut short without loss.
    pub async fn stop(self) {
        let shutdown = self.config.shutdown;
        self.health.drain();
        self.serving.stop().await;
        tracing::info!(ready_delay = ?shutdown.ready_delay, drain_timeout = ?shutdown.drain_timeout, "draining");
        tokio::time::sleep(shutdown.ready_delay).await;
        if !self.traffic.close(shutdown.drain_timeout).await {
            tracing::warn!("requests were still in flight at the end of the drain timeout");
        }
        self.store.close().await;
        // An exit while ONNX Runtime loads a bundle would unload the library in use.
        let no_reload = tokio::time::timeout(LAST_RELOAD, self.reloader.end()).await;
        if no_reload.is_err() {
            tracing::warn!("a reload is stuck and is left behind");
        }
        let workers = self.reloader.handle().current().workers();
        let joined = tokio::task::spawn_blocking(move || workers.stop());
        if !matches!(tokio::time::timeout(LAST_BATCH, joined).await, Ok(Ok(()))) {
            tracing::warn!("a model thread is stuck and is left behind");
        }
        self.admin.close(LAST_PROBE).await;
        self.health.retire();
        tracing::info!("stopped");
    }
}

async fn load(config: &Config) -> Result<Model, StartError> {
    let config = config.clone();
    let cache = Arc::new(EmbeddingCache::new(config.cache.max_bytes));
    let load = move || assembly::load(&config, &config.model.bundle, &cache, None);
    Ok(tokio::task::spawn_blocking(load).await.map_err(|_| StartError::EndedEarly("the bundle"))??)
}

async fn open_store(
    config: &Config,
    model: &Model,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn UserStore>, StartError> {
    match config.state.engine {
        Engine::Memory => {
            Ok(Arc::new(MemoryStore::new(assembly::rules(config, model), config.state.max_users)))
        }
        Engine::Embedded => {
            let config = assembly::embedded(config, model);
            let open = tokio::task::spawn_blocking(move || Embedded::open(config, clock));
            Ok(Arc::new(open.await.map_err(|_| StartError::EndedEarly("the ledgers"))??))
        }
        Engine::Valkey => Ok(Arc::new(ValkeyStore::open(assembly::valkey(config, model, clock)?).await?)),
    }
}

/// Returns every traffic route with the layers around it. Streams end when `stopped` turns true.
async fn routes(
    handle: &ServiceHandle,
    config: &Config,
    stopped: &Stopped,
) -> Result<(Router, grpc::Serving), grpc::DescriptorError> {
    let server = &config.server;
    let verbs = http::routes(handle.clone());
    let verbs = verbs.merge(grpc::routes(handle.clone(), server.max_body_bytes.get(), stopped)?);
    let admission = Admission::new(server.max_concurrent_requests, server.request_timeout);
    let (standard, serving) = grpc::standard(stopped).await?;
    Ok((layers::around(layers::admitting(verbs, bodies(config), admission).merge(standard)), serving))
}

fn bodies(config: &Config) -> Bodies {
    Bodies::new(config.server.max_body_bytes, config.server.max_buffered_bytes)
}

/// Returns the configured number of connections, or as many as there are descriptors for.
fn max_connections(config: &Config) -> usize {
    let wanted = config.server.max_connections.get();
    let descriptors = connections::raise_descriptors();
    let possible = descriptors.saturating_sub(OTHER_DESCRIPTORS + ADMIN_CONNECTIONS as u64).max(1);
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if possible < wanted {
        tracing::warn!(
            descriptors,
            "`server.max_connections`: {wanted} do not fit into the descriptors of this process; there will be {possible}"
        );
    }
    wanted.min(possible)
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    connections::listen(address).map_err(|source| StartError::Listen { key, address, source })
}
