//! `[feedback]`: the events that are accepted.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::section::{Section, YEAR};

/// Upper bound of the events in a row: with more it would be megabytes, and it is read for every new event.
const MAX_EVENTS: i64 = 65_536;

/// The event times that are accepted, and the number of events of one user within them.
#[derive(Debug, Clone, Copy)]
pub struct Feedback {
    pub max_age: Duration,
    pub max_clock_skew: Duration,
    /// Upper bound of the events of one user that are remembered within `max_age`.
    pub max_events: NonZeroUsize,
}

impl Feedback {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            max_age: section.duration_above_zero("max_age", YEAR),
            max_clock_skew: section.duration("max_clock_skew", YEAR),
            max_events: section.count_up_to("max_events", MAX_EVENTS),
        }
    }
}
