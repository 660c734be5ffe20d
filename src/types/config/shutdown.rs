//! `[shutdown]`: the time that the process takes to stop.

use std::time::Duration;

use super::section::{HOUR, Section};

/// The bound on stopping: `ready_delay + drain_timeout`.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    pub ready_delay: Duration,
    pub drain_timeout: Duration,
}

impl Shutdown {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            ready_delay: section.duration("ready_delay", HOUR),
            drain_timeout: section.duration("drain_timeout", HOUR),
        }
    }
}
