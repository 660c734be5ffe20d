//! Callers that do not read, do not finish, cancel, or send too much or nonsense: they cost little and hinder no
//! others.
//!
//! Their cost is counted in bytes and permits, not in time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::server::{FREE, Server, command};
use common::{Client, change_tokenizer, http2, start, toy, toy_with};
use flate2::Compression;
use flate2::write::GzEncoder;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use micro_reward::model::Template;
use micro_reward::telemetry::metric;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Upper bound of the bytes that an unread connection takes: the buffers of the two sockets, a few batches, and lines
/// whose acks, which are about half as long, are 32 MiB. A server that takes more is unbounded.
const MUCH: usize = 128 << 20;

/// Time after which a writer that can't write counts as held back.
const STUCK: Duration = Duration::from_secs(1);

fn thumb(user: &str, id: usize) -> Value {
    json!({ "event_id": format!("e{id}"), "user": user, "kind": "thumb", "prompt": "tea", "response": "thanks", "up": true })
}

/// Connects and sends the head of a stream of lines, whose body comes in chunks.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /feedback HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Reads up to the end of a body in chunks.
async fn to_the_last_chunk(reader: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"0\r\n\r\n") {
        assert!(reader.read_buf(&mut answer).await.unwrap() > 0);
    }
    String::from_utf8(answer).unwrap()
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
    let lines = |from: usize| {
        (from..from + 1000)
            .map(|id| format!("{}\n", thumb(&format!("u{}", id % 10_000), id)))
            .collect::<String>()
    };
    let stuck = loop {
        let bytes = chunk(lines(n_sent).as_bytes());
        // A partial write continues at its end, once the acks are read.
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
        // A user may have at most `feedback.max_events` events in a day.
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
    let answer = to_the_last_chunk(&mut reader).await;
    finish.await.unwrap();
    let n_acks = answer.matches("\"event_id\":\"e").count();
    assert_eq!(n_acks, n_sent + 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_streams_do_not_hinder_others() {
    let (app, _clock) = start(&toy(), &[("server.max_concurrent_requests", "300")]).await;
    let client = Client::new(app.address);
    let mut streams = Vec::new();
    for id in 0..250 {
        let mut stream = open(app.address).await;
        // Each stream stops within a line.
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
    let answer = to_the_last_chunk(&mut stream).await;
    assert_eq!(answer.matches("\"status\":\"rejected\"").count(), 6, "{answer}");
    assert_eq!(answer.matches("\"status\":\"applied\"").count(), 2, "{answer}");
    assert_eq!(client.get("/users/ann").await.1["n"], 2);
}

/// Returns a head that announces a body of `n_bytes`, with further headers.
fn announce(method: &str, path: &str, content_type: &str, n_bytes: u64, further: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {n_bytes}\r\n{further}\r\n"
    )
}

/// Reads until the server closes or resets the connection.
async fn all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while stream.read_buf(&mut answer).await.is_ok_and(|n| n > 0) {}
    String::from_utf8(answer).unwrap()
}

/// Returns a connection that holds the only permit by an open stream.
async fn with_the_only_permit(address: SocketAddr) -> TcpStream {
    let mut stream = open(address).await;
    stream.write_all(&chunk(format!("{}\n", thumb("ann", 1)).as_bytes())).await.unwrap();
    assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0, "it has begun");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_who_sends_all_of_a_large_body_before_it_reads() {
    let (app, _clock) = start(&toy(), &[("server.max_body_bytes", "100000")]).await;
    let (busy, _clock) = start(&toy(), &[("server.max_concurrent_requests", "1")]).await;
    let open = with_the_only_permit(busy.address).await;
    let script = "import sys, http.client, urllib.error, urllib.request
megabyte, status = b' ' * 1_000_000, None
for case in sys.argv[1:]:
    address, method, path, media, expected = case.split()
    for body in [megabyte, iter([megabyte] * 3)]:
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request(method, path, body, {'Content-Type': media})
        answer = connection.getresponse()
        assert answer.status == int(expected) and b'code' in answer.read(), (case, answer.status)
    request = urllib.request.Request(f'http://{address}{path}', megabyte, {'Content-Type': media}, method=method)
    try:
        urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        status = error.code
    assert status == int(expected), (case, status)
print('all')
";
    let (plain, _clock) = start(&toy(), &[]).await;
    let (small, busy, plain) = (app.address, busy.address, plain.address);
    let cases = [
        format!("{busy} POST /score application/json 503"),
        format!("{small} POST /score application/json 413"),
        format!("{small} POST /feedback application/json 413"),
        format!("{small} PUT /users/ann application/json 413"),
        format!("{plain} POST /score text/plain 415"),
        format!("{plain} POST /nowhere application/json 404"),
        format!("{plain} DELETE /score application/json 405"),
    ];
    let output =
        tokio::process::Command::new("python3").args(["-c", script]).args(cases).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "all", "{said}");
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_sending_after_a_refusal_is_read_for_a_bounded_number_of_bytes() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = announce("POST", "/score", "application/json", 99_000_000_000, "");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (piece, mut n_bytes) = (vec![b' '; 1 << 20], 0_usize);
    while let Ok(n) = stream.write(&piece).await {
        n_bytes += n;
        assert!(n_bytes < 160 << 20, "{n_bytes} bytes were taken of somebody who was refused");
    }
    assert!(n_bytes > 64 << 20, "a body of `server.max_body_bytes` is taken");
    others_are_served(&client, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_before_it_sends_is_refused_by_the_head_alone() {
    let (app, _clock) = start(&toy(), &[]).await;
    let (busy, _clock) = start(&toy(), &[("server.max_concurrent_requests", "1")]).await;
    let open = with_the_only_permit(busy.address).await;
    let json = "application/json";
    let cases = [
        (app.address, "POST", "/score", json, "", 413),
        (app.address, "POST", "/rank", json, "", 413),
        (app.address, "POST", "/compare", json, "", 413),
        (app.address, "POST", "/elicit", json, "", 413),
        (app.address, "POST", "/feedback", json, "", 413),
        (app.address, "PUT", "/users/ann", json, "", 413),
        (app.admin_address, "POST", "/models/reload", json, "", 413),
        (app.address, "POST", "/nowhere", json, "", 404),
        (app.address, "POST", "/score", json, "x-request-timeout: soon\r\n", 400),
        (busy.address, "POST", "/score", json, "", 503),
    ];
    for (address, method, path, content_type, further, expected) in cases {
        let expect = format!("expect: 100-continue\r\n{further}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = announce(method, path, content_type, 99_000_000_000, &expect);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let n = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..n]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{method} {path}: {answer}");
    }
    for (path, content_type, expected) in [("/score", "text/plain", 415), ("/nowhere", json, 404)] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let head = announce("POST", path, content_type, 1000, "expect: 100-continue\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *format!("HTTP/1.1 {expected}").as_bytes());
    }
    // An admitted request receives 100 Continue, and then its answer.
    let body = json!({ "items": [{ "prompt": "tea", "responses": ["thanks"] }] }).to_string();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = announce("POST", "/score", json, body.len() as u64, "expect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 200 OK");
    drop(open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_its_sending_half_gets_its_answer() {
    let (app, _clock) = start(&toy(), &[]).await;
    for n in 0..20 {
        let score = json!({ "items": [{ "prompt": "tea", "responses": [format!("thanks {n}"), "seven"] }] });
        let mut feedback = thumb("ann", n);
        feedback["response"] = json!(format!("glad {n}"));
        for (path, content_type, body, expected) in [
            ("/score", "application/json", score, "\"rewards\""),
            ("/feedback", "application/json", feedback.clone(), "\"applied\""),
            ("/feedback", "application/x-ndjson", feedback, "\"duplicate\""),
        ] {
            let body = body.to_string();
            let mut stream = TcpStream::connect(app.address).await.unwrap();
            let head = announce("POST", path, content_type, body.len() as u64, "");
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = all(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(expected), "{path}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_150_000_thumbs_before_it_reads_gets_150_000_acks() {
    const N_THUMBS: usize = 150_000;
    let (app, _clock) = start(&toy(), &[]).await;
    // A user may have at most `feedback.max_events` events in a day.
    let lines: String =
        (0..N_THUMBS).map(|id| format!("{}\n", thumb(&format!("u{}", id % 10_000), id))).collect();
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head =
        announce("POST", "/feedback", "application/x-ndjson", lines.len() as u64, "connection: close\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(lines.as_bytes()).await.unwrap();
    let answer = all(&mut stream).await;
    assert_eq!(answer.matches("\"status\":\"applied\"").count(), N_THUMBS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_of_its_acks_and_sends_nothing_loses_its_connection_and_its_permit() {
    // The acks of these lines exceed the buffers of the two sockets.
    const N_LINES: usize = 200_000;
    let settings = [("server.write_timeout", "100ms"), ("server.max_concurrent_requests", "1")];
    let (app, _clock) = start(&toy(), &settings).await;
    let client = Client::new(app.address);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(app.address).await.unwrap();
    let lines = "{}\n".repeat(N_LINES);
    let head = announce("POST", "/feedback", "application/x-ndjson", 1 << 40, "");
    stream.write_all(format!("{head}{lines}").as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    while client.get("/models").await.0 == 503 {}
    let n_acks = all(&mut stream).await.matches("\"rejected\"").count();
    assert!((1..N_LINES).contains(&n_acks), "{n_acks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_window_is_shut_loses_its_permit_and_its_connection_goes_on() {
    let settings = [("server.write_timeout", "100ms"), ("server.max_concurrent_requests", "1")];
    let (app, _clock) = start(&toy(), &settings).await;
    let mut connection = http2::connect(app.address, 0).await;
    connection.write_all(&http2::head(1, "/models", None, http2::END)).await.unwrap();
    loop {
        let frame = http2::next(&mut connection).await.unwrap();
        assert_ne!(frame.kind, http2::DATA, "the window is shut");
        if frame.kind == http2::RST_STREAM {
            assert_eq!(frame.stream, 1);
            break;
        }
    }
    assert_eq!(Client::new(app.address).get("/models").await.0, 200, "its permit is free");
    connection.write_all(&http2::frame(http2::PING, 0, 0, &[7; 8])).await.unwrap();
    while http2::next(&mut connection).await.unwrap().payload != [7; 8] {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_end_no_others_and_keep_no_permit() {
    const N_CANCELLED: u32 = 500;
    let (app, _clock) = start(&toy(), &[("server.max_concurrent_requests", "2")]).await;
    let client = Client::new(app.address);
    let mut connection = http2::connect(app.address, 1 << 20).await;
    let ndjson = Some("application/x-ndjson");
    connection.write_all(&http2::head(1, "/feedback", ndjson, 0)).await.unwrap();
    // One write holds all calls, so that they are canceled before they are read; first only begun, then sent to their
    // end.
    for flags in [0, http2::END] {
        let first = if flags == 0 { 3 } else { 3 + 2 * N_CANCELLED };
        let ids = (first..).step_by(2).take(N_CANCELLED as usize);
        let calls = ids
            .flat_map(|id| [http2::head(id, "/score", Some("application/json"), flags), http2::cancel(id)]);
        connection.write_all(&calls.collect::<Vec<_>>().concat()).await.unwrap();
        while client.get("/models").await.0 != 200 {}
    }
    let line = format!("{}\n", thumb("ann", 1));
    connection.write_all(&http2::frame(http2::DATA, http2::END, 1, line.as_bytes())).await.unwrap();
    let acks = String::from_utf8(http2::body(&mut connection, 1).await).unwrap();
    assert!(acks.contains("\"applied\""), "{acks}");
    others_are_served(&client, 1).await;
}
// The paused clock advances whenever all tasks wait for it; a line that is no event needs no model thread, which the
// clock would not wait for.
#[tokio::test(start_paused = true)]
async fn a_stream_on_which_nothing_moves_ends_with_a_line_that_says_so() {
    let (app, _clock) = start(&toy(), &[("server.max_concurrent_requests", "1")]).await;
    let mut stream = open(app.address).await;
    stream.write_all(&chunk(b"{}\n{\"event_id\": ")).await.unwrap();
    let answer = to_the_last_chunk(&mut stream).await;
    assert_eq!(answer.matches("\"status\":\"rejected\"").count(), 2, "{answer}");
    assert!(answer.contains("\"code\":\"stalled_stream\""), "{answer}");
    assert_eq!(Client::new(app.address).get("/models").await.0, 200, "its permit is free");
}

#[tokio::test(start_paused = true)]
async fn a_blank_line_keeps_a_stream_open() {
    let (app, _clock) = start(&toy(), &[]).await;
    let mut stream = open(app.address).await;
    // The kernel would delay small pieces for a real time, which the paused clock does not have.
    stream.set_nodelay(true).unwrap();
    for _ in 0..10 {
        stream.write_all(&chunk(b"\n")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    stream.write_all(&[chunk(b"{}\n"), b"0\r\n\r\n".to_vec()].concat()).await.unwrap();
    let answer = to_the_last_chunk(&mut stream).await;
    assert!(answer.contains("\"invalid_field\"") && !answer.contains("\"stalled_stream\""), "{answer}");
}

/// Starts the program as a process on a bundle. It has scored a text: memory from then on is the cost of callers.
async fn process(bundle: &Path, settings: &[(&str, &str)]) -> Server {
    let mut command = command(&[&FREE[..], &["--state", "memory"]].concat());
    command.env("MICRO_REWARD__MODEL__BUNDLE", bundle);
    for (key, value) in settings {
        command.env(format!("MICRO_REWARD__{}", key.to_uppercase().replace('.', "__")), value);
    }
    let server = common::server::start(command).await;
    let score = json!({ "items": [{ "prompt": "tea", "responses": ["thanks"] }] });
    assert_eq!(server.client.post("/score", &score).await.0, 200);
    server
}

/// Returns the peak memory of a process so far, in bytes.
fn peak(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id().unwrap())).unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    kilobytes.unwrap().trim().parse::<usize>().unwrap() << 10
}

/// Checks that the peak memory has grown by at most `most` bytes.
fn check_cost(server: &Server, before: usize, most: usize) {
    let cost = peak(server) - before;
    println!("{} of at most {} MiB", cost >> 20, most >> 20);
    assert!(cost <= most, "{cost} bytes were taken up, expected at most {most}");
}

/// Writes the toy bundle with another tokenizer around its words.
fn toy_that_tokenizes(dir: &Path, template: Template, change: impl FnOnce(&mut Value)) {
    toy_with(dir, |manifest| {
        manifest.input.template = template;
        change_tokenizer(dir, manifest, change);
    });
}

/// Makes a tokenizer like BERT's: every punctuation character is a word.
fn as_bert(tokenizer: &mut Value) {
    tokenizer["normalizer"] = json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true });
    tokenizer["pre_tokenizer"] = json!({ "type": "BertPreTokenizer" });
    tokenizer["model"] = json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": tokenizer["model"]["vocab"] });
}

/// Makes a tokenizer like SentencePiece's: a text is one word, of pieces.
fn as_sentence_piece(tokenizer: &mut Value) {
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    let mut pieces: Vec<(u64, &String)> =
        vocab.iter().map(|(piece, id)| (id.as_u64().unwrap(), piece)).collect();
    pieces.sort_unstable();
    let scored: Vec<Value> = pieces.iter().map(|(id, piece)| json!([piece, -(*id as f64)])).collect();
    tokenizer["model"] = json!({ "type": "Unigram", "unk_id": 1, "vocab": scored });
    tokenizer["normalizer"] = Value::Null;
    tokenizer["pre_tokenizer"] = Value::Null;
}

/// Posts all requests at once and returns the statuses.
async fn post_all(server: &Server, path: &str, requests: Vec<Value>) -> Vec<u16> {
    let posts = requests.into_iter().map(|request| {
        let (client, path) = (server.client.clone(), path.to_owned());
        tokio::spawn(async move { client.post(&path, &request).await.0 })
    });
    let posts: Vec<_> = posts.collect();
    futures::future::join_all(posts).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_with_a_mebibyte_of_exclamation_marks_each_cost_what_they_send() {
    const N_CALLERS: usize = 32;
    let dir = tempfile::tempdir().unwrap();
    toy_that_tokenizes(dir.path(), Template::Separate, as_bert);
    let server = process(dir.path(), &[]).await;
    let before = peak(&server);
    let text = |n: usize| format!("{n:02}{}", "!".repeat((1 << 20) - 2));
    let requests = (0..N_CALLERS).map(|n| json!({ "items": [{ "prompt": "tea", "responses": [text(n)] }] }));
    let statuses = post_all(&server, "/score", requests.collect()).await;
    assert_eq!(statuses, [200; N_CALLERS]);
    // A body is held in a buffer that doubles, as its texts, and as a copy of each: six times what was sent. One such
    // text whose every character is a token would take 180 MB by itself.
    check_cost(&server, before, 6 * (N_CALLERS << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_pair_without_words_costs_a_small_multiple_of_what_it_sends() {
    let dir = tempfile::tempdir().unwrap();
    toy_that_tokenizes(dir.path(), Template::Pair, as_sentence_piece);
    let server = process(dir.path(), &[]).await;
    let before = peak(&server);
    let text = |word: &str| word.repeat(160_000 / word.len());
    let request =
        json!({ "items": [{ "prompt": text("tea"), "responses": [text("thanks"), text("banana")] }] });
    let (status, answer) = server.client.post("/score", &request).await;
    assert_eq!((status, &answer["items"][0]["truncated"]), (200, &json!([true, true])), "{answer}");
    // One pair at a time is tokenized, and a tokenizer that reads all of it holds about 150 bytes for each of its
    // bytes; the bound is twice that.
    check_cost(&server, before, 2 * 150 * 320_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_inflates_without_end_costs_no_more_than_a_body_may() {
    let server = process(&toy(), &[]).await;
    let before = peak(&server);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    // The body inflates to two gibibytes.
    let bomb = encoder.finish().unwrap().repeat(2048);
    for (path, kind, expected) in
        [("/score", "application/json", 413), ("/feedback", "application/x-ndjson", 200)]
    {
        let request = server.client.http.post(format!("{}{path}", server.client.base)).body(bomb.clone());
        let request = request
            .header("content-type", kind)
            .header("content-encoding", "gzip")
            .header("connection", "close");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected);
        assert!(answer.text().await.unwrap().contains("\"too_large\""));
    }
    // The bound is a body of 64 MiB and the copies that its buffer makes as it grows.
    check_cost(&server, before, 3 << 26);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_line_costs_no_more_than_a_line_may() {
    let server = process(&toy(), &[]).await;
    let before = peak(&server);
    let mut stream = open(server.address()).await;
    let piece = chunk(&[b'x'; 1 << 20]);
    for _ in 0..200 {
        stream.write_all(&piece).await.unwrap();
    }
    stream.write_all(&chunk(format!("\n{}\n", thumb("ann", 1)).as_bytes())).await.unwrap();
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = to_the_last_chunk(&mut stream).await;
    assert!(answer.contains("\"too_large\"") && answer.contains("\"applied\""), "{answer}");
    // The bound is a line of 24 MiB in a buffer that is copied when it doubles; the caller sends 200 MiB.
    check_cost(&server, before, 4 * (24 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_stop_half_way_hold_no_more_than_all_bodies_may() {
    const N_CALLERS: usize = 250;
    const SENT: usize = 4 << 20;
    const MOST: usize = 64 << 20;
    let most = MOST.to_string();
    let server =
        process(&toy(), &[("server.max_body_bytes", &most), ("server.max_buffered_bytes", &most)]).await;
    let before = peak(&server);
    let address = server.address();
    // A body without a content-length is read until there is no room.
    let head = "POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let half = Arc::new([head.as_bytes(), &chunk(&vec![b' '; SENT])].concat());
    let callers = (0..N_CALLERS).map(|_| {
        let half = half.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may close the connection of a refused caller after its answer.
            let _ = stream.write_all(&half).await;
            stream
        })
    });
    let callers = futures::future::join_all(callers.collect::<Vec<_>>()).await;
    let n_refused = async || server.admin.metric("micro_reward_requests_shed_total{reason=\"bodies\"}").await;
    while n_refused().await.unwrap_or_default() < (N_CALLERS - MOST / SENT) as f64 {}
    // The bound is the bodies, in buffers that are copied when they double, and at most half a MiB that each
    // connection reads ahead; the callers send 1000 MiB.
    check_cost(&server, before, 4 * MOST + (N_CALLERS << 19));
    assert_eq!(server.client.get("/models").await.0, 200);
    drop(callers);
    let score = json!({ "items": [{ "prompt": "tea", "responses": ["glad"] }] });
    while server.client.post("/score", &score).await.0 == 503 {}
    assert_eq!(server.client.post("/score", &score).await.0, 200);
}

/// A recorder that counts rejected feedback and drops everything else.
#[derive(Default)]
struct Rejected(Arc<AtomicU64>);

impl Recorder for Rejected {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == metric::FEEDBACK { Counter::from_arc(self.0.clone()) } else { Counter::noop() }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

// One thread runs all tasks, so that they wait for work that does not yield.
#[tokio::test]
async fn many_small_lines_are_read_a_few_at_a_time_and_others_have_their_turns_between() {
    const N_LINES: usize = 100_000;
    let recorder = Rejected::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let (app, _clock) = start(&toy(), &[]).await;
    let n_rejected = recorder.0.clone();
    let other = tokio::spawn(async move {
        let (mut before, mut most) = (0, 0);
        while before < N_LINES as u64 {
            let now = n_rejected.load(Ordering::Relaxed);
            (before, most) = (now, most.max(now - before));
            tokio::task::yield_now().await;
        }
        most
    });
    let mut stream = open(app.address).await;
    let (mut reader, mut writer) = stream.split();
    let send = async {
        let lines = "{}\n".repeat(N_LINES);
        writer.write_all(&[chunk(lines.as_bytes()), b"0\r\n\r\n".to_vec()].concat()).await.unwrap();
    };
    let ((), answer) = tokio::join!(send, to_the_last_chunk(&mut reader));
    assert_eq!(answer.matches("\"rejected\"").count(), N_LINES);
    let most = other.await.unwrap();
    // A batch is 2048 lines; a turn may come a few batches late.
    assert!(most <= 4 * 2048, "{most} lines were read without a pause");
}
