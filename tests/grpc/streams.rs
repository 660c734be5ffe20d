//! Streams: order, bad messages, flow control, and their ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use micro_reward::transport::grpc::pb::score_stream_response::Result as Outcome;
use micro_reward::transport::grpc::pb::{self, AckStatus};
use serde_json::json;
use tonic::{Code, Request};

use super::{EXACT, KIND, code, field, messages, serve};

fn request(responses: &[&str]) -> pb::ScoreRequest {
    messages::score_request(&json!({ "items": [{ "prompt": "tea", "responses": responses }] }))
}

fn pair(id: usize) -> pb::FeedbackRequest {
    let event = json!({ "event_id": id.to_string(), "user": "ann", "kind": "pair", "prompt": "tea", "chosen": KIND,
                        "rejected": EXACT });
    pb::FeedbackRequest { event: Some(messages::event(&event)) }
}

#[tokio::test]
async fn scores_come_in_order_and_a_bad_message_spoils_itself_alone() {
    let mut server = serve(&[]).await;
    let sent = (0..200).map(|idx| {
        let request = match idx % 7 {
            5 => Some(request(&[])),
            6 => None,
            n => Some(request(&vec![KIND; n + 1])),
        };
        pb::ScoreStreamRequest { correlation_id: format!("{idx}"), request }
    });
    let mut answers = server.grpc.score_stream(futures::stream::iter(sent)).await.unwrap().into_inner();
    for idx in 0..200 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.correlation_id, format!("{idx}"));
        match (idx % 7, answer.result.unwrap()) {
            (5, Outcome::Error(error)) => {
                assert_eq!(error.status, i32::from(Code::InvalidArgument));
                assert_eq!(
                    (&*error.code, error.field.as_deref()),
                    ("invalid_field", Some("items[0].responses"))
                );
                assert!(!error.retryable && error.detail.contains("at least one"));
            }
            (6, Outcome::Error(error)) => assert_eq!(error.field.as_deref(), Some("request")),
            (n, Outcome::Response(answer)) => {
                let alone = server.grpc.score(request(&vec![KIND; n + 1])).await.unwrap().into_inner();
                assert_eq!(answer, alone);
            }
            (n, other) => panic!("{n}: {other:?}"),
        }
    }
    assert!(answers.message().await.unwrap().is_none());
    server.app.stop().await;
}

#[tokio::test]
async fn events_are_acked_while_the_stream_is_open_and_a_bad_one_is_rejected_alone() {
    let mut server = serve(&[]).await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let sent =
        futures::stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
    let mut acks = server.grpc.feedback(sent).await.unwrap().into_inner();
    let mut by_id = pair(2);
    by_id.event.as_mut().unwrap().chosen_id = Some("x".to_owned());
    let mut nameless = pair(3);
    nameless.event.as_mut().unwrap().kind = 0;
    let none = pb::FeedbackRequest { event: None };
    let expected = [
        (pair(1), AckStatus::Applied, Some("1"), None),
        (nameless, AckStatus::Rejected, Some("3"), Some("kind: found 0")),
        (none, AckStatus::Rejected, None, Some("event: missing")),
        (pair(1), AckStatus::Duplicate, Some("1"), None),
        (by_id, AckStatus::Rejected, Some("2"), Some("chosen_id")),
        (pair(4), AckStatus::Applied, Some("4"), None),
    ];
    for (event, status, id, detail) in expected {
        send.send(event).await.unwrap();
        let ack = acks.message().await.unwrap().unwrap();
        assert_eq!((ack.status(), ack.event_id.as_deref()), (status, id), "{ack:?}");
        assert_eq!(ack.detail.is_some(), detail.is_some(), "{ack:?}");
        assert!(ack.detail.unwrap_or_default().contains(detail.unwrap_or_default()));
    }
    drop(send);
    assert!(acks.message().await.unwrap().is_none());
    server.app.stop().await;
}

#[tokio::test]
async fn ten_thousand_events_of_one_stream_all_count() {
    let mut server = serve(&[]).await;
    let sent = futures::stream::iter((0..10_000).map(pair));
    let acks = server.grpc.feedback(sent).await.unwrap().into_inner();
    let acks: Vec<pb::FeedbackResponse> = acks.map(Result::unwrap).collect().await;
    assert_eq!(acks.len(), 10_000);
    for (idx, ack) in acks.iter().enumerate() {
        assert_eq!((ack.event_id.as_deref(), ack.version), (Some(&*idx.to_string()), Some(idx as u64 + 1)));
    }
    server.app.stop().await;
}

#[tokio::test]
async fn events_that_come_together_need_not_fit_into_the_queue_together() {
    let mut server = serve(&[("batch.max_queued_texts", "8")]).await;
    let acks = server.grpc.feedback(futures::stream::iter((0..300).map(pair))).await.unwrap().into_inner();
    let acks: Vec<pb::FeedbackResponse> = acks.map(Result::unwrap).collect().await;
    assert_eq!(acks.iter().filter(|ack| ack.status() == AckStatus::Applied).count(), 300);
    server.app.stop().await;
}

#[tokio::test]
async fn who_does_not_read_cannot_send_without_bound() {
    let mut server = serve(&[]).await;
    // An answer is as long as its message, so that unread answers fill the windows as fast as messages do.
    let (name, n_sent) = ("x".repeat(10_000), Arc::new(AtomicUsize::new(0)));
    let counted = n_sent.clone();
    let sent = futures::stream::iter((0..20_000).map(move |idx| {
        counted.fetch_add(1, Ordering::SeqCst);
        pb::ScoreStreamRequest { correlation_id: format!("{idx} {name}"), request: Some(request(&[KIND])) }
    }));
    let mut answers = server.grpc.score_stream(sent).await.unwrap().into_inner();
    let mut n_before = usize::MAX;
    while n_sent.load(Ordering::SeqCst) != n_before {
        n_before = n_sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(
        (1..2_000).contains(&n_before),
        "{n_before} messages of 10 kB were taken, and no answer was read"
    );
    // The stream continues once its answers are read.
    for idx in 0..=n_before {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(answer.correlation_id.starts_with(&format!("{idx} ")));
    }
    drop(answers);
    server.app.stop().await;
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let mut server = serve(&[]).await;
    let mut request = Request::new(futures::stream::pending::<pb::ScoreStreamRequest>());
    request.set_timeout(Duration::from_millis(100));
    let mut answers = server.grpc.score_stream(request).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), &*code(&status)), (Code::DeadlineExceeded, "deadline_exceeded"), "{status:?}");
    server.app.stop().await;
}

#[tokio::test]
async fn a_stop_answers_what_was_sent_and_ends_every_stream() {
    let mut server = serve(&[]).await;
    let sent = futures::stream::once(async { pair(1) }).chain(futures::stream::pending());
    let mut acks = server.grpc.feedback(sent).await.unwrap().into_inner();
    let idle = futures::stream::pending::<pb::ScoreStreamRequest>();
    let mut answers = server.grpc.score_stream(idle).await.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().status(), AckStatus::Applied);
    let started = tokio::time::Instant::now();
    let stopped = tokio::spawn(server.app.stop());
    for status in [acks.message().await.unwrap_err(), answers.message().await.unwrap_err()] {
        assert_eq!((status.code(), &*code(&status)), (Code::Unavailable, "stopping"), "{status:?}");
        assert!(tonic_types::StatusExt::get_error_details(&status).retry_info().is_some());
        assert!(field(&status).is_none());
    }
    stopped.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "the drain timeout is 20 s");
}
