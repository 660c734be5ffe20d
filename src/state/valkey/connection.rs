//! The connection to the store, and a circuit breaker that opens while there is none.
//!
//! The law: no call waits for a store that is known to be away. The first call that fails, or takes longer than
//! `response_timeout`, opens the circuit; calls then fail at once until a background task has reached the store again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
    ServerError, ServerErrorKind, TlsCertificates, Value,
};
use tokio::sync::watch;

use super::ValkeyConfig;
use super::function;
use crate::state::OpenError;
use crate::telemetry::metric;

/// Wait before the store is dialed again: the first, and the longest.
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Interval of a small request to the store, so that an outage is noticed without traffic.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// First line of a certificate in PEM.
const PEM_MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Reason that the store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(pub(super) Arc<str>);

/// The connection, or the reason that there is none.
#[derive(Clone)]
enum State {
    Up { connection: Backend, serial: u64 },
    Down { why: Arc<str> },
}

#[derive(Clone)]
enum Backend {
    Alone(MultiplexedConnection),
    Cluster(ClusterConnection),
}

enum Dial {
    Alone(Client, AsyncConnectionConfig),
    Cluster(ClusterClient),
}

/// The connection to the store.
pub(super) struct Connection {
    dial: Dial,
    response_timeout: Duration,
    /// Timeout for connecting as a whole.
    connect_timeout: Duration,
    state: watch::Sender<State>,
    n_connected: AtomicU64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("why_down", &self.why_down()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects. A store that is only away is dialed again later.
    pub(super) async fn open(config: &ValkeyConfig) -> Result<Self, OpenError> {
        let refused = |error: RedisError| OpenError::Valkey(error.to_string());
        let dial = Dial::new(config).map_err(refused)?;
        let why: Arc<str> = "it has not been reached yet".into();
        let connection = Self {
            dial,
            response_timeout: config.response_timeout,
            connect_timeout: config.connect_timeout,
            state: watch::Sender::new(State::Down { why }),
            n_connected: AtomicU64::new(0),
        };
        match connection.connect().await {
            Ok(()) => {}
            Err(Refusal { error, is_final: true }) => return Err(OpenError::Valkey(error)),
            Err(Refusal { error, .. }) => {
                metrics::gauge!(metric::STORE_UP).set(0.0);
                tracing::warn!(why = error, "the store can't be reached; starting without it");
                connection.state.send_replace(State::Down { why: error.into() });
            }
        }
        Ok(connection)
    }

    /// Sends commands together. Returns one answer per command, which may be an error of the server.
    ///
    /// # Errors
    /// When the store is away. Any of the commands may then have been executed, or may still be.
    pub(super) async fn send(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, Unreachable> {
        let state = self.state.borrow().clone();
        let (connection, serial) = match state {
            State::Up { connection, serial } => (connection, serial),
            State::Down { why } => return Err(Unreachable(why)),
        };
        let why = match tokio::time::timeout(self.response_timeout, connection.run(commands)).await {
            Ok(Ok(values)) => match values.iter().find_map(outage) {
                None => return Ok(values),
                Some(why) => why,
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.response_timeout),
        };
        Err(self.lost(serial, why))
    }

    /// Sends one command, as [`Connection::send`] does.
    pub(super) async fn ask(&self, command: Cmd) -> Result<Value, Unreachable> {
        Ok(self.send(vec![command]).await?.pop().unwrap_or(Value::Nil))
    }

    /// Loads the functions where they are missing.
    pub(super) async fn load(&self) -> Result<(), Unreachable> {
        match self.ask(function::load()).await? {
            Value::ServerError(error) if !may_be_loaded(&error) => Err(Unreachable(error.to_string().into())),
            _ => Ok(()),
        }
    }

    /// Returns the reason that there is no connection, if there is none.
    pub(super) fn why_down(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            State::Up { .. } => None,
            State::Down { why } => Some(why.clone()),
        }
    }

    /// Waits until there is a connection.
    pub(super) async fn until_up(&self) {
        // This connection holds the sender, so the wait can't end early.
        _ = self.state.subscribe().wait_for(|state| matches!(state, State::Up { .. })).await;
    }

    /// Returns every `PROBE_EVERY` while the store is up, and on its return after an outage. Called in a loop.
    pub(super) async fn probe(&self) {
        let mut state = self.state.subscribe();
        let went_down = state.wait_for(|state| matches!(state, State::Down { .. }));
        // The state is read below, whichever ends the wait.
        _ = tokio::time::timeout(PROBE_EVERY, went_down).await;
        if self.why_down().is_some() {
            self.redial().await;
        }
    }

    async fn redial(&self) {
        let (mut wait, longest) = REDIAL;
        while let Err(Refusal { error, .. }) = self.connect().await {
            tracing::debug!(why = error, "the store still can't be reached");
            self.state.send_replace(State::Down { why: error.into() });
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
        tracing::info!("the store is back");
    }

    async fn connect(&self) -> Result<(), Refusal> {
        let connect = async {
            let connection = self.dial.connect().await?;
            let loaded = connection.run(vec![function::load()]).await?;
            Ok::<_, RedisError>((connection, loaded))
        };
        let (connection, loaded) = match tokio::time::timeout(self.connect_timeout, connect).await {
            Ok(connected) => connected?,
            Err(_) => {
                return Err(Refusal::passing(format!("no connection within {:?}", self.connect_timeout)));
            }
        };
        if let Some(Value::ServerError(error)) = loaded.first()
            && !may_be_loaded(error)
        {
            return Err(Refusal::passing(format!("the functions can't be loaded: {error}")));
        }
        self.state.send_modify(|state| {
            let serial = self.n_connected.fetch_add(1, Ordering::Relaxed);
            *state = State::Up { connection, serial };
        });
        metrics::gauge!(metric::STORE_UP).set(1.0);
        Ok(())
    }

    /// Opens the circuit, unless a newer connection has been made since.
    fn lost(&self, of: u64, why: String) -> Unreachable {
        let why: Arc<str> = why.into();
        let opened = self.state.send_if_modified(|state| {
            let is_mine = matches!(state, State::Up { serial, .. } if *serial == of);
            if is_mine {
                *state = State::Down { why: why.clone() };
            }
            is_mine
        });
        if opened {
            metrics::gauge!(metric::STORE_UP).set(0.0);
            tracing::warn!(%why, "the store can't be reached; serving what is known here");
        }
        Unreachable(why)
    }
}

impl Backend {
    async fn run(&self, commands: Vec<Cmd>) -> RedisResult<Vec<Value>> {
        match self.clone() {
            Self::Alone(mut connection) => {
                let n_commands = commands.len();
                let mut pipeline = Pipeline::with_capacity(n_commands);
                commands.into_iter().for_each(|command| _ = pipeline.add_command(command));
                connection.req_packed_commands(&pipeline, 0, n_commands).await
            }
            // Keys of many slots can't share a pipeline; each node's connection pipelines what is in flight.
            Self::Cluster(connection) => {
                let run = |command: Cmd| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(&command).await }
                };
                let answers = join_all(commands.into_iter().map(run)).await;
                answers.into_iter().map(server_errors_are_answers).collect()
            }
        }
    }
}

