//! Preference data as numbers, without holding it in memory.
//!
//! Texts and embeddings are in files; memory holds their positions: some 100 bytes per text and 200 per pair, whatever
//! their length. The law: data that is read in the same order has the same numbers.

mod data_error;
mod dataset;
mod embed;
mod examples;
mod fields;
mod formats;
mod interner;
mod layout;
mod parts;
mod rated;
mod records;
mod split;
mod statement;
mod surfaces;
mod texts;

pub use data_error::{At, DataError};
pub use dataset::{Dataset, Preference, Sources};
pub use embed::{EmbedError, EmbeddingCache};
pub(in crate::fit) use examples::stack;
pub use examples::{Examples, FeatureRow, Pair};
pub use fields::{COLUMNS, Fields};
pub use formats::{Found, read as read_statements};
pub use interner::Interner;
pub use layout::{Block, Layout};
pub use rated::Rated;
pub use split::Split;
pub use statement::{Response, Said, Statement};
pub use surfaces::Surfaces;
pub use texts::Texts;
