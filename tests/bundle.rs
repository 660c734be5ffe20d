//! A bundle that is not fit to serve is refused with the file, the value found and the value expected.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/toy.rs"]
#[expect(dead_code, reason = "the program's main is not called here")]
mod program;

mod common;

use std::fs;
use std::path::Path;

use micro_reward::fit::{OnnxGraph, Operation};
use micro_reward::model::{
    Bundle, BundleProblems, Encoder, Feature, FileHash, MANIFEST, Manifest, Pooling, Ranges, Runtime,
    Template, Text, Tokenizer, fingerprint, heads_fingerprint, sha256,
};
use micro_reward::types::Encode;
use ndarray::{Array2, array};
use serde_json::json;

/// Loads a toy bundle changed by `change`, with hashes and revision updated.
fn load(change: impl FnOnce(&Path, &mut Manifest)) -> Result<Bundle, BundleProblems> {
    load_all(change).map(|(bundle, _)| bundle)
}

/// Returns the encoder of a changed toy bundle.
fn encoder(change: impl FnOnce(&Path, &mut Manifest)) -> Encoder {
    load_all(change).unwrap().1.remove(0)
}

fn load_all(change: impl FnOnce(&Path, &mut Manifest)) -> Result<(Bundle, Vec<Encoder>), BundleProblems> {
    let dir = tempfile::tempdir().unwrap();
    program::write(dir.path()).unwrap();
    let path = dir.path().join(MANIFEST);
    let mut manifest: Manifest = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(dir.path(), &mut manifest);
    let fix = |file: &mut FileHash| file.sha256 = sha256(&dir.path().join(&file.file)).unwrap();
    fix(&mut manifest.encoder.graph);
    fix(&mut manifest.heads_graph);
    fix(&mut manifest.router_graph);
    manifest.questions.as_mut().map(fix);
    manifest.revision = fingerprint(&manifest);
    fs::write(&path, toml::to_string(&manifest).unwrap()).unwrap();
    open_all(dir.path())
}

fn open_all(dir: &Path) -> Result<(Bundle, Vec<Encoder>), BundleProblems> {
    let runtime = Runtime::load(&common::library()).unwrap();
    Bundle::load(&runtime, dir, 1)
}

fn open(dir: &Path) -> Result<Bundle, BundleProblems> {
    open_all(dir).map(|(bundle, _)| bundle)
}

fn check(change: impl FnOnce(&Path, &mut Manifest), expected: &[&str]) {
    let problems = load(change).unwrap_err();
    let text = problems.to_string();
    assert_eq!(problems.0.len(), expected.len(), "{text}");
    for (problem, expected) in problems.0.iter().zip(expected) {
        assert!(problem.to_string().contains(expected), "found {problem}, expected {expected}");
    }
}

#[test]
fn the_toy_bundle_is_fit_to_serve() {
    assert_eq!(open(&common::toy()).unwrap().n_heads(), 4);
}

#[test]
fn a_manifest_with_the_names_of_before_is_told_the_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(common::toy().join("bundle.toml")).unwrap();
    let old = text.replace("license = ", "licence = ").replace("normalize = ", "normalise = ");
    fs::write(dir.path().join("bundle.toml"), old).unwrap();
    let text = open(dir.path()).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("bundle.toml: `licence`: unknown key, expected `license`, its new name"), "{text}");
    assert!(
        text.contains("bundle.toml: `encoder.normalise`: unknown key, expected `encoder.normalize`"),
        "{text}"
    );
}

#[test]
fn a_nan_in_the_heads_is_refused() {
    let poisoned = Array2::from_elem((9, 4), f32::NAN);
    check(
        |dir, _| fs::write(dir.join("heads.onnx"), OnnxGraph::heads(&poisoned).into_bytes()).unwrap(),
        &["heads.onnx: returned a value that is not finite"],
    );
}

