//! The model: a bundle on disk, checked and loaded into ONNX Runtime.
//!
//! The module owns tokenizing, encoding, the features that heads read, and the small graphs that turn them into
//! rewards and router logits. It deliberately knows no user, no queue and no weights.

mod bundle;
mod control;
mod encoder;
mod features;
mod fingerprint;
mod graph;
mod inspection;
mod joints;
mod manifest;
mod questions;
mod runtime;
mod surface_columns;
mod tail;
mod tokenizer;

pub use bundle::{Bundle, EncoderParts, load_encoder};
pub use encoder::Encoder;
pub use features::{Features, Rewards, Scale};
pub use fingerprint::{fingerprint, heads_fingerprint, sha256};
pub use graph::{Graph, GraphError};
pub use inspection::{BundleProblem, BundleProblems};
pub use manifest::{
    EncoderSection, Feature, FileHash, Head, InputSection, MANIFEST, Manifest, Pooling, Ranges, Template,
};
pub use questions::Question;
pub use runtime::{Runtime, RuntimeError};
pub use tokenizer::{Text, Tokenizer, TokenizerError};
