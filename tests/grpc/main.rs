//! gRPC on the traffic port: the same answers as HTTP, streams, limits, and the standard services.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod limits;
mod messages;
mod parity;
mod standard;
mod streams;

use common::{Client, FakeClock, start, toy};
use micro_reward::server::App;
use micro_reward::transport::grpc::pb::reward_service_client::RewardServiceClient;
use std::sync::Arc;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

const KIND: &str = "thanks friend glad";
const EXACT: &str = "exactly seven percent";

/// A running app with a client of each kind.
struct Server {
    app: App,
    http: Client,
    grpc: RewardServiceClient<Channel>,
    channel: Channel,
    _clock: Arc<FakeClock>,
}

async fn serve(settings: &[(&str, &str)]) -> Server {
    let (app, clock) = start(&toy(), settings).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", app.address)).unwrap();
    // The client's own limit, against which answers to its canceled calls count, is off: it is not under test.
    let channel = endpoint.http2_max_local_error_reset_streams(None).connect_lazy();
    let grpc = RewardServiceClient::new(channel.clone());
    Server { http: Client::new(app.address), app, grpc, channel, _clock: clock }
}

/// Returns the `code` that HTTP would have, from a status' details.
fn code(status: &Status) -> String {
    status.get_error_details().error_info().unwrap_or_else(|| panic!("{status:?}")).reason.clone()
}

fn field(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    details.bad_request().map(|bad| bad.field_violations[0].field.clone())
}
