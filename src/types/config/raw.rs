//! From merged text and numbers to checked values.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;

use super::check::Check;
use super::layers::{Layers, Problems};
use super::{
    Batch, Config, Engine, Events, FeedbackWindow, Log, Model, Population, Provider, ReceiptBounds, Router,
    Server, Shutdown, State, Valkey,
};
use crate::mixture::Routing;

const HOUR: Duration = Duration::from_secs(3600);

/// More model threads than any machine has cores is a slip of the pen.
const MAX_THREADS: i64 = 1024;

/// A larger sample of users would be more exact than anybody can tell, and every item is routed for each of them.
const MAX_SAMPLE: i64 = 16_384;

/// A row with more events would be megabytes, and it is read for every new one.
const MAX_EVENTS: i64 = 65_536;

const ENGINES: &[(&str, Engine)] =
    &[("embedded", Engine::Embedded), ("valkey", Engine::Valkey), ("memory", Engine::Memory)];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: RawServer,
    model: RawModel,
    batch: RawBatch,
    cache: RawCache,
    router: RawRouter,
    population: RawPopulation,
    feedback: RawFeedback,
    receipts: RawReceipts,
    state: RawState,
    valkey: RawValkey,
    events: RawEvents,
    health: RawHealth,
    shutdown: RawShutdown,
    log: RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    listen: String,
    admin_listen: String,
    max_body_bytes: i64,
    max_buffered_bytes: i64,
    max_text_bytes: i64,
    max_concurrent_requests: i64,
    request_timeout: String,
    max_connections: i64,
    idle_timeout: String,
    write_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModel {
    bundle: String,
    onnxruntime_library: String,
    execution_providers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch {
    threads: i64,
    small_threads: i64,
    tokens: i64,
    queue_texts: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCache {
    max_bytes: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRouter {
    eta: f64,
    floor: f64,
    half_life: String,
    transfer: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPopulation {
    users: i64,
    refresh: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeedback {
    max_age: String,
    max_skew: String,
    max_events: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReceipts {
    max_bytes: i64,
    ttl: String,
    keep: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawState {
    engine: String,
    data_dir: String,
    durability: String,
    max_users: i64,
    resident_users: i64,
    checkpoint_every: String,
    max_staleness: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawValkey {
    url: String,
    cluster: bool,
    username: String,
    password: String,
    user_key: String,
    ca_file: String,
    prefix: String,
    connect_timeout: String,
    response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvents {
    retention: String,
    erase_within: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHealth {
    stall_limit: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShutdown {
    linger: String,
    drain_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    format: String,
    filter: String,
}

pub(super) fn check(mut layers: Layers) -> Result<Config, Problems> {
    let raw: Raw = match layers.merged.clone().try_into() {
        Ok(raw) => raw,
        Err(error) => {
            layers.refuse("", error.to_string());
            return Err(Problems(layers.into_problems()));
        }
    };
    let mut check = Check { layers };
    let providers = check.providers("model.execution_providers", &raw.model.execution_providers);
    let is_on_cpu = providers.first() == Some(&Provider::Cpu);
    let config = Config {
        server: Server {
            listen: check.address("server.listen", &raw.server.listen),
            admin_listen: check.address("server.admin_listen", &raw.server.admin_listen),
            max_body_bytes: check.count("server.max_body_bytes", raw.server.max_body_bytes),
            max_buffered_bytes: check.count_from(
                "server.max_buffered_bytes",
                raw.server.max_buffered_bytes,
                ("server.max_body_bytes", raw.server.max_body_bytes),
            ),
            max_text_bytes: check.count("server.max_text_bytes", raw.server.max_text_bytes),
            max_concurrent_requests: check
                .count("server.max_concurrent_requests", raw.server.max_concurrent_requests),
            request_timeout: check.span("server.request_timeout", &raw.server.request_timeout, HOUR),
            max_connections: check.count("server.max_connections", raw.server.max_connections),
            idle_timeout: check.span("server.idle_timeout", &raw.server.idle_timeout, 24 * HOUR),
            write_timeout: check.span("server.write_timeout", &raw.server.write_timeout, HOUR),
        },
        model: Model {
            bundle: check.filled("model.bundle", raw.model.bundle).into(),
            onnxruntime_library: check
                .filled("model.onnxruntime_library", raw.model.onnxruntime_library)
                .into(),
            execution_providers: providers,
        },
        batch: Batch {
            threads: match raw.batch.threads {
                // A device that is no core runs one batch at a time.
                0 if is_on_cpu => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
                0 => NonZeroUsize::MIN,
                threads => check.count_up_to("batch.threads", threads, MAX_THREADS),
            },
            small_threads: match raw.batch.small_threads {
                0 => 0,
                threads => check.count_up_to("batch.small_threads", threads, MAX_THREADS).get(),
            },
            tokens: (raw.batch.tokens != 0).then(|| check.count("batch.tokens", raw.batch.tokens)),
            queue_texts: check.count("batch.queue_texts", raw.batch.queue_texts),
        },
        cache_bytes: check.size("cache.max_bytes", raw.cache.max_bytes),
        router: Router {
            routing: Routing {
                eta: check.within("router.eta", raw.router.eta, f64::MIN_POSITIVE, 1e3),
                floor: check.within("router.floor", raw.router.floor, 0.0, 0.5),
            },
            decay: check.half_life("router.half_life", &raw.router.half_life),
            transfer: check.within("router.transfer", raw.router.transfer, 0.0, 1.0),
        },
        population: Population {
            users: check.count_up_to("population.users", raw.population.users, MAX_SAMPLE),
            refresh: check.span("population.refresh", &raw.population.refresh, HOUR),
        },
        feedback: FeedbackWindow {
            max_age: check.span("feedback.max_age", &raw.feedback.max_age, 8766 * HOUR),
            max_skew: check.duration("feedback.max_skew", &raw.feedback.max_skew, 8766 * HOUR),
            max_events: check.count_up_to("feedback.max_events", raw.feedback.max_events, MAX_EVENTS),
        },
        receipts: ReceiptBounds {
            max_bytes: check.size("receipts.max_bytes", raw.receipts.max_bytes),
            ttl: check.span("receipts.ttl", &raw.receipts.ttl, 8766 * HOUR),
            is_kept: raw.receipts.keep,
        },
        state: State {
            engine: check.one_of("state.engine", &raw.state.engine, ENGINES),
            data_dir: match raw.state.engine.as_str() {
                // The shared engine does without a directory: then it has no outbox.
                "valkey" => raw.state.data_dir.into(),
                _ => check.filled("state.data_dir", raw.state.data_dir).into(),
            },
            is_sync: check.one_of(
                "state.durability",
                &raw.state.durability,
                &[("sync", true), ("async", false)],
            ),
            max_users: check.count("state.max_users", raw.state.max_users),
            resident_users: check.count("state.resident_users", raw.state.resident_users),
            checkpoint_every: check.span("state.checkpoint_every", &raw.state.checkpoint_every, HOUR),
            max_staleness: check.duration("state.max_staleness", &raw.state.max_staleness, HOUR),
        },
        valkey: Valkey {
            urls: check.urls("valkey.url", &raw.valkey.url, raw.valkey.cluster),
            is_cluster: raw.valkey.cluster,
            username: raw.valkey.username,
            password: raw.valkey.password.into(),
            user_key: check.secret_key("valkey.user_key", raw.valkey.user_key),
            ca_file: Some(raw.valkey.ca_file).filter(|path| !path.is_empty()).map(Into::into),
            prefix: raw.valkey.prefix,
            connect_timeout: check.span("valkey.connect_timeout", &raw.valkey.connect_timeout, HOUR),
            response_timeout: check.span("valkey.response_timeout", &raw.valkey.response_timeout, HOUR),
        },
        events: Events {
            retention: check.duration("events.retention", &raw.events.retention, 10 * 8766 * HOUR),
            erase_within: check.duration("events.erase_within", &raw.events.erase_within, 30 * 24 * HOUR),
        },
        stall_limit: check.span("health.stall_limit", &raw.health.stall_limit, HOUR),
        shutdown: Shutdown {
            linger: check.duration("shutdown.linger", &raw.shutdown.linger, HOUR),
            drain_timeout: check.duration("shutdown.drain_timeout", &raw.shutdown.drain_timeout, HOUR),
        },
        log: Log {
            json: check.one_of("log.format", &raw.log.format, &[("text", false), ("json", true)]),
            filter: check.filter("log.filter", raw.log.filter),
        },
    };
    match check.layers.into_problems() {
        problems if problems.is_empty() => Ok(config),
        problems => Err(Problems(problems)),
    }
}
