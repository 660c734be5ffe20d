//! A row as the store holds it: the first 64 bits of the BLAKE3 of its bytes, then its bytes.
//!
//! The tag is the checksum, as bytes in a shared store can be damaged, and the version that a swap compares. A counter
//! would not do: a row that remembers one more id counts no change, and an expired one starts anew.

use bytes::Bytes;

use crate::state::{CodecError, Row, codec};
use crate::types::key64;

const TAG: usize = 8;

/// Bytes of one more event in a row, about.
const GROWTH: usize = 128;

/// The bytes of a key; clones share them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    bytes: Bytes,
    /// True if this process made them, so that they need no check.
    is_own: bool,
}

/// Reason that a value is no row.
#[derive(Debug, Clone)]
pub(super) enum Unreadable {
    /// Its tag does not match its bytes.
    Damaged,
    /// Its bytes are of another version or another number of heads.
    Codec(CodecError),
}

impl Value {
    /// Encodes a row, which replaces the value `before`.
    pub(super) fn of(row: &Row, before: Option<&Self>) -> Self {
        let mut bytes = Vec::with_capacity(before.map_or(0, |before| before.bytes.len()) + GROWTH);
        bytes.extend([0; TAG]);
        let mut bytes = codec::extend(bytes, row);
        if let Some((tag, row)) = bytes.split_at_mut_checked(TAG) {
            tag.copy_from_slice(&key64(row).to_le_bytes());
        }
        Self { bytes: bytes.into(), is_own: true }
    }

    pub(super) fn row(&self, n_heads: usize) -> Result<Row, Unreadable> {
        let (tag, row) = self.bytes.split_at_checked(TAG).ok_or(Unreadable::Damaged)?;
        if !self.is_own && tag != key64(row).to_le_bytes() {
            return Err(Unreadable::Damaged);
        }
        codec::decode(row, n_heads).map_err(Unreadable::Codec)
    }

    /// Returns an empty value if the error is that a key holds another type, such as a list: no row is empty.
    pub(super) fn of_another_type(error: &redis::ServerError) -> Option<Self> {
        let is_wrong = |text: &str| text.contains("WRONGTYPE");
        let says_so = is_wrong(error.code()) || error.details().is_some_and(is_wrong);
        says_so.then(|| Self::from(Vec::new()))
    }

    /// True if it stands for a key of another type.
    pub(super) fn is_of_another_type(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the tag, which a swap compares.
    pub(super) fn tag(&self) -> &[u8] {
        &self.bytes[..TAG.min(self.bytes.len())]
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), is_own: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_that_rots_is_noticed() {
        let own = Value::of(&Row::new(3), None);
        let value = Value::from(own.bytes.to_vec());
        assert_eq!(value.row(3).unwrap(), Row::new(3));
        assert!(matches!(value.row(4), Err(Unreadable::Codec(_))));
        for bit in 0..value.bytes.len() * 8 {
            let mut rotten = value.bytes.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Value::from(rotten).row(3), Err(Unreadable::Damaged)));
        }
        assert!(matches!(Value::from(vec![1, 2]).row(3), Err(Unreadable::Damaged)));
    }
}
