//! The admin port: probes, metrics and operations, away from traffic.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use serde::Deserialize;

use super::health::Health;
use super::layers::render_errors;
use super::recorder::Recorder;
use super::reload::Reloader;
use crate::transport::http::{ExportQuery, Query, no_query, optional_json, preferences, route};
use crate::transport::shared::Problem;
use crate::types::{Bodies, Error, ErrorKind, ModelView};

/// The reloader behind operations, set once the server is up.
pub type Started = Arc<OnceLock<Arc<Reloader>>>;

/// Returns the admin routes. `bodies` is the budget of this port alone, so that traffic leaves room for operators.
pub fn routes(health: Arc<Health>, recorder: Recorder, started: Started, bodies: Bodies) -> Router {
    let no_query = || middleware::from_fn(no_query);
    let routes = [
        ("/livez", get(livez).layer(no_query()).with_state(health.clone())),
        ("/readyz", get(readyz).with_state(health)),
        ("/metrics", get(metrics).layer(no_query()).with_state(recorder)),
        ("/models/reload", post(reload).layer(no_query()).with_state(started.clone())),
        ("/export/preferences", get(export).with_state(started)),
    ];
    let routes =
        routes.into_iter().fold(Router::new(), |router, (path, methods)| route(router, path, methods));
    routes.layer(Extension(bodies)).layer(middleware::from_fn(render_errors::render))
}

async fn livez(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.not_alive() {
        None => (StatusCode::OK, "alive\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not alive: {why}\n")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verbosity {
    verbose: Option<String>,
}

/// Reports readiness; with `?verbose`, also the trouble of the store.
async fn readyz(
    State(health): State<Arc<Health>>,
    Query(Verbosity { verbose }): Query<Verbosity>,
) -> (StatusCode, String) {
    match health.not_ready() {
        None if verbose.is_some() => {
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

/// The bundle to serve; the configured one by default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {
    bundle: Option<PathBuf>,
}

async fn reload(State(started): State<Started>, request: Request) -> Result<axum::Json<ModelView>, Problem> {
    let Reload { bundle } = optional_json(request).await?;
    let reloader = started.get().ok_or_else(not_started)?;
    // No layer of this port logs errors.
    Ok(axum::Json(reloader.reload(bundle).await.inspect_err(Error::log)?))
}

async fn export(
    State(started): State<Started>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let service = started.get().ok_or_else(not_started)?.handle().current();
    Ok(preferences(&service, query).await.inspect_err(Error::log)?)
}

fn not_started() -> Error {
    Error::new(ErrorKind::Overloaded, "the server is still starting").with_code("starting")
}
