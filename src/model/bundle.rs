//! A bundle on disk: checked as a whole, loaded, warmed up.
//!
//! Everything that can be wrong with it is found here, before the first request, and all of it at once.

use std::fmt;
use std::path::{Path, PathBuf};

use ndarray::Array2;
use serde::Deserialize;

use super::encoder::Encoder;
use super::features::{Features, Rewards, Scale};
use super::fingerprint::{encoder_fingerprint, fingerprint, sha256, text_hasher, text_key};
use super::graph::{Graph, GraphError};
use super::manifest::{EncoderSection, FileHash, InputSection, MANIFEST, Manifest, Template};
use super::questions::{self, Question};
use super::runtime::Runtime;
use super::tokenizer::{Text, Tokenizer, TokenizerError};
use crate::types::{Embedding, Encode, EncodeError, HeadView, ModelView, TextKey, Tokens};

/// Texts of several lengths, so that a graph that depends on the batch shape fails now.
const WARM_UP: [&str; 3] =
    ["Hello.", "Why?", "A longer sentence, which pads the batch and is encoded beside two short ones."];

/// A loaded bundle, without its encoder sessions: those belong to the model threads.
#[derive(Debug)]
pub struct Bundle {
    manifest: Manifest,
    tokenizer: Tokenizer,
    features: Features,
    heads: Graph,
    router: Graph,
    questions: Vec<Question>,
    text_hasher: blake3::Hasher,
}

/// One thing that is wrong with a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleProblem {
    /// The file.
    pub path: PathBuf,
    /// What was found and what was expected.
    pub detail: String,
}

impl fmt::Display for BundleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.detail)
    }
}

/// Everything that is wrong with a bundle, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BundleProblems(pub Vec<BundleProblem>);

