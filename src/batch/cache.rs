//! The cache of embeddings of encoded texts, bounded by bytes.
//!
//! One per process: keys hold the encoder's revision, so that a bundle that replaces another with the same encoder
//! finds its entries, and any other finds none.

use moka::sync::Cache;

use crate::telemetry::metric;
use crate::types::{Encoded, TextKey};

/// Bytes of an entry beside its numbers, the cache's share and the allocator's included.
const ENTRY_BYTES: usize = 320;

/// The embeddings of encoded texts, by key.
#[derive(Debug)]
pub struct EmbeddingCache {
    /// None if the cache is off.
    kept: Option<Cache<TextKey, Encoded>>,
}

impl EmbeddingCache {
    /// Creates an empty cache of at most about `max_bytes`; 0 turns it off.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        let n_bytes = |_: &TextKey, encoded: &Encoded| {
            u32::try_from(
                ENTRY_BYTES + size_of_val(&*encoded.embedding) + size_of_val(&*encoded.kept.surface),
            )
            .unwrap_or(u32::MAX)
        };
        Self {
            kept: (max_bytes > 0).then(|| Cache::builder().max_capacity(max_bytes).weigher(n_bytes).build()),
        }
    }

    /// Returns the entry of a text, without counting a hit or a miss.
    pub(super) fn get(&self, key: TextKey) -> Option<Encoded> {
        self.kept.as_ref()?.get(&key)
    }

    /// Returns the entries of the texts of one request, in their order, and counts the hits and misses.
    #[must_use]
    pub fn find(&self, keys: impl Iterator<Item = TextKey>) -> Vec<Option<Encoded>> {
        let found: Vec<_> = keys.map(|key| self.get(key)).collect();
        let n_hits = found.iter().flatten().count() as u64;
        metrics::counter!(metric::CACHE_LOOKUPS, "result" => "hit").increment(n_hits);
        metrics::counter!(metric::CACHE_LOOKUPS, "result" => "miss").increment(found.len() as u64 - n_hits);
        found
    }

    pub(super) fn keep(&self, key: TextKey, encoded: Encoded) {
        if let Some(kept) = &self.kept {
            kept.insert(key, encoded);
        }
    }

    /// Returns the number of texts in the cache, and about how many bytes they hold.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        self.kept.as_ref().map_or((0, 0), |kept| {
            kept.run_pending_tasks();
            (kept.entry_count(), kept.weighted_size())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Kept;

    fn encoded(n: usize) -> Encoded {
        Encoded { embedding: vec![0.5; n].into(), kept: Kept::default() }
    }

    fn key(n: u8) -> TextKey {
        TextKey([n; 16])
    }

    #[test]
    fn what_is_kept_stays_within_its_bytes() {
        let cache = EmbeddingCache::new(10 * (ENTRY_BYTES as u64 + 400));
        for n in 0..100 {
            cache.keep(key(n), encoded(100));
        }
        let (n_texts, bytes) = cache.size();
        assert_eq!((n_texts, bytes), (10, 10 * (ENTRY_BYTES as u64 + 400)));
    }

    #[test]
    fn without_bytes_nothing_is_kept() {
        let cache = EmbeddingCache::new(0);
        cache.keep(key(1), encoded(1));
        assert_eq!((cache.get(key(1)), cache.size()), (None, (0, 0)));
    }

    #[test]
    fn a_text_is_found_in_its_place() {
        let cache = EmbeddingCache::new(1 << 20);
        cache.keep(key(2), encoded(3));
        assert_eq!(cache.find([1, 2, 3].map(key).into_iter()), [None, Some(encoded(3)), None]);
    }
}
