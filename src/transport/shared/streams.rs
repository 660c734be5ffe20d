//! The ends of streams: the stop of the server, and silence.

use std::time::Duration;

use tokio::sync::watch;

/// Turns true when the server stops and streams have to end; a sender that is gone means the same.
pub type Stopped = watch::Receiver<bool>;

/// Time in which a stream of lines moves in neither direction before it is ended: its acks take memory meanwhile.
pub const SILENCE_OF_LINES: Duration = Duration::from_secs(60);

/// Time in which a stream of messages sends none before it is ended: it takes a permit alone.
pub const SILENCE_OF_MESSAGES: Duration = Duration::from_secs(300);

/// Resolves when streams have to end.
pub async fn stop(mut stopped: Stopped) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
}
