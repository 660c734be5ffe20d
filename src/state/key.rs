//! What a row is known by.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::UserId;

/// The first 128 bits of the BLAKE3 of a user's id, the same on every replica.
///
/// Rows and tombstones hold this and not the id, so that they name nobody. Two of a billion users share a key with
/// probability below 2^-68.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey([u8; 16]);

impl UserKey {
    /// The key of a user.
    #[must_use]
    pub fn of(user: &UserId) -> Self {
        let digest = blake3::hash(user.as_str().as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&digest.as_bytes()[..16]);
        Self(first)
    }

    /// The key as it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for UserKey {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
