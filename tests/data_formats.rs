//! Files of every layout and container of docs/data.md, and what is told about those that can't be read.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use micro_reward::fit::{Fields, Found, Response, Said, Split, Statement, read_statements};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn read_with(name: &str, bytes: &[u8], fields: &Fields) -> Result<(Found, Vec<Statement>), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, name, bytes);
    let mut statements = Vec::new();
    let take = |statement| {
        statements.push(statement);
        Ok(())
    };
    let found = read_statements(&path, fields, take);
    let place = format!("{}/", dir.path().display());
    found.map(|found| (found, statements)).map_err(|error| error.to_string().replace(&place, ""))
}

fn read_bytes(bytes: &[u8]) -> Result<(Found, Vec<Statement>), String> {
    read_with("a.jsonl", bytes, &Fields::default())
}

fn lines(rows: &[Value]) -> Vec<u8> {
    rows.iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes()
}

/// Returns what rows say, without their labels.
fn said(rows: &[Value]) -> Vec<(String, Said)> {
    let (_, statements) = read_bytes(&lines(rows)).unwrap();
    statements.into_iter().map(|statement| (statement.prompt, statement.said)).collect()
}

fn refused(rows: &[Value]) -> String {
    read_bytes(&lines(rows)).map(|read| panic!("{read:?}")).unwrap_err()
}

fn text(text: &str) -> Response {
    Response::Text(text.to_owned())
}

fn order(prompt: &str, responses: &[&str]) -> (String, Said) {
    (prompt.to_owned(), Said::Order(responses.iter().copied().map(text).collect()))
}

fn thumb(prompt: &str, response: &str, is_good: bool) -> (String, Said) {
    (prompt.to_owned(), Said::Thumb(text(response), is_good))
}

fn tie(prompt: &str, responses: [&str; 2]) -> (String, Said) {
    (prompt.to_owned(), Said::Tie(responses.map(text)))
}

fn rated(prompt: &str, ratings: &[(&str, f64)]) -> (String, Said) {
    (
        prompt.to_owned(),
        Said::Rated(ratings.iter().map(|(response, rating)| (text(response), *rating)).collect()),
    )
}

