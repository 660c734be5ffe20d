//! One request's way into the queue and out of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::queue::{Answer, Queue};
use crate::types::{EncodeError, Encoded, TextKey, Tokens};

/// The part of its time that a request may spend waiting: the estimate is rough, shorter texts that come later may go first,
/// and the work takes time as well.
const WAIT_SHARE: f64 = 0.6;

/// How long to stay away at least, and at most.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no room.
    #[error("{waiting} texts are waiting and {new} more do not fit into {max_texts}")]
    Full {
        /// How many texts wait.
        waiting: usize,
        /// How many were to be added.
        new: usize,
        /// How many may wait.
        max_texts: usize,
    },
    /// It would not be answered in time.
    #[error("a model thread would be free in about {wait:?}, and the caller stops waiting in {left:?}")]
    Late {
        /// How long it would wait.
        wait: Duration,
        /// How long its caller does.
        left: Duration,
    },
}

impl Refused {
    /// Whether a request that waits for `wait` can be answered within `left`.
    pub(super) fn check(wait: Duration, left: Duration) -> Result<(), Self> {
        let is_in_time = !left.is_zero() && wait <= left.mul_f64(WAIT_SHARE);
        if is_in_time { Ok(()) } else { Err(Self::Late { wait, left }) }
    }

    /// When it is worth trying again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let [least, most] = RETRY_AFTER;
        match self {
            Self::Full { .. } => least,
            Self::Late { wait, left } => wait.saturating_sub(left.mul_f64(WAIT_SHARE)).clamp(least, most),
        }
    }
}

/// A request's way in: it was let in with a number of texts, which it pushes as they are tokenised.
#[derive(Debug)]
pub struct Lane {
    answers: Answers,
    n_promised: usize,
    is_bulk: bool,
    /// Of the text that was pushed last.
    tag: u64,
}

impl Lane {
    pub(super) fn new(queue: Arc<Queue>, n_texts: usize, is_bulk: bool) -> Self {
        let answers = Answers { queue, pending: VecDeque::with_capacity(n_texts) };
        Self { answers, n_promised: n_texts, is_bulk, tag: 0 }
    }

    /// Adds some of the texts that were let in, each with its key. A text that another request has on its way is not
    /// encoded again.
    pub fn push(&mut self, texts: Vec<(TextKey, Tokens)>) {
        self.n_promised -= texts.len();
        let (pending, tag) = self.answers.queue.push(texts, self.is_bulk, self.tag);
        self.tag = tag;
        self.answers.pending.extend(pending);
    }

    /// What became of the texts that were pushed.
    #[must_use]
    pub fn answers(mut self) -> Answers {
        let pending = std::mem::take(&mut self.answers.pending);
        Answers { queue: self.answers.queue.clone(), pending }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.n_promised > 0 {
            self.answers.queue.withdraw(self.n_promised, self.is_bulk);
        }
    }
}

/// The answers to one request's texts. Dropping it drops the texts that nobody else awaits.
#[derive(Debug)]
pub struct Answers {
    queue: Arc<Queue>,
    /// In the order of pushing.
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
pub(super) enum Pending {
    Known(Encoded),
    Flying(TextKey, watch::Receiver<Option<Answer>>),
}

impl Answers {
    /// Every text's, in the order of pushing. One that an encoder failed with says nothing of the others.
    pub async fn all(mut self) -> Vec<Result<Encoded, EncodeError>> {
        let mut all = Vec::with_capacity(self.pending.len());
        while let Some(pending) = self.pending.front_mut() {
            // Stays in its place until it is answered: whoever drops this future drops the text as well.
            all.push(match pending {
                Pending::Known(encoded) => Ok(encoded.clone()),
                Pending::Flying(_, receiver) => match receiver.wait_for(Option::is_some).await {
                    Ok(answer) => answer.clone().unwrap_or(Err(EncodeError::Gone)),
                    Err(_) => Err(EncodeError::Gone),
                },
            });
            self.pending.pop_front();
        }
        all
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let key = |pending: Pending| match pending {
            Pending::Known(_) => None,
            Pending::Flying(key, _) => Some(key),
        };
        let keys: Vec<TextKey> = self.pending.drain(..).filter_map(key).collect();
        if !keys.is_empty() {
            self.queue.abandon(&keys);
        }
    }
}