#[test]
fn a_nan_in_the_encoder_is_refused() {
    let graph = OnnxGraph::new("nan")
        .int_input("input_ids", &[None, None])
        .int_input("attention_mask", &[None, None])
        .constant("table", &Array2::from_elem((40, 8), f32::NAN))
        .node(Operation::Gather, &["table", "input_ids"], "last_hidden_state")
        .float_output("last_hidden_state", &[None, None, Some(8)]);
    check(
        |dir, _| fs::write(dir.join("encoder.onnx"), graph.into_bytes()).unwrap(),
        &["encoder.onnx: fails on the warm-up batch: the encoder returned a value that is not finite"],
    );
}

#[test]
fn other_numbers_of_heads_are_refused() {
    check(
        |_, manifest| drop(manifest.heads.pop()),
        &[
            "heads.onnx: found 4 output columns, expected 3 (one per [[heads]] of bundle.toml)",
            "router.onnx: found 4 output columns, expected 3 (one per [[heads]] of bundle.toml)",
        ],
    );
}

#[test]
fn heads_for_other_features_are_refused() {
    check(
        |_, manifest| manifest.input.features = vec![Feature::Response],
        &["heads.onnx: found 9 input columns, expected 8 (the columns of `input.features`)"],
    );
}

#[test]
fn a_scalar_without_the_range_that_training_saw_is_refused() {
    let with = |range: [f32; 2]| {
        move |_: &Path, manifest: &mut Manifest| {
            manifest.input.ranges = [(Feature::LogLength, Ranges::One(range))].into();
        }
    };
    let expected = "expected the least and the largest value of training";
    let check_range = |change: &dyn Fn(&Path, &mut Manifest), found: &str| {
        check(change, &[&format!("bundle.toml: `input.ranges.log_length`: found {found}, {expected}")]);
    };
    check_range(&|_, manifest| manifest.input.ranges.clear(), "none");
    check_range(&with([2.0, 1.0]), "[2, 1]");
    check_range(&with([f32::NAN, 1.0]), "[NaN, 1]");
    check_range(&with([0.0, f32::INFINITY]), "[0, inf]");
    load(with([1.0, 1.0])).unwrap();
}

/// Loads a toy bundle whose heads read style and words, changed by `change`.
fn with_surface(change: impl FnOnce(&Path, &mut Manifest)) -> Result<Bundle, BundleProblems> {
    let dir = tempfile::tempdir().unwrap();
    common::toy_with(dir.path(), |manifest| {
        common::with_surface(dir.path(), manifest);
        change(dir.path(), manifest);
    });
    open(dir.path())
}

#[test]
fn a_surface_without_its_ranges_or_its_table_is_refused() {
    let refused = |change: &dyn Fn(&Path, &mut Manifest), expected: &[&str]| {
        let problems = with_surface(change).unwrap_err();
        assert_eq!(problems.0.len(), expected.len(), "{problems}");
        for (problem, expected) in problems.0.iter().zip(expected) {
            assert!(problem.to_string().contains(expected), "found {problem}, expected {expected}");
        }
    };
    let table = |dir: &Path| dir.join("lexical.safetensors");
    let ranges = "bundle.toml: `input.ranges.style`: found";
    refused(
        &|dir, manifest| {
            manifest.input.ranges.insert(Feature::Style, Ranges::Each(vec![[0.0, 1.0]; 16]));
            fs::write(table(dir), "terms").unwrap();
        },
        &[&format!("{ranges} 16 ranges for 17 columns"), "lexical.safetensors: found sha256"],
    );
    refused(
        &|_, manifest| {
            manifest.input.ranges.remove(&Feature::Style);
            manifest.input.lexical = None;
        },
        &[&format!("{ranges} none"), "bundle.toml: `input.lexical`: found none"],
    );
    refused(
        &|_, manifest| manifest.input.features.retain(|feature| *feature != Feature::Lexical),
        &["bundle.toml: `input.lexical`: found a file, expected none without the feature `lexical`"],
    );
    refused(
        &|dir, manifest| {
            fs::write(table(dir), "terms").unwrap();
            manifest.input.lexical.as_mut().unwrap().sha256 = sha256(&table(dir)).unwrap();
        },
        &["lexical.safetensors: is not safetensors"],
    );
    with_surface(|_, _| ()).unwrap();
}

