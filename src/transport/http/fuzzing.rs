//! Doors to what reads bytes from a socket, for `fuzz/` and its corpora. No part of the interface.

use std::num::NonZeroUsize;

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use tokio_util::codec::Decoder;

use super::body;
use super::feedback::Lines;
use super::query;
use crate::types::{Bodies, Error};

/// A body of JSON, as every verb reads it.
///
/// # Errors
/// As a caller would see it.
pub fn body<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    body::parse(json)
}

/// The lines of a body that comes in `pieces`.
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

/// The parameters of a query string.
///
/// # Errors
/// As a caller would see it.
pub fn query<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    query::parse(text)
}
