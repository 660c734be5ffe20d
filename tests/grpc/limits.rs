//! Load, size, time, and callers that do not speak gRPC.

use std::time::Duration;

use micro_reward::transport::grpc::pb;
use serde_json::{Value, json};
use tonic::{Code, Request};
use tonic_types::StatusExt;

use super::{KIND, Server, code, messages, serve};
use crate::common::Client;

const GRPC: (&str, &str) = ("content-type", "application/grpc");
const STREAM: &str = "/micro.reward.v1.RewardService/ScoreStream";
const SCORE: &str = "/micro.reward.v1.RewardService/Score";

fn request() -> pb::ScoreRequest {
    messages::score_request(&json!({ "items": [{ "prompt": "tea", "responses": [KIND] }] }))
}

/// Makes one call by hand, over HTTP/1.1: dropping the answer drops the connection. The library's client continues to
/// send.
async fn open(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: reqwest::Body,
) -> reqwest::Response {
    let mut call = server.http.http.post(format!("{}{path}", server.http.base)).body(body);
    for (name, value) in headers {
        call = call.header(*name, *value);
    }
    call.send().await.unwrap()
}

/// Returns the HTTP status and the gRPC code of a call by hand.
async fn by_hand(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: reqwest::Body,
) -> (u16, String) {
    let answer = open(server, path, headers, body).await;
    let code = answer.headers().get("grpc-status").map_or("", |code| code.to_str().unwrap());
    (answer.status().as_u16(), code.to_owned())
}

fn never() -> reqwest::Body {
    reqwest::Body::wrap_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>())
}

#[tokio::test]
async fn too_much_work_is_shed_and_a_dropped_stream_frees_its_permit() {
    let mut server = serve(&[("server.max_concurrent_requests", "1")]).await;
    let open = open(&server, STREAM, &[GRPC], never()).await;
    let shed = server.grpc.score(request()).await.unwrap_err();
    assert_eq!((shed.code(), &*code(&shed)), (Code::Unavailable, "overloaded"));
    let retry = shed.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(retry, Duration::from_secs(1));
    let another = futures::stream::pending::<pb::FeedbackRequest>();
    assert_eq!(server.grpc.feedback(another).await.unwrap_err().code(), Code::Unavailable);
    drop(open);
    while let Err(status) = server.grpc.score(request()).await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        tokio::task::yield_now().await;
    }
    server.app.stop().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_answered_and_its_permit_is_free_again() {
    let settings = [("server.max_concurrent_requests", "1"), ("server.request_timeout", "300ms")];
    let mut server = serve(&settings).await;
    let late = by_hand(&server, SCORE, &[GRPC, ("grpc-timeout", "50m")], never()).await;
    assert_eq!(late, (200, "4".to_owned()), "the caller's own deadline");
    let late = by_hand(&server, SCORE, &[GRPC], never()).await;
    assert_eq!(late, (200, "4".to_owned()), "the server's");
    assert_eq!(server.grpc.score(request()).await.unwrap().into_inner().items.len(), 1);
    // The caller drops this call before its answer.
    let headers = [GRPC];
    let call = by_hand(&server, SCORE, &headers, never());
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    while server.grpc.score(request()).await.is_err() {
        tokio::task::yield_now().await;
    }
    server.app.stop().await;
}

#[tokio::test]
async fn a_message_without_room_is_refused_and_may_come_again() {
    let settings = [("server.max_body_bytes", "1000"), ("server.max_buffered_bytes", "1000")];
    let server = serve(&settings).await;
    let part = |bytes: Vec<u8>| {
        let part = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(bytes))]);
        reqwest::Body::wrap_stream(futures::StreamExt::chain(part, futures::stream::pending()))
    };
    let refused = |status: tonic::Status| {
        assert_eq!((status.code(), &*code(&status)), (Code::Unavailable, "too_many_bytes"), "{status:?}");
        assert!(status.get_error_details().retry_info().is_some());
    };
    // The message has its prefix, which announces 990 bytes, and most of them, but no end.
    let message = [&b"\0\0\0\x03\xde"[..], &[0; 985]].concat();
    let calls = [
        (STREAM, ("content-type", "application/grpc"), message),
        ("/score", ("content-type", "application/json"), vec![b' '; 990]),
    ];
    for (path, kind, bytes) in calls {
        let (headers, body) = ([kind], part(bytes));
        let mut held = Box::pin(open(&server, path, &headers, body));
        // A stream is answered while it is open, another body is not; the server comes to hold the bytes of either.
        let mut stream = None;
        let status = loop {
            if stream.is_none() {
                stream = futures::FutureExt::now_or_never(&mut held);
            }
            match server.grpc.clone().score(request()).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(status) => break status,
            }
        };
        refused(status);
        let sent = [pb::ScoreStreamRequest { request: Some(request()), ..Default::default() }];
        let answers = server.grpc.clone().score_stream(futures::stream::iter(sent)).await;
        refused(answers.unwrap().into_inner().message().await.unwrap_err());
        drop((held, stream));
        while let Err(status) = server.grpc.clone().score(request()).await {
            refused(status);
            tokio::task::yield_now().await;
        }
    }
    server.app.stop().await;
}

