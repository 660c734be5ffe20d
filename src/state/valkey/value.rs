//! A row as the store holds it: the first 64 bits of the BLAKE3 of its bytes, then its bytes.
//!
//! The tag is the checksum, as bytes in a shared store can rot, and the version that a swap compares. A counter would
//! not do: a row that remembers one more id counts no change, and one that expired begins to count anew.

use crate::state::{CodecError, Row, codec};
use crate::types::key64;

const TAG: usize = 8;

/// The bytes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value(Box<[u8]>);

/// Why a value is no row.
#[derive(Debug, Clone)]
pub(super) enum Unreadable {
    /// Its tag is not that of its bytes.
    Damaged,
    /// Its bytes are of another version or another number of heads.
    Codec(CodecError),
}

impl Value {
    pub(super) fn of(row: &Row) -> Self {
        let row = codec::encode(row);
        let mut bytes = Vec::with_capacity(TAG + row.len());
        bytes.extend(key64(&row).to_le_bytes());
        bytes.extend(&row);
        Self(bytes.into())
    }

    pub(super) fn row(&self, n_heads: usize) -> Result<Row, Unreadable> {
        let (tag, row) = self.0.split_at_checked(TAG).ok_or(Unreadable::Damaged)?;
        if tag != key64(row).to_le_bytes() {
            return Err(Unreadable::Damaged);
        }
        codec::decode(row, n_heads).map_err(Unreadable::Codec)
    }

    /// What a swap compares.
    pub(super) fn tag(&self) -> &[u8] {
        &self.0[..TAG.min(self.0.len())]
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_that_rots_is_noticed() {
        let value = Value::of(&Row::new(3));
        assert_eq!(value.row(3).unwrap(), Row::new(3));
        assert!(matches!(value.row(4), Err(Unreadable::Codec(_))));
        for bit in 0..value.0.len() * 8 {
            let mut rotten = value.clone();
            rotten.0[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(rotten.row(3), Err(Unreadable::Damaged)));
        }
        assert!(matches!(Value::from(vec![1, 2]).row(3), Err(Unreadable::Damaged)));
    }
}
