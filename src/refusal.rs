//! What the process refuses by itself, in the protocol of the caller.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use crate::grpc;
use crate::http::Problem;

/// Gives a gRPC caller a status where the process has answered with a problem: for load, time, a panic, a missing route.
pub async fn translate(request: Request, next: Next) -> Response {
    let is_grpc = grpc::is_grpc(request.headers());
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(Problem(error)) if is_grpc => grpc::refusal(error.clone()),
        _ => response,
    }
}
