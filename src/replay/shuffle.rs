//! Puts items into a random order.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Shuffles `items` (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}
