//! The log: to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::types::config::Log;

/// Sends events to standard error from now on. A second call changes nothing.
pub fn start(log: &Log) {
    let filter = EnvFilter::new(&log.filter);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a log is already set, which is the one to keep.
    let _ = match log.json {
        true => subscriber.json().flatten_event(true).try_init(),
        false => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
