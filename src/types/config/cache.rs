//! `[cache]`: how many embeddings are kept.

use super::section::Section;

/// The bound on embeddings that are kept.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// 0 keeps nothing.
    pub max_bytes: u64,
}

impl Cache {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self { max_bytes: section.bytes("max_bytes") }
    }
}