#[test]
fn a_range_is_a_part_of_the_revision() {
    let text = fs::read_to_string(common::toy().join(MANIFEST)).unwrap();
    let mut manifest: Manifest = toml::from_str(&text).unwrap();
    let before = (fingerprint(&manifest), heads_fingerprint(&manifest));
    manifest.input.ranges.insert(Feature::LogLength, Ranges::One([1.0, 2.0]));
    let after = (fingerprint(&manifest), heads_fingerprint(&manifest));
    assert!(before.0 != after.0 && before.1 != after.1);
}

/// Ledgers stay: they hold sums that no rate has entered.
#[test]
fn a_learning_rate_is_above_0_and_a_part_of_the_revision_but_not_of_the_heads() {
    for rate in [0.0, -1.0, f64::NAN, 1e9] {
        let expected = format!("`learning_rate`: found {rate}, expected a number above 0, at most 1000");
        check(|_, manifest| manifest.learning_rate = rate, &[&expected]);
    }
    let text = fs::read_to_string(common::toy().join(MANIFEST)).unwrap();
    let mut manifest: Manifest = toml::from_str(&text).unwrap();
    let before = (fingerprint(&manifest), heads_fingerprint(&manifest));
    manifest.learning_rate = 0.5;
    assert_ne!(fingerprint(&manifest), before.0);
    assert_eq!(heads_fingerprint(&manifest), before.1);
    let without = text.replace("learning_rate = 1.0\n", "");
    assert_eq!(
        toml::from_str::<Manifest>(&without).unwrap().learning_rate,
        1.0,
        "a bundle of before is Bayes'"
    );
}

/// A row stores the increment of an event within 64 KiB, which bounds the number of heads.
#[test]
fn more_heads_than_an_event_has_room_for_are_refused() {
    let with = |n: usize| {
        move |dir: &Path, manifest: &mut Manifest| {
            manifest.heads = vec![manifest.heads[0].clone(); n];
            fs::write(dir.join("heads.onnx"), OnnxGraph::heads(&Array2::zeros((9, n))).into_bytes()).unwrap();
            let hidden = Array2::zeros((8, 1));
            let output = Array2::zeros((1, n));
            let router =
                OnnxGraph::router([&hidden, &Array2::zeros((1, 1))], [&output, &Array2::zeros((1, n))]);
            fs::write(dir.join("router.onnx"), router.into_bytes()).unwrap();
        }
    };
    assert_eq!(load(with(1024)).unwrap().n_heads(), 1024);
    check(with(1025), &["bundle.toml: `heads`: found 1025, expected 1 to 1024"]);
}

#[test]
fn a_missing_output_is_refused() {
    check(
        |_, manifest| "pooled".clone_into(&mut manifest.encoder.output),
        &["encoder.onnx: found the outputs last_hidden_state, expected pooled"],
    );
}

#[test]
fn all_problems_of_a_bundle_are_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    program::write(dir.path()).unwrap();
    fs::write(dir.path().join("heads.onnx"), b"changed").unwrap();
    fs::remove_file(dir.path().join("router.onnx")).unwrap();
    let path = dir.path().join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap().replacen("beta = 1.0", "beta = -1.0", 1);
    fs::write(&path, text).unwrap();
    let found = open(dir.path()).unwrap_err().to_string();
    for expected in [
        "`heads[0].beta`: found -1",
        "`revision`: found",
        "heads.onnx: found sha256",
        "router.onnx: can't be read",
    ] {
        assert!(found.contains(expected), "{expected} is missing in\n{found}");
    }
}

