//! Reading preference data.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use micro_reward::fit::{Dataset, Split};

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
    let dataset = Dataset::read(&[a, b], &[]).unwrap();
    assert_eq!(dataset.texts, ["x", "y", "p", "p c"]);
    let [first, second] = &dataset.pairs[..] else { panic!("two pairs") };
    assert_eq!((first.chosen, second.rejected, second.split), (0, 0, Split::Test));
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
    let dataset = Dataset::read(&votes[..2], &[a.clone(), b.clone()]).unwrap();
    let chosen: Vec<&str> = dataset.pairs.iter().map(|pair| dataset.texts[pair.chosen].as_str()).collect();
    assert_eq!(chosen, ["a1", "b1"]);
    let ambiguous = Dataset::read(&votes, &[a, b]).unwrap_err().to_string();
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
        let said = Dataset::read(&[path], &[]).unwrap_err().to_string();
        assert!(said.contains("a.jsonl:3: ") && said.contains(words), "{said}");
    };
    check("{", "EOF");
    check(r#"{"chosen": "x", "rejected": "y"}"#, "missing field `prompt`");
    check(r#"{"prompt": "p", "chosen": "x"}"#, "missing `rejected` or `rejected_id`");
    check(
        r#"{"prompt": "p", "chosen": "x", "chosen_id": "1", "rejected": "y"}"#,
        "found both `chosen` and `chosen_id`",
    );
    check(r#"{"prompt": "p", "chosen": "x", "rejected": "y", "split": "valid"}"#, "valid");
}

#[test]
fn data_without_a_train_row_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "a.jsonl", &[r#"{"prompt": "p", "chosen": "x", "rejected": "y", "split": "test"}"#]);
    assert!(Dataset::read(&[path], &[]).unwrap_err().to_string().contains("train split"));
}