fn turn(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

fn from(from: &str, value: &str) -> Value {
    json!({ "from": from, "value": value })
}

const CHAT: &str = "Human: Tea?\n\nAssistant: Yes.\n\nHuman: Which?";

#[test]
fn a_native_row_has_texts_or_ids_and_labels() {
    let row = json!({
        "prompt": "Tea?", "chosen": "Yes.", "rejected": "No.", "user": 7, "context": "warm", "group": "drinks",
        "split": "test", "weight": 0.5, "event_id": "e1", "anything": [1],
    });
    let (found, statements) = read_bytes(&lines(&[row])).unwrap();
    let expected = Statement {
        prompt: "Tea?".to_owned(),
        user: Some("7".to_owned()),
        context: Some("warm".to_owned()),
        group: Some("drinks".to_owned()),
        split: Some(Split::Test),
        weight: 0.5,
        event: Some("e1".to_owned()),
        said: order("", &["Yes.", "No."]).1,
    };
    assert_eq!((found.layout, statements), (Some("pairs"), vec![expected]));
    assert_eq!(found.unread.into_iter().collect::<Vec<_>>(), ["anything"]);
    let by_id = json!({ "prompt": "Tea?", "chosen_id": "1", "rejected_id": "2" });
    let ids = Said::Order(vec![Response::Id("1".to_owned()), Response::Id("2".to_owned())]);
    assert_eq!(said(&[by_id]), [("Tea?".to_owned(), ids)]);
    let chat = json!([turn("user", "Tea?"), turn("assistant", "Yes."), turn("user", "Which?")]);
    let row = json!({ "messages": chat, "a": "Green.", "b": "Black." });
    assert_eq!(said(&[row]), [order(CHAT, &["Green.", "Black."])]);
}

#[test]
fn every_kind_of_feedback_is_read_as_it_is_sent() {
    let event = |kind: &str, mut fields: Value| {
        fields["kind"] = json!(kind);
        fields["event_id"] = json!("e");
        fields["user"] = json!("u");
        fields["prompt"] = json!("Tea?");
        fields
    };
    let rows = [
        event("pair", json!({ "chosen": "Yes.", "rejected": "No." })),
        event("tie", json!({ "responses": ["Yes.", "Sure."] })),
        event("thumb", json!({ "response": "No.", "up": false })),
        event("ranking", json!({ "responses": ["Yes.", "Why?", "No."] })),
        event("rating", json!({ "responses": ["No.", "Yes."], "ratings": [1, 4.5] })),
        event("correction", json!({ "original": "Yes", "edited": "Yes." })),
    ];
    let expected = [
        order("Tea?", &["Yes.", "No."]),
        tie("Tea?", ["Yes.", "Sure."]),
        thumb("Tea?", "No.", false),
        order("Tea?", &["Yes.", "Why?", "No."]),
        rated("Tea?", &[("No.", 1.0), ("Yes.", 4.5)]),
        order("Tea?", &["Yes.", "Yes"]),
    ];
    assert_eq!(said(&rows), expected);
    let plain = [json!({ "prompt": "Tea?", "responses": ["No.", "Yes."], "ratings": [1, 2] })];
    assert_eq!(said(&plain), [rated("Tea?", &[("No.", 1.0), ("Yes.", 2.0)])]);
    assert!(
        refused(&[event("tie", json!({ "responses": ["a", "b", "c"] }))]).contains("a tie of 3 responses")
    );
    assert!(refused(&[event("thumbs", json!({}))]).contains("send a \"thumb\""));
    assert!(refused(&[event("ranking", json!({ "responses": ["a"] }))]).contains("found 1 responses"));
    assert!(
        refused(&[event("rating", json!({ "responses": ["a", "b"], "ratings": [1] }))])
            .contains("1 ratings for 2")
    );
    let by_id = json!({ "kind": "pair", "user": "u", "chosen_id": "1", "rejected_id": "2" });
    assert!(refused(&[by_id]).contains("missing `prompt`"));
}

#[test]
fn an_export_is_read_without_editing() {
    let origin = json!({
        "user": "u", "context": null, "at": "2026-01-31T12:00:00Z", "kind": "ranking", "event_id": "e",
        "comment": null, "metadata": null,
    });
    let with = |fields: Value| {
        let mut row = origin.clone();
        row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        row
    };
    let third = 1.0 / 3.0;
    let pair = with(json!({ "prompt": "Tea?", "chosen": "Yes.", "rejected": "No.", "weight": third }));
    let (_, statements) = read_bytes(&lines(&[pair])).unwrap();
    assert_eq!((statements[0].weight, statements[0].user.as_deref()), (third, Some("u")));
    assert_eq!(statements[0].said, order("", &["Yes.", "No."]).1);
    let unpaired = with(json!({ "prompt": "Tea?", "completion": "Yes.", "label": true, "kind": "thumb" }));
    assert_eq!(said(&[unpaired]), [thumb("Tea?", "Yes.", true)]);
}

#[test]
fn rows_of_trl_are_read_in_all_its_forms() {
    let asked = turn("user", "Tea?");
    let [yes, no] = ["Yes.", "No."].map(|answer| json!([turn("assistant", answer)]));
    assert_eq!(
        said(&[json!({ "prompt": [asked], "chosen": yes, "rejected": no })]),
        [order("Tea?", &["Yes.", "No."])]
    );
    let whole = |answer: &str| json!([asked, turn("assistant", answer)]);
    let implicit = json!({ "chosen": whole("Yes."), "rejected": whole("No.") });
    assert_eq!(said(&[implicit]), [order("Tea?", &["Yes.", "No."])]);
    let texts = json!({ "chosen": "The sky is blue.", "rejected": "The sky is black." });
    assert_eq!(said(&[texts]), [order("The sky is", &[" blue.", " black."])]);
    let shorter = json!({ "chosen": "Été: thé vert", "rejected": "Été: thé" });
    assert_eq!(said(&[shorter]), [order("Été: thé", &[" vert", ""])]);
    assert!(refused(&[json!({ "chosen": "One.", "rejected": "Two." })]).contains("missing `prompt`"));
    let rows = [
        json!({ "prompt": "Tea?", "completion": "Yes.", "label": true }),
        json!({ "prompt": [asked], "completion": no, "label": 0 }),
    ];
    assert_eq!(said(&rows), [thumb("Tea?", "Yes.", true), thumb("Tea?", "No.", false)]);
}

#[test]
fn a_chat_is_rendered_as_a_request_with_it_is() {
    let parts = json!([{ "type": "text", "text": "Tea?" }, { "type": "text", "text": "Now?" }]);
    let chat = json!([turn("system", "Be kind."), { "role": "user", "content": parts }]);
    let row = json!({ "prompt": chat, "chosen": "Yes.", "rejected": "No." });
    assert_eq!(said(&[row]), [order("System: Be kind.\n\nHuman: Tea?\nNow?", &["Yes.", "No."])]);
    let long = |answer: &str| {
        let more = [turn("user", "Sure?"), turn("assistant", "Yes.")];
        json!([[turn("user", "Tea?"), turn("assistant", answer)].as_slice(), &more].concat())
    };
    let row = json!({ "chosen": long("Now."), "rejected": long("Later.") });
    let rest = "\n\nHuman: Sure?\n\nAssistant: Yes.";
    assert_eq!(said(&[row]), [order("Tea?", &[&format!("Now.{rest}"), &format!("Later.{rest}")])]);
    let tool = json!({ "prompt": [turn("tool", "4")], "chosen": "Yes.", "rejected": "No." });
    assert!(refused(&[tool]).contains("a.jsonl:1: `prompt[0].role`: found \"tool\", expected \"system\""));
    let image = json!({ "prompt": [{ "role": "user", "content": [{ "type": "image" }] }], "chosen": "a", "rejected": "b" });
    assert!(refused(&[image]).contains("`prompt[0].content[0]`: found {\"type\":\"image\"}"));
}

#[test]
fn a_sharegpt_preference_answers_its_conversation() {
    let row = json!({
        "conversations": [from("human", "Tea?"), from("gpt", "Yes."), from("human", "Which?")],
        "chosen": from("gpt", "Green."), "rejected": from("gpt", "Black."),
    });
    assert_eq!(said(&[row]), [order(CHAT, &["Green.", "Black."])]);
    let row = json!({
        "system": "Be kind.", "conversations": [from("human", "Tea?")],
        "chosen": from("gpt", "Yes."), "rejected": from("gpt", "No."),
    });
    assert_eq!(said(&[row]), [order("System: Be kind.\n\nHuman: Tea?", &["Yes.", "No."])]);
}

#[test]
fn a_binarized_rating_is_a_pair_even_if_its_scores_are_equal() {
    let chat = |answer: &str| json!([turn("user", "Tea?"), turn("assistant", answer)]);
    let row = json!({
        "prompt": "Tea?", "chosen": chat("Yes."), "rejected": chat("No."), "messages": chat("Yes."),
        "score_chosen": 7.5, "score_rejected": 7.5,
    });
    assert_eq!(said(&[row]), [order("Tea?", &["Yes.", "No."])]);
}

#[test]
fn rows_of_one_prompt_are_rated_together_by_attribute() {
    let row = |prompt: &str, response: &str, rating: u8| {
        json!({
            "prompt": prompt, "response": response, "helpfulness": rating, "correctness": 4, "coherence": 4,
            "complexity": 1, "verbosity": 4 - rating,
        })
    };
    let rows = [row("Tea?", "Yes.", 4), row("Tea?", "No.", 1), row("Milk?", "No.", 2)];
    let (found, statements) = read_bytes(&lines(&rows)).unwrap();
    assert_eq!((statements.len(), found.n_left_out), (5, 5), "one response of a prompt compares nothing");
    let [first, .., last] = &statements[..] else { panic!("{statements:?}") };
    assert_eq!((&first.context, &first.group), (&Some("helpfulness".to_owned()), &first.context));
    assert_eq!(first.said, rated("", &[("Yes.", 4.0), ("No.", 1.0)]).1);
    assert_eq!(
        (last.context.as_deref(), &last.said),
        (Some("verbosity"), &rated("", &[("Yes.", 0.0), ("No.", 3.0)]).1)
    );
    let rows =
        ["u", "v", "u"].map(|user| json!({ "prompt": "Tea?", "response": user, "rating": 1, "user": user }));
    assert_eq!(said(&rows), [rated("Tea?", &[("u", 1.0), ("u", 1.0)])], "each user rates apart");
}

#[test]
fn a_row_of_shp_prefers_the_comment_that_its_label_names() {
    let row = |label: u8| json!({ "history": "Tea?", "human_ref_A": "Yes.", "human_ref_B": "No.", "labels": label });
    assert_eq!(said(&[row(1), row(0)]), [order("Tea?", &["Yes.", "No."]), order("Tea?", &["No.", "Yes."])]);
}

#[test]
fn a_vote_of_the_arena_is_a_pair_or_a_tie() {
    let chat = |answer: &str| json!([turn("user", "Tea?"), turn("assistant", answer)]);
    let row = |winner: &str| {
        json!({
            "model_a": "m", "model_b": "n", "winner": winner, "judge": "u",
            "conversation_a": chat("Yes."), "conversation_b": chat("No."), "turn": 1,
        })
    };
    let rows = ["model_a", "model_b", "tie", "tie (bothbad)"].map(row);
    let both = tie("Tea?", ["Yes.", "No."]);
    let expected = [order("Tea?", &["Yes.", "No."]), order("Tea?", &["No.", "Yes."]), both.clone(), both];
    assert_eq!(said(&rows), expected);
    let (_, statements) = read_bytes(&lines(&rows[..1])).unwrap();
    assert_eq!(statements[0].user.as_deref(), Some("u"));
    let (_, statements) = read_with(
        "a.jsonl",
        &lines(&[{
            let mut row = row("model_a");
            row["voter"] = json!("v");
            row
        }]),
        &Fields { user: "voter".to_owned(), ..Fields::default() },
    )
    .unwrap();
    assert_eq!(statements[0].user.as_deref(), Some("v"), "a flag names another column");
    let mut longer = row("model_a");
    longer["conversation_a"].as_array_mut().unwrap().push(turn("user", "Sure?"));
    longer["conversation_a"].as_array_mut().unwrap().push(turn("assistant", "Yes."));
    assert_eq!(said(&[longer]), [order("Tea?", &["Yes.", "No."])], "the vote was on the first turn");
    assert!(refused(&[row("model_c")]).contains("`winner`: found \"model_c\""));
    let flags = |a: u8, b: u8, tie: u8| {
        json!({
            "prompt": r#"["Tea?"]"#, "response_a": r#"["Yes."]"#, "response_b": r#"["No."]"#,
            "winner_model_a": a, "winner_model_b": b, "winner_tie": tie,
        })
    };
    assert_eq!(
        said(&[flags(0, 1, 0), flags(0, 0, 1)]),
        [order("Tea?", &["No.", "Yes."]), tie("Tea?", ["Yes.", "No."])]
    );
    assert!(refused(&[flags(1, 1, 0)]).contains("found no single winner"));
    let mut of_csv = flags(0, 0, 0);
    of_csv
        .as_object_mut()
        .unwrap()
        .extend([("winner_model_a".to_owned(), json!("1")), ("user".to_owned(), json!(""))]);
    of_csv["winner_tie"] = json!("0");
    let (_, statements) = read_bytes(&lines(&[of_csv])).unwrap();
    assert_eq!((&statements[0].said, &statements[0].user), (&order("", &["Yes.", "No."]).1, &None));
}

#[test]
fn a_rating_of_open_webui_is_a_thumb_or_in_an_arena_a_pair() {
    let row = |rating: Value, arena: bool| {
        json!({
            "id": "f", "user_id": "u", "type": "rating", "data": { "rating": rating, "model_id": "m" },
            "meta": { "arena": arena, "message_id": "yes" },
            "snapshot": { "chat": { "chat": { "history": { "messages": {
                "asked": { "id": "asked", "parentId": null, "childrenIds": ["yes", "no"], "role": "user", "content": "Tea?" },
                "yes": { "id": "yes", "parentId": "asked", "role": "assistant", "content": "Yes." },
                "no": { "id": "no", "parentId": "asked", "role": "assistant", "content": "No." },
            } } } } },
        })
    };
    let rows = [row(json!(1), false), row(json!("-1"), false), row(json!(1), true), row(json!(-1), true)];
    let expected = [
        thumb("Tea?", "Yes.", true),
        thumb("Tea?", "Yes.", false),
        order("Tea?", &["Yes.", "No."]),
        order("Tea?", &["No.", "Yes."]),
    ];
    assert_eq!(said(&rows), expected);
    let (found, statements) = read_bytes(&lines(&[row(json!(null), false), rows[0].clone()])).unwrap();
    assert_eq!((found.n_left_out, statements.len(), statements[0].user.as_deref()), (1, 1, Some("u")));
    let mut lost = rows[0].clone();
    lost["meta"]["message_id"] = json!("gone");
    assert!(refused(&[lost]).contains("found no message \"gone\""));
}

#[test]
fn two_transcripts_share_what_is_before_their_last_answers() {
    let transcript =
        |answer: &str| format!("\n\nHuman: Tea?\n\nAssistant: Yes.\n\nHuman: Which?\n\nAssistant: {answer}");
    let row = json!({ "chosen": transcript("Green."), "rejected": transcript("Black.") });
    assert_eq!(said(&[row]), [order(CHAT, &["Green.", "Black."])]);
    let other = "\n\nHuman: Milk?\n\nAssistant: No.";
    assert!(
        refused(&[json!({ "chosen": transcript("Green."), "rejected": other })]).contains("do not share")
    );
}

#[test]
fn rows_of_llama_factory_have_an_instruction_and_its_input() {
    let dpo = json!({ "instruction": "Translate.", "input": "thé", "chosen": "tea", "rejected": "the" });
    assert_eq!(said(&[dpo]), [order("Translate.\nthé", &["tea", "the"])]);
    let more = json!({
        "instruction": "Which?", "input": "", "system": "", "history": [["Tea?", "Yes."]], "chosen": "Green.", "rejected": "Black.",
    });
    assert_eq!(said(&[more]), [order(CHAT, &["Green.", "Black."])]);
    let kto = json!({ "instruction": "Tea?", "input": "", "output": "Yes.", "kto_tag": true });
    assert_eq!(said(&[kto]), [thumb("Tea?", "Yes.", true)]);
    let chat = json!({ "messages": [turn("user", "Tea?"), turn("assistant", "No.")], "label": false });
    assert_eq!(said(&[chat]), [thumb("Tea?", "No.", false)]);
}

#[test]
fn columns_of_other_names_are_named_by_a_map() {
    let row = json!({ "question": "Tea?", "better": "Yes.", "worse": "No.", "annotator": 3 });
    let names = [("prompt", "question"), ("chosen", "better"), ("rejected", "worse"), ("group", "missing")];
    let columns = names.map(|(name, column)| (name.to_owned(), column.to_owned())).into();
    let fields = Fields { user: "annotator".to_owned(), columns, ..Fields::default() };
    let (found, statements) = read_with("a.jsonl", &lines(&[row]), &fields).unwrap();
    assert_eq!(found.absent.into_iter().collect::<Vec<_>>(), ["missing"]);
    assert_eq!((statements[0].user.as_deref(), statements[0].prompt.as_str()), (Some("3"), "Tea?"));
    let bad = json!({ "question": 7, "better": "Yes.", "worse": "No." });
    let told = read_with("a.jsonl", &lines(&[bad]), &fields).unwrap_err();
    assert_eq!(told, "a.jsonl:1: `question`: found 7, expected a text or messages");
    let unknown = refused(&[json!({ "question": "Tea?", "answer": null })]);
    assert!(unknown.contains("no known layout: `answer` (null), `question`; --map"), "{unknown}");
}

fn row(answer: &str) -> Value {
    json!({ "prompt": "Tea?", "chosen": answer, "rejected": "No." })
}

#[test]
fn arrays_objects_with_a_list_and_documents_over_lines_are_read() {
    let rows = json!([row("Yes."), row("Sure.")]);
    let list = json!({ "version": 1, "data": rows });
    let apart = format!("{:#}\n{:#}", rows[0], rows[1]);
    let marked = format!("\u{feff} \n{rows:#}\n");
    let texts = [rows.to_string(), format!("{rows:#}"), list.to_string(), format!("{list:#}"), apart, marked];
    for text in texts {
        let (_, statements) = read_bytes(text.as_bytes()).unwrap_or_else(|told| panic!("{text}: {told}"));
        let said: Vec<Said> = statements.into_iter().map(|statement| statement.said).collect();
        assert_eq!(said, ["Yes.", "Sure."].map(|answer| order("", &[answer, "No."]).1), "{text}");
    }
    let bad =
        format!("[{},\n7,\n{{\"prompt\": \"\\ud83d\",\n\"chosen\": \"a\"}},\n{},\n{{\"x", row("a"), row("b"));
    let told = read_bytes(bad.as_bytes()).unwrap_err();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], "a.jsonl:2: row 2: found 7, expected an object");
    assert_eq!(told[1], "a.jsonl:3: row 3: missing `rejected` or `rejected_id`");
    assert!(told[2].starts_with("a.jsonl:6: row 5: EOF while parsing a text at column"), "{told:?}");
}

