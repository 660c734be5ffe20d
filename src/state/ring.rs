//! The last event ids of one user: the guard against counting a retry twice.

use crate::types::{EventId, key64};

const CAPACITY: usize = 16;

/// The hashes of the last 16 event ids. An event retried within the next 15 of its user is recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventRing {
    hashes: [u64; CAPACITY],
    /// How many ids ever entered; the next one goes to `n_seen % CAPACITY`.
    n_seen: u64,
}

impl EventRing {
    /// Remembers an id; false if it is already there.
    ///
    /// Ids are compared by 64 bits of BLAKE3: two ids of one user's last 17 collide with probability < 2^-56.
    pub fn insert(&mut self, id: &EventId) -> bool {
        let hash = key64(id.as_str().as_bytes());
        if self.held().contains(&hash) {
            return false;
        }
        self.hashes[(self.n_seen % CAPACITY as u64) as usize] = hash;
        self.n_seen += 1;
        true
    }

    fn held(&self) -> &[u64] {
        &self.hashes[..self.n_seen.min(CAPACITY as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> EventId {
        format!("e{n}").parse().unwrap()
    }

    #[test]
    fn the_last_sixteen_ids_are_recognised_and_older_ones_are_not() {
        let mut ring = EventRing::default();
        assert!((0..17).all(|n| ring.insert(&id(n))));
        assert!((1..17).all(|n| !ring.insert(&id(n))));
        assert!(ring.insert(&id(0)));
    }
}
