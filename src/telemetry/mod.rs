//! The log of the process, and its metrics with their meanings.
//!
//! It is below every other module, so that all count by the same names. It knows no configuration by design.

pub mod logging;
pub mod metric;
