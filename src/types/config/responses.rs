//! `[responses]`: the memory of answers whose responses have ids.

use std::time::Duration;

use super::section::{Section, YEAR};

/// Bounds on the memory and its time.
#[derive(Debug, Clone, Copy)]
pub struct Responses {
    /// Bytes that are remembered; 0 remembers none.
    pub max_bytes: u64,
    pub ttl: Duration,
    /// True if they survive a restart, in the data directory.
    pub is_persisted: bool,
}

impl Responses {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            max_bytes: section.bytes("max_bytes"),
            ttl: section.duration_above_zero("ttl", YEAR),
            is_persisted: section.value("persist"),
        }
    }
}
