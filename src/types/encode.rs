//! Data between the tokenizer, the work queue and the encoder.

use std::sync::Arc;

/// One text as the encoder reads it. `ids` and `type_ids` have equal, non-zero length.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// Vocabulary ids, special tokens included.
    pub ids: Vec<u32>,
    /// Segment of each token: 0, or 1 for the second text of a pair.
    pub type_ids: Vec<u32>,
    /// Length, surface and truncation of the text.
    pub kept: Kept,
}

/// Facts that are kept beside the embedding of a text, or of a prompt and a response that are encoded as one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept {
    /// The characters of the pieces of the text's tokens, or of the response's; special tokens have none.
    pub n_chars: u32,
    /// The columns of the text's surface that the bundle's heads read, or of the response's: style, then lexical.
    pub surface: Arc<[f32]>,
    /// True if the text, or the response, was too long and only its end is left.
    pub truncated: bool,
    /// True if the prompt of a pair was too long and only its end is left.
    pub prompt_truncated: bool,
}

impl Kept {
    /// Returns `ln(1 + n_chars)`: a function of the tokens alone, as every scalar that heads read.
    #[must_use]
    pub fn log_length(&self) -> f32 {
        (self.n_chars as f32).ln_1p()
    }
}

/// A text's embedding, shape `[H]`, finite.
pub type Embedding = Arc<[f32]>;

/// The key of an embedding: 128 bits of a hash over an encoder's revision and a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextKey(pub [u8; 16]);

/// A text that has been encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Its embedding.
    pub embedding: Embedding,
    /// Length, surface and truncation of the text.
    pub kept: Kept,
}

/// An encoder of token batches; each model thread has its own, so it may keep scratch space.
pub trait Encode: Send {
    /// Encodes a batch: one embedding per text, in order. A text's embedding must not depend on the others of its
    /// batch.
    ///
    /// # Errors
    /// Fails when the runtime fails or the model returns something that is not a finite embedding.
    fn encode(&mut self, batch: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError>;
}

/// The reason why a batch has no embeddings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// ONNX Runtime refused the batch.
    #[error("the encoder failed: {0}")]
    Runtime(Arc<str>),
    /// The output has another shape than the bundle declares.
    #[error("the encoder returned shape {found:?}, expected {expected}")]
    Shape {
        /// The shape of the output.
        found: Vec<i64>,
        /// The shape that the bundle declares.
        expected: &'static str,
    },
    /// The output holds a NaN or an infinity.
    #[error("the encoder returned a value that is not finite")]
    NotFinite,
    /// The output has another number of embeddings than there were texts.
    #[error("the encoder returned {found} embeddings for {expected} texts")]
    Count {
        /// Number of embeddings in the output.
        found: usize,
        /// Number of texts in the batch.
        expected: usize,
    },
    /// The queue was closed or a model thread died.
    #[error("the encoder is gone")]
    Gone,
}
