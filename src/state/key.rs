//! Keys of rows: hashes of user ids that can't be computed without the store's secret.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{UserId, key64};

/// BLAKE3 contexts that separate the keys derived from one secret.
const OF_TEXT: &str = "micro-reward 2026-11 the secret of user keys";
const OF_FINGERPRINT: &str = "micro-reward 2026-11 the fingerprint of a secret of user keys";

/// The first 128 bits of the BLAKE3 of a user's id, keyed by the secret of its store; see [`UserKeys`].
///
/// Rows and tombstones hold this key and not the id, so that they name no user. Two of a billion users share a key
/// with probability below 2^-68.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey([u8; 16]);

impl UserKey {
    /// Returns the key as it is stored.
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

/// Hash function from the user ids of one store to keys. It is keyed by a secret, so that a reader of the store's
/// files can't find users in them by trying ids. The default has no secret, like stores made by versions without
/// secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserKeys(Option<[u8; 32]>);

impl UserKeys {
    pub(super) fn of_secret(secret: [u8; 32]) -> Self {
        Self(Some(secret))
    }

    /// Derives the secret from a text; an empty text gives no secret.
    pub(super) fn of_text(text: &str) -> Self {
        Self((!text.is_empty()).then(|| blake3::derive_key(OF_TEXT, text.as_bytes())))
    }

    /// Draws a secret of its own at random.
    pub(super) fn random() -> Result<Self, std::io::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(Some(secret)))
    }

    /// Returns the key of a user.
    #[must_use]
    pub fn of(&self, user: &UserId) -> UserKey {
        let digest = self.hasher().update(user.as_str().as_bytes()).finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&digest.as_bytes()[..16]);
        UserKey(first)
    }

    /// Begins a hash that depends on the secret.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        self.0.as_ref().map_or_else(blake3::Hasher::new, blake3::Hasher::new_keyed)
    }

    /// Begins a hash that depends on the secret and has another purpose than keys: its results are the keys of no
    /// user.
    pub(super) fn hasher_for(&self, purpose: &str) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        self.0.iter().for_each(|secret| _ = hasher.update(secret));
        hasher
    }

    /// Returns the secret, for the file that stores it.
    pub(super) fn secret(&self) -> Option<&[u8; 32]> {
        self.0.as_ref()
    }

    /// Returns a number that distinguishes secrets without revealing them; 0 without a secret.
    pub(super) fn fingerprint(&self) -> u64 {
        self.0.map_or(0, |secret| key64(&blake3::derive_key(OF_FINGERPRINT, &secret)))
    }
}

impl fmt::Debug for UserKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(secret)" } else { "none" })
    }
}
