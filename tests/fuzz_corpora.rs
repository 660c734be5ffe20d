//! The corpora of `fuzz/` and their near neighbors: faults that a long search has found stay fixed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it saw"
)]

#[path = "../fuzz/laws.rs"]
mod laws;

use std::fs;
use std::path::{Path, PathBuf};

use laws::{Law, TARGETS};

/// Bytes of an input up to which neighbors are made.
const NEIGHBORS: usize = 400;

/// Step between neighbors of a journal, each of which takes some files.
const STEP_OF_FILES: usize = 7;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Returns the inputs of a target with their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    let input = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    let mut inputs: Vec<_> = entries.map(|entry| input(entry.unwrap().path())).collect();
    inputs.sort();
    inputs
}

/// Checks a law on an input: the law's panic names the fault, this one the input.
fn check(target: &str, name: &str, law: Law, bytes: &[u8]) {
    if std::panic::catch_unwind(|| law(bytes)).is_err() {
        panic!("{target}: {name} breaks a law: {:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn every_input_of_the_corpora_and_its_neighbors_keep_the_laws() {
    for (target, law) in TARGETS {
        let inputs = corpus(target);
        let step = if target == "journal" { STEP_OF_FILES } else { 1 };
        for (name, bytes) in &inputs {
            check(target, name, law, bytes);
            for at in (0..bytes.len().min(NEIGHBORS)).step_by(step) {
                check(target, &format!("{name} up to byte {at}"), law, &bytes[..at]);
                for flip in [0x01, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    check(target, &format!("{name} with byte {at} flipped by {flip:#x}"), law, &changed);
                }
            }
        }
        println!("{target}: {} inputs", inputs.len());
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let run = fs::read_to_string(fuzz().join("run")).unwrap();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert!(run.contains(&format!("set -- {}\n", names.join(" "))), "fuzz/run runs others");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
        let program = fs::read_to_string(fuzz().join(format!("targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("laws::{name}(bytes)")), "{name}");
        assert!(corpus(name).len() >= 4, "{name}");
    }
}
