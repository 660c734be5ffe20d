//! `[population]`: the sample of users that stands for all of them.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::section::{HOUR, Section};

/// Upper bound of the sample: a larger one gains no visible accuracy, and every item is routed for each of its
/// users.
const MAX_SAMPLE: i64 = 16_384;

/// The sample of users that stands for all of them.
#[derive(Debug, Clone, Copy)]
pub struct Population {
    pub sample_size: NonZeroUsize,
    pub refresh: Duration,
}

impl Population {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            sample_size: section.count_up_to("sample_size", MAX_SAMPLE),
            refresh: section.duration_above_zero("refresh", HOUR),
        }
    }
}
