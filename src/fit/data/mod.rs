//! Preference data as numbers, without holding it in memory.
//!
//! Texts and embeddings are in files; memory holds their positions: some 50 bytes per text and 60 per pair, whatever
//! their length. The law: data that is read in the same order has the same numbers.

mod dataset;
mod embed;
mod examples;
mod interner;
mod layout;
mod texts;

pub use dataset::{DataError, Dataset, Fields, Preference, Split};
pub use embed::{EmbedError, EmbeddingCache};
pub(in crate::fit) use examples::stack;
pub use examples::{Examples, FeatureRow, Pair};
pub use interner::Interner;
pub use layout::{Block, Layout};
pub use texts::Texts;
