//! `[shutdown]`: how long the process takes to leave.

use std::time::Duration;

use super::section::{HOUR, Section};

/// The bound on stopping: `linger + drain_timeout`.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    pub linger: Duration,
    pub drain_timeout: Duration,
}

impl Shutdown {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            linger: section.duration("linger", HOUR),
            drain_timeout: section.duration("drain_timeout", HOUR),
        }
    }
}
