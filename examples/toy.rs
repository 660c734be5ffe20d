//! Writes `models/toy`: a bundle so small that tests run on it offline, with heads that prefer different words.
//!
//! Every word of the vocabulary has an embedding of 8 numbers; a text's embedding is the mean. The first three
//! columns hold how kind, how exact and how playful a word is, and one head reads each of them; the fourth head
//! prefers short responses. Six questions tell the heads apart. Run it with `cargo run --example toy`; a test
//! compares its bytes with the committed ones.

use std::fs;
use std::path::Path;

use micro_reward::fit::{OnnxGraph, Operation};
use micro_reward::model::{
    EncoderSection, Feature, FileHash, Head, InputSection, Manifest, Pooling, Ranges, Template, fingerprint,
    sha256,
};
use ndarray::{Array2, array};

const WIDTH: usize = 8;
const NAMES: [&str; 4] = ["kind", "exact", "playful", "brief"];
const KIND: [&str; 6] = ["please", "thanks", "sorry", "glad", "welcome", "friend"];
const EXACT: [&str; 6] = ["exactly", "percent", "measured", "because", "seven", "proof"];
const PLAYFUL: [&str; 6] = ["haha", "pirate", "dance", "banana", "wow", "silly"];
const PLAIN: [&str; 14] =
    ["the", "a", "is", "it", "you", "i", "what", "how", "tell", "me", "about", "tea", "weather", "."];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    write(Path::new("models/toy"))
}

/// Writes the bundle into `dir`.
pub fn write(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(dir)?;
    let words: Vec<&str> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        .into_iter()
        .chain(KIND)
        .chain(EXACT)
        .chain(PLAYFUL)
        .chain(PLAIN)
        .collect();
    let heads = array![
        [6.0, 0.0, 0.0, 0.0],
        [0.0, 6.0, 0.0, 0.0],
        [0.0, 0.0, 6.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, -1.0],
    ];
    // The router favors the exact head for an exact question, and the playful head for a playful one.
    let hidden = Array2::from_shape_fn((WIDTH, 3), |(row, column)| if row == column { 1.0 } else { 0.0 });
    let output = Array2::from_shape_fn((3, 4), |(row, column)| if row == column { 2.0 } else { 0.0 });
    let zeros = |columns| Array2::zeros((1, columns));
    let router = OnnxGraph::router([&hidden, &zeros(3)], [&output, &zeros(4)]);

    let file = |name: &str, bytes: Vec<u8>| -> Result<FileHash, Box<dyn std::error::Error>> {
        fs::write(dir.join(name), bytes)?;
        Ok(FileHash { file: name.to_owned(), sha256: sha256(&dir.join(name))? })
    };
    let head = |(idx, name): (usize, &str)| Head {
        name: name.to_owned(),
        mean: if idx == 3 { -3.0 } else { 0.5 },
        std: 1.0,
        beta: 1.0,
        prior: 0.25,
    };
    let mut manifest = Manifest {
        name: "toy".to_owned(),
        revision: String::new(),
        license: "Apache-2.0".to_owned(),
        learning_rate: 1.0,
        encoder: EncoderSection {
            graph: file("encoder.onnx", encoder(words.len()))?,
            external: Vec::new(),
            tokenizer: file("tokenizer.json", tokenizer(&words).into_bytes())?,
            output: "last_hidden_state".to_owned(),
            pooling: Pooling::Mean,
            normalize: false,
            max_tokens: 16,
        },
        input: InputSection {
            template: Template::Separate,
            features: vec![Feature::Response, Feature::LogLength],
            // The range starts at one character and ends at 14 words, as many as the encoder reads.
            ranges: [(Feature::LogLength, Ranges::One([1.0_f32.ln_1p(), 100.0_f32.ln_1p()]))].into(),
            lexical: None,
        },
        heads_graph: file("heads.onnx", OnnxGraph::heads(&heads).into_bytes())?,
        router_graph: file("router.onnx", router.into_bytes())?,
        questions: Some(file("questions.jsonl", questions().into_bytes())?),
        heads: NAMES.into_iter().enumerate().map(head).collect(),
        report: toml::Table::new(),
    };
    manifest.revision = fingerprint(&manifest);
    fs::write(dir.join("bundle.toml"), toml::to_string(&manifest)?)?;
    Ok(())
}

/// Returns questions that oppose each two of the heads, the first three at about equal length.
fn questions() -> String {
    let rows = [
        ("kind-or-exact", "tell me about tea", "thanks friend glad", "exactly seven percent"),
        ("kind-or-playful", "how is the weather", "sorry friend welcome", "haha silly pirate wow"),
        ("exact-or-playful", "what is it", "because seven measured proof", "wow banana dance silly pirate"),
        ("brief-or-long", "tell me about tea", "tea", "the tea is about the weather you tell me"),
        ("brief-or-kind", "how is it", "it is", "thanks friend please welcome glad friend sorry"),
        ("brief-or-exact", "what is the weather", "weather", "exactly seven percent because measured proof"),
    ];
    // The words need no escapes, and readers want the fields in this order.
    let line = |(id, prompt, a, b)| {
        format!("{{\"id\": \"{id}\", \"prompt\": \"{prompt}\", \"a\": \"{a}\", \"b\": \"{b}\"}}\n")
    };
    rows.into_iter().map(line).collect()
}

/// Builds `tanh(table[input_ids])`: the attention mask is an input, as in every encoder, but no token sees another.
fn encoder(n_words: usize) -> Vec<u8> {
    let table = Array2::from_shape_fn((n_words, WIDTH), |(word, column)| {
        let theme = word.checked_sub(4).map(|position| position / 6).filter(|&theme| theme < 3);
        let noise = ((word * 7 + column * 3) % 11) as f32 / 50.0 - 0.1;
        if theme == Some(column) { 1.5 + noise } else { noise }
    });
    let free = [None, None];
    OnnxGraph::new("toy-encoder")
        .int_input("input_ids", &free)
        .int_input("attention_mask", &free)
        .constant("table", &table)
        .node(Operation::Gather, &["table", "input_ids"], "rows")
        .node(Operation::Tanh, &["rows"], "last_hidden_state")
        .float_output("last_hidden_state", &[None, None, Some(WIDTH)])
        .into_bytes()
}

fn tokenizer(words: &[&str]) -> String {
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let special = |name: &str| serde_json::json!({ "id": name, "ids": [words.iter().position(|w| *w == name)], "tokens": [name] });
    let piece =
        |kind: &str, id: &str, type_id: u8| serde_json::json!({ kind: { "id": id, "type_id": type_id } });
    let json = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("SpecialToken", "[CLS]", 0), piece("Sequence", "A", 0), piece("SpecialToken", "[SEP]", 0)],
            "pair": [
                piece("SpecialToken", "[CLS]", 0), piece("Sequence", "A", 0), piece("SpecialToken", "[SEP]", 0),
                piece("Sequence", "B", 1), piece("SpecialToken", "[SEP]", 1)
            ],
            "special_tokens": { "[CLS]": special("[CLS]"), "[SEP]": special("[SEP]") }
        },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" }
    });
    format!("{json:#}\n")
}
