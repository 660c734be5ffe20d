//! The signals to stop, and to load the bundle again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for SIGTERM and SIGINT from this call on; the future ends with the first. Needs a tokio runtime.
///
/// # Errors
/// The reason that the operating system does not let the process listen for signals.
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

/// Listens for SIGHUP, the signal to load the bundle again, from this call on. Needs a tokio runtime.
///
/// # Errors
/// The errors of [`requested`].
pub fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}
