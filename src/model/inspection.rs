//! Inspects a bundle file by file and collects all problems.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::encoder::Encoder;
use super::fingerprint::sha256;
use super::graph::Graph;
use super::manifest::{EncoderSection, FileHash, InputSection, MANIFEST, Template, renamed};
use super::questions::{self, Question};
use super::runtime::Runtime;
use super::tokenizer::{Text, Tokenizer};
use crate::surface::Lexical;
use crate::types::EncodeError;

/// Texts of several lengths, so that a graph that depends on the batch shape fails in the warm-up.
pub(super) const WARM_UP: [&str; 3] =
    ["Hello.", "Why?", "A longer sentence, which pads the batch and is encoded beside two short ones."];

/// One problem of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleProblem {
    /// The file.
    pub path: PathBuf,
    /// The problem: what was found and what was expected.
    pub detail: String,
}

impl fmt::Display for BundleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.detail)
    }
}

/// All problems of a bundle, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BundleProblems(pub Vec<BundleProblem>);

/// The problems found so far.
pub(super) struct Inspection<'a> {
    dir: &'a Path,
    found: Vec<BundleProblem>,
}

impl<'a> Inspection<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self { dir, found: Vec::new() }
    }

    pub(super) fn has_none(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_problems(self) -> BundleProblems {
        BundleProblems(self.found)
    }

    pub(super) fn add(&mut self, file: &str, detail: String) {
        self.found.push(BundleProblem { path: self.dir.join(file), detail });
    }

    /// Reads the manifest, or a part of it; without it nothing else can be checked.
    pub(super) fn manifest<T: DeserializeOwned>(&mut self) -> Result<T, BundleProblems> {
        self.read_manifest().ok_or_else(|| BundleProblems(std::mem::take(&mut self.found)))
    }

    fn read_manifest<T: DeserializeOwned>(&mut self) -> Option<T> {
        let refused = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        let text = std::fs::read_to_string(self.dir.join(MANIFEST));
        let text = text.map_err(|error| self.add(MANIFEST, format!("can't be read: {error}"))).ok()?;
        let table = text.parse().map_err(|error| self.add(MANIFEST, refused(error))).ok()?;
        for (key, detail) in renamed(&table) {
            self.add(MANIFEST, format!("`{key}`: {detail}"));
        }
        if !self.has_none() {
            return None;
        }
        // The text is parsed, and not the table, as its errors have the line.
        toml::from_str(&text).map_err(|error| self.add(MANIFEST, refused(error))).ok()
    }

    /// Reports whether the file exists with its hash; adds a problem if not.
    pub(super) fn file(&mut self, file: &FileHash) -> bool {
        let detail = match sha256(&self.dir.join(&file.file)) {
            Ok(found) if found == file.sha256.to_lowercase() => return true,
            Ok(found) => format!("found sha256 {found}, expected {}", file.sha256),
            Err(error) => format!("can't be read: {error}; `make setup` fetches what is not committed"),
        };
        self.add(&file.file, detail);
        false
    }

    /// Returns the table of the lexical columns.
    pub(super) fn lexical(&mut self, file: &FileHash) -> Option<Lexical> {
        if !self.file(file) {
            return None;
        }
        let bytes = std::fs::read(self.dir.join(&file.file)).map_err(|error| error.to_string());
        let table = bytes.and_then(|bytes| Lexical::from_bytes(&bytes).map_err(|error| error.to_string()));
        table.map_err(|detail| self.add(&file.file, detail)).ok()
    }

    /// Returns the questions of a file with their lines.
    pub(super) fn questions(&mut self, file: &FileHash) -> Vec<(usize, Question)> {
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

    pub(super) fn tokenizable(
        &mut self,
        file: &FileHash,
        line: usize,
        question: &Question,
        tokenizer: &Tokenizer,
    ) {
        for (field, text) in question.texts() {
            if let Err(error) = tokenizer.tokens(Text::Single(text)) {
                self.add(&at_line(file, line), format!("`{field}`: {error}"));
            }
        }
    }

    pub(super) fn encoder(
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

    pub(super) fn graph(
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

/// Returns `file:line`; line 0 is the file as a whole.
fn at_line(file: &FileHash, line: usize) -> String {
    if line == 0 { file.file.clone() } else { format!("{}:{line}", file.file) }
}

fn warm_up(encoder: &mut Encoder, tokenizer: &Tokenizer, template: Template) -> Result<usize, EncodeError> {
    let tokens: Result<Vec<_>, _> =
        WARM_UP.iter().map(|text| tokenizer.tokens(template.text(WARM_UP[0], text))).collect();
    encoder.warm_up(&tokens.map_err(|error| EncodeError::Runtime(error.to_string().into()))?)
}
