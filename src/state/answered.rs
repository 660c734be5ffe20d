//! Questions that one user has answered.

use serde::{Deserialize, Serialize};

/// Upper bound of kept questions: a whole questionnaire in general and in three contexts.
const CAPACITY: usize = 256;

/// A set of question keys, ascending; empty, and then without an allocation, for most users.
///
/// Of more than 256 keys the smallest are kept, so that the set does not depend on the order of answers. A question
/// that was dropped may be asked again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered(Vec<u64>);

impl Answered {
    /// Inserts a question; a repeated insert changes nothing.
    pub fn insert(&mut self, key: u64) {
        if let Err(idx) = self.0.binary_search(&key) {
            self.0.insert(idx, key);
            self.0.truncate(CAPACITY);
        }
    }

    /// Reports whether a question has been answered.
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        self.0.binary_search(&key).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.0.is_sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_bounded_and_does_not_depend_on_the_order_of_answers() {
        let (mut up, mut down) = (Answered::default(), Answered::default());
        (0..1000).for_each(|key| up.insert(key));
        (0..1000).rev().for_each(|key| down.insert(key));
        up.insert(3);
        assert_eq!(up, down);
        assert_eq!(up.0.len(), CAPACITY);
        assert!(up.contains(255) && !up.contains(256));
    }
}
