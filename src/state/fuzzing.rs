//! Entry points for `fuzz/` and its corpora to parsers of bytes from a disk or a shared store; no public interface.

use std::path::Path;

use super::codec::{self, CodecError};
use super::journal::segment::{End, Segment, file_head, push_frame};
use super::journal::{LedgerId, OpenError};
use super::row::Row;

/// Encodes a row as bytes.
#[must_use]
pub fn encode(row: &Row) -> Box<[u8]> {
    codec::encode(row)
}

/// Decodes the row that bytes hold.
///
/// # Errors
/// When the bytes are no row of `n_heads` heads.
pub fn decode(bytes: &[u8], n_heads: usize) -> Result<Row, CodecError> {
    codec::decode(bytes, n_heads)
}

/// Returns a file of the journal with one frame per payload, and the offset at which each frame ends.
#[must_use]
pub fn segment(ledger_id: LedgerId, payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let (mut file, mut ends) = (file_head(ledger_id, 0), Vec::new());
    for (lsn, payload) in (1..).zip(payloads) {
        push_frame(&mut file, lsn, payload);
        ends.push(file.len());
    }
    (file, ends)
}

/// Reads the payloads of a file's frames up to the first error, and reports how the file ends: whole (true) or torn.
///
/// # Errors
/// When something in the file is damaged.
pub fn read_segment(path: &Path) -> (Vec<Vec<u8>>, Result<bool, OpenError>) {
    let mut payloads = Vec::new();
    let mut segment = match Segment::open(path) {
        Ok(segment) => segment,
        Err(error) => return (payloads, Err(error)),
    };
    loop {
        match segment.next() {
            Ok(Ok(frame)) => payloads.push(frame.payload),
            Ok(Err(end)) => return (payloads, Ok(end == End::Whole)),
            Err(error) => return (payloads, Err(error)),
        }
    }
}
