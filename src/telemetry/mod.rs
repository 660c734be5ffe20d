//! What the process tells of itself: the log, and the metrics with their meanings.
//!
//! Below everything else, so that every floor counts by the same names. Deliberately knows no configuration.

pub mod logging;
pub mod metric;
