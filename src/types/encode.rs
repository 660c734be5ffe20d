//! What passes between the tokenizer, the work queue and the encoder.

use std::sync::Arc;

/// One text as the encoder reads it. `ids` and `type_ids` have equal, non-zero length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Vocabulary ids, special tokens included.
    pub ids: Vec<u32>,
    /// Segment of each token: 0, or 1 for the second text of a pair.
    pub type_ids: Vec<u32>,
    /// What else is known of them.
    pub kept: Kept,
}

/// What is kept of a text, or of a prompt and a response that are encoded as one, beside its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// The characters of the pieces of the text's tokens, or of the response's; special tokens have none.
    pub n_chars: u32,
    /// Whether the text, or the response, was too long and only its end is left.
    pub truncated: bool,
    /// Whether the prompt of a pair was.
    pub prompt_truncated: bool,
}

impl Kept {
    /// `ln(1 + n_chars)`: a function of the tokens alone, as every scalar that heads read.
    #[must_use]
    pub fn log_length(self) -> f32 {
        (self.n_chars as f32).ln_1p()
    }
}

/// A text's embedding, shape `[H]`, finite.
pub type Embedding = Arc<[f32]>;

/// 128 bits of a hash over an encoder's revision and a text: what an embedding is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextKey(pub [u8; 16]);

/// A text that has been encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Its embedding.
    pub embedding: Embedding,
    /// What of it was.
    pub kept: Kept,
}

/// Turns token batches into embeddings; one per model thread, so it may keep scratch space.
pub trait Encode: Send {
    /// Encodes a batch: one embedding per text, in order. A text's embedding must not depend on its batch mates.
    ///
    /// # Errors
    /// When the runtime fails or the model returns something that is not a finite embedding.
    fn encode(&mut self, batch: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError>;
}

/// Why a batch has no embeddings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// ONNX Runtime refused the batch.
    #[error("the encoder failed: {0}")]
    Runtime(Arc<str>),
    /// The output has another shape than the bundle promised.
    #[error("the encoder returned shape {found:?}, expected {expected}")]
    Shape {
        /// What came.
        found: Vec<i64>,
        /// What the bundle promised.
        expected: &'static str,
    },
    /// The output holds a NaN or an infinity.
    #[error("the encoder returned a value that is not finite")]
    NotFinite,
    /// The output has another number of embeddings than there were texts.
    #[error("the encoder returned {found} embeddings for {expected} texts")]
    Count {
        /// How many came.
        found: usize,
        /// How many texts there were.
        expected: usize,
    },
    /// The queue was closed or a model thread died.
    #[error("the encoder is gone")]
    Gone,
}
