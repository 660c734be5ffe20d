//! The edge: counts and times every answer, and logs its error once.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;
use tracing::Instrument;

use crate::telemetry::metric;
use crate::transport::grpc;
use crate::transport::shared::Problem;
use crate::transport::shared::guarded::watch;

/// Counts, times and logs one request. Labels hold routes and statuses, never ids or text.
pub async fn observe(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route = route.strip_suffix('/').unwrap_or(route).to_owned();
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span = tracing::info_span!("request", method = %request.method(), route, id);
    let protocol = if grpc::is_grpc(request.headers()) { "grpc" } else { "http" };
    let response = next.run(request).instrument(span.clone()).await;
    metrics::histogram!(metric::REQUEST_SECONDS, "protocol" => protocol, "route" => route.clone())
        .record(start.elapsed());
    let problem = response.extensions().get::<Problem>().map(|Problem(error)| &**error);
    if let Some(error) = problem.or_else(|| grpc::error_of(&response)) {
        span.in_scope(|| error.log());
    }
    if protocol == "grpc" {
        let code = grpc::code_name(response.headers());
        return watch(response, Counted { route, code }, Counted::see);
    }
    count(protocol, route, response.status().as_str().to_owned());
    response
}

fn count(protocol: &'static str, route: String, code: String) {
    metrics::counter!(metric::REQUESTS, "protocol" => protocol, "route" => route, "code" => code)
        .increment(1);
}

/// A gRPC answer, counted at its end, as its code comes last.
struct Counted {
    route: String,
    code: Option<&'static str>,
}

impl Counted {
    fn see(&mut self, frame: &Frame<Bytes>) {
        self.code = frame.trailers_ref().and_then(grpc::code_name).or(self.code);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // An answer has no code if its caller disconnected before the end.
        let code = self.code.unwrap_or("CANCELLED");
        count("grpc", std::mem::take(&mut self.route), code.to_owned());
    }
}
