//! An error on its way out, before it has the format of the route that it belongs to.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};

use crate::types::Error;

/// An error that a handler or a layer leaves in its answer. One layer around all of them writes it as the caller reads
/// errors; the answer goes on carrying it, for the edge to log once.
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