/// Returns a server error of a cluster's node as a value, as the pipeline of a single server does.
fn server_errors_are_answers(answer: RedisResult<Value>) -> RedisResult<Value> {
    match answer {
        Err(error) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
            let errors = error.clone().into_server_errors();
            let first = errors.and_then(|errors| errors.first().map(|(_, error)| error.clone()));
            first.map_or(Err(error), |first| Ok(Value::ServerError(first)))
        }
        other => other,
    }
}

impl Dial {
    fn new(config: &ValkeyConfig) -> RedisResult<Self> {
        // Without a certificate no server would be trusted, and every connection would fail with an unclear error.
        let has_certificate = |pem: &Vec<u8>| pem.windows(PEM_MARK.len()).any(|bytes| bytes == PEM_MARK);
        if config.ca_pem.as_ref().is_some_and(|pem| !has_certificate(pem)) {
            return Err((ErrorKind::InvalidClientConfig, "`valkey.ca_file` holds no certificate").into());
        }
        let certificates =
            config.ca_pem.clone().map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        let mut nodes = Vec::new();
        for url in &config.urls {
            let info = url.expose().into_connection_info()?;
            let mut settings = info.redis_settings().clone();
            if !config.username.is_empty() {
                settings = settings.set_username(&config.username);
            }
            if !config.password.expose().is_empty() {
                settings = settings.set_password(config.password.expose());
            }
            nodes.push(info.set_redis_settings(settings));
        }
        if config.is_cluster {
            let mut builder = ClusterClient::builder(nodes)
                .retries(2)
                .connection_timeout(config.connect_timeout)
                .response_timeout(config.response_timeout);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(builder.build()?));
        }
        let node = nodes.into_iter().next().ok_or((ErrorKind::InvalidClientConfig, "there is no url"))?;
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(node, certificates)?,
            None => Client::open(node)?,
        };
        // `Connection::send` has a timeout of its own for whole pipelines.
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(None);
        Ok(Self::Alone(client, settings))
    }

    async fn connect(&self) -> RedisResult<Backend> {
        match self {
            Self::Alone(client, settings) => {
                let connection = client.get_multiplexed_async_connection_with_config(settings).await?;
                Ok(Backend::Alone(connection))
            }
            Self::Cluster(client) => Ok(Backend::Cluster(client.get_async_connection().await?)),
        }
    }
}

/// Error of an attempt to connect.
struct Refusal {
    error: String,
    /// True if a retry would not help.
    is_final: bool,
}

impl Refusal {
    fn passing(error: String) -> Self {
        Self { error, is_final: false }
    }
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Self {
        let is_final =
            matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig);
        Self { error: error.to_string(), is_final }
    }
}

/// Returns the reason that the whole store can't be used, if an answer gives one.
fn outage(answer: &Value) -> Option<String> {
    let Value::ServerError(error) = answer else { return None };
    let is_outage = matches!(
        error.kind(),
        Some(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        )
    );
    is_outage.then(|| error.to_string())
}

/// True if the functions may exist although they could not be loaded: they do, or another client has to load them.
fn may_be_loaded(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoPerm) || error.to_string().contains("already exists")
}
