//! Errors render once: what a handler or a layer has left is written in the format of the caller's protocol.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::transport::shared::Problem;
use crate::transport::{grpc, http};

/// Writes problem JSON or, for a gRPC caller, a status. What gRPC's own routes answer is written by then.
pub async fn render(request: Request, next: Next) -> Response {
    let is_grpc = grpc::is_grpc(request.headers());
    let response = next.run(request).await;
    let Some(Problem(error)) = response.extensions().get::<Problem>() else { return response };
    if is_grpc {
        return grpc::refusal(error.clone());
    }
    let (rendered, body) = http::render(error).into_parts();
    // What else was left in the answer stays, such as which methods a route takes.
    let (mut parts, _) = response.into_parts();
    parts.status = rendered.status;
    parts.headers.extend(rendered.headers);
    Response::from_parts(parts, body)
}
