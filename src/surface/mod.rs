//! The surface of a text: numbers that its tokens give without an encoder. Style is counts of marks and words, lexical
//! is which words there are.
//!
//! Both are functions of the tokens that are kept, as the embedding is, so that padding, line ends and what is cut off
//! change none of them. The laws: a style is the same however often its text is repeated; lexical columns have length
//! 1 at most.

mod lexical;
mod style;

pub use lexical::{LEXICAL_BUCKETS, Lexical, LexicalError, buckets};
pub use style::{N_STYLE, PieceStyle, STYLE_NAMES, style};
