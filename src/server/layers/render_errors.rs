//! Renders errors once: each one that a handler or a layer left, in the format of the caller's protocol.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::transport::shared::Problem;
use crate::transport::{grpc, http};

/// Renders problem JSON or, for a gRPC caller, a status. The answers of gRPC's own routes are rendered by then.
pub async fn render(request: Request, next: Next) -> Response {
    let is_grpc = grpc::is_grpc(request.headers());
    let response = next.run(request).await;
    let Some(Problem(error)) = response.extensions().get::<Problem>() else { return response };
    if is_grpc {
        return grpc::refusal(error.clone());
    }
    let (rendered, body) = http::render(error).into_parts();
    // The rest of the answer stays, such as the header with a route's methods.
    let (mut parts, _) = response.into_parts();
    parts.status = rendered.status;
    parts.headers.extend(rendered.headers);
    Response::from_parts(parts, body)
}
