//! Preference data read from files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use micro_reward::fit::{DataError, Dataset, Fields, Sources, Split};

/// Reads files whose fields have their default names.
fn read(data: &[PathBuf], responses: &[PathBuf]) -> Result<Dataset, DataError> {
    Dataset::read(data, responses, &Fields::default())
}

fn text(dataset: &Dataset, idx: usize) -> String {
    dataset.texts.get(idx).unwrap()
}

fn file(dir: &tempfile::TempDir, name: &str, lines: &[&str]) -> PathBuf {
    let path = dir.path().join(name);
    let text = lines.join("\n");
    if name.ends_with(".gz") {
        let mut gz = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        gz.finish().unwrap();
    } else {
        fs::write(&path, text).unwrap();
    }
    path
}

#[test]
fn plain_and_gzip_rows_share_their_texts() {
    let dir = tempfile::tempdir().unwrap();
    let a = file(
        &dir,
        "a.jsonl",
        &[r#"{"prompt": "p", "chosen": "x", "rejected": "y", "user": "u", "criterion": "z"}"#],
    );
    let b = file(
        &dir,
        "b.jsonl.gz",
        &[r#"{"prompt": "p", "context": "c", "chosen": "y", "rejected": "x", "user": "u", "split": "test"}"#],
    );
    let dataset = read(&[a, b], &[]).unwrap();
    let texts: Vec<String> = (0..dataset.texts.len()).map(|idx| text(&dataset, idx)).collect();
    assert_eq!(texts, ["x", "y", "p", "p c"]);
    let [first, second] = &dataset.pairs[..] else { panic!("two pairs") };
    assert_eq!((first.chosen, second.rejected, second.split), (Some(0), Some(0), Split::Test));
    assert_eq!((first.routed, second.routed), (2, 3));
    assert_ne!(first.user, second.user, "a user belongs to a file");
}

#[test]
fn ids_are_looked_up_in_the_files_own_responses() {
    let dir = tempfile::tempdir().unwrap();
    let vote = r#"{"prompt": "p", "chosen_id": "1", "rejected_id": "2"}"#;
    let votes = ["a", "b", "c"].map(|name| file(&dir, &format!("{name}.votes.jsonl"), &[vote]));
    let a =
        file(&dir, "a.responses.jsonl", &[r#"{"id": "1", "text": "a1"}"#, r#"{"id": "2", "text": "a2"}"#]);
    let b =
        file(&dir, "b.responses.jsonl", &[r#"{"id": "1", "text": "b1"}"#, r#"{"id": "2", "text": "b2"}"#]);
    let dataset = read(&votes[..2], &[a.clone(), b.clone()]).unwrap();
    let chosen: Vec<String> = dataset.pairs.iter().map(|pair| text(&dataset, pair.chosen.unwrap())).collect();
    assert_eq!(chosen, ["a1", "b1"]);
    let ambiguous = read(&votes, &[a, b]).unwrap_err().to_string();
    assert!(
        ambiguous.contains("c.votes.jsonl:1: `chosen_id`") && ambiguous.contains("other texts"),
        "{ambiguous}"
    );
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"prompt": "p", "chosen": "x", "rejected": "y"}"#;
    let check = |line: &str, words: &str| {
        let path = file(&dir, "a.jsonl", &[good, "", line]);
        let said = read(&[path], &[]).unwrap_err().to_string();
        assert!(said.contains("a.jsonl:3: ") && said.contains(words), "{said}");
    };
    check("{", "EOF");
    check(r#"{"chosen": "x", "rejected": "y"}"#, "missing `prompt`");
    check(r#"{"prompt": "p", "chosen": "x"}"#, "missing `rejected` or `rejected_id`");
    check(
        r#"{"prompt": "p", "chosen": "x", "chosen_id": "1", "rejected": "y"}"#,
        "found both `chosen` and `chosen_id`",
    );
    check(r#"{"prompt": "p", "chosen": "x", "rejected": "y", "split": "valid"}"#, "valid");
    check(r#"{"prompt": "p", "chosen": "x", "rejected": "y", "split": "candidate"}"#, "candidate");
}

#[test]
fn a_label_that_is_neither_text_nor_number_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let check = |label: &str, words: &str| {
        let line = format!(r#"{{"prompt": "p", "chosen": "x", "rejected": "y", {label}}}"#);
        let path = file(&dir, "a.jsonl", &[&line]);
        let said = read(&[path], &[]).unwrap_err().to_string();
        assert!(said.contains("a.jsonl:1: ") && said.contains(words), "{said}");
    };
    check(r#""group": ["z"]"#, "`group`: found [\"z\"], expected a text or a number");
    check(r#""context": {"a": 1}"#, "`context`: found {\"a\":1}, expected a text or a number");
    check(r#""group": true"#, "`group`: found true");
    check(r#""user": true"#, "`user`: found true, expected a text or a number");
}

#[test]
fn a_byte_order_mark_and_half_a_surrogate_pair_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let row = r#"{"prompt": "\ud83d", "chosen": "x", "rejected": "y"}"#;
    let marked = format!("\u{feff}{row}");
    let plain = file(&dir, "a.jsonl", &[&marked, row]);
    let zipped = dir.path().join("b.jsonl.gz");
    let mut encoder = GzEncoder::new(std::fs::File::create(&zipped).unwrap(), Compression::fast());
    std::io::Write::write_all(&mut encoder, marked.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let blank = file(&dir, "c.jsonl", &["\u{feff}", row]);
    let dataset = read(&[plain, zipped, blank], &[]).unwrap();
    assert_eq!(dataset.pairs.len(), 4);
    assert!(dataset.pairs.iter().all(|pair| text(&dataset, pair.prompt) == "\u{fffd}"));
    let by_position = file(&dir, "d.responses.jsonl", &[r#"["1", "text"]"#]);
    let said = read(&[], &[by_position]).unwrap_err().to_string();
    assert!(said.contains("d.responses.jsonl:1: row 1: found the text \"1\", expected an object"), "{said}");
}

#[test]
fn a_label_may_be_a_number_and_null_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let row = r#"{"prompt": "p", "chosen": "x", "rejected": "y", "group": 3, "context": null}"#;
    let dataset = read(&[file(&dir, "a.jsonl", &[row])], &[]).unwrap();
    assert_eq!(dataset.groups.items(), ["3"]);
    assert_eq!((dataset.pairs[0].group, dataset.pairs[0].context), (Some(0), None));
    assert_eq!(dataset.pairs[0].routed, dataset.pairs[0].prompt);
}

#[test]
fn a_context_field_by_another_name_is_what_the_router_reads() {
    let dir = tempfile::tempdir().unwrap();
    let row =
        r#"{"prompt": "p", "chosen": "x", "rejected": "y", "context": "c", "criterion": "z", "topic": "t"}"#;
    let path = file(&dir, "a.jsonl", &[row]);
    let fields = Fields { context: "criterion".to_owned(), group: "topic".to_owned(), ..Fields::default() };
    let dataset = Dataset::read(std::slice::from_ref(&path), &[], &fields).unwrap();
    let pair = &dataset.pairs[0];
    assert_eq!(
        (text(&dataset, pair.prompt), text(&dataset, pair.routed)),
        ("p".to_owned(), "p z".to_owned())
    );
    assert_eq!(
        (dataset.contexts.items(), dataset.groups.items()),
        (&["z".to_owned()][..], &["t".to_owned()][..])
    );
    let usual = read(&[path], &[]).unwrap();
    assert_eq!(text(&usual, usual.pairs[0].routed), "p c");
    assert!(usual.groups.is_empty(), "a field that is not named is left alone");
}

#[test]
fn candidates_are_nobodys_choice() {
    let dir = tempfile::tempdir().unwrap();
    let data = file(
        &dir,
        "a.votes.jsonl",
        &[r#"{"prompt": "p", "chosen_id": "1", "rejected_id": "2", "user": "u", "split": "test"}"#],
    );
    let responses =
        file(&dir, "a.responses.jsonl", &[r#"{"id": "1", "text": "x"}"#, r#"{"id": "2", "text": "y"}"#]);
    let candidates = file(
        &dir,
        "candidates.jsonl",
        &[
            r#"{"prompt": "p", "a": "v", "b": "w"}"#,
            r#"{"prompt": "p", "chosen_id": "2", "rejected_id": "1", "split": "train"}"#,
        ],
    );
    let files = [data];
    let responses = [responses];
    let sources =
        Sources { data: &files, responses: &responses, candidates: Some(&candidates), ratings: None };
    let read = Dataset::read_all(sources, &Fields::default());
    let dataset = read.unwrap();
    let splits: Vec<Split> = dataset.pairs.iter().map(|pair| pair.split).collect();
    assert_eq!(splits, [Split::Test, Split::Candidate, Split::Candidate]);
    assert_eq!(dataset.split(Split::Candidate, &files).unwrap(), [1, 2]);
    assert_eq!(dataset.split(Split::Test, &files).unwrap(), [0]);
    assert!(dataset.split(Split::Train, &files).is_err(), "a candidate is not learned from");
    assert_eq!(
        (text(&dataset, dataset.pairs[1].chosen.unwrap()), text(&dataset, dataset.pairs[2].chosen.unwrap())),
        ("v".into(), "y".into())
    );
}

#[test]
fn two_files_of_one_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let row = r#"{"prompt": "p", "chosen": "x", "rejected": "y", "user": "u"}"#;
    let data = ["a.jsonl", "a.votes.jsonl"].map(|name| file(&dir, name, &[row]));
    let said = read(&data, &[]).unwrap_err().to_string();
    assert!(said.contains("a.votes.jsonl: another file of the same name"), "{said}");
}

#[test]
fn data_without_a_train_row_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "a.jsonl", &[r#"{"prompt": "p", "chosen": "x", "rejected": "y", "split": "test"}"#]);
    let files = [path];
    let dataset = read(&files, &[]).unwrap();
    let said = dataset.split(Split::Train, &files).unwrap_err().to_string();
    assert!(said.contains("train split") && said.contains("a.jsonl"), "{said}");
    assert_eq!(dataset.split(Split::Test, &files).unwrap(), [0]);
}

#[test]
fn all_bad_rows_among_good_ones_are_named_at_once_and_many_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"prompt": "p", "chosen": "x", "rejected": "y"}"#;
    let lines = [good, "{", good, r#"{"prompt": 7}"#, "", good, r#"["p", "x", "y"]"#];
    let path = file(&dir, "a.jsonl", &lines);
    let said = read(std::slice::from_ref(&path), &[]).unwrap_err().to_string();
    let named: Vec<&str> = said.lines().map(|line| line.rsplit_once("a.jsonl:").unwrap().1).collect();
    assert_eq!(named.len(), 3, "{said}");
    assert!(named[0].starts_with("2: EOF while parsing an object at column 1"), "{said}");
    assert!(named[1].starts_with("4: missing `chosen` or `chosen_id`"), "{said}");
    assert!(named[2].starts_with("7: "), "{said}");
    fs::write(&path, format!("{good}\n").repeat(2) + &"no row\n".repeat(1000)).unwrap();
    let said = read(&[path], &[]).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 21);
    assert!(said.contains("a.jsonl:3: ") && said.ends_with("a.jsonl: 980 more rows can't be used"), "{said}");
}

#[test]
fn files_as_other_systems_write_them_are_read_and_what_is_not_utf_8_is_named_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"prompt": "p", "chosen": "x", "rejected": "y"}"#;
    let path = file(&dir, "a.jsonl", &[]);
    fs::write(&path, format!("\r\n{good}\r\n \t\r\n\n{good}\r\n\n")).unwrap();
    assert_eq!(read(std::slice::from_ref(&path), &[]).unwrap().pairs.len(), 2);
    fs::write(&path, [good.as_bytes(), b"\r\n{\"prompt\": \"\xe9\"}\r\n", good.as_bytes()].concat()).unwrap();
    let said = read(&[path], &[]).unwrap_err().to_string();
    assert!(said.ends_with("a.jsonl:2: is not UTF-8: found the byte 0xe9 at column 13"), "{said}");
}

#[test]
fn every_kind_of_feedback_becomes_choices_of_weight_1_together() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        r#"{"kind": "ranking", "prompt": "p", "responses": ["x", "y", "z"], "user": "u"}"#,
        r#"{"kind": "rating", "prompt": "p", "responses": ["x", "y", "z"], "ratings": [1, 3, 1], "user": "u"}"#,
        r#"{"kind": "thumb", "prompt": "p", "response": "x", "up": false, "user": "u"}"#,
        r#"{"kind": "tie", "prompt": "p", "responses": ["x", "y"], "user": "u"}"#,
        r#"{"kind": "pair", "prompt": "p", "chosen": "x", "rejected": "y", "user": "u", "weight": 3}"#,
    ];
    let dataset = read(&[file(&dir, "a.jsonl", &rows)], &[]).unwrap();
    let [x, y, z] = [0, 1, 2].map(Some);
    let third = 1.0 / 3.0;
    let expected = [
        (0, x, y, false, third),
        (0, x, z, false, third),
        (0, y, z, false, third),
        (1, y, x, false, third),
        (1, x, z, true, third),
        (1, y, z, false, third),
        (2, None, x, false, 1.0),
        (3, x, y, true, 1.0),
        (4, x, y, false, 3.0),
    ];
    let found = dataset.pairs.iter().map(|p| (p.label, p.chosen, p.rejected, p.is_tie, p.weight));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn the_rows_of_one_ranking_in_an_export_are_one_label() {
    let dir = tempfile::tempdir().unwrap();
    let row = |chosen: &str, rejected: &str, event: &str| {
        format!(
            r#"{{"prompt": "p", "chosen": "{chosen}", "rejected": "{rejected}", "weight": 0.5, "user": "u", "context": null, "at": "2026-01-01T00:00:00Z", "kind": "ranking", "event_id": "{event}", "comment": null, "metadata": null}}"#
        )
    };
    let rows = [row("x", "y", "e1"), row("x", "z", "e1"), row("z", "y", "e2")];
    let dataset = read(&[file(&dir, "a.jsonl", &rows.each_ref().map(String::as_str))], &[]).unwrap();
    let found: Vec<(usize, f64)> = dataset.pairs.iter().map(|pair| (pair.label, pair.weight)).collect();
    assert_eq!(found, [(0, 0.5), (0, 0.5), (1, 0.5)]);
}

#[test]
fn people_are_held_out_whole_and_only_where_no_row_names_its_split() {
    let dir = tempfile::tempdir().unwrap();
    let row =
        |i: usize| format!(r#"{{"prompt": "p{i}", "chosen": "x", "rejected": "y", "user": "u{}"}}"#, i % 50);
    let rows: Vec<String> = (0..200).map(row).collect();
    let path = file(&dir, "a.jsonl", &rows.iter().map(String::as_str).collect::<Vec<_>>());
    let mut dataset = read(std::slice::from_ref(&path), &[]).unwrap();
    assert!(dataset.hold_out(0.2));
    let is_test = |user: usize| {
        let splits = dataset.pairs.iter().filter(|pair| pair.user == Some(user)).map(|pair| pair.split);
        let splits: Vec<Split> = splits.collect();
        assert!(splits.iter().all(|split| *split == splits[0]), "user {user} is in both splits");
        splits[0] == Split::Test
    };
    let n_test = (0..50).filter(|&user| is_test(user)).count();
    assert!((4..=18).contains(&n_test), "{n_test} of 50");

    let named =
        file(&dir, "b.jsonl", &[r#"{"prompt": "p", "chosen": "x", "rejected": "y", "split": "train"}"#]);
    let mut dataset = read(&[path, named], &[]).unwrap();
    assert!(!dataset.hold_out(0.2));
    assert!(dataset.pairs.iter().all(|pair| pair.split == Split::Train));
}
