//! Errors on the wire: converts ours to a status with google.rpc details, and refusals of the library to ours.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;

use axum::response::Response;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::types::{Error, ErrorKind, NO_ROOM};

/// The `domain` of every ErrorInfo.
const DOMAIN: &str = "micro-reward";

/// The names of google.rpc.Code by number.
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Returns the name of the code in these headers or trailers, if they have one.
pub fn code_name(headers: &axum::http::HeaderMap) -> Option<&'static str> {
    let number: usize = headers.get(Status::GRPC_STATUS)?.to_str().ok()?.parse().ok()?;
    Some(NAMES.get(number).copied().unwrap_or("UNKNOWN"))
}

/// Returns the error behind an answer, for the edge to log once.
pub fn error_of(response: &Response) -> Option<&Error> {
    known(response.extensions().get::<Status>()?)
}

/// Returns the answer to a call that the process refuses.
pub fn refusal(error: Arc<Error>) -> Response {
    // A method is the only thing that the process itself does not find.
    let code = match error.kind() {
        ErrorKind::NotFound => Code::Unimplemented,
        kind => Code::from(kind.grpc_code()),
    };
    with_details(code, error).into_http()
}

/// Returns the status of an error, which it carries as its source.
pub(super) fn status(error: Error) -> Status {
    with_details(Code::from(error.kind().grpc_code()), Arc::new(error))
}

fn with_details(code: Code, error: Arc<Error>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(error.code(), DOMAIN, HashMap::new());
    if let Some(field) = error.field() {
        details.add_bad_request_violation(field, error.detail());
    }
    if let Some(after) = error.retry_after() {
        details.set_retry_info(Some(after));
    }
    let mut status = Status::with_error_details(code, error.to_string(), details);
    status.set_source(error);
    status
}

pub(super) fn known(status: &Status) -> Option<&Error> {
    status.source()?.downcast_ref()
}

/// Converts a refusal of the library to one of our errors; none if the caller has disconnected.
pub(super) fn foreign(status: &Status) -> Option<Error> {
    let (kind, code) = match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            let detail = "found a message larger than `server.max_body_bytes`";
            return Some(Error::new(ErrorKind::TooLarge, detail).with_source(status.clone()));
        }
        // A body fails with this reason when there is no room for its next message.
        Code::Unavailable if status.get_error_details().error_info()?.reason == NO_ROOM => {
            (ErrorKind::Overloaded, NO_ROOM)
        }
        Code::Unimplemented => (ErrorKind::MethodNotAllowed, "no_route"),
        // The library answers so to bytes that are no such message; it encodes ours without fail.
        Code::Internal => (ErrorKind::Invalid, "malformed_message"),
        _ => return None,
    };
    let detail = match status.message() {
        "" => "there is no such method",
        message => message,
    };
    Some(Error::new(kind, detail).with_code(code).with_source(status.clone()))
}

/// Returns the status of a call whose caller has disconnected: it is no defect, and only the metrics read it.
pub(super) fn gone() -> Status {
    Status::cancelled("the call ended early")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_name_that_the_library_knows_it_by() {
        for (number, name) in NAMES.iter().enumerate() {
            let known = format!("{:?}", Code::from(i32::try_from(number).unwrap()));
            assert_eq!(name.replace('_', "").to_lowercase(), known.to_lowercase());
        }
    }

    #[test]
    fn a_status_carries_code_field_and_when_to_retry() {
        for kind in ErrorKind::ALL {
            let status = status(Error::new(kind, "found 1").with_field("a.b").with_code("narrow"));
            let details = status.get_error_details();
            assert_eq!((i32::from(status.code()), status.message()), (kind.grpc_code(), "a.b: found 1"));
            assert_eq!(details.error_info().unwrap().reason, "narrow");
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, "a.b");
            assert_eq!(details.retry_info().is_some(), kind.is_retryable());
            assert_eq!(known(&status).unwrap().code(), "narrow");
        }
    }
}