#[test]
fn every_bad_question_is_named_by_its_line() {
    let lines = [
        "\u{feff}{\"id\": \"1\", \"prompt\": \"p\", \"a\": \"x\", \"b\": \"y\"}",
        "",
        r#"{"id": "1", "prompt": "p", "a": "x", "b": "z"}"#,
        r#"{"id": "2", "prompt": "p", "a": "y", "b": "x"}"#,
        r#"{"id": "3", "prompt": " ", "a": "x", "b": "y"}"#,
        r#"{"id": "4", "prompt": "q", "a": "x", "b": "x"}"#,
        r#"{"id": "5", "prompt": "q", "a": "x"}"#,
        r#"{"id": "6", "prompt": "q", "a": "x", "b": "y", "c": "z"}"#,
        r#"["7", "q", "x", "z"]"#,
        "not json",
        &format!(r#"{{"id": "8", "prompt": "q", "a": "x", "b": "{}"}}"#, "y".repeat(20_000)),
    ];
    check(
        |dir, _| fs::write(dir.join("questions.jsonl"), lines.join("\n")).unwrap(),
        &[
            "questions.jsonl:3: `id`: found \"1\" as in line 1",
            "questions.jsonl:4: asks the question of line 1 again",
            "questions.jsonl:5: `prompt`: found no text",
            "questions.jsonl:6: `b`: found the text of `a`",
            "questions.jsonl:7: missing field `b`",
            "questions.jsonl:8: unknown field `c`",
            "questions.jsonl:9: found an array, expected an object",
            "questions.jsonl:10: expected null, true or false at column",
            "questions.jsonl:11: `b`: found 20000 bytes, expected at most 16384",
        ],
    );
    let many = |n: usize| {
        let line =
            |i: usize| format!("{{\"id\": \"{i}\", \"prompt\": \"{i}\", \"a\": \"x\", \"b\": \"y\"}}\n");
        move |dir: &Path, _: &mut Manifest| {
            fs::write(dir.join("questions.jsonl"), (0..n).map(line).collect::<String>()).unwrap();
        }
    };
    check(many(0), &["questions.jsonl: found 0 questions, expected 1 to 64"]);
    check(many(65), &["questions.jsonl: found 65 questions, expected 1 to 64"]);
    assert_eq!(load(many(64)).unwrap().questions().len(), 64);
}

#[test]
fn questions_are_no_part_of_the_revision_and_yet_hashed() {
    let dir = tempfile::tempdir().unwrap();
    program::write(dir.path()).unwrap();
    let path = dir.path().join(MANIFEST);
    let mut manifest: Manifest = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let revision = fingerprint(&manifest);
    fs::write(dir.path().join("questions.jsonl"), "changed").unwrap();
    let found = open(dir.path()).unwrap_err().to_string();
    assert!(found.contains("questions.jsonl: found sha256") && found.lines().count() == 1, "{found}");
    manifest.questions.as_mut().unwrap().file = "../x".to_owned();
    fs::write(&path, toml::to_string(&manifest).unwrap()).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("`questions: file`"));
    manifest.questions = None;
    assert_eq!(fingerprint(&manifest), revision);
    fs::write(&path, toml::to_string(&manifest).unwrap()).unwrap();
    assert!(open(dir.path()).unwrap().questions().is_empty());
}

#[test]
fn a_manifest_with_an_unknown_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(MANIFEST), "nme = \"x\"").unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("nme"));
}

#[test]
fn a_manifest_of_garbage_is_refused_by_its_name() {
    let toy = fs::read(common::toy().join(MANIFEST)).unwrap();
    let mut cases: Vec<Vec<u8>> =
        ["", "\0", "[[[[", "= 1", "name = ", "\u{feff}", "heads = 3", "[encoder]\nencoder = 1"]
            .map(|text| text.as_bytes().to_vec())
            .into();
    cases.push(b"name = \"\xff\"".to_vec());
    cases.push(b"x = ".iter().copied().chain([b'['; 100_000]).collect());
    cases.extend((1..toy.len()).step_by(101).map(|cut| toy[..cut].to_vec()));
    let dir = tempfile::tempdir().unwrap();
    for bytes in cases {
        fs::write(dir.path().join(MANIFEST), &bytes).unwrap();
        let said = open(dir.path()).unwrap_err().to_string();
        assert!(said.contains(MANIFEST), "{said} of {:?}", String::from_utf8_lossy(&bytes));
    }
}

