//! The manifest of a bundle: `bundle.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tokenizer::Text;
use crate::mixture::{MAX_HEADS, MAX_LEARNING_RATE};
use crate::surface::N_STYLE;

/// The manifest's file name.
pub const MANIFEST: &str = "bundle.toml";

/// Old and new names of renamed keys.
const RENAMED: [(&str, &str); 2] = [("licence", "license"), ("encoder.normalise", "encoder.normalize")];

/// Returns the problems of a manifest with old names: `(key, what is expected)`.
pub(super) fn renamed(manifest: &toml::Table) -> Vec<(&'static str, String)> {
    let has = |key: &str| match key.split_once('.') {
        Some((section, key)) => manifest.get(section).is_some_and(|section| section.get(key).is_some()),
        None => manifest.contains_key(key),
    };
    let renamed_to =
        |(old, new): (&'static str, &str)| (old, format!("unknown key, expected `{new}`, its new name"));
    RENAMED.into_iter().filter(|(old, _)| has(old)).map(renamed_to).collect()
}

/// A bundle's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Human-readable name.
    pub name: String,
    /// The first 16 hex digits of a hash over encoder, heads, router and how they are used.
    pub revision: String,
    /// SPDX identifier.
    pub license: String,
    /// Hedge's learning rate, > 0, where the configuration names none: 1 is Bayes' rule.
    #[serde(default = "bayes_rule")]
    pub learning_rate: f64,
    /// The encoder: how text becomes an embedding.
    pub encoder: EncoderSection,
    /// The input of the heads: what they read of a prompt and a response.
    pub input: InputSection,
    /// `heads.onnx`: features `[B, D]` -> rewards `[B, K]`.
    pub heads_graph: FileHash,
    /// `router.onnx`: prompt embedding `[B, H]` -> logits `[B, K]`.
    pub router_graph: FileHash,
    /// `questions.jsonl`: pairs that tell the heads apart, for GET /elicit; optional.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<FileHash>,
    /// The heads, in the order of the graphs' columns.
    pub heads: Vec<Head>,
    /// Origin and accuracy of the bundle, for readers; the server ignores it.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub report: toml::Table,
}

fn bayes_rule() -> f64 {
    1.0
}

/// The encoder: how text becomes an embedding of H numbers.
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
    /// The pooling of token states into one embedding.
    pub pooling: Pooling,
    /// True if the embedding is scaled to length 1.
    pub normalize: bool,
    /// Upper bound of a text's tokens, special tokens included; longer texts keep their last ones.
    pub max_tokens: usize,
}

impl EncoderSection {
    /// Every file of the encoder.
    pub fn files(&self) -> impl Iterator<Item = &FileHash> {
        [&self.graph, &self.tokenizer].into_iter().chain(&self.external)
    }
}

/// A file of the bundle and its expected hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileHash {
    /// Name of the file in the bundle's directory.
    pub file: String,
    /// SHA-256 of the file, 64 hex digits.
    pub sha256: String,
}

/// The pooling of token states into one embedding.
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

/// The input of the heads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSection {
    /// The encoding of prompt and response.
    pub template: Template,
    /// The columns of the heads' input, in order.
    pub features: Vec<Feature>,
    /// The least and the largest value of every scalar feature in training, but for one row of a thousand on either
    /// side; other values are clamped to this range. `fit` writes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranges: BTreeMap<Feature, Ranges>,
    /// `lexical.safetensors`: the terms and the projection of the lexical columns, if they are among the features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<FileHash>,
}

/// The encoding of prompt and response: apart or as a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Prompt and response are encoded each on its own: a prompt is encoded once for all its responses.
    Separate,
    /// Prompt and response are encoded as one pair; `response` is then the pair's embedding.
    Pair,
}

/// A block of columns of the heads' input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// The embedding of the response, or of the pair: H columns.
    Response,
    /// The embedding of the prompt: H columns.
    Prompt,
    /// `ln(1 + characters of the response's tokens that are kept)`: 1 column.
    LogLength,
    /// The style of the response's tokens that are kept: 17 columns.
    Style,
    /// The words of the response's tokens that are kept, by TF-IDF, projected: the columns of `lexical`.
    Lexical,
}

/// The least and the largest value of a feature's columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ranges {
    /// Of a feature of one column.
    One([f32; 2]),
    /// Of every column, in their order.
    Each(Vec<[f32; 2]>),
}

impl Ranges {
    /// Returns the range of every column.
    #[must_use]
    pub fn as_slice(&self) -> &[[f32; 2]] {
        match self {
            Self::One(range) => std::slice::from_ref(range),
            Self::Each(ranges) => ranges,
        }
    }
}

impl Feature {
    /// Returns the number of columns that have a range each; none of an embedding and of lexical columns, which are
    /// bounded by their length.
    #[must_use]
    pub fn n_ranges(self) -> usize {
        match self {
            Self::LogLength => 1,
            Self::Style => N_STYLE,
            Self::Response | Self::Prompt | Self::Lexical => 0,
        }
    }
}

/// One reward head and its calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Human-readable name.
    pub name: String,
    /// The mean of its rewards over the training responses.
    pub mean: f64,
    /// Their standard deviation, > 0.
    pub std: f64,
    /// Its inverse temperature, > 0: `beta (r(a) - r(b))` are the log-odds of preferring `a`.
    pub beta: f64,
    /// Its share of the population, > 0, with the same weight for every file of the training data.
    pub prior: f64,
}

