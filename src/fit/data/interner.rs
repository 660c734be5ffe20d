//! Numbers for things.

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers things from 0 in the order of their first appearance.
#[derive(Debug, Clone)]
pub struct Interner<T> {
    items: Vec<T>,
    positions: HashMap<T, usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { items: Vec::new(), positions: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// The thing's number; a new one if it is new.
    pub fn index(&mut self, item: T) -> usize {
        match self.positions.get(&item) {
            Some(&idx) => idx,
            None => {
                self.items.push(item.clone());
                self.positions.insert(item, self.items.len() - 1);
                self.items.len() - 1
            }
        }
    }

    /// The things by number.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