/// Collects the JSON pointer of every value of a document.
fn ways(value: &serde_json::Value, way: &str, found: &mut Vec<String>) {
    found.push(way.to_owned());
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| ways(value, &format!("{way}/{key}"), found));
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(idx, value)| ways(value, &format!("{way}/{idx}"), found));
        }
        _ => {}
    }
}

#[test]
fn a_tokenizer_of_garbage_is_refused_by_its_name_or_tokenizes() {
    let text = fs::read_to_string(common::toy().join("tokenizer.json")).unwrap();
    let toy: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut cases: Vec<String> =
        ["", "\0", "{}", "[]", "null", "{\"model\": {}}", "\u{feff}{}"].map(str::to_owned).into();
    cases.extend(
        (1..text.len())
            .step_by(97)
            .filter(|cut| text.is_char_boundary(*cut))
            .map(|cut| text[..cut].to_owned()),
    );
    let mut found = Vec::new();
    ways(&toy, "", &mut found);
    let others = [
        json!(null),
        json!([]),
        json!({}),
        json!("x"),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(true),
    ];
    for way in found {
        for other in &others {
            let mut changed = toy.clone();
            *changed.pointer_mut(&way).unwrap() = other.clone();
            cases.push(changed.to_string());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    for case in cases {
        fs::write(&path, &case).unwrap();
        match Tokenizer::load(&path, 16) {
            Err(error) => assert!(error.to_string().contains("tokenizer.json"), "{error} of {case}"),
            Ok(tokenizer) => {
                for text in [Text::Single("thanks for the tea"), Text::Pair("what is it", "\u{1f600} tea")] {
                    // A tokenizer may make no token of the text, which is an error.
                    if let Ok(tokens) = tokenizer.tokens(text) {
                        assert!((1..=16).contains(&tokens.ids.len()), "{case}");
                    }
                }
            }
        }
    }
}

/// Each way to read a text is a bundle that the same code serves.
#[test]
fn every_pooling_template_and_output_form_loads() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
        for template in [Template::Separate, Template::Pair] {
            for normalize in [true, false] {
                load(|_, manifest| {
                    manifest.encoder.pooling = pooling;
                    manifest.encoder.normalize = normalize;
                    manifest.input.template = template;
                })
                .unwrap();
            }
        }
    }
}

