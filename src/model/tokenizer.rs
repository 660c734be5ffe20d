//! Turns text into tokens; a text that is too long keeps its end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::{
    Encoding, Model, ModelWrapper, OffsetReferential, OffsetType, PostProcessor, PreTokenizer, Token,
    TruncationDirection,
};

use super::control::Control;
use super::joints::Joints;
use super::surface_columns::SurfaceColumns;
use super::tail::Tail;
use crate::surface::{Lexical, N_STYLE, PieceStyle};
use crate::types::{Kept, Tokens};

/// The input of one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Text<'a> {
    /// A text.
    Single(&'a str),
    /// A prompt and its response.
    Pair(&'a str, &'a str),
}

/// A bundle's tokenizer. Text that users write never becomes a control token.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    control: Control,
    joints: Option<Joints>,
    tail: Tail,
    /// Number of characters of every piece.
    n_chars: HashMap<u32, u32>,
    surface: SurfaceColumns,
    max_tokens: usize,
}

/// The reason why a text or a tokenizer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is no tokenizer.
    #[error("{path} is not a tokenizer.json: {detail}")]
    Load {
        /// The file.
        path: PathBuf,
        /// The error of the parser.
        detail: String,
    },
    /// The tokenizer failed on a text, or made no token of it.
    #[error("the tokenizer failed: {0}")]
    Text(String),
}

impl From<tokenizers::Error> for TokenizerError {
    fn from(error: tokenizers::Error) -> Self {
        Self::Text(error.to_string())
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and turns off its padding and truncation.
    ///
    /// # Errors
    /// When the file is no tokenizer, or can't leave room for text within `max_tokens`.
    pub fn load(path: &Path, max_tokens: usize) -> Result<Self, TokenizerError> {
        let failed = |detail: String| TokenizerError::Load { path: path.to_owned(), detail };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(|error| failed(error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| failed(error.to_string()))?;
        let n_special = n_special(&inner, false).max(n_special(&inner, true));
        if max_tokens <= n_special {
            return Err(failed(format!(
                "adds {n_special} special tokens, which leaves no room within {max_tokens}"
            )));
        }
        if !survives_a_text(&inner) {
            return Err(failed(
                "panics on a text, as with a special token that it does not define".to_owned(),
            ));
        }
        let control = Control::make_text(&mut inner).map_err(|error| failed(error.to_string()))?;
        let joints = Joints::of(&inner);
        let tail = Tail::of(&inner, joints.as_ref());
        let pieces = pieces(&inner);
        let styles = pieces.iter().map(|piece| (piece.id, piece.style())).collect();
        let surface = SurfaceColumns::new(styles);
        let mut n_chars: HashMap<u32, u32> = pieces.iter().map(|piece| (piece.id, piece.n_chars())).collect();
        // A control token in a text does not stand for its name, so it counts as one character.
        n_chars.extend(control.ids().map(|id| (id, 1)));
        Ok(Self { inner, control, joints, tail, n_chars, surface, max_tokens })
    }

    /// Makes [`Self::tokens`] compute these surface columns.
    pub(super) fn read_surface(&mut self, has_style: bool, lexical: Option<Lexical>) {
        self.surface.turn_on(has_style, lexical);
    }

    /// Returns the table of the lexical columns, if any.
    #[must_use]
    pub fn lexical(&self) -> Option<&Lexical> {
        self.surface.lexical()
    }

    /// Returns the style of a text from [`Self::tokens_and_own`], shape `[N_STYLE]`.
    #[must_use]
    pub fn style(&self, own: &[u32]) -> [f32; N_STYLE] {
        self.surface.style(own)
    }

    /// Returns the tokens of a text, special tokens included.
    ///
    /// Of a pair the longer text is cut first, and where both are longer than half of the room each keeps half, the
    /// response the odd token. So no more than the last `max_tokens` tokens of each count, and work and memory do not
    /// grow with the text before them.
    ///
    /// # Errors
    /// When the tokenizer fails or makes no token at all.
    pub fn tokens(&self, text: Text<'_>) -> Result<Tokens, TokenizerError> {
        Ok(self.tokens_and_own(text)?.0)
    }

    /// Returns the tokens of a text as [`Self::tokens`] does, and beside them those that are its own, or the
    /// response's: without the prompt and the tokens that are put around.
    ///
    /// # Errors
    /// As [`Self::tokens`].
    pub fn tokens_and_own(&self, text: Text<'_>) -> Result<(Tokens, Vec<u32>), TokenizerError> {
        let (prompt, response) = match text {
            Text::Single(text) => (None, text),
            Text::Pair(prompt, response) => (Some(prompt), response),
        };
        let room = self.max_tokens - n_special(&self.inner, prompt.is_some());
        // One token more than the room shows that the text is longer.
        let mut prompt = prompt.map(|text| self.last(text, room + 1)).transpose()?;
        let mut response = self.last(response, room + 1)?;
        let (n_prompt, n_response) = shares(room, prompt.as_ref().map_or(0, Vec::len), response.len());
        let prompt_truncated = prompt.as_mut().is_some_and(|ids| keep_last(ids, n_prompt));
        let truncated = keep_last(&mut response, n_response);
        let n_chars = response.iter().map(|id| self.n_chars.get(id).copied().unwrap_or(1)).sum();
        let kept = Kept { n_chars, surface: self.surface.of(&response), truncated, prompt_truncated };
        let own = response.clone();

        let encoding = match prompt {
            Some(prompt) => {
                let (prompt, response) = (sequence(prompt, 0), sequence(response, 1));
                self.inner.post_process(prompt, Some(response), true)?
            }
            None => self.inner.post_process(sequence(response, 0), None, true)?,
        };
        if encoding.is_empty() {
            return Err(TokenizerError::Text("found no token in the text, expected at least one".to_owned()));
        }
        // A template may contain a text twice.
        let excess = encoding.len().saturating_sub(self.max_tokens);
        let tokens = Tokens {
            ids: encoding.get_ids()[excess..].to_vec(),
            type_ids: encoding.get_type_ids()[excess..].to_vec(),
            kept,
        };
        Ok((tokens, own))
    }

    /// Returns the last `n` tokens of a text, and perhaps some before them; all, if there are fewer.
    fn last(&self, text: &str, n: usize) -> Result<Vec<u32>, TokenizerError> {
        let tail = self.tail.of_text(text, n);
        let normalizer = self.inner.get_normalizer();
        let mut words = self.inner.get_added_vocabulary().extract_and_normalize(normalizer, &tail);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut words)?;
        }
        words.tokenize_with_limit(|word| self.word(word.get(), n), n, TruncationDirection::Left)?;
        let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
        Ok(splits.iter().flat_map(|(_, _, tokens)| tokens.iter().flatten()).map(|token| token.id).collect())
    }

