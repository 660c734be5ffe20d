//! The log, written to standard error as text or JSON.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::EnvFilter;

/// Writes the records that pass `filter` to standard error, as JSON or as text. A second call changes nothing.
pub fn start(filter: &str, is_json: bool) {
    let filter = EnvFilter::new(filter);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a log is already set, which is the one to keep.
    let _ = match is_json {
        true => subscriber.json().flatten_event(true).try_init(),
        false => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}

/// Logs as JSON the reason why the process does not start: one line, which no filter withholds.
pub fn refused(exit_code: u8, message: &str) {
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::ERROR).with_writer(std::io::stderr);
    let subscriber = subscriber.json().flatten_event(true).finish();
    tracing::subscriber::with_default(subscriber, || tracing::error!(exit_code, "not started: {message}"));
}
