//! Bounds the text that is tokenized at once, over all requests.

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use std::sync::Arc;

use crate::types::{Error, ErrorKind, deadline};

/// Bytes of the budget. Most tokenizers read the end of a text only; those that read all of it hold about 150 bytes
/// for each.
const N_BYTES: usize = 1 << 21;

/// A budget of bytes for texts while they are tokenized.
pub struct TokenizerBudget(Arc<Semaphore>);

impl Default for TokenizerBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(N_BYTES)))
    }
}

impl TokenizerBudget {
    /// Waits in order until there is room for a text of `n_bytes`; a text larger than the budget waits until it is
    /// alone. A dropped future leaves the queue; the room is taken for as long as the permit lives.
    ///
    /// # Errors
    /// `DeadlineExceeded` when the caller's deadline passes first.
    pub async fn take(&self, n_bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let n_permits = u32::try_from(n_bytes.min(N_BYTES)).unwrap_or(u32::MAX);
        let taken = self.0.clone().acquire_many_owned(n_permits);
        let taken = match deadline() {
            Some(deadline) => timeout_at(deadline, taken).await.map_err(|error| {
                let detail = "the time of the caller was over before a text could be tokenized";
                Error::new(ErrorKind::DeadlineExceeded, detail).with_source(error)
            })?,
            None => taken.await,
        };
        taken.map_err(|error| Error::new(ErrorKind::Internal, "no text can be tokenized").with_source(error))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::time::Instant;

    use super::*;
    use crate::types::until;

    #[tokio::test]
    async fn texts_that_are_tokenized_at_once_have_no_more_bytes_than_there_is_room_for() {
        let room = TokenizerBudget::default();
        let half = room.take(N_BYTES / 2).await.unwrap();
        let other = room.take(N_BYTES / 2).await.unwrap();
        assert!(room.take(1).now_or_never().is_none());
        drop(half);
        let all = room.take(N_BYTES);
        tokio::pin!(all);
        assert!(all.as_mut().now_or_never().is_none());
        // Texts that come later and are smaller do not overtake it.
        assert!(room.take(1).now_or_never().is_none());
        drop(other);
        drop(all.await.unwrap());
        drop(room.take(usize::MAX).await.unwrap());
        assert!(room.take(1).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_leaves_at_the_deadline_and_when_dropped() {
        let room = TokenizerBudget::default();
        let held = room.take(N_BYTES).await.unwrap();
        let late = until(Instant::now() + Duration::from_secs(1), room.take(N_BYTES)).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        assert!(room.take(N_BYTES).now_or_never().is_none());
        drop(held);
        assert!(room.take(1).now_or_never().is_some());
    }
}
