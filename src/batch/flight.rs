//! A text on its way: its sender, its receivers and its answer.

use tokio::sync::watch;

use crate::types::{EncodeError, Encoded, TextKey};

/// The embedding of a text, or the error of its encoder.
pub(super) type Answer = Result<Encoded, EncodeError>;

/// The sender of a text on its way; every request that awaits it has a receiver.
pub(super) type Flight = watch::Sender<Option<Answer>>;

/// One text that a request has pushed.
#[derive(Debug)]
pub(super) enum Pending {
    Known(Encoded),
    Flying(TextKey, watch::Receiver<Option<Answer>>),
}