    /// Returns the last `n` tokens of a word, and perhaps some before them; all, if there are fewer.
    fn word(&self, word: &str, n: usize) -> tokenizers::Result<Vec<Token>> {
        let Some(joints) = &self.joints else {
            return Ok(self.control.spell(word, self.inner.get_model().tokenize(word)?));
        };
        let (mut before, mut n_tokens, mut parts) = (word, 0, Vec::new());
        while n_tokens < n && !before.is_empty() {
            let part;
            (before, part) = joints.split_last(before);
            let tokens = self.control.spell(part, self.inner.get_model().tokenize(part)?);
            n_tokens += tokens.len();
            parts.push(tokens);
        }
        Ok(parts.into_iter().rev().flatten().collect())
    }
}

/// Returns the number of tokens that are put around a text, or around and between the two of a pair.
fn n_special(tokenizer: &tokenizers::Tokenizer, is_pair: bool) -> usize {
    tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(is_pair))
}

/// Shares `room` tokens between a prompt and a response of so many tokens, or more where they have more than `room`.
fn shares(room: usize, n_prompt: usize, n_response: usize) -> (usize, usize) {
    let half = room / 2;
    if n_prompt + n_response <= room {
        (n_prompt, n_response)
    } else if n_prompt <= half {
        (n_prompt, room - n_prompt)
    } else if n_response <= room - half {
        (room - n_response, n_response)
    } else {
        (half, room - half)
    }
}

/// Drops the ids before the last `n`; returns true if there were any.
fn keep_last(ids: &mut Vec<u32>, n: usize) -> bool {
    let excess = ids.len().saturating_sub(n);
    ids.drain(..excess);
    excess > 0
}

fn sequence(ids: Vec<u32>, type_id: u32) -> Encoding {
    Encoding::from_tokens(ids.into_iter().map(|id| Token::new(id, String::new(), (0, 0))).collect(), type_id)
}

/// A piece of the vocabulary without the marks of its continuation or of the end of a word.
struct VocabularyPiece {
    id: u32,
    text: String,
    starts_word: bool,
}

impl VocabularyPiece {
    fn n_chars(&self) -> u32 {
        u32::try_from(self.text.chars().count().max(1)).unwrap_or(u32::MAX)
    }

    fn style(&self) -> PieceStyle {
        PieceStyle::of(self.text.trim_start_matches(STARTS), self.starts_word)
    }
}

/// Marks of a word's start: those of byte-level and of SentencePiece vocabularies.
const STARTS: [char; 2] = ['\u{120}', '\u{2581}'];

/// Returns every piece, without the marks of its continuation or of the end of a word.
fn pieces(tokenizer: &tokenizers::Tokenizer) -> Vec<VocabularyPiece> {
    let (prefix, suffix) = match tokenizer.get_model() {
        ModelWrapper::WordPiece(model) => (Some(&model.continuing_subword_prefix), None),
        ModelWrapper::BPE(model) => {
            (model.continuing_subword_prefix.as_ref(), model.end_of_word_suffix.as_ref())
        }
        ModelWrapper::WordLevel(_) | ModelWrapper::Unigram(_) => (None, None),
    };
    let vocabulary = tokenizer.get_vocab(true);
    let marks_starts = vocabulary.keys().any(|piece| piece.chars().count() > 1 && piece.starts_with(STARTS));
    let of_piece = |(piece, id): (String, u32)| {
        let rest = prefix.and_then(|prefix| piece.strip_prefix(prefix.as_str()));
        let starts_word = if marks_starts { piece.starts_with(STARTS) } else { rest.is_none() };
        let rest = rest.unwrap_or(&piece);
        let rest = suffix.and_then(|suffix| rest.strip_suffix(suffix.as_str())).unwrap_or(rest);
        VocabularyPiece { id, text: rest.to_owned(), starts_word }
    };
    vocabulary.into_iter().map(of_piece).collect()
}

/// True if a text can be encoded: the library accepts a template with undefined tokens and panics where it uses it.
fn survives_a_text(inner: &tokenizers::Tokenizer) -> bool {
    let tokenize = || inner.encode_fast("a", true).is_ok() && inner.encode_fast(("a", "a"), true).is_ok();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(tokenize)).is_ok()
}

#[cfg(test)]
mod tests;
