//! `[health]`: the time after which the process counts as stuck.

use std::time::Duration;

use super::section::{HOUR, Section};

/// The time after which the process counts as stuck.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Upper bound of the time of a model thread at one batch.
    pub stall_limit: Duration,
}

impl Health {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self { stall_limit: section.duration_above_zero("stall_limit", HOUR) }
    }
}
