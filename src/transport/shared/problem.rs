//! An error in an answer, before it has the format of its route.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};

use crate::types::Error;

/// An error that a handler or a layer leaves in its answer. One layer around all of them writes it in the caller's
/// format; the answer keeps carrying it, for the edge to log once.
#[derive(Debug, Clone)]
pub struct Problem(pub Arc<Error>);

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}
