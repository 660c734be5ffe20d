//! The queue of texts that wait for a model thread: admission, receivers and batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::{Budgets, Measured};
use super::cache::EmbeddingCache;
use super::flight::{Answer, Flight, Pending};
use super::order::{Batch, Job, Order};
use super::refused::Refused;
use crate::telemetry::metric;
use crate::types::{TextKey, Tokens};

/// Upper bound of the texts of a small request. Best-of-n calls and chats are below, rollout batches above.
const SMALL_TEXTS: usize = 32;

/// The weight of one batch in the measured pace, and of one text in the measured length.
const NEWS: f64 = 0.05;

/// The tokens of a text, until texts are measured.
const TOKENS_PER_TEXT: f64 = 64.0;

/// A text of unknown length is assumed to be longer than the mean by this factor: shorter ones precede it.
const LONGER: f64 = 2.0;

/// Texts dropped under one lock: other threads wait for it too.
const DROPPED_AT_ONCE: usize = 256;

/// The bounds of the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Texts per batch, by length.
    pub budgets: Budgets,
    /// Upper bound of the texts that wait; more are refused.
    pub max_texts: usize,
    /// Threads that serve the queue, without those for small requests alone.
    pub n_threads: usize,
    /// Time per token of a thread in seconds, until batches are measured.
    pub seconds_per_token: f64,
}

/// Texts that wait for a model thread.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// Wakes threads that take small requests while others encode a large one.
    small_work: Condvar,
    cache: Arc<EmbeddingCache>,
    config: QueueConfig,
}

#[derive(Debug)]
struct State {
    order: Order,
    /// Texts that are being encoded.
    running: HashMap<TextKey, Flight>,
    /// Texts of small requests and of large ones that were admitted and are yet to come.
    n_promised: [usize; 2],
    /// Idle threads that take any text. The last to become idle is the first to be woken: its session's weights are
    /// still in the cache of its core.
    idle: Vec<Arc<Condvar>>,
    /// Number of threads that encode a batch of a large request.
    n_bulk: usize,
    seconds_per_token: f64,
    tokens_per_text: f64,
    is_closed: bool,
}

/// The texts that a model thread takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Any text.
    All,
    /// Texts of small requests, and only while every other thread is busy and one of them with a large request.
    Small,
}

impl Queue {
    /// Creates an empty queue.
    #[must_use]
    pub fn new(config: QueueConfig, cache: Arc<EmbeddingCache>) -> Self {
        let state = State {
            order: Order::default(),
            running: HashMap::new(),
            n_promised: [0; 2],
            idle: Vec::new(),
            n_bulk: 0,
            seconds_per_token: config.seconds_per_token,
            tokens_per_text: TOKENS_PER_TEXT,
            is_closed: false,
        };
        Self { state: Mutex::new(state), small_work: Condvar::new(), cache, config }
    }

    /// Returns the cache of embeddings.
    #[must_use]
    pub fn cache(&self) -> &Arc<EmbeddingCache> {
        &self.cache
    }

