//! Errors on the wire: RFC 9457 problem JSON with a stable `code`.

use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::transport::shared::Problem;
use crate::types::{Error, ErrorKind};

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemBody<'a> {
    title: &'static str,
    status: u16,
    /// Stable code that clients may match on.
    code: &'static str,
    /// The value that was found, and the one that was expected.
    detail: &'a str,
    /// Path of the field at fault, like `items[0].responses[2].text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

/// Renders an error as an answer.
pub fn render(error: &Error) -> Response {
    let status =
        StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = ProblemBody {
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        code: error.code(),
        detail: error.detail(),
        field: error.field(),
    };
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
    if let Some(after) = error.retry_after() {
        // Whole seconds, and none too early.
        headers.insert(header::RETRY_AFTER, (after.as_millis().div_ceil(1000) as u64).max(1).into());
    }
    response
}

pub(super) async fn no_route(uri: Uri) -> Problem {
    Error::new(ErrorKind::NotFound, format!("found no route {}", uri.path())).with_code("no_route").into()
}

pub(super) async fn no_method(method: Method, uri: Uri) -> Problem {
    Error::new(ErrorKind::MethodNotAllowed, format!("{} does not take {method}", uri.path())).into()
}
