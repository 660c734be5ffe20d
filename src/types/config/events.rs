//! `[events]`: the retention of raw events.

use std::time::Duration;

use super::section::{HOUR, Section, YEAR};

/// Retention and erasure of raw events.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    pub retention: Duration,
    pub erase_within: Duration,
}

impl Events {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            retention: section.duration("retention", 10 * YEAR),
            erase_within: section.duration("erase_within", 30 * 24 * HOUR),
        }
    }
}
