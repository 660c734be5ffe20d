//! What passes between the tokeniser, the work queue and the encoder.

use std::sync::Arc;

/// One text as the encoder reads it. `ids` and `type_ids` have equal, non-zero length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Vocabulary ids, special tokens included.
    pub ids: Vec<u32>,
    /// Segment of each token: 0, or 1 for the second text of a pair.
    pub type_ids: Vec<u32>,
    /// Whether the text was too long and only its end is left.
    pub truncated: bool,
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
    /// Whether only its end was.
    pub truncated: bool,
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
