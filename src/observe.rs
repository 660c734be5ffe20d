//! The edge: every answer is counted, timed, and its error logged once.

use std::any::Any;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;

use crate::http::Problem;
use crate::types::{Error, ErrorKind, metric};

/// Counts, times and logs one request. Labels hold routes and statuses, never ids or text.
pub async fn observe(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span = tracing::info_span!("request", method = %request.method(), route, id);
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    metrics::counter!(metric::REQUESTS, "route" => route.clone(), "code" => status.as_str().to_owned())
        .increment(1);
    metrics::histogram!(metric::REQUEST_SECONDS, "route" => route).record(start.elapsed());
    if let Some(Problem(error)) = response.extensions().get::<Problem>() {
        span.in_scope(|| error.log());
    }
    response
}

/// The answer to a request whose handler panicked.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
    let source = message.unwrap_or_default();
    Problem::from(Error::new(ErrorKind::Internal, "a defect of this server").with_source(source))
        .into_response()
}
