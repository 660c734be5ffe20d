//! HTTP: paths, bodies, statuses. Translates to the service and back, nothing more.

mod ahead;
mod body;
mod declared;
mod export;
mod feedback;
mod lines;
mod native;
mod openapi;
mod problem;
mod query;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{delete, get, post};

use crate::service::{Live, Service};

pub use body::optional_json;
pub use declared::fit;
pub use export::preferences;
pub use problem::Problem;

/// A handler takes the service once, so that a request has one bundle from its beginning to its end.
impl FromRef<Live> for Arc<Service> {
    fn from_ref(live: &Live) -> Self {
        live.now()
    }
}

/// The traffic routes. The layers around them are the process's business.
pub fn routes(live: Live) -> Router {
    Router::new()
        .route("/score", post(native::score))
        .route("/rank", post(native::rank))
        .route("/compare", post(native::compare))
        .route("/elicit", get(native::next_question).post(native::elicit))
        .route("/feedback", post(feedback::feedback))
        .route("/feedback/{event_id}", delete(native::retract))
        .route("/users/{id}", get(native::user).put(native::import).delete(native::erase))
        .route("/models", get(native::models))
        .route("/openapi.json", get(openapi::serve))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .with_state(live)
}
