//! Health and reflection, the standard services of gRPC.

use std::time::Duration;

use futures::StreamExt;
use micro_reward::transport::grpc::pb;
use prost::Message;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::{v1, v1alpha};

use super::serve;

const NAME: &str = "micro.reward.v1.RewardService";

fn check(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_follows_readiness_and_its_watches_do_not_hold_the_process() {
    let server = serve(&[("shutdown.ready_delay", "500ms")]).await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in ["", NAME] {
        let answer = health.check(check(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(health.check(check("another")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(check(NAME)).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let started = tokio::time::Instant::now();
    let stopped = tokio::spawn(server.app.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let answer = health.check(check("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing, "it lingers, and says so");
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    stopped.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "the drain timeout is 20 s");
}

#[tokio::test]
async fn health_answers_when_every_permit_is_taken() {
    let mut server = serve(&[("server.max_concurrent_requests", "1")]).await;
    let open = server.grpc.feedback(futures::stream::pending::<pb::FeedbackRequest>()).await.unwrap();
    let mut health = HealthClient::new(server.channel.clone());
    assert_eq!(health.check(check("")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    drop(open);
    server.app.stop().await;
}

#[tokio::test]
async fn reflection_describes_every_method_in_both_versions() {
    let server = serve(&[]).await;
    let mut v1 = ServerReflectionClient::new(server.channel.clone());
    let ask = |ask| v1::ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(NAME.to_owned())),
    ];
    let asked = futures::stream::iter(asked);
    let mut answers = v1.server_reflection_info(asked).await.unwrap().into_inner();
    let mut next = async || answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
    let names: Vec<&str> = list.service.iter().map(|service| &*service.name).collect();
    assert!(names.contains(&NAME) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
    let MessageResponse::FileDescriptorResponse(files) = next().await else { panic!("no file") };
    let file = files.file_descriptor_proto.iter();
    let file = file.map(|file| prost_types::FileDescriptorProto::decode(&**file).unwrap());
    let file = file.into_iter().find(|file| file.package() == "micro.reward.v1").unwrap();
    let methods: Vec<&str> = file.service[0].method.iter().map(|method| method.name()).collect();
    assert!(
        ["Score", "ScoreStream", "Feedback", "Rank"].iter().all(|name| methods.contains(name)),
        "{methods:?}"
    );

    let mut alpha = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let list = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let (send, receive) = tokio::sync::oneshot::channel::<()>();
    let ended = futures::stream::once(receive).filter_map(|_| std::future::ready(None));
    let open = futures::stream::iter([list]).chain(ended);
    let mut answers = alpha.server_reflection_info(open).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    // An open reflection stream does not hold the process either.
    let started = tokio::time::Instant::now();
    let stopped = tokio::spawn(server.app.stop());
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    drop(send);
    stopped.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "the drain timeout is 20 s");
}