#[test]
fn a_file_is_unpacked_by_its_first_bytes_whatever_its_name() {
    let plain = lines(&[row("Yes."), row("Sure.")]);
    let (first, second) = plain.split_at(30);
    let gz = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zst =
        |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
    let skipped = b"\x50\x2a\x4d\x18\x02\0\0\0??".to_vec();
    let packed = [
        plain.clone(),
        [gz(first), gz(second)].concat(),
        [zst(first), zst(second)].concat(),
        [skipped.clone(), zst(first), skipped, zst(second)].concat(),
    ];
    for (bytes, name) in packed.iter().zip(["a.jsonl.gz", "a.jsonl", "a.jsonl.gz", "a.zst"]) {
        let (_, statements) = read_with(name, bytes, &Fields::default()).unwrap();
        assert_eq!(statements.len(), 2, "{name}");
    }
    for cut in [gz(&plain), zst(&plain)] {
        let told = read_bytes(&cut[..cut.len() - 6]).unwrap_err();
        assert!(told.starts_with("a.jsonl: can't be read: "), "{told}");
    }
}

#[test]
fn files_of_another_kind_are_refused_by_its_name() {
    let wide = |text: &str, mark: &[u8]| {
        mark.iter().copied().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>()
    };
    for (bytes, words) in [
        (
            b"prompt,chosen,rejected\na,b,c\n".to_vec(),
            "found CSV (first line `prompt,chosen,rejected`), expected JSON lines",
        ),
        (b"\xef\xbb\xbfprompt\tchosen\n".to_vec(), "found CSV"),
        (wide("{}", b"\xff\xfe"), "found UTF-16, expected JSON lines in UTF-8"),
        (wide("{}", b""), "found UTF-16"),
        (b"PK\x03\x04".to_vec(), "found a zip archive"),
    ] {
        let told = read_bytes(&bytes).unwrap_err();
        assert!(told.starts_with("a.jsonl: ") && told.contains(words), "{told}");
    }
    if cfg!(not(feature = "parquet")) {
        assert!(read_bytes(b"PAR1").unwrap_err().contains("--features parquet"));
    }
    assert_eq!(read_bytes(b"\n \n").unwrap().0.layout, None, "an empty file has no layout");
}

