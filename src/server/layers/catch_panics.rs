//! Answers a request that panicked, so that metrics and log do not see a dropped connection.

use std::any::Any;

use axum::response::{IntoResponse, Response};

use crate::transport::shared::Problem;
use crate::types::{Error, ErrorKind};

/// Returns the answer to a request whose handler panicked.
pub fn answer(panic: Box<dyn Any + Send>) -> Response {
    let message =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
    let source = message.unwrap_or_default();
    Problem::from(Error::new(ErrorKind::Internal, "a defect of this server").with_source(source))
        .into_response()
}
