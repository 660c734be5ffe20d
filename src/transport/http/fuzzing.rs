//! Entry points to the parsers of socket bytes, for `fuzz/` and its corpora. They are no part of the interface.

use std::num::NonZeroUsize;

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use tokio_util::codec::Decoder;

use super::body;
use super::feedback::Lines;
use super::query;
use crate::types::{Bodies, Error};

/// Parses a JSON body, as every verb does.
///
/// # Errors
/// The errors that a caller gets.
pub fn body<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    body::parse(json)
}

/// Splits a body that comes in `pieces` into lines.
pub fn lines<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    max_bytes: usize,
) -> std::io::Result<Vec<Result<String, Error>>> {
    let held = Bodies::new(NonZeroUsize::MAX, NonZeroUsize::MAX).hold();
    let (mut decoder, mut buffer, mut found) = (Lines::new(max_bytes, held), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(line) = decoder.decode(&mut buffer)? {
            found.push(line);
        }
    }
    while let Some(line) = decoder.decode_eof(&mut buffer)? {
        found.push(line);
    }
    Ok(found)
}

/// Parses the parameters of a query string.
///
/// # Errors
/// The errors that a caller gets.
pub fn query<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    query::parse(text)
}