#[tokio::test]
async fn calls_that_are_cancelled_or_late_leave_the_others_of_their_channel_alone() {
    const AT_ONCE: usize = 150;
    let mut server = serve(&[]).await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let sent =
        futures::stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    let mut long = server.grpc.score_stream(sent).await.unwrap().into_inner();
    for round in 0..20 {
        let calls = (0..AT_ONCE).map(|idx| {
            let mut grpc = server.grpc.clone();
            tokio::spawn(async move {
                let mut call = Request::new(request());
                if round % 2 == 0 {
                    // The deadline passes before the call arrives, or up to 4 ms later.
                    call.set_timeout(Duration::from_micros(1 + 27 * idx as u64));
                    grpc.score(call).await.is_err()
                } else {
                    // The call is dropped as soon as it is sent, or up to 1.5 ms later.
                    let patience = Duration::from_micros(10 * idx as u64);
                    tokio::time::timeout(patience, grpc.score(call)).await.is_err()
                }
            })
        });
        let ended = futures::future::join_all(calls.collect::<Vec<_>>()).await;
        let n_ended_early = ended.into_iter().filter(|ended| *ended.as_ref().unwrap()).count();
        assert!(n_ended_early > 0, "no call of round {round} was late or cancelled");
        let correlation_id = round.to_string();
        send.send(pb::ScoreStreamRequest { correlation_id, request: Some(request()) }).await.unwrap();
        let answer = long.message().await.unwrap().unwrap();
        assert_eq!(answer.correlation_id, round.to_string());
    }
    drop(send);
    assert!(long.message().await.unwrap().is_none());
    server.app.stop().await;
}

#[tokio::test]
async fn what_is_no_call_is_refused_by_name() {
    let mut server = serve(&[("server.max_body_bytes", "1000")]).await;
    let grpc = ("content-type", "application/grpc+proto");
    let none = || reqwest::Body::from("");
    assert_eq!(
        by_hand(&server, SCORE, &[("content-type", "application/json")], none()).await,
        (415, String::new())
    );
    assert_eq!(by_hand(&server, SCORE, &[("content-type", "application/grpc-web")], none()).await.0, 415);
    let cases = [
        (SCORE, vec![grpc], &b""[..], Code::InvalidArgument),
        (SCORE, vec![grpc], &b"\0\0\0\0\x01\xff"[..], Code::InvalidArgument),
        (SCORE, vec![grpc], &b"\0\0\0\x10\0"[..], Code::ResourceExhausted),
        (SCORE, vec![grpc, ("grpc-timeout", "soon")], &b""[..], Code::InvalidArgument),
        ("/micro.reward.v1.RewardService/Praise", vec![grpc], &b""[..], Code::Unimplemented),
        ("/another.Service/Method", vec![grpc], &b""[..], Code::Unimplemented),
    ];
    for (path, headers, body, expected) in cases {
        let found = by_hand(&server, path, &headers, body.to_vec().into()).await;
        assert_eq!(found, (200, i32::from(expected).to_string()), "{path} {body:?}");
    }
    let large =
        messages::score_request(&json!({ "items": [{ "prompt": "tea", "responses": ["x".repeat(1001)] }] }));
    let status = server.grpc.score(large.clone()).await.unwrap_err();
    assert_eq!((status.code(), &*code(&status)), (Code::ResourceExhausted, "too_large"), "{status:?}");
    assert!(status.message().contains("server.max_body_bytes"));
    // The start of the next message is unknown once one is too large, so the stream ends with the reason.
    let sent = [request(), large, request()];
    let sent = sent.map(|request| pb::ScoreStreamRequest { request: Some(request), ..Default::default() });
    let mut answers = server.grpc.score_stream(futures::stream::iter(sent)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    assert_eq!(code(&answers.message().await.unwrap_err()), "too_large");
    assert!(server.grpc.score(request()).await.is_ok());
    server.app.stop().await;
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_keep_their_request_id() {
    let mut server = serve(&[]).await;
    let mut named = Request::new(request());
    named.metadata_mut().insert("x-request-id", "abc".parse().unwrap());
    let answer = server.grpc.score(named).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "abc");
    let user = "secret-user".to_owned();
    server.grpc.get_user(pb::GetUserRequest { user, context: None }).await.unwrap_err();
    by_hand(&server, "/micro.reward.v1.RewardService/Praise", &[GRPC], "".into()).await;
    drop(open(&server, STREAM, &[GRPC], never()).await);
    let admin = Client::new(server.app.admin_address);
    let service = "micro_reward_requests_total{protocol=\"grpc\",route=\"/micro.reward.v1.RewardService";
    let expected = [
        format!("{service}/Score\",code=\"OK\"}}"),
        format!("{service}/GetUser\",code=\"NOT_FOUND\"}}"),
        format!("{service}/{{method}}\",code=\"UNIMPLEMENTED\"}}"),
        format!("{service}/ScoreStream\",code=\"CANCELLED\"}}"),
    ];
    // A dropped stream is counted once the server learns that it was dropped.
    let mut text = String::new();
    for _ in 0..100 {
        let (_, Value::String(now)) = admin.get("/metrics").await else { panic!("no metrics") };
        text = now;
        if expected.iter().all(|line| text.contains(line)) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for line in expected {
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("secret-user"), "no user id is a label");
    server.app.stop().await;
}