#[test]
fn a_row_of_another_layout_or_a_broken_one_is_told_with_its_line() {
    let rows = [
        row("Yes."),
        json!({ "prompt": "Tea?", "completion": "Yes.", "label": true }),
        json!({ "chosen": "a b", "rejected": "a c" }),
        row(" "),
        json!({ "prompt": "Tea?", "chosen": "Yes.", "rejected": null }),
        json!({ "prompt": "Tea?", "chosen": "Yes.", "rejected": "No.", "split": "validation" }),
        json!({ "prompt": "Tea?", "chosen": "Yes.", "rejected": "No.", "weight": 0 }),
        json!({ "prompt": "Tea?", "chosen": true, "rejected": "No." }),
        row("Sure."),
    ];
    let told = refused(&rows);
    let told: Vec<&str> = told.lines().collect();
    let expected = [
        "2: missing `chosen` or `chosen_id`; found the columns of answers that are good or bad, expected those of pairs as in line 1",
        "3: missing `prompt` or `messages`; found the columns of pairs that begin with their prompt, expected those of pairs as in line 1",
        "5: missing `rejected` or `rejected_id`: found null",
        "6: `split`: found \"validation\", expected \"train\" or \"test\"; give rows held out for anything else a file of their own",
        "7: `weight`: found 0, expected a number above 0",
        "8: `chosen`: found true, expected a text or messages",
    ];
    assert_eq!(told, expected.map(|line| format!("a.jsonl:{line}")));
    let absent = json!({ "prompt": "Tea?", "chosen": "Yes.", "rejected": "", "split": null, "weight": null });
    let (_, statements) = read_bytes(&lines(&[absent])).unwrap();
    assert_eq!((statements[0].split, statements[0].weight), (None, 1.0));
    // People do prefer silence: it is read, and counted.
    let (found, statements) = read_bytes(&lines(&[row("Yes."), row("")])).unwrap();
    assert_eq!((statements.len(), found.n_empty), (2, 1));
}

