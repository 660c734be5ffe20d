//! gRPC: messages, streams, codes. The module translates to the service and back, nothing more.
//!
//! The messages are generated from `proto/` and stay in here; the service gets the same requests as from HTTP.

mod answers;
mod call;
mod codec;
mod events;
mod held;
mod ledgers;
mod requests;
mod standard;
mod status;
mod streams;
mod verbs;

use axum::{Router, middleware};

use crate::service::ServiceHandle;
use crate::transport::shared::streams::Stopped;

pub use standard::{DescriptorError, Serving};
pub use status::{code_name, error_of, refusal};

/// The code generated from `proto/`: the messages, the server, and a client for tests and for embedders of this crate.
#[allow(clippy::allow_attributes_without_reason, reason = "generated")]
pub mod pb {
    tonic::include_proto!("micro.reward.v1");
}

/// The descriptors of `proto/`, as a google.protobuf.FileDescriptorSet.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Returns the routes of the verbs. The process adds the layers around them; callers' deadlines are applied in here.
///
/// # Errors
/// A defect of this crate: the compiled-in descriptors of `proto/` can't be read.
pub fn routes(
    handle: ServiceHandle,
    max_message_bytes: usize,
    stopped: &Stopped,
) -> Result<Router, DescriptorError> {
    let verbs = verbs::Verbs::new(handle, stopped.clone());
    let server = pb::reward_service_server::RewardServiceServer::new(verbs)
        .max_decoding_message_size(max_message_bytes);
    Ok(standard::by_method(DESCRIPTORS, &server)?
        .layer(middleware::from_fn(call::own_errors))
        .layer(middleware::from_fn_with_state(call::Limits::deadline(), call::limit)))
}

/// Returns the routes of health (of every service described) and reflection, to be served whatever the load.
///
/// # Errors
/// A defect of this crate: compiled-in descriptors can't be read.
pub async fn standard(stopped: &Stopped) -> Result<(Router, Serving), DescriptorError> {
    let (routes, serving) = standard::routes().await?;
    let limits = call::Limits::deadline_or_stop(stopped.clone());
    Ok((routes.layer(middleware::from_fn_with_state(limits, call::limit)), serving))
}

/// True if a request speaks gRPC.
pub fn is_grpc(headers: &axum::http::HeaderMap) -> bool {
    let value = headers.get(axum::http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let rest = value.and_then(|value| value.strip_prefix("application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}
