//! `[cache]`: the bound on cached embeddings.

use super::section::Section;

/// The bound on cached embeddings.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// Bytes of cached embeddings; 0 keeps none.
    pub max_bytes: u64,
}

impl Cache {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self { max_bytes: section.bytes("max_bytes") }
    }
}
