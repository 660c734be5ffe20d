//! Loads a bundle from disk: checks it as a whole and warms it up.
//!
//! All problems of a bundle are found here at once, before the first request.

use std::path::Path;

use ndarray::Array2;
use serde::Deserialize;

use super::encoder::Encoder;
use super::features::{Features, Rewards, Scale};
use super::fingerprint::{encoder_fingerprint, fingerprint, text_hasher, text_key};
use super::graph::{Graph, GraphError};
use super::inspection::{BundleProblems, Inspection, WARM_UP};
use super::manifest::{EncoderSection, Feature, InputSection, MANIFEST, Manifest};
use super::questions::Question;
use super::runtime::Runtime;
use super::tokenizer::{Text, Tokenizer, TokenizerError};
use crate::surface::Lexical;
use crate::types::{Embedding, Encode, HeadView, ModelView, TextKey, Tokens};

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
        let mut problems = Inspection::new(dir);
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

        let lexical = manifest.input.lexical.as_ref().and_then(|file| problems.lexical(file));
        // Without the table, the number of columns is not known.
        let has_heads = has_heads && lexical.is_some() == manifest.input.features.contains(&Feature::Lexical);
        let Some((mut tokenizer, encoders, n_embedding)) = parts else {
            return Err(problems.into_problems());
        };
        tokenizer.read_surface(manifest.input.features.contains(&Feature::Style), lexical);
        for (file, (line, question)) in
            questions.iter().flat_map(|(file, q)| q.iter().map(move |q| (file, q)))
        {
            problems.tokenizable(file, *line, question, &tokenizer);
        }
        let features =
            Features::new(&manifest.input, n_embedding, tokenizer.lexical().map_or(0, Lexical::n_columns));
        let n_heads = manifest.heads.len();
        let n_columns = features.n_columns();
        let k = (n_heads, "one per [[heads]] of bundle.toml");
        let d = (n_columns, "the columns of `input.features`");
        let h = (n_embedding, "the encoder's embedding");
        let heads = problems.graph(runtime, has_heads, &manifest.heads_graph, d, k);
        let router = problems.graph(runtime, has_router, &manifest.router_graph, h, k);
        match (heads, router) {
            (Some(heads), Some(router)) if problems.has_none() => {
                let questions = questions.into_iter().flat_map(|(_, questions)| questions);
                let questions = questions.map(|(_, question)| question).collect();
                let text_hasher = text_hasher(&manifest);
                Ok((Self { manifest, tokenizer, features, heads, router, questions, text_hasher }, encoders))
            }
            _ => Err(problems.into_problems()),
        }
    }

    /// Returns the manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns 16 hex digits that change with any change of an embedding.
    #[must_use]
    pub fn encoder_revision(&self) -> String {
        encoder_fingerprint(&self.manifest.encoder)
    }

    /// Returns the number of heads: K.
    #[must_use]
    pub fn n_heads(&self) -> usize {
        self.manifest.heads.len()
    }

    /// Returns the tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns the columns that the heads read.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Returns the cache key of a text's embedding; bundles with the same encoder agree on it.
    #[must_use]
    pub fn text_key(&self, text: Text<'_>) -> TextKey {
        text_key(self.text_hasher.clone(), text)
    }

    /// Returns some tokens, for measuring the encoder.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn sample(&self) -> Result<Tokens, TokenizerError> {
        self.tokenizer.tokens(self.manifest.input.template.text(WARM_UP[0], WARM_UP[2]))
    }

    /// Computes every head's reward for feature rows `[n, D]`, flattened. Blocks.
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

    /// Returns [`Rewards::log_odds`] of one response from its raw rewards `[K]`: the same bits.
    #[must_use]
    pub fn log_odds(&self, raw: &[f32]) -> Vec<f64> {
        let scales = self.manifest.heads.iter().map(Scale::from);
        raw.iter().zip(scales).map(|(&r, scale)| scale.log_odds(f64::from(r))).collect()
    }

    /// Computes the router's logits for prompts' embeddings, `[n][K]`. Blocks.
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

    /// Returns the log of every head's share of the population, shape `[K]`.
    #[must_use]
    pub fn log_prior(&self) -> Vec<f64> {
        self.manifest.heads.iter().map(|head| head.prior.ln()).collect()
    }

    /// Returns the questions for new users; none in a bundle without a questionnaire.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Returns the view of the bundle that the server serves.
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
    /// The encoder section of the manifest.
    pub section: EncoderSection,
    /// The input section: the features of a prompt and a response that the heads shall read.
    pub input: InputSection,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Sessions, one per thread.
    pub sessions: Vec<Box<dyn Encode>>,
    /// Number of components of an embedding: H.
    pub n_embedding: usize,
}

impl EncoderParts {
    /// Returns 16 hex digits that change with any change of an embedding.
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
    let mut problems = Inspection::new(dir);
    let EncoderManifest { encoder: section, input } = problems.manifest()?;
    for (key, detail) in section.problems().into_iter().chain(input.problems()) {
        problems.add(MANIFEST, format!("`{key}`: {detail}"));
    }
    match problems.encoder(runtime, &section, &input, n_encoders) {
        Some((tokenizer, sessions, n_embedding)) if problems.has_none() => {
            let sessions = sessions.into_iter().map(|session| Box::new(session) as Box<dyn Encode>).collect();
            Ok(EncoderParts { section, input, tokenizer, sessions, n_embedding })
        }
        _ => Err(problems.into_problems()),
    }
}