impl Template {
    /// Returns the text to encode for a response to a prompt.
    #[must_use]
    pub fn text<'a>(self, prompt: &'a str, response: &'a str) -> Text<'a> {
        match self {
            Self::Separate => Text::Single(response),
            Self::Pair => Text::Pair(prompt, response),
        }
    }
}

/// A problem with a value: its key, and what was found and expected.
type ValueProblem = (String, String);

impl EncoderSection {
    /// Returns the problems of the values.
    #[must_use]
    pub fn problems(&self) -> Vec<ValueProblem> {
        let mut problems: Vec<ValueProblem> =
            self.files().filter_map(|file| file.problem("encoder")).collect();
        if self.max_tokens < 3 {
            let detail = format!("found {}, expected at least 3", self.max_tokens);
            problems.push(("encoder.max_tokens".to_owned(), detail));
        }
        problems
    }
}

impl InputSection {
    /// Returns the problems of the values.
    #[must_use]
    pub fn problems(&self) -> Vec<ValueProblem> {
        let mut problems = Vec::new();
        if self.features.is_empty() {
            problems.push(("input.features".to_owned(), "found none, expected at least one".to_owned()));
        }
        problems.extend(self.lexical.iter().filter_map(|file| file.problem("input.lexical")));
        problems
    }

    /// Returns the problems of the ranges, which an encoder without heads does not have.
    fn range_problems(&self) -> Vec<ValueProblem> {
        let problem = |feature: &Feature| {
            let is_range = |[low, high]: &[f32; 2]| low.is_finite() && high.is_finite() && low <= high;
            let ranges = self.ranges.get(feature).map(Ranges::as_slice).unwrap_or_default();
            let found = match (ranges.len(), ranges.iter().find(|range| !is_range(range))) {
                (0, _) => "none".to_owned(),
                (_, Some([low, high])) => format!("[{low}, {high}]"),
                (n, None) if n == feature.n_ranges() => return None,
                (n, None) => format!("{n} ranges for {} columns", feature.n_ranges()),
            };
            let expected = "the least and the largest value of training, finite and in this order";
            let name = serde_json::to_value(feature).unwrap_or_default();
            let key = format!("input.ranges.{}", name.as_str().unwrap_or_default());
            Some((key, format!("found {found}, expected {expected}")))
        };
        self.features.iter().filter(|feature| feature.n_ranges() > 0).filter_map(problem).collect()
    }

    /// Returns the problem of lexical columns without their file, or of a file that is not read.
    fn lexical_problem(&self) -> Option<ValueProblem> {
        let detail = match (self.features.contains(&Feature::Lexical), &self.lexical) {
            (true, None) => "found none, expected the file of the feature `lexical`",
            (false, Some(_)) => "found a file, expected none without the feature `lexical`",
            _ => return None,
        };
        Some(("input.lexical".to_owned(), detail.to_owned()))
    }
}

impl FileHash {
    /// Returns a problem if the name is a path, which could point out of the bundle.
    fn problem(&self, section: &str) -> Option<ValueProblem> {
        let is_plain = !self.file.is_empty() && !self.file.contains(['/', '\\']) && self.file != "..";
        let detail = || format!("found \"{}\", expected a file name inside the bundle", self.file);
        (!is_plain).then(|| (format!("{section}: file"), detail()))
    }
}

impl Head {
    fn problems(&self, idx: usize) -> Vec<ValueProblem> {
        let key = |name: &str| format!("heads[{idx}].{name}");
        let mut problems = Vec::new();
        if !self.mean.is_finite() {
            problems.push((key("mean"), format!("found {}, expected a finite number", self.mean)));
        }
        for (name, value) in [("std", self.std), ("beta", self.beta), ("prior", self.prior)] {
            // A smaller standard deviation would let calibrated rewards overflow.
            if !(value.is_finite() && value > 1e-9) {
                let detail = format!("found {value}, expected a finite number above 1e-9");
                problems.push((key(name), detail));
            }
        }
        problems
    }
}

impl Manifest {
    /// Returns the problems of the values.
    #[must_use]
    pub fn problems(&self) -> Vec<ValueProblem> {
        let mut problems = self.encoder.problems();
        problems.extend(self.input.problems());
        problems.extend(self.input.range_problems());
        problems.extend(self.input.lexical_problem());
        problems.extend(self.heads_graph.problem("heads_graph"));
        problems.extend(self.router_graph.problem("router_graph"));
        problems.extend(self.questions.iter().filter_map(|file| file.problem("questions")));
        if !(self.learning_rate > 0.0 && self.learning_rate <= MAX_LEARNING_RATE) {
            let found = self.learning_rate;
            let expected = format!("a number above 0, at most {MAX_LEARNING_RATE}");
            problems.push(("learning_rate".to_owned(), format!("found {found}, expected {expected}")));
        }
        let found = self.heads.len();
        if found == 0 || found > MAX_HEADS {
            problems.push(("heads".to_owned(), format!("found {found}, expected 1 to {MAX_HEADS}")));
        }
        problems.extend(self.heads.iter().enumerate().flat_map(|(idx, head)| head.problems(idx)));
        problems
    }
}
