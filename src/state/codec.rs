//! A row as one binary string: a schema number, then the row in postcard's stable format, then what it has to do with others.
//!
//! The same bytes in memory, on disk and in a shared store. Whoever keeps them where they can rot adds a checksum.

use super::Row;

/// Changes whenever old bytes can't be read as they are.
const SCHEMA: u8 = 1;

/// Of a row that was merged with others, which an older program must not take for one that was not.
const MERGED_SCHEMA: u8 = 2;

/// Most rows fit in it.
const SCRATCH: usize = 1024;

/// Why bytes are no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by another version of the program.
    #[error("found a row of schema {found:?}, expected {SCHEMA} or {MERGED_SCHEMA}")]
    Schema {
        /// None for no bytes at all.
        found: Option<u8>,
    },
    /// The format is broken.
    #[error("found bytes that are no row: {0}")]
    Format(postcard::Error),
    /// It can be read and makes no sense.
    #[error("found a row that is not well formed or is not of {n_heads} heads")]
    Shape {
        /// K.
        n_heads: usize,
    },
}

/// The row as bytes.
#[must_use]
pub(super) fn encode(row: &Row) -> Box<[u8]> {
    // A vector that has grown keeps its larger block when it is shrunk: rows live long, and the scratch does not.
    extend(Vec::with_capacity(SCRATCH), row).as_slice().into()
}

/// Bytes and the row after them.
pub(super) fn extend(mut bytes: Vec<u8>, row: &Row) -> Vec<u8> {
    let is_alone = row.merges.is_empty();
    bytes.push(if is_alone { SCHEMA } else { MERGED_SCHEMA });
    // Writing to a vector can't fail; were it to, the bytes would not decode.
    let bytes = postcard::to_extend(row, bytes).unwrap_or_default();
    if is_alone { bytes } else { postcard::to_extend(&row.merges, bytes).unwrap_or_default() }
}

/// The row of `n_heads` heads that bytes hold.
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
