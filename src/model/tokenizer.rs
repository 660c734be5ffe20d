//! Text to tokens. A text that is too long keeps its end.

use std::path::{Path, PathBuf};

use tokenizers::{PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::types::Tokens;

/// What is encoded as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Text<'a> {
    /// A text.
    Single(&'a str),
    /// A prompt and its response.
    Pair(&'a str, &'a str),
}

/// A bundle's tokeniser.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    max_tokens: usize,
}

/// Why a text or a tokeniser can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is no tokeniser.
    #[error("{path} is not a tokenizer.json: {detail}")]
    Load {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        detail: String,
    },
    /// The tokeniser failed on a text, or made no token of it.
    #[error("the tokeniser failed: {0}")]
    Text(String),
}

impl Tokenizer {
    /// Reads `tokenizer.json`, overriding its padding and truncation by ours.
    ///
    /// # Errors
    /// When the file is no tokeniser, or can't leave room for text within `max_tokens`.
    pub fn load(path: &Path, max_tokens: usize) -> Result<Self, TokenizerError> {
        let failed = |detail: String| TokenizerError::Load { path: path.to_owned(), detail };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(|error| failed(error.to_string()))?;
        inner.with_padding(None);
        let n_special = inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        if max_tokens <= n_special {
            return Err(failed(format!(
                "adds {n_special} special tokens, which leaves no room within {max_tokens}"
            )));
        }
        let truncation = TruncationParams {
            // Without special tokens the library can stop at exactly this length and not say that it cut: one more
            // tells the two apart.
            max_length: max_tokens + usize::from(n_special == 0),
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Left,
        };
        inner.with_truncation(Some(truncation)).map_err(|error| failed(error.to_string()))?;
        let tokenizer = Self { inner, max_tokens };
        if !tokenizer.survives_a_text() {
            return Err(failed(
                "panics on a text, as with a special token that it does not define".to_owned(),
            ));
        }
        Ok(tokenizer)
    }

    /// The library reads a template whose tokens are not there, and panics where it fills it in.
    fn survives_a_text(&self) -> bool {
        let texts = [Text::Single("a"), Text::Pair("a", "a")];
        let tokenise = || texts.map(|text| self.tokens(text).is_ok());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(tokenise)).is_ok()
    }

    /// The tokens of a text, special tokens included.
    ///
    /// # Errors
    /// When the tokeniser fails or makes no token at all.
    pub fn tokens(&self, text: Text<'_>) -> Result<Tokens, TokenizerError> {
        let encoding = match text {
            Text::Single(text) => self.inner.encode_fast(text, true),
            Text::Pair(prompt, response) => self.inner.encode_fast((prompt, response), true),
        };
        let encoding = encoding.map_err(|error| TokenizerError::Text(error.to_string()))?;
        if encoding.is_empty() {
            return Err(TokenizerError::Text("found no token in the text, expected at least one".to_owned()));
        }
        let excess = encoding.len().saturating_sub(self.max_tokens);
        Ok(Tokens {
            ids: encoding.get_ids()[excess..].to_vec(),
            type_ids: encoding.get_type_ids()[excess..].to_vec(),
            truncated: excess > 0 || !encoding.get_overflowing().is_empty(),
        })
    }
}
