//! What waits for a model thread, and how a batch is cut from it.
//!
//! A batch starts with the oldest text, so that nobody starves, and is filled with texts of about its length,
//! so that little is padding. Texts are cut from the queue by the model threads themselves: an idle thread
//! takes what is there.

use std::collections::BTreeMap;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::types::{Embedding, EncodeError, Tokens, metric};

/// A text joins a batch only if it is at least 3/4 as long as the longest: padding above that costs more than
/// a batch of its own (measured on CPU: sorted batches of 8 run at the speed of single texts, random ones at half).
const MIN_FILL: (usize, usize) = (3, 4);

/// The bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// A batch has at most this many tokens, padding included; a longer text is a batch of its own.
    pub max_batch_tokens: usize,
    /// Texts that wait; more are refused.
    pub max_texts: usize,
}

/// Texts that wait for a model thread.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    config: QueueConfig,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By length, then age: neighbours make good batches.
    by_length: BTreeMap<(usize, u64), Job>,
    /// Age to length: the first is the oldest.
    by_age: BTreeMap<u64, usize>,
    next_age: u64,
    is_closed: bool,
}

/// One text and where its embedding goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) tokens: Tokens,
    pub(super) reply: oneshot::Sender<Result<Embedding, EncodeError>>,
    pub(super) queued_at: Instant,
}

/// The queue can't take the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} texts are waiting and {new} more do not fit into {max_texts}")]
pub struct Full {
    /// How many texts wait.
    pub waiting: usize,
    /// How many were to be added.
    pub new: usize,
    /// How many may wait.
    pub max_texts: usize,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        Self { waiting: Mutex::default(), ready: Condvar::new(), config }
    }

    /// Adds texts, all or none; the receivers are in their order. Dropping a receiver drops its text.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    pub fn push(
        &self,
        texts: Vec<Tokens>,
    ) -> Result<Vec<oneshot::Receiver<Result<Embedding, EncodeError>>>, Full> {
        let queued_at = Instant::now();
        let mut waiting = self.waiting.lock();
        let (now, new, max_texts) = (waiting.by_age.len(), texts.len(), self.config.max_texts);
        if now + new > max_texts {
            return Err(Full { waiting: now, new, max_texts });
        }
        let receivers = texts
            .into_iter()
            .map(|tokens| {
                let (reply, receiver) = oneshot::channel();
                waiting.insert(Job { tokens, reply, queued_at });
                receiver
            })
            .collect();
        drop(waiting);
        self.ready.notify_all();
        Ok(receivers)
    }

    /// Takes the next batch, waiting for one; none once the queue is closed.
    pub(super) fn pop(&self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        loop {
            let batch = waiting.cut(self.config.max_batch_tokens);
            if !batch.is_empty() {
                return Some(batch);
            }
            if waiting.is_closed {
                return None;
            }
            self.ready.wait(&mut waiting);
        }
    }

    /// Drops what waits and what is pushed later, and lets the model threads end.
    pub fn close(&self) {
        *self.waiting.lock() = Waiting { is_closed: true, ..Waiting::default() };
        self.ready.notify_all();
    }

    /// How many texts wait.
    pub fn depth(&self) -> usize {
        self.waiting.lock().by_age.len()
    }
}

impl Waiting {
    fn insert(&mut self, job: Job) {
        if self.is_closed {
            return;
        }
        let age = self.next_age;
        self.next_age += 1;
        self.by_age.insert(age, job.tokens.ids.len());
        self.by_length.insert((job.tokens.ids.len(), age), job);
    }

    /// The oldest text that somebody still waits for, and its neighbours in length; empty if there is none.
    fn cut(&mut self, max_tokens: usize) -> Vec<Job> {
        while let Some((age, longest)) = self.by_age.pop_first() {
            let Some(oldest) = self.by_length.remove(&(longest, age)).filter(is_awaited) else { continue };
            let shortest = (longest * MIN_FILL.0).div_ceil(MIN_FILL.1);
            let mut batch = vec![oldest];
            while (batch.len() + 1) * longest <= max_tokens {
                let Some(key) = self.by_length.range((shortest, 0)..=(longest, u64::MAX)).next_back() else {
                    break;
                };
                let key = *key.0;
                self.by_age.remove(&key.1);
                batch.extend(self.by_length.remove(&key).filter(is_awaited));
            }
            return batch;
        }
        Vec::new()
    }
}

fn is_awaited(job: &Job) -> bool {
    let is_awaited = !job.reply.is_closed();
    if !is_awaited {
        metrics::counter!(metric::ABANDONED).increment(1);
    }
    is_awaited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Tokens {
        Tokens { ids: vec![1; length], type_ids: vec![0; length], truncated: false }
    }

    fn queue(max_texts: usize) -> Queue {
        Queue::new(QueueConfig { max_batch_tokens: 100, max_texts })
    }

    fn lengths(batch: &[Job]) -> Vec<usize> {
        batch.iter().map(|job| job.tokens.ids.len()).collect()
    }

    #[test]
    fn a_batch_is_the_oldest_text_and_its_neighbours_in_length() {
        let queue = queue(10);
        let _receivers = queue.push([20, 90, 19, 5, 15, 14].map(text).into()).unwrap();
        assert_eq!(lengths(&queue.pop().unwrap()), [20, 19, 15]);
        assert_eq!(lengths(&queue.pop().unwrap()), [90]);
        assert_eq!(lengths(&queue.pop().unwrap()), [5]);
        assert_eq!(lengths(&queue.pop().unwrap()), [14]);
    }

    #[test]
    fn a_batch_keeps_to_its_token_budget_unless_one_text_alone_exceeds_it() {
        let queue = queue(10);
        let _receivers = queue.push([30, 30, 30, 30, 200].map(text).into()).unwrap();
        assert_eq!(lengths(&queue.pop().unwrap()), [30, 30, 30]);
        assert_eq!(lengths(&queue.pop().unwrap()), [30]);
        assert_eq!(lengths(&queue.pop().unwrap()), [200]);
    }

    #[test]
    fn a_text_whose_caller_is_gone_is_never_encoded() {
        let queue = queue(10);
        let mut receivers = queue.push([10, 10, 10].map(text).into()).unwrap();
        receivers.truncate(1);
        assert_eq!(lengths(&queue.pop().unwrap()), [10]);
        queue.close();
        assert!(queue.pop().is_none());
    }

    #[test]
    fn texts_that_do_not_fit_are_refused_together() {
        let queue = queue(3);
        let _receivers = queue.push([1, 1].map(text).into()).unwrap();
        assert_eq!(
            queue.push([1, 1].map(text).into()).unwrap_err(),
            Full { waiting: 2, new: 2, max_texts: 3 }
        );
        assert_eq!(queue.depth(), 2);
    }

    #[test]
    fn a_closed_queue_drops_what_waits_and_what_comes_later() {
        let queue = queue(3);
        let mut receivers = queue.push(vec![text(1)]).unwrap();
        queue.close();
        receivers.extend(queue.push(vec![text(1)]).unwrap());
        assert!(queue.pop().is_none());
        assert!(receivers.iter_mut().all(|receiver| receiver.try_recv().is_err()));
    }
}
