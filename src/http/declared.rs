//! Bodies that are too large by their own `Content-Length`: refused before any of them is asked for.
//!
//! A client that sends `Expect: 100-continue` is told to go on when its body is first read, so that what the head alone
//! decides has to be decided before.

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body::media_type;
use super::feedback::NDJSON;
use super::problem::Problem;
use crate::types::{Error, ErrorKind};

/// Refuses a body that declares more than this many bytes. A stream of lines may be of any length.
pub async fn fit(State(max_bytes): State<usize>, request: Request, next: Next) -> Response {
    let n_bytes = request.body().size_hint().lower();
    if n_bytes <= max_bytes as u64 || media_type(request.headers()) == NDJSON {
        return next.run(request).await;
    }
    let detail =
        format!("found a body of {n_bytes} bytes, expected at most {max_bytes} (`server.max_body_bytes`)");
    Problem::from(Error::new(ErrorKind::TooLarge, detail)).into_response()
}