/// Values of every kind that a column of some layout may have, and others.
fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ab \u{e9}\u{1f600}]{0,6}",
        r"(\n\n)?(Human|Assistant|H):[ a]{0,2}(\n\n(Human|Assistant):[ ab]{0,2}){0,3}",
        Just("model_a".to_owned()),
        Just("pair".to_owned()),
        Just("[\"a\", null]".to_owned()),
    ];
    let message =
        (prop_oneof!["user", "gpt", "tool"], "[ab]?").prop_map(|(role, content)| turn(&role, &content));
    prop_oneof![
        text.prop_map(Value::from),
        prop::collection::vec(message, 0..4).prop_map(Value::from),
        prop::collection::vec("[ab]?", 0..3).prop_map(Value::from),
        (-1..3).prop_map(Value::from),
        Just(json!({ "message_id": "a", "rating": 1, "arena": true })),
        Just(json!({ "chat": { "chat": { "history": { "messages": {
            "a": { "parentId": "b", "role": "user", "content": "c" },
            "b": { "parentId": "a", "childrenIds": ["a", "b", "c"], "role": "gpt", "content": "d" },
        } } } } })),
        Just(Value::Null),
    ]
}

/// Columns of all layouts, each set of which has been enough for one.
const COLUMNS: [&[&str]; 12] = [
    &["chosen", "rejected"],
    &["prompt", "chosen", "rejected", "messages"],
    &["conversations", "chosen", "rejected", "system"],
    &["prompt", "completion", "label"],
    &["messages", "label"],
    &["instruction", "input", "history", "output", "kto_tag"],
    &["kind", "prompt", "responses", "ratings", "response", "up", "original", "edited"],
    &["conversation_a", "conversation_b", "winner", "turn", "judge"],
    &["prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"],
    &["data", "meta", "snapshot", "user_id"],
    &["history", "human_ref_A", "human_ref_B", "labels"],
    &["prompt", "response", "rating", "user"],
];