impl Bundle {
    /// Loads the bundle in `dir` with `n_encoders` sessions of its encoder.
    ///
    /// # Errors
    /// All problems at once, each with its file, what was found and what was expected.
    pub fn load(
        runtime: &Runtime,
        dir: &Path,
        n_encoders: usize,
    ) -> Result<(Self, Vec<Encoder>), BundleProblems> {
        let mut problems = Collector { dir, found: Vec::new() };
        let manifest: Manifest = problems.manifest()?;
        for (key, detail) in manifest.problems() {
            problems.add(MANIFEST, format!("`{key}`: {detail}"));
        }
        if manifest.revision != fingerprint(&manifest) {
            let expected = fingerprint(&manifest);
            problems.add(
                MANIFEST,
                format!("`revision`: found \"{}\", expected \"{expected}\"", manifest.revision),
            );
        }
        let has_heads = problems.file(&manifest.heads_graph);
        let has_router = problems.file(&manifest.router_graph);
        let questions = manifest.questions.as_ref().map(|file| (file, problems.questions(file)));
        let parts = problems.encoder(runtime, &manifest.encoder, &manifest.input, n_encoders);

        let Some((tokenizer, encoders, n_embedding)) = parts else {
            return Err(BundleProblems(problems.found));
        };
        for (file, (line, question)) in
            questions.iter().flat_map(|(file, q)| q.iter().map(move |q| (file, q)))
        {
            problems.tokenizable(file, *line, question, &tokenizer);
        }
        let features = Features::new(&manifest.input, n_embedding);
        let n_heads = manifest.heads.len();
        let n_columns = features.n_columns();
        let k = (n_heads, "one per [[heads]] of bundle.toml");
        let d = (n_columns, "the columns of `input.features`");
        let h = (n_embedding, "the encoder's embedding");
        let heads = problems.graph(runtime, has_heads, &manifest.heads_graph, d, k);
        let router = problems.graph(runtime, has_router, &manifest.router_graph, h, k);
        match (heads, router) {
            (Some(heads), Some(router)) if problems.found.is_empty() => {
                let questions = questions.into_iter().flat_map(|(_, questions)| questions);
                let questions = questions.map(|(_, question)| question).collect();
                let text_hasher = text_hasher(&manifest.encoder);
                Ok((Self { manifest, tokenizer, features, heads, router, questions, text_hasher }, encoders))
            }
            _ => Err(BundleProblems(problems.found)),
        }
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// 16 hex digits that change with any change of an embedding.
    #[must_use]
    pub fn encoder_revision(&self) -> String {
        encoder_fingerprint(&self.manifest.encoder)
    }

    /// How many heads: K.
    #[must_use]
    pub fn n_heads(&self) -> usize {
        self.manifest.heads.len()
    }

    /// The tokeniser.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The columns that the heads read.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What the embedding of a text is known by: bundles with the same encoder agree on it.
    #[must_use]
    pub fn text_key(&self, text: Text<'_>) -> TextKey {
        text_key(self.text_hasher.clone(), text)
    }

    /// Some tokens, for measuring the encoder.
    ///
    /// # Errors
    /// When the tokeniser fails.
    pub fn sample(&self) -> Result<Tokens, TokenizerError> {
        self.tokenizer.tokens(self.manifest.input.template.text(WARM_UP[0], WARM_UP[2]))
    }

    /// Every head's reward for feature rows `[n, D]`, flattened. Blocks.
    ///
    /// # Errors
    /// When the heads fail or return a value that is not finite.
    pub fn rewards(&self, rows: Vec<f32>) -> Result<Rewards, GraphError> {
        let n_rows = rows.len() / self.features.n_columns();
        let rows = Array2::from_shape_vec((n_rows, self.features.n_columns()), rows)
            .map_err(|error| GraphError::Run(error.to_string()))?;
        let raw = self.heads.run(rows.view())?;
        Ok(Rewards::new(raw, self.manifest.heads.iter().map(Scale::from).collect()))
    }

    /// [`Rewards::log_odds`] of one response whose raw rewards `[K]` are at hand: the same bits.
    #[must_use]
    pub fn log_odds(&self, raw: &[f32]) -> Vec<f64> {
        let scales = self.manifest.heads.iter().map(Scale::from);
        raw.iter().zip(scales).map(|(&r, scale)| scale.log_odds(f64::from(r))).collect()
    }

    /// The router's logits for prompts' embeddings, `[n][K]`. Blocks.
    ///
    /// # Errors
    /// When the router fails or returns a value that is not finite.
    pub fn router_logits(&self, prompts: &[Embedding]) -> Result<Vec<Vec<f64>>, GraphError> {
        let flat = prompts.iter().flat_map(|prompt| prompt.iter().copied()).collect();
        let rows = Array2::from_shape_vec((prompts.len(), self.router.n_in()), flat)
            .map_err(|error| GraphError::Run(error.to_string()))?;
        let logits = self.router.run(rows.view())?;
        Ok(logits.outer_iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect())
    }

    /// The log of every head's share of the population, shape `[K]`.
    #[must_use]
    pub fn log_prior(&self) -> Vec<f64> {
        self.manifest.heads.iter().map(|head| head.prior.ln()).collect()
    }

    /// The questions for somebody who is not known yet; none in a bundle without.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// What the server tells about it.
    #[must_use]
    pub fn view(&self) -> ModelView {
        let Manifest { name, revision, heads, encoder, .. } = &self.manifest;
        ModelView {
            name: name.clone(),
            revision: revision.clone(),
            heads: heads
                .iter()
                .map(|head| HeadView { name: head.name.clone(), prior: head.prior, beta: head.beta })
                .collect(),
            max_tokens: encoder.max_tokens,
            questions: self.questions.len(),
        }
    }
}

/// The part of a manifest that `fit` starts from: other sections may be missing.
#[derive(Deserialize)]
struct EncoderManifest {
    encoder: EncoderSection,
    input: InputSection,
}

/// An encoder without heads: what `fit` starts from.
pub struct EncoderParts {
    /// How text becomes an embedding.
    pub section: EncoderSection,
    /// What of a prompt and a response heads shall read.
    pub input: InputSection,
    /// The tokeniser.
    pub tokenizer: Tokenizer,
    /// Sessions, one per thread.
    pub sessions: Vec<Box<dyn Encode>>,
    /// How many numbers an embedding has: H.
    pub n_embedding: usize,
}

impl EncoderParts {
    /// 16 hex digits that change with any change of an embedding.
    #[must_use]
    pub fn revision(&self) -> String {
        encoder_fingerprint(&self.section)
    }
}

/// Loads only the encoder of the bundle in `dir`.
///
/// # Errors
/// All problems at once, as [`Bundle::load`].
pub fn load_encoder(
    runtime: &Runtime,
    dir: &Path,
    n_encoders: usize,
) -> Result<EncoderParts, BundleProblems> {
    let mut problems = Collector { dir, found: Vec::new() };
    let EncoderManifest { encoder: section, input } = problems.manifest()?;
    for (key, detail) in section.problems().into_iter().chain(input.problems()) {
        problems.add(MANIFEST, format!("`{key}`: {detail}"));
    }
    match problems.encoder(runtime, &section, &input, n_encoders) {
        Some((tokenizer, sessions, n_embedding)) if problems.found.is_empty() => {
            let sessions = sessions.into_iter().map(|session| Box::new(session) as Box<dyn Encode>).collect();
            Ok(EncoderParts { section, input, tokenizer, sessions, n_embedding })
        }
        _ => Err(BundleProblems(problems.found)),
    }
}

/// Goes through a bundle file by file and keeps what is wrong.
struct Collector<'a> {
    dir: &'a Path,
    found: Vec<BundleProblem>,
}

