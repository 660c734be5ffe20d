//! `bundle.toml`: what a bundle says of itself.

use serde::{Deserialize, Serialize};

/// The manifest's file name.
pub const MANIFEST: &str = "bundle.toml";

/// A bundle's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// A name for people.
    pub name: String,
    /// The first 16 hex digits of a hash over encoder, heads, router and how they are used.
    pub revision: String,
    /// SPDX identifier.
    pub licence: String,
    /// How text becomes an embedding.
    pub encoder: EncoderSection,
    /// What of a prompt and a response the heads read.
    pub input: InputSection,
    /// `heads.onnx`: features `[B, D]` -> rewards `[B, K]`.
    pub heads_graph: FileHash,
    /// `router.onnx`: prompt embedding `[B, H]` -> logits `[B, K]`.
    pub router_graph: FileHash,
    /// One per head, in the order of the graphs' columns.
    pub heads: Vec<Head>,
    /// How the bundle was made and what it reached; for people, not read by the server.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub report: toml::Table,
}

/// How text becomes an embedding of H numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSection {
    /// The graph: input_ids, attention_mask and perhaps token_type_ids, int64 `[B, T]`, to `output`.
    pub graph: FileHash,
    /// Files that the graph refers to, such as its weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<FileHash>,
    /// `tokenizer.json` in the format of Hugging Face tokenizers.
    pub tokenizer: FileHash,
    /// The output to read: token states `[B, T, H]`, or sentence embeddings `[B, H]` which are not pooled.
    pub output: String,
    /// How token states become one embedding.
    pub pooling: Pooling,
    /// Whether the embedding is scaled to length 1.
    pub normalise: bool,
    /// Longer texts keep their last `max_tokens` tokens, special tokens included.
    pub max_tokens: usize,
}

impl EncoderSection {
    /// Every file of the encoder.
    pub fn files(&self) -> impl Iterator<Item = &FileHash> {
        [&self.graph, &self.tokenizer].into_iter().chain(&self.external)
    }
}

/// A file of the bundle and what it must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHash {
    /// Relative to the bundle's directory.
    pub file: String,
    /// 64 hex digits.
    pub sha256: String,
}

/// How token states become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the text's tokens.
    Mean,
    /// The first token's state.
    Cls,
    /// The last token's state.
    Last,
}

/// What the heads read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSection {
    /// How prompt and response meet.
    pub template: Template,
    /// The columns of the heads' input, in order.
    pub features: Vec<Feature>,
}

/// How prompt and response meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Prompt and response are encoded each on its own: a prompt is encoded once for all its responses.
    Separate,
    /// Prompt and response are encoded as one pair; `response` is then the pair's embedding.
    Pair,
}

/// A block of columns of the heads' input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// The embedding of the response, or of the pair: H columns.
    Response,
    /// The embedding of the prompt: H columns.
    Prompt,
    /// `ln(1 + characters of the response)`: 1 column.
    LogLength,
}

/// One reward head and its calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// A name for people.
    pub name: String,
    /// The mean of its rewards over the training responses.
    pub mean: f64,
    /// Their standard deviation, > 0.
    pub std: f64,
    /// Its temperature, > 0: `beta (r(a) - r(b))` are the log-odds of preferring `a`.
    pub beta: f64,
    /// Its share of the population: the router's mean weight over the training prompts, > 0.
    pub prior: f64,
}

impl Manifest {
    /// What is wrong with the values, each as (key, found and expected).
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut refuse = |is_bad: bool, key: &str, detail: String| {
            if is_bad {
                problems.push((key.to_owned(), detail));
            }
        };
        refuse(self.heads.is_empty(), "heads", "found no head, expected at least one".to_owned());
        refuse(
            self.encoder.max_tokens < 3,
            "encoder.max_tokens",
            format!("found {}, expected at least 3", self.encoder.max_tokens),
        );
        refuse(
            self.input.features.is_empty(),
            "input.features",
            "found none, expected at least one".to_owned(),
        );
        // A smaller standard deviation would let calibrated rewards overflow.
        let is_positive = |x: f64| x.is_finite() && x > 1e-9;
        for (idx, head) in self.heads.iter().enumerate() {
            let key = |name: &str| format!("heads[{idx}].{name}");
            refuse(
                !head.mean.is_finite(),
                &key("mean"),
                format!("found {}, expected a finite number", head.mean),
            );
            for (name, value) in [("std", head.std), ("beta", head.beta), ("prior", head.prior)] {
                refuse(
                    !is_positive(value),
                    &key(name),
                    format!("found {value}, expected a finite number above 1e-9"),
                );
            }
        }
        for file in self.encoder.files().chain([&self.heads_graph, &self.router_graph]) {
            let is_plain = !file.file.is_empty() && !file.file.contains(['/', '\\']) && file.file != "..";
            refuse(
                !is_plain,
                "file",
                format!("found \"{}\", expected a file name inside the bundle", file.file),
            );
        }
        problems
    }
}
