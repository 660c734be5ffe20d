//! The admin port: probes and metrics, away from traffic.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::health::Health;
use crate::metrics::Recorder;

/// The admin routes.
pub fn routes(health: Arc<Health>, recorder: Recorder) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health)
        .route("/metrics", get(metrics).with_state(recorder))
}

async fn livez(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.is_alive() {
        true => (StatusCode::OK, "alive\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "a model thread is dead or stuck\n"),
    }
}

/// With `?verbose` it also says what is wrong with the store.
async fn readyz(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    match health.not_ready() {
        None if query.as_deref() == Some("verbose") => {
            let trouble = health.trouble();
            (StatusCode::OK, format!("ready\nstore: {}\n", trouble.as_deref().unwrap_or("ok")))
        }
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(recorder): State<Recorder>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], recorder.render())
}