impl Collector<'_> {
    fn add(&mut self, file: &str, detail: String) {
        self.found.push(BundleProblem { path: self.dir.join(file), detail });
    }

    fn manifest<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T, BundleProblems> {
        let text = std::fs::read_to_string(self.dir.join(MANIFEST))
            .map_err(|error| format!("can't be read: {error}"));
        text.and_then(|text| toml::from_str(&text).map_err(|error| error.to_string().trim_end().to_owned()))
            .map_err(|detail| {
                self.add(MANIFEST, detail);
                BundleProblems(std::mem::take(&mut self.found))
            })
    }

    /// Whether the file is there with its hash.
    fn file(&mut self, file: &FileHash) -> bool {
        let detail = match sha256(&self.dir.join(&file.file)) {
            Ok(found) if found == file.sha256.to_lowercase() => return true,
            Ok(found) => format!("found sha256 {found}, expected {}", file.sha256),
            Err(error) => format!("can't be read: {error}; `make setup` fetches what is not committed"),
        };
        self.add(&file.file, detail);
        false
    }

    /// The questions of a file with their lines.
    fn questions(&mut self, file: &FileHash) -> Vec<(usize, Question)> {
        if !self.file(file) {
            return Vec::new();
        }
        let text = match std::fs::read_to_string(self.dir.join(&file.file)) {
            Ok(text) => text,
            Err(error) => {
                self.add(&file.file, format!("can't be read: {error}"));
                return Vec::new();
            }
        };
        let (questions, problems) = questions::read(&text);
        for (line, detail) in problems {
            self.add(&at_line(file, line), detail);
        }
        questions
    }

    fn tokenizable(&mut self, file: &FileHash, line: usize, question: &Question, tokenizer: &Tokenizer) {
        for (field, text) in question.texts() {
            if let Err(error) = tokenizer.tokens(Text::Single(text)) {
                self.add(&at_line(file, line), format!("`{field}`: {error}"));
            }
        }
    }

    fn encoder(
        &mut self,
        runtime: &Runtime,
        section: &EncoderSection,
        input: &InputSection,
        n_encoders: usize,
    ) -> Option<(Tokenizer, Vec<Encoder>, usize)> {
        let has_files = section.files().filter(|file| !self.file(file)).count() == 0;
        if !has_files {
            return None;
        }
        let tokenizer = Tokenizer::load(&self.dir.join(&section.tokenizer.file), section.max_tokens)
            .map_err(|error| self.add(&section.tokenizer.file, error.to_string()))
            .ok();
        let encoders: Result<Vec<_>, _> =
            (0..n_encoders.max(1)).map(|_| Encoder::open(runtime, self.dir, section)).collect();
        let encoders = encoders.map_err(|error| self.add(&section.graph.file, error.to_string())).ok();
        let (tokenizer, mut encoders) = (tokenizer?, encoders?);
        let warm_up =
            encoders.iter_mut().map(|encoder| warm_up(encoder, &tokenizer, input.template)).collect();
        let widths: Result<Vec<usize>, EncodeError> = warm_up;
        match widths {
            Ok(widths) => Some((tokenizer, encoders, widths[0])),
            Err(error) => {
                self.add(&section.graph.file, format!("fails on the warm-up batch: {error}"));
                None
            }
        }
    }

    fn graph(
        &mut self,
        runtime: &Runtime,
        is_intact: bool,
        file: &FileHash,
        n_in: (usize, &str),
        n_out: (usize, &str),
    ) -> Option<Graph> {
        if !is_intact {
            return None;
        }
        Graph::open(runtime, &self.dir.join(&file.file), n_in, n_out)
            .map_err(|error| self.add(&file.file, error.to_string()))
            .ok()
    }
}

/// `file:line`; line 0 is the file as a whole.
fn at_line(file: &FileHash, line: usize) -> String {
    if line == 0 { file.file.clone() } else { format!("{}:{line}", file.file) }
}

fn warm_up(encoder: &mut Encoder, tokenizer: &Tokenizer, template: Template) -> Result<usize, EncodeError> {
    let tokens: Result<Vec<_>, _> =
        WARM_UP.iter().map(|text| tokenizer.tokens(template.text(WARM_UP[0], text))).collect();
    encoder.warm_up(&tokens.map_err(|error| EncodeError::Runtime(error.to_string().into()))?)
}
