//! 64-bit keys of texts, for rows and samples.

/// Returns the first 64 bits of the text's BLAKE3, the same on every machine.
///
/// Two of `n` texts share a key with probability about `n^2 / 2^65`.
#[must_use]
pub fn key64(text: &[u8]) -> u64 {
    let digest = blake3::hash(text);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(first)
}
