//! Streams of those who do not read, do not finish, or send nonsense: they cost little, and others do not notice.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Client, start, toy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection takes what the two sockets' buffers hold and a few batches; more than this is not bounded.
const MUCH: usize = 64 << 20;

/// A writer that can't write for so long is held back.
const STUCK: Duration = Duration::from_secs(1);

fn thumb(user: &str, id: usize) -> Value {
    json!({ "event_id": format!("e{id}"), "user": user, "kind": "thumb", "prompt": "tea", "response": "thanks", "up": true })
}

/// The head of a stream of lines, sent in chunks.
async fn open(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /feedback HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

async fn others_are_served(client: &Client, id: usize) {
    let (status, ack) = client.post("/feedback", &thumb("other", id)).await;
    assert_eq!((status, &ack["status"]), (200, &json!("applied")));
    let score = json!({ "user": "other", "items": [{ "prompt": "tea", "responses": ["thanks"] }] });
    assert_eq!(client.post("/score", &score).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_acks_is_held_back_and_loses_nothing() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let mut stream = open(app.address).await;
    let (mut n_sent, mut n_bytes) = (0, 0);
    let lines =
        |from: usize| (from..from + 1000).map(|id| format!("{}\n", thumb("ann", id))).collect::<String>();
    let stuck = loop {
        let bytes = chunk(lines(n_sent).as_bytes());
        // What was written in part goes on where it stopped, once the acks are read.
        let mut written = 0;
        let write = async {
            while written < bytes.len() {
                written += stream.write(&bytes[written..]).await.unwrap();
            }
        };
        if tokio::time::timeout(STUCK, write).await.is_err() {
            break bytes[written..].to_vec();
        }
        (n_sent, n_bytes) = (n_sent + 1000, n_bytes + bytes.len());
        assert!(n_bytes < MUCH, "{n_bytes} bytes were taken of somebody who does not read");
        // A user may say only so much in a day.
        if n_sent % 10_000 == 0 {
            others_are_served(&client, n_sent).await;
        }
    };
    others_are_served(&client, 1).await;
    let (mut reader, mut writer) = stream.into_split();
    let finish = tokio::spawn(async move {
        writer.write_all(&stuck).await.unwrap();
        writer.write_all(b"0\r\n\r\n").await.unwrap();
        writer
    });
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while !answer.ends_with(b"0\r\n\r\n") {
        let n = reader.read(&mut buffer).await.unwrap();
        assert!(n > 0);
        answer.extend_from_slice(&buffer[..n]);
    }
    finish.await.unwrap();
    let n_acks = String::from_utf8(answer).unwrap().matches("\"event_id\":\"e").count();
    assert_eq!(n_acks, n_sent + 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_streams_do_not_hinder_others() {
    let (app, _clock) = start(&toy(), &[("server.max_concurrent_requests", "300")]).await;
    let client = Client::new(app.address);
    let mut streams = Vec::new();
    for id in 0..250 {
        let mut stream = open(app.address).await;
        // Half a line, then nothing.
        stream.write_all(&chunk(&thumb("ann", id).to_string().as_bytes()[..30])).await.unwrap();
        streams.push(stream);
    }
    for id in 0..20 {
        others_are_served(&client, id).await;
    }
    drop(streams);
    others_are_served(&client, 100).await;
    assert_eq!(client.get("/users/ann").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_rejected_line_by_line_and_an_endless_line_once() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let mut stream = open(app.address).await;
    let mut body = b"\xff\xfe\0\n{\n[]\n\"text\"\n{\"event_id\":1}\n".to_vec();
    body.extend(format!("{}\n", thumb("ann", 1)).bytes());
    stream.write_all(&chunk(&body)).await.unwrap();
    let piece = chunk(&[b'x'; 1 << 20]);
    for _ in 0..40 {
        stream.write_all(&piece).await.unwrap();
    }
    others_are_served(&client, 1).await;
    stream.write_all(&chunk(format!("\n{}\n", thumb("ann", 2)).as_bytes())).await.unwrap();
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"0\r\n\r\n") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.matches("\"status\":\"rejected\"").count(), 6, "{answer}");
    assert_eq!(answer.matches("\"status\":\"applied\"").count(), 2, "{answer}");
    assert_eq!(client.get("/users/ann").await.1["n"], 2);
}