proptest! {
    #[test]
    fn a_cut_loses_nothing(start in ".{0,12}", chosen in "\\PC{0,8}", rejected in "\\PC{0,8}") {
        let whole = [&chosen, &rejected].map(|end| format!("{start}{end}"));
        let row = json!({ "chosen": &whole[0], "rejected": &whole[1] });
        if let Ok((_, statements)) = read_bytes(&lines(&[row])) {
            let Said::Order(responses) = &statements[0].said else { panic!("{statements:?}") };
            let joined = |response: &Response| match response {
                Response::Text(text) => format!("{}{text}", statements[0].prompt),
                Response::Id(id) => id.clone(),
            };
            prop_assert_eq!(responses.iter().map(joined).collect::<Vec<_>>(), whole);
        }
    }

    #[test]
    fn nothing_panics(values in prop::collection::vec(any_value(), 8), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_bytes(&bytes);
        for columns in COLUMNS {
            let pairs = columns.iter().map(|name| (*name).to_owned()).zip(values.iter().cloned());
            let mut row = Value::Object(pairs.collect());
            let _ = read_bytes(&lines(std::slice::from_ref(&row)));
            row["type"] = json!("rating");
            let _ = read_bytes(json!([row, row]).to_string().as_bytes());
        }
    }
}

#[cfg(feature = "parquet")]
#[test]
fn a_table_of_parquet_is_read_row_by_row() {
    use std::sync::Arc;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let schema = "message rows {
        REQUIRED BYTE_ARRAY prompt (UTF8); REQUIRED BYTE_ARRAY chosen (UTF8); OPTIONAL BYTE_ARRAY rejected (UTF8);
    }";
    let table = |compression, last: &[&str]| {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut table = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
        let mut group = table.next_row_group().unwrap();
        for (idx, values) in [&["Tea?", "Milk?"], &["Yes.", "Sure."], last].into_iter().enumerate() {
            let bytes: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(*value)).collect();
            let levels = [1, i16::from(values.len() == 2)];
            let mut column = group.next_column().unwrap().unwrap();
            let levels = (idx == 2).then_some(&levels[..]);
            column.typed::<ByteArrayType>().write_batch(&bytes, levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        table.into_inner().unwrap()
    };
    for compression in [Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())] {
        let (_, statements) = read_bytes(&table(compression, &["No.", "Never."])).unwrap();
        assert_eq!(statements[1].said, order("", &["Sure.", "Never."]).1);
    }
    let told = read_bytes(&table(Compression::SNAPPY, &["No."])).unwrap_err();
    assert_eq!(told, "a.jsonl: row 2: missing `rejected` or `rejected_id`: found null");
}
