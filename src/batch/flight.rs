//! A text on its way: who has it, and who awaits it.

use tokio::sync::watch;

use crate::types::{EncodeError, Encoded, TextKey};

/// What became of a text.
pub(super) type Answer = Result<Encoded, EncodeError>;

/// A text on its way; whoever awaits it has a receiver.
pub(super) type Flight = watch::Sender<Option<Answer>>;

/// One text of a request that was pushed.
#[derive(Debug)]
pub(super) enum Pending {
    Known(Encoded),
    Flying(TextKey, watch::Receiver<Option<Answer>>),
}
