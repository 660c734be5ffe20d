//! `[responses]`: what is remembered of answers whose responses have ids.

use std::time::Duration;

use super::section::{Section, YEAR};

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Responses {
    /// 0 remembers nothing.
    pub max_bytes: u64,
    pub ttl: Duration,
    /// Whether they survive a restart, in the data directory.
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
