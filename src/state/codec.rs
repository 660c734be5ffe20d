//! A row as one binary string: a schema number, then the row in postcard's stable format, then its merges.
//!
//! The bytes are the same in memory, on disk and in a shared store. Storage that can corrupt them adds a checksum.

use super::Row;

/// Schema number, which changes whenever old bytes can't be read as they are.
const SCHEMA: u8 = 1;

/// Schema number of a row that was merged with others, which an older program must not read as one that was not.
const MERGED_SCHEMA: u8 = 2;

/// Initial bytes of the buffer for a row's bytes; most rows fit in it.
const SCRATCH: usize = 1024;

/// Reasons for which bytes are no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes were written by another version of the program.
    #[error("found a row of schema {found:?}, expected {SCHEMA} or {MERGED_SCHEMA}")]
    Schema {
        /// Schema number that was found; none for no bytes at all.
        found: Option<u8>,
    },
    /// The format is broken.
    #[error("found bytes that are no row: {0}")]
    Format(postcard::Error),
    /// The row can be read but is not valid.
    #[error("found a row that is not well formed or is not of {n_heads} heads")]
    Shape {
        /// Number of heads K.
        n_heads: usize,
    },
}

/// Encodes a row as bytes.
#[must_use]
pub(super) fn encode(row: &Row) -> Box<[u8]> {
    // A vector that has grown keeps its larger block when it is shrunk, and rows outlive the buffer, so the bytes are
    // copied.
    extend(Vec::with_capacity(SCRATCH), row).as_slice().into()
}

/// Appends a row to bytes.
pub(super) fn extend(mut bytes: Vec<u8>, row: &Row) -> Vec<u8> {
    let is_alone = row.merges.is_empty();
    bytes.push(if is_alone { SCHEMA } else { MERGED_SCHEMA });
    // Writing to a vector can't fail; if it did, the bytes would not decode.
    let bytes = postcard::to_extend(row, bytes).unwrap_or_default();
    if is_alone { bytes } else { postcard::to_extend(&row.merges, bytes).unwrap_or_default() }
}

/// Decodes a row of `n_heads` heads.
pub(super) fn decode(bytes: &[u8], n_heads: usize) -> Result<Row, CodecError> {
    let Some((&schema @ (SCHEMA | MERGED_SCHEMA), rest)) = bytes.split_first() else {
        return Err(CodecError::Schema { found: bytes.first().copied() });
    };
    let (mut row, rest): (Row, _) = postcard::take_from_bytes(rest).map_err(CodecError::Format)?;
    if schema == MERGED_SCHEMA {
        row.merges = postcard::from_bytes(rest).map_err(CodecError::Format)?;
    }
    if row.is_of(n_heads) { Ok(row) } else { Err(CodecError::Shape { n_heads }) }
}
