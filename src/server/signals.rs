//! When to stop, and when to load the bundle again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for SIGTERM and SIGINT from now on; the future ends with the first. Needs a tokio runtime.
///
/// # Errors
/// When the operating system does not let the process listen for signals.
pub fn requested() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Listens for SIGHUP from now on: load the bundle again. Needs a tokio runtime.
///
/// # Errors
/// As [`requested`].
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