    /// Returns the budgets and the pace of the encoder, as measured or fixed.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let QueueConfig { budgets, seconds_per_token, .. } = &self.config;
        Measured { budgets: budgets.clone(), seconds_per_token: *seconds_per_token }
    }

    /// Returns the upper bound of the texts that wait.
    #[must_use]
    pub fn max_texts(&self) -> usize {
        self.config.max_texts
    }

    /// Reserves places for a request with `n_texts` texts, whose caller waits until `deadline`; for all of them or
    /// none. True if the request is a large one.
    pub(super) fn promise(&self, n_texts: usize, deadline: Option<Instant>) -> Result<bool, Refused> {
        let is_bulk = n_texts > SMALL_TEXTS;
        let mut state = self.state.lock();
        let n_promised: usize = state.n_promised.iter().sum();
        let (waiting, max_texts) = (state.order.len() + n_promised, self.config.max_texts);
        if waiting + n_texts > max_texts {
            return Err(Refused::Full { waiting, new: n_texts, max_texts });
        }
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            state.check(n_texts, is_bulk, left, self.config.n_threads)?;
        }
        state.n_promised[usize::from(is_bulk)] += n_texts;
        Ok(is_bulk)
    }

    /// Adds some of the texts that a request was admitted with, after one with the tag `last`. Also returns the tag
    /// of the new last one.
    pub(super) fn push(
        &self,
        texts: Vec<(TextKey, Tokens)>,
        is_bulk: bool,
        last: u64,
    ) -> (Vec<Pending>, u64) {
        let mut tag = last;
        let mut state = self.state.lock();
        let n_before = state.order.len();
        let mut add = |(key, tokens): (TextKey, Tokens)| {
            state.n_promised[usize::from(is_bulk)] -= 1;
            state.tokens_per_text += NEWS * (tokens.ids.len() as f64 - state.tokens_per_text);
            if let Some(encoded) = self.cache.get(key) {
                return Pending::Known(encoded);
            }
            tag = state.order.tag(tag, tokens.ids.len());
            Pending::Flying(key, state.add(key, tokens, is_bulk, tag))
        };
        let pending = texts.into_iter().map(&mut add).collect();
        let n_new = state.order.len() - n_before;
        let n_idle = state.idle.len().saturating_sub(n_new);
        let woken = state.idle.split_off(n_idle);
        let is_urgent = !is_bulk && state.n_bulk > 0 && state.idle.is_empty() && state.order.has_small();
        drop(state);
        woken.iter().for_each(|thread| _ = thread.notify_one());
        if is_urgent {
            self.small_work.notify_one();
        }
        (pending, tag)
    }

    /// Releases the places of texts that will not be pushed.
    pub(super) fn withdraw(&self, n_promised: usize, is_bulk: bool) {
        self.state.lock().n_promised[usize::from(is_bulk)] -= n_promised;
    }

    /// Drops the waiting texts among `keys` that no request awaits any more.
    pub(super) fn abandon(&self, keys: &[TextKey]) {
        for keys in keys.chunks(DROPPED_AT_ONCE) {
            let mut state = self.state.lock();
            note_abandoned(keys.iter().filter(|&&key| state.order.abandon(key)).count());
        }
    }

    /// Takes the next batch and waits for one; none once the queue is closed. `own` belongs to the calling thread.
    pub(super) fn pop(&self, takes: Takes, own: &Arc<Condvar>) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(batch) = state.take(takes, &self.config.budgets) {
                // A request that came just before a large batch was taken must not wait for it.
                if state.n_bulk > 0 && state.order.has_small() {
                    self.small_work.notify_one();
                }
                return Some(batch);
            }
            match takes {
                Takes::All => {
                    state.idle.push(own.clone());
                    // The waker has taken the thread from the list, and a condition variable of parking_lot has no
                    // spurious wakeups.
                    own.wait(&mut state);
                }
                Takes::Small => self.small_work.wait(&mut state),
            }
        }
    }

    /// Sends the answer of a text to its receivers.
    pub(super) fn complete(&self, key: TextKey, answer: Answer) {
        // The cache keeps the embedding before the text leaves `running`, so that at every moment it is in one of
        // the two.
        if let Ok(encoded) = &answer {
            self.cache.keep(key, encoded.clone());
        }
        let flight = self.state.lock().running.remove(&key);
        if let Some(flight) = flight {
            // A caller that is gone by then is no error.
            let _ = flight.send(Some(answer));
        }
    }

    /// Records that a thread is done with a batch of `n_tokens` tokens, padding included.
    pub(super) fn done(&self, is_bulk: bool, n_tokens: usize, took: Duration) {
        let mut state = self.state.lock();
        state.n_bulk -= usize::from(is_bulk);
        let pace = took.as_secs_f64() / n_tokens.max(1) as f64;
        state.seconds_per_token += NEWS * (pace - state.seconds_per_token);
    }

    /// Drops the texts that wait and those that are pushed later, and lets the model threads end.
    pub fn close(&self) {
        let mut state = self.state.lock();
        (state.is_closed, state.order) = (true, Order::default());
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        idle.iter().for_each(|thread| _ = thread.notify_one());
        self.small_work.notify_all();
    }

    /// Returns the number of texts that wait.
    pub fn depth(&self) -> usize {
        self.state.lock().order.len()
    }
}

impl State {
    /// Checks whether a request that comes now with `n_texts` texts gets its turn within `left`, about.
    fn check(&self, n_texts: usize, is_bulk: bool, left: Duration, n_threads: usize) -> Result<(), Refused> {
        let seconds_per_token = self.seconds_per_token / n_threads as f64;
        let wait = |n_tokens: f64| {
            Duration::try_from_secs_f64(n_tokens * seconds_per_token).unwrap_or(Duration::MAX)
        };
        let tokens_of = |n_texts: usize| n_texts as f64 * self.tokens_per_text;
        let n_promised = self.n_promised[..=usize::from(is_bulk)].iter().sum();
        let all = wait(self.order.n_tokens(is_bulk) as f64 + tokens_of(n_promised));
        Refused::check(all, left).or_else(|late| {
            // Larger requests are not ahead of it with all their tokens.
            let enough = left.as_secs_f64() / seconds_per_token;
            let ahead = self.order.n_tokens_ahead((LONGER * tokens_of(n_texts)) as u64, enough as usize);
            let ahead = wait(ahead as f64 + tokens_of(self.n_promised[0]));
            Refused::check(ahead, left).map_err(|_| late)
        })
    }

    fn take(&mut self, takes: Takes, budgets: &Budgets) -> Option<Batch> {
        if takes == Takes::Small && (!self.idle.is_empty() || self.n_bulk == 0) {
            return None;
        }
        let (batch, n_abandoned) = self.order.cut(budgets, takes == Takes::Small);
        note_abandoned(n_abandoned);
        let batch = batch?;
        self.running.extend(batch.jobs.iter().map(|job| (job.key, job.flight.clone())));
        self.n_bulk += usize::from(batch.is_bulk);
        Some(batch)
    }

    /// Returns a receiver of one text's answer: joins its flight or begins one.
    fn add(
        &mut self,
        key: TextKey,
        tokens: Tokens,
        is_bulk: bool,
        tag: u64,
    ) -> watch::Receiver<Option<Answer>> {
        if let Some(flight) = self.running.get(&key) {
            return flight.subscribe();
        }
        if let Some(job) = self.order.get(key) {
            let receiver = job.flight.subscribe();
            self.order.promote(key, is_bulk, tag);
            return receiver;
        }
        let (flight, receiver) = watch::channel(None);
        if !self.is_closed {
            let queued_at = Instant::now();
            self.order.insert(Job { key, tokens, flight, queued_at }, is_bulk, tag);
        }
        receiver
    }
}

fn note_abandoned(n_texts: usize) {
    metrics::counter!(metric::ABANDONED).increment(n_texts as u64);
}

#[cfg(test)]
mod tests;
