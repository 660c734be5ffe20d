//! HTTP: paths, bodies, statuses. The module translates to the service and back, nothing more.

mod body;
mod export;
mod feedback;
#[doc(hidden)]
pub mod fuzzing;
mod inflate;
mod native;
mod openapi;
mod problem;
mod query;
mod whole;

use std::sync::Arc;

use axum::extract::FromRef;
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Router, middleware};

use crate::service::{Service, ServiceHandle};

pub use body::optional_json;
pub use export::{ExportQuery, preferences};
pub use problem::render;
pub use query::{Query, no_query};

/// A handler takes the service once, so that a request has one bundle from its beginning to its end.
impl FromRef<ServiceHandle> for Arc<Service> {
    fn from_ref(handle: &ServiceHandle) -> Self {
        handle.current()
    }
}

/// Returns the traffic routes. The process adds the layers around them.
pub fn routes(handle: ServiceHandle) -> Router {
    let no_query = || middleware::from_fn(no_query);
    let routes = [
        ("/score", post(native::score).layer(no_query())),
        ("/rank", post(native::rank).layer(no_query())),
        ("/compare", post(native::compare).layer(no_query())),
        ("/elicit", post(native::elicit).layer(no_query()).get(native::next_question)),
        ("/feedback", post(feedback::feedback).layer(no_query())),
        ("/feedback/{event_id}", delete(native::retract)),
        ("/users/{id}", put(native::import).delete(native::erase).layer(no_query()).get(native::user)),
        ("/users/{id}/merge", post(native::merge).layer(no_query())),
        ("/models", get(native::models).layer(no_query())),
        ("/openapi.json", get(openapi::serve).layer(no_query())),
    ];
    let routes =
        routes.into_iter().fold(Router::new(), |router, (path, methods)| route(router, path, methods));
    routes.fallback(problem::no_route).method_not_allowed_fallback(problem::no_method).with_state(handle)
}

/// Adds a route, with a slash at its end and without.
pub fn route<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    path: &str,
    methods: MethodRouter<S>,
) -> Router<S> {
    router.route(path, methods.clone()).route(&format!("{path}/"), methods)
}
