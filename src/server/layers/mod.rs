//! The layers around every traffic route, one per file, in the order in which a request passes them.
//!
//! The order is request id, [`observe`], [`render_errors`]; then, for all but gRPC's health and reflection,
//! [`catch_panics`], [`admission`] and the budget of bodies.

mod admission;
mod catch_panics;
mod observe;
pub mod render_errors;

use axum::{Extension, Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::types::Bodies;

pub use admission::Admission;

/// Adds the layers around the verbs. Health is not among them: it has to answer under load and needs no permit.
pub fn admitting(verbs: Router, bodies: Bodies, admission: Admission) -> Router {
    verbs
        .layer(Extension(bodies))
        // The layer is within the observation, so that shed requests are counted and logged like any answer.
        .layer(middleware::from_fn_with_state(admission, admission::admit))
        // A panic of one request must not reach the metrics and the log as a dropped connection.
        .layer(CatchPanicLayer::custom(catch_panics::answer))
}

/// Adds the layers around every route.
pub fn around(routes: Router) -> Router {
    routes
        // The layer is around all that refuses and within the observation, which sees what the caller receives.
        .layer(middleware::from_fn(render_errors::render))
        .layer(middleware::from_fn(observe::observe))
        // The id is set before anything is logged and copied after everything is answered.
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}
