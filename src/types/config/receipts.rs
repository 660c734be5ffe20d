//! `[receipts]`: what is remembered of answers whose responses have ids.

use std::time::Duration;

use super::section::{Section, YEAR};

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Receipts {
    /// 0 remembers nothing.
    pub max_bytes: u64,
    pub ttl: Duration,
    /// Whether they survive a restart, in the data directory.
    pub is_kept: bool,
}

impl Receipts {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            max_bytes: section.bytes("max_bytes"),
            ttl: section.duration_above_zero("ttl", YEAR),
            is_kept: section.value("keep"),
        }
    }
}