#[test]
fn an_encoder_with_token_types_and_sentence_embeddings_loads() {
    // The sentence embedding is the maximum over the one-hot type ids of a text: 2 numbers.
    let graph = OnnxGraph::new("sentence")
        .int_input("input_ids", &[None, None])
        .int_input("attention_mask", &[None, None])
        .int_input("token_type_ids", &[None, None])
        .constant("types", &array![[1.0, 0.0], [0.0, 1.0]])
        .node(Operation::Gather, &["types", "token_type_ids"], "states")
        .node(Operation::ReduceMax, &["states"], "sentence_embedding")
        .float_output("sentence_embedding", &[None, Some(2)]);
    let bytes = graph.into_bytes();
    let dir = tempfile::tempdir().unwrap();
    program::write(dir.path()).unwrap();
    let mut manifest: Manifest =
        toml::from_str(&fs::read_to_string(dir.path().join(MANIFEST)).unwrap()).unwrap();
    fs::write(dir.path().join("encoder.onnx"), bytes).unwrap();
    "sentence_embedding".clone_into(&mut manifest.encoder.output);
    let runtime = Runtime::load(&common::library()).unwrap();
    let mut encoder = Encoder::open(&runtime, dir.path(), &manifest.encoder).unwrap();
    let tokenizer = Tokenizer::load(&dir.path().join("tokenizer.json"), 16).unwrap();
    let texts = [Text::Single("tea"), Text::Pair("tea", "tea")].map(|text| tokenizer.tokens(text).unwrap());
    let embeddings = encoder.encode(&texts.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((&*embeddings[0], &*embeddings[1]), (&[1.0, 0.0][..], &[1.0, 1.0][..]));
}

/// The graph mixes texts as dynamic quantization does, whose scale is that of the whole batch.
#[test]
fn texts_that_would_change_one_another_are_run_alone() {
    let table = Array2::from_shape_fn((40, 8), |(i, j)| ((i * 8 + j) as f32).sin());
    let graph = OnnxGraph::new("mixes")
        .int_input("input_ids", &[None, None])
        .int_input("attention_mask", &[None, None])
        .constant("table", &table)
        .index("batch", 0)
        .node(Operation::Gather, &["table", "input_ids"], "states")
        .node(Operation::ReduceSum, &["states", "batch"], "mates")
        .node(Operation::Add, &["states", "mates"], "last_hidden_state")
        .float_output("last_hidden_state", &[None, None, Some(8)]);
    let graph = graph.into_bytes();
    let write = |dir: &Path, _: &mut Manifest| fs::write(dir.join("encoder.onnx"), &graph).unwrap();
    let [mut own, mut mixing] = [encoder(|_, _| {}), encoder(write)];
    assert!(own.may_batch() && !mixing.may_batch());
    for encoder in [&mut own, &mut mixing] {
        let tokenizer = Tokenizer::load(&common::toy().join("tokenizer.json"), 16).unwrap();
        let texts = ["tea", "thanks for the tea", "seven"];
        let texts = texts.map(|text| tokenizer.tokens(Text::Single(text)).unwrap());
        let together = encoder.encode(&texts.iter().collect::<Vec<_>>()).unwrap();
        let alone = texts.each_ref().map(|text| encoder.encode(&[text]).unwrap().remove(0));
        assert_eq!(together, alone);
    }
}

#[test]
fn a_text_that_is_too_long_keeps_its_end_and_says_so() {
    let tokenizer = Tokenizer::load(&common::toy().join("tokenizer.json"), 5).unwrap();
    let long = tokenizer.tokens(Text::Single("tea tea tea haha wow dance")).unwrap();
    let end = tokenizer.tokens(Text::Single("haha wow dance")).unwrap();
    assert_eq!(long.ids, end.ids);
    assert_eq!((long.kept.truncated, end.kept.truncated), (true, false));
}

#[test]
fn a_tokenizer_without_special_tokens_says_when_it_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(common::toy().join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["post_processor"] = serde_json::Value::Null;
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    let tokenizer = Tokenizer::load(&path, 3).unwrap();
    let truncated = |text| {
        let tokens = tokenizer.tokens(Text::Single(text)).unwrap();
        assert!(tokens.ids.len() <= 3);
        tokens.kept.truncated
    };
    assert_eq!(
        [truncated("haha wow dance"), truncated("tea haha wow dance"), truncated("a a a a a a a")],
        [false, true, true]
    );
    assert!(tokenizer.tokens(Text::Single("")).is_err());
}

#[test]
fn max_tokens_that_leave_no_room_are_refused() {
    let said = Tokenizer::load(&common::toy().join("tokenizer.json"), 2).unwrap_err().to_string();
    assert!(said.contains("leaves no room within 2"), "{said}");
}

/// Checks the committed report; `tests/people.rs` scores the same users anew.
#[test]
fn the_shipped_heads_beat_a_single_head_on_both_groups() {
    let text = fs::read_to_string(common::root().join("models/default/bundle.toml")).unwrap();
    let manifest: Manifest = toml::from_str(&text).unwrap();
    let slices = manifest.report["test"].as_array().unwrap();
    for name in ["hh-rlhf/helpful", "hh-rlhf/harmless"] {
        let slice = slices.iter().find(|slice| slice["slice"].as_str() == Some(name)).unwrap();
        let number = |key: &str| slice[key].as_float().unwrap();
        assert!(number("best_head") >= 0.56 && number("best_head") > number("single"), "{slice}");
    }
}
