//! Numbers items in the order of their first appearance.

use std::collections::HashMap;
use std::hash::Hash;

/// Items numbered from 0 in the order of their first appearance.
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
    /// Returns the item's number; a new one if the item is new.
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

    /// Returns the items by number.
    #[must_use]
    pub fn items(&self) -> &[T] {
        &self.items
    }

    /// Returns the number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
