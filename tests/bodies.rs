//! Bodies as real clients send them, and the errors for those that can't be read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking and says what it saw")]

mod common;

use std::io::Write;

use common::{Client, json_lines, start, toy};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};

const KIND: &str = "thanks friend glad";
const EXACT: &str = "exactly seven percent";

/// Names that this program has for the types that a caller calls object, array, text, number.
const FOREIGN: [&str; 29] = [
    "struct",
    "enum",
    "variant",
    "tuple",
    "newtype",
    "identifier",
    "sequence",
    "map",
    "borrowed",
    "string",
    "str",
    "boolean",
    "bool",
    "integer",
    "float",
    "floating",
    "unit",
    "option",
    "nonzero",
    "vec",
    "i64",
    "u64",
    "u32",
    "u8",
    "f64",
    "usize",
    "event",
    "scorerequest",
    "ledgerview",
];

async fn send_json(client: &Client, method: &str, path: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
    client.send(method, path, &[("content-type", "application/json")], body.into()).await
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Starts of the details about a value of a form that can't be read in its place.
const OF_FORM: [&str; 9] = [
    "found null, ",
    "found true, ",
    "found 7, ",
    "found -1.5, ",
    "found the text ",
    "found an array, ",
    "found an object, ",
    "unknown field ",
    "missing field ",
];

fn thumb(id: &str) -> Value {
    json!({ "event_id": id, "user": "ann", "kind": "thumb", "prompt": "tea", "response": KIND, "up": true })
}

fn score() -> Value {
    json!({ "items": [{ "prompt": "tea", "responses": [KIND, EXACT] }] })
}

/// Returns the acks of a stream of lines.
fn acks(text: &Value) -> Vec<Value> {
    match text {
        Value::String(text) => json_lines(text),
        one => vec![one.clone()],
    }
}

/// Returns one request of every kind, with as many of its fields as fit together.
fn requests(ledger: &Value) -> Vec<(&'static str, &'static str, Value)> {
    let messages = json!([{ "role": "user", "content": "tea" }, { "role": "assistant", "content": "?" }]);
    let items = json!([{ "prompt": "tea", "responses": [KIND, { "id": "x", "text": EXACT }] },
                       { "messages": messages, "responses": [KIND] }]);
    let event = |kind: &str, fields: Value| {
        let mut event = json!({ "event_id": "e", "user": "bob", "kind": kind, "at": "2027-01-15T08:00:00Z", "context": "c" });
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ("POST", "/feedback", event)
    };
    vec![
        (
            "POST",
            "/score",
            json!({ "user": "u", "context": "c", "min_version": 0, "items": items, "detail": true,
                                   "objective": "maxmin", "min_share": 0.1, "share_of": "weights" }),
        ),
        ("POST", "/rank", json!({ "items": items, "objective": "quantile", "q": 0.5, "over": "heads" })),
        (
            "POST",
            "/compare",
            json!({ "user": "u", "context": "c", "messages": messages, "a": KIND,
                                     "b": { "id": "x", "text": EXACT }, "detail": true, "min_version": 0 }),
        ),
        (
            "POST",
            "/elicit",
            json!({ "user": "u", "context": "c", "limit": 1, "candidates": [
            { "id": "q", "prompt": "tea", "a": KIND, "b": { "id": "x", "text": EXACT } },
            { "messages": messages, "a": KIND, "b": EXACT }] }),
        ),
        ("PUT", "/users/bea", json!({ "ledger": ledger })),
        event("pair", json!({ "prompt": "tea", "chosen": KIND, "rejected": EXACT })),
        event("thumb", json!({ "messages": messages, "response": KIND, "up": true })),
        event("tie", json!({ "prompt": "tea", "responses": [KIND, EXACT] })),
        event("rating", json!({ "prompt": "tea", "responses": [KIND, EXACT], "ratings": [1, 2.5] })),
        event("ranking", json!({ "response_ids": ["x", "y"] })),
        event("correction", json!({ "prompt": "tea", "original": KIND, "edited": EXACT })),
    ]
}

/// Collects every place in a document, the document itself first, as a JSON pointer and as errors write it.
fn places(value: &Value, pointer: String, path: String, found: &mut Vec<(String, String)>) {
    found.push((pointer.clone(), path.clone()));
    match value {
        Value::Array(entries) => {
            for (idx, entry) in entries.iter().enumerate() {
                places(entry, format!("{pointer}/{idx}"), format!("{path}[{idx}]"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                places(field, format!("{pointer}/{name}"), format!("{path}{dot}{name}"), found);
            }
        }
        _ => {}
    }
}

/// True if a detail makes sense to a caller who does not know this program.
fn is_plain(said: &str) -> bool {
    let words = said.to_lowercase();
    // Quoted words are the caller's own.
    let unquoted: Vec<&str> = words.split(['`', '"']).step_by(2).collect();
    let mut words = unquoted.iter().flat_map(|part| part.split(|c: char| !c.is_alphanumeric()));
    words.all(|word| !FOREIGN.contains(&word)) && !said.contains('?')
}

#[tokio::test]
async fn whatever_is_wrong_wherever_is_named_by_its_path_in_words_of_json() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    client.post("/feedback", &thumb("first")).await;
    let mut in_context = thumb("second");
    in_context["context"] = json!("c");
    client.post("/feedback", &in_context).await;
    let ledger = client.get("/users/ann").await.1["ledger"].clone();
    let wrong = [
        json!(null),
        json!(true),
        json!(7),
        json!(-1.5),
        json!("x"),
        json!([]),
        json!({}),
        json!([[7]]),
        json!({ "zz": 1 }),
    ];
    let mut n_refused = 0;
    for (method, url, request) in requests(&ledger) {
        let (status, answer) = send_json(&client, method, url, request.to_string()).await;
        assert!(status == 200 || answer["code"] == "unknown_response", "{url} {request}: {answer}");
        let mut found = Vec::new();
        places(&request, String::new(), String::new(), &mut found);
        for (pointer, path) in found {
            let original = request.pointer(&pointer).unwrap();
            let by_position =
                original.as_object().map(|fields| Value::Array(fields.values().cloned().collect()));
            for value in wrong.iter().chain(by_position.iter()) {
                let mut changed = request.clone();
                *changed.pointer_mut(&pointer).unwrap() = value.clone();
                let is_array = url == "/feedback" && changed.is_array();
                let (status, said) = send_json(&client, method, url, changed.to_string()).await;
                let case = format!("{url} {changed}: {said}");
                assert!(status < 500, "{case}");
                if status == 200 || is_array {
                    assert!(Some(value) != by_position.as_ref() || is_array, "read by position: {case}");
                    continue;
                }
                n_refused += 1;
                let (code, detail, field) =
                    (&said["code"], said["detail"].as_str().unwrap(), said["field"].as_str());
                assert!(is_plain(detail), "{case}");
                assert!(field.is_none_or(|field| !field.is_empty() && !field.contains('?')), "{case}");
                // Other errors have read the value and miss something beside it.
                let is_of_its_form = OF_FORM.iter().any(|start| detail.starts_with(start));
                if code == "invalid_field" && is_of_its_form && !path.is_empty() {
                    assert!(field.is_some_and(|field| field.starts_with(&path)), "{path}: {case}");
                }
                if url != "/feedback" {
                    continue;
                }
                // The same event stands beside a good one in an array.
                let events = json!([thumb("first"), changed]);
                let (status, acks) = client.post("/feedback", &events).await;
                assert_eq!((status, &acks[0]["status"]), (200, &json!("duplicate")), "{acks}");
                let detail = acks[1]["detail"].as_str().unwrap();
                assert!(
                    detail.starts_with(
                        &field.map_or_else(|| "[1]: ".to_owned(), |field| format!("[1].{field}: "))
                    ),
                    "{acks}"
                );
                // The same event stands between good ones in lines.
                let lines = format!("{}\n{changed}\n{}\n", thumb("first"), thumb("second"));
                let (_, lines) = client.post_text("/feedback", "application/x-ndjson", lines).await;
                let lines = self::acks(&lines);
                assert_eq!(lines.len(), 3);
                assert_eq!((&lines[1]["status"], &lines[1]["code"]), (&json!("rejected"), code), "{lines:?}");
            }
        }
    }
    assert!(n_refused > 500, "{n_refused}");
    app.stop().await;
}

#[tokio::test]
async fn what_is_missing_unknown_twice_out_of_range_or_cut_off_is_named() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let cases: &[(&str, &str, Option<&str>, &str, &str)] = &[
        (
            "/score",
            r#"{"items": [["Tea?", null, ["Yes."]]]}"#,
            Some("items[0]"),
            "invalid_field",
            "found an array, expected an object",
        ),
        ("/score", r#"{}"#, Some("items"), "invalid_field", "missing field `items`"),
        (
            "/score",
            r#"{"items": [{"prompt": "a"}]}"#,
            Some("items[0].responses"),
            "invalid_field",
            "missing field `responses`",
        ),
        (
            "/score",
            r#"{"items": [{"prompt": "a", "responses": [{"id": "b"}]}]}"#,
            Some("items[0].responses[0].text"),
            "invalid_field",
            "missing field `text`",
        ),
        (
            "/score",
            r#"{"items": [], "itens": []}"#,
            Some("itens"),
            "invalid_field",
            "unknown field `itens`, expected one of `user`",
        ),
        (
            "/score",
            r#"{"items": [], "items": []}"#,
            Some("items"),
            "invalid_field",
            "found the field `items` twice",
        ),
        (
            "/score",
            r#"{"items": [], "min_version": -1}"#,
            Some("min_version"),
            "invalid_field",
            "found -1, expected a whole number from 0 to 18446744073709551615",
        ),
        (
            "/score",
            r#"{"items": [], "min_version": 18446744073709551616}"#,
            Some("min_version"),
            "invalid_field",
            "expected a whole number",
        ),
        (
            "/score",
            r#"{"items": [], "objective": "best"}"#,
            Some("objective"),
            "invalid_field",
            r#"found "best", expected one of "mixture", "maxmin", "quantile", "population""#,
        ),
        ("/score", r#"{"items": [], "q": 1e999}"#, Some("q"), "invalid_field", "a number that is too large"),
        ("/score", r#"{"items": [{"prompt": "a""#, Some("items[0]"), "malformed_json", "line 1 column 25"),
        ("/score", r#"{"items": []} x"#, None, "malformed_json", "trailing characters at line 1 column 15"),
        ("/score", "", None, "malformed_json", "EOF"),
        ("/score", r#""text""#, None, "invalid_field", r#"found the text "text", expected an object"#),
        (
            "/elicit",
            r#"{"candidates": [], "limit": 0}"#,
            Some("limit"),
            "invalid_field",
            "found 0, expected a whole number from 1 to",
        ),
        (
            "/elicit",
            r#"{"candidates": [{"prompt": "a", "a": "b", "b": 7}]}"#,
            Some("candidates[0].b"),
            "invalid_field",
            "found 7, expected a text or an object of `id` and `text`",
        ),
        (
            "/feedback",
            r#"{"event_id": "a", "user": "u", "kind": "like"}"#,
            Some("kind"),
            "invalid_field",
            r#"expected "pair", "tie", "thumb", "ranking", "rating" or "correction": send a "thumb" with `up` true"#,
        ),
        (
            "/feedback",
            r#"{"event_id": "", "user": "u", "kind": "pair"}"#,
            Some("event_id"),
            "invalid_field",
            "found 0 bytes, expected 1 to 256",
        ),
    ];
    for (path, body, field, code, words) in cases {
        let (status, said) = send_json(&client, "POST", path, *body).await;
        assert_eq!(
            (status, &said["code"], said["field"].as_str()),
            (400, &json!(code), *field),
            "{body}: {said}"
        );
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains(words) && is_plain(detail), "{body}: {said}");
    }
    let (_, acks) = client.post("/feedback", &json!([thumb("a"), 7, ["b"], { "event_id": "c" }, { "kind": "pair", "event_id": "d", "user": "u", "prompt": "p", "chosen": "x" }])).await;
    let detail = |idx: usize| acks[idx]["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail(1), "[1]: found 7, expected an object");
    assert_eq!(detail(2), "[2]: found an array, expected an object");
    assert_eq!(detail(3), "[3].user: missing field `user`");
    assert!(detail(4).starts_with("[4].rejected: missing"), "{acks}");
    let admin = Client::new(app.admin_address);
    let (status, said) = admin.post("/models/reload", &json!({ "bundle": ["x"] })).await;
    assert_eq!(
        (status, &said["field"], &said["detail"]),
        (400, &json!("bundle"), &json!("found an array, expected a text")),
        "{said}"
    );
    app.stop().await;
}

#[tokio::test]
async fn half_a_surrogate_pair_is_the_replacement_character_and_refuses_nothing() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let request = |text: &str| {
        format!(r#"{{"items": [{{"prompt": "hi \ud83d\ude00", "responses": ["thanks {text} there"]}}]}}"#)
    };
    let (status, half) = send_json(&client, "POST", "/score", request(r"\ud83d")).await;
    let whole = send_json(&client, "POST", "/score", request("\u{fffd}")).await;
    assert_eq!((status, half), whole);
    let event = |id: &str| thumb("ID").to_string().replace("ID", id);
    let (_, acks) =
        send_json(&client, "POST", "/feedback", format!("[{},{}]", event(r"\udc00"), event("b"))).await;
    assert_eq!((&acks[0]["event_id"], &acks[0]["status"]), (&json!("\u{fffd}"), &json!("applied")), "{acks}");
    let lines = format!("{}\n{}\n", event(r"\ud800"), event(r"c\ud800"));
    let (_, lines) = client.post_text("/feedback", "application/jsonl", lines).await;
    let lines = self::acks(&lines);
    assert_eq!(
        (&lines[0]["status"], &lines[1]["event_id"]),
        (&json!("duplicate"), &json!("c\u{fffd}")),
        "{lines:?}"
    );
    let (_, said) = send_json(&client, "POST", "/score", r#"{"\ud83d": 1}"#).await;
    assert_eq!(said["field"], json!("\u{fffd}"), "{said}");
    app.stop().await;
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    assert_eq!(send_json(&client, "POST", "/score", format!("\u{feff}{}", score())).await.0, 200);
    let (_, acks) = send_json(&client, "POST", "/feedback", format!("\u{feff} [{}]", thumb("a"))).await;
    assert_eq!(acks[0]["status"], json!("applied"), "{acks}");
    let lines = format!("\u{feff}{}\n{}\n", thumb("a"), thumb("b"));
    let (_, lines) = client.post_text("/feedback", "application/ndjson", lines).await;
    let statuses: Vec<Value> = self::acks(&lines).iter().map(|ack| ack["status"].clone()).collect();
    assert_eq!(statuses, ["duplicate", "applied"]);
    app.stop().await;
}

/// Returns every route of both ports: its client, its method, and its path for ann.
async fn routes<'a>(client: &'a Client, admin: &'a Client) -> Vec<(&'a Client, &'static str, String)> {
    let (_, document) = client.get("/openapi.json").await;
    let mut routes = vec![(client, "GET", "/openapi.json".to_owned())];
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "ann").replace("{event_id}", "e");
        let methods = methods.as_object().unwrap().keys();
        routes.extend(methods.map(|method| {
            (
                client,
                ["GET", "PUT", "POST", "DELETE"]
                    .into_iter()
                    .find(|name| name.eq_ignore_ascii_case(method))
                    .unwrap(),
                path.clone(),
            )
        }));
    }
    for (method, path) in [
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("POST", "/models/reload"),
        ("GET", "/export/preferences"),
    ] {
        routes.push((admin, method, path.to_owned()));
    }
    assert!(routes.len() >= 17, "{}", routes.len());
    routes
}

#[tokio::test]
async fn an_unknown_query_parameter_is_refused_by_every_route() {
    let (app, _clock) = start(&toy(), &[]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    for (client, method, path) in routes(&client, &admin).await {
        for slash in ["", "/"] {
            let url = format!("{path}{slash}?usr=ann");
            let (status, said) = send_json(client, method, &url, score().to_string()).await;
            assert_eq!((status, &said["field"]), (400, &json!("usr")), "{method} {url}: {said}");
            assert!(said["detail"].as_str().unwrap().contains("unknown parameter `usr`"), "{said}");
        }
    }
    assert_eq!(client.post("/score?user=ann", &score()).await.1["field"], json!("user"));
    assert!(admin.get("/readyz?verbose").await.1.as_str().unwrap().contains("store: ok"));
    app.stop().await;
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let (app, _clock) = start(&toy(), &[]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    assert_eq!(client.post("/score/", &score()).await, client.post("/score", &score()).await);
    assert_eq!(client.post("/feedback/", &thumb("a")).await.1["status"], json!("applied"));
    assert_eq!(client.get("/users/ann/").await, client.get("/users/ann").await);
    assert_eq!(client.delete("/feedback/a/?user=ann").await.0, 200);
    // Every route gets a body that some take and others refuse; the first call does what is done only once.
    for (client, method, path) in routes(&client, &admin).await {
        let ask = async |path: &str| send_json(client, method, path, score().to_string()).await;
        let [_, with, without] = [ask(&path).await, ask(&format!("{path}/")).await, ask(&path).await];
        assert_eq!(with.0, without.0, "{method} {path}");
        // Metrics count every request, so that their text differs.
        assert!(with == without || path == "/metrics", "{method} {path}: {with:?}, {without:?}");
    }
    for path in ["/models/", "/openapi.json/", "/elicit/?user=ann"] {
        assert_eq!(client.get(path).await.0, 200, "{path}");
    }
    for path in ["/livez/", "/readyz/", "/metrics/"] {
        assert_eq!(admin.get(path).await.0, 200, "{path}");
    }
    let (_, text) = admin.get("/metrics").await;
    assert!(!text.as_str().unwrap().contains("route=\"/score/\""), "one route, one label");
    assert_eq!(client.get("/").await.1["code"], json!("no_route"));
    app.stop().await;
}

#[tokio::test]
async fn names_of_types_and_encodings_are_understood_as_they_are_written() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let plain = client.post("/score", &score()).await;
    let body = score().to_string().into_bytes();
    for (kind, encoding, body) in [
        ("application/json; charset=utf-8", "", body.clone()),
        ("Application/JSON;charset=UTF-8", "Identity", body.clone()),
        ("application/json", "identity, IDENTITY", body.clone()),
        ("application/json", "gzip", gzip(&body)),
        ("application/json", "GZIP", gzip(&body)),
        ("application/json", "identity, x-gzip", gzip(&body)),
    ] {
        let headers = [("content-type", kind), ("content-encoding", encoding)];
        assert_eq!(client.send("POST", "/score", &headers, body).await, plain, "{kind} {encoding}");
    }
    for (headers, words) in [
        (vec![], "found no content type, expected application/json"),
        (vec![("content-type", "text/plain")], "found the content type \"text/plain\""),
        (
            vec![("content-type", "application/json"), ("content-encoding", "br")],
            "found the content encoding \"br\", expected gzip or none",
        ),
        (vec![("content-type", "application/json"), ("content-encoding", "gzip, gzip")], "gzip, gzip"),
    ] {
        let (status, said) = client.send("POST", "/score", &headers, body.clone()).await;
        assert_eq!(status, 415, "{said}");
        assert!(said["detail"].as_str().unwrap().contains(words), "{said}");
    }
    let lines = format!("{}\n{}\n", thumb("a"), thumb("b"));
    for kind in [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "Application/JSONL; charset=utf-8",
    ] {
        for zipped in [false, true] {
            let request = client.http.post(format!("{}/feedback", client.base)).header("content-type", kind);
            let request = match zipped {
                true => request.header("content-encoding", "gzip").body(gzip(lines.as_bytes())),
                false => request.body(lines.clone()),
            };
            let answer = request.send().await.unwrap();
            let asked = kind.split(';').next().unwrap().to_lowercase();
            assert_eq!(answer.headers()["content-type"], asked, "answered in kind");
            assert_eq!(acks(&Value::String(answer.text().await.unwrap())).len(), 2, "{kind} {zipped}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn gzip_is_bounded_by_what_it_inflates_to_and_told_apart_when_it_is_broken() {
    let (app, _clock) = start(&toy(), &[("server.max_body_bytes", "1000000")]).await;
    let client = Client::new(app.address);
    let json = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let bomb = gzip(&vec![b' '; 300 << 20]);
    assert!(bomb.len() < 1_000_000);
    let (status, said) = client.send("POST", "/score", &json, bomb).await;
    assert_eq!((status, &said["code"]), (413, &json!("too_large")), "{said}");
    let zipped = gzip(score().to_string().as_bytes());
    for broken in [
        zipped[..zipped.len() - 4].to_vec(),
        score().to_string().into_bytes(),
        [&zipped[..], b"rest"].concat(),
    ] {
        let (status, said) = client.send("POST", "/score", &json, broken).await;
        assert_eq!((status, &said["code"]), (400, &json!("malformed_gzip")), "{said}");
    }
    let ndjson = [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")];
    let zipped = gzip(format!("{}\n{}\n", thumb("a"), thumb("b")).as_bytes());
    let (status, said) = client.send("POST", "/feedback", &ndjson, zipped[..zipped.len() - 4].to_vec()).await;
    let found: Vec<(Value, Value)> =
        acks(&said).iter().map(|ack| (ack["status"].clone(), ack["code"].clone())).collect();
    let applied = (json!("applied"), Value::Null);
    assert_eq!(
        (status, found),
        (200, vec![applied.clone(), applied, (json!("rejected"), json!("malformed_gzip"))])
    );
    // A line that the break cuts is no line, even if it could be read.
    let zipped = gzip(thumb("d").to_string().as_bytes());
    let (_, said) = client.send("POST", "/feedback", &ndjson, zipped[..zipped.len() - 4].to_vec()).await;
    assert_eq!(acks(&said).iter().map(|ack| &ack["code"]).collect::<Vec<_>>(), ["malformed_gzip"], "{said}");
    // One line of 25 MiB exceeds the size of a line; the next line is read.
    let long = [vec![b'x'; 25 << 20], format!("\n{}\n", thumb("c")).into_bytes()].concat();
    let (_, said) = client.send("POST", "/feedback", &ndjson, gzip(&long)).await;
    let found = acks(&said);
    assert_eq!((&found[0]["code"], &found[1]["status"]), (&json!("too_large"), &json!("applied")), "{said}");
    app.stop().await;
}

#[tokio::test]
async fn bodies_that_do_not_fit_beside_those_being_read_are_refused_for_now() {
    let (app, _clock) =
        start(&toy(), &[("server.max_body_bytes", "1000"), ("server.max_buffered_bytes", "1000")]).await;
    let (client, admin) = (Client::new(app.address), Client::new(app.admin_address));
    let part = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 950]))]);
    let part = reqwest::Body::wrap_stream(part.chain(futures::stream::pending()));
    let slow = client.http.post(format!("{}/score", client.base)).header("content-type", "application/json");
    let mut slow = Box::pin(slow.body(part).send());
    let post = async |is_chunked: bool| {
        let request =
            client.http.post(format!("{}/score", client.base)).header("content-type", "application/json");
        let body = bytes::Bytes::from(score().to_string());
        let request = match is_chunked {
            true => request
                .body(reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(body)]))),
            false => request.body(body),
        };
        request.send().await.unwrap()
    };
    for is_chunked in [false, true] {
        let refused = loop {
            assert!((&mut slow).now_or_never().is_none(), "it is still being sent");
            let answer = post(is_chunked).await;
            if answer.status().as_u16() != 200 {
                break answer;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(
            (refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()),
            (503, "1")
        );
        assert_eq!(refused.json::<Value>().await.unwrap()["code"], json!("too_many_bytes"));
    }
    let (_, metrics) = admin.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("micro_reward_requests_shed_total{reason=\"bodies\"}"));
    assert_eq!(client.get("/models").await.0, 200, "what has no body is served");
    drop(slow);
    while post(false).await.status().as_u16() == 503 {
        tokio::task::yield_now().await;
    }
    assert_eq!(post(false).await.status().as_u16(), 200, "its bytes are given back");
    app.stop().await;
}

#[tokio::test]
async fn a_body_in_gzip_takes_up_what_it_has_inflated_to() {
    const MOST: usize = 1_000_000;
    let most = MOST.to_string();
    let settings = [("server.max_body_bytes", &*most), ("server.max_buffered_bytes", &*most)];
    let (app, _clock) = start(&toy(), &settings).await;
    let client = Client::new(app.address);
    let json = [("content-type", "application/json")];
    // The body is small as sent, and its end is pending.
    let part = gzip(&vec![b' '; MOST - 1000]);
    assert!(part.len() < 2000, "{}", part.len());
    let part = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(part))]);
    let part = reqwest::Body::wrap_stream(part.chain(futures::stream::pending()));
    let slow = client.http.post(format!("{}/score", client.base)).header("content-type", "application/json");
    let mut slow = Box::pin(slow.header("content-encoding", "gzip").body(part).send());
    let padded = format!("{}{}", score(), " ".repeat(2000)).into_bytes();
    let (status, said) = loop {
        assert!((&mut slow).now_or_never().is_none(), "it is still being sent");
        let (status, said) = client.send("POST", "/score", &json, padded.clone()).await;
        if status != 200 {
            break (status, said);
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((status, &said["code"]), (503, &json!("too_many_bytes")), "{said}");
    // Another body in gzip is small as sent, too.
    let zipped = [json[0], ("content-encoding", "gzip")];
    let (status, said) = client.send("POST", "/score", &zipped, gzip(&padded)).await;
    assert_eq!((status, &said["code"]), (503, &json!("too_many_bytes")), "{said}");
    assert_eq!(client.post("/score", &score()).await.0, 200, "for less there is room");
    drop(slow);
    while client.send("POST", "/score", &zipped, gzip(&padded)).await.0 == 503 {
        tokio::task::yield_now().await;
    }
    app.stop().await;
}

#[tokio::test]
async fn arrays_of_more_entries_than_are_read_are_refused_as_a_whole() {
    let (app, _clock) = start(&toy(), &[]).await;
    let client = Client::new(app.address);
    let nothings = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
    let (status, said) = send_json(&client, "POST", "/feedback", nothings(200_000)).await;
    assert_eq!((status, &said["code"]), (413, &json!("too_many_entries")), "{said}");
    let responses =
        format!(r#"{{"items": [{{"prompt": "a", "responses": {}}}]}}"#, nothings(2).replace('0', "\"\""));
    assert_eq!(send_json(&client, "POST", "/score", responses).await.0, 200);
    let many = format!(
        r#"{{"items": [{{"prompt": "a", "responses": {}}}]}}"#,
        nothings(1_100_000).replace('0', "\"\"")
    );
    let (status, said) = send_json(&client, "POST", "/score", many).await;
    assert_eq!((status, &said["code"]), (413, &json!("too_many_entries")), "{said}");
    assert_eq!(said["field"], json!("items[0].responses[1048576]"), "{said}");
    app.stop().await;
}
