//! What waits for a model thread: who may add to it, who awaits what, and what a thread takes.

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

/// A request with more texts is a large one. Best-of-n calls and chats are below, rollout batches above.
const SMALL_TEXTS: usize = 32;

/// How much a batch moves the measured pace, and a text the measured length.
const NEWS: f64 = 0.05;

/// The tokens of a text, until it is known better.
const TOKENS_PER_TEXT: f64 = 64.0;

/// A text that is not known yet is taken to be this much longer than others: what is shorter goes before it.
const LONGER: f64 = 2.0;

/// Texts dropped under one lock: others want it too.
const DROPPED_AT_ONCE: usize = 256;

/// The bounds of the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// How many texts are a batch.
    pub budgets: Budgets,
    /// Texts that wait; more are refused.
    pub max_texts: usize,
    /// Threads that serve it, those for small requests alone not counted.
    pub n_threads: usize,
    /// How long a thread takes for a token, until it is known better.
    pub seconds_per_token: f64,
}

/// Texts that wait for a model thread.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    /// For threads that take what is small while others are at something large.
    small_work: Condvar,
    cache: Arc<EmbeddingCache>,
    config: QueueConfig,
}

#[derive(Debug)]
struct State {
    order: Order,
    /// Texts that are being encoded now.
    running: HashMap<TextKey, Flight>,
    /// Texts of small requests and of large ones that were let in and are yet to come.
    n_promised: [usize; 2],
    /// Threads that take anything and have nothing to do. The last one to come is the first to go: its session's weights are
    /// still in the cache of its core.
    idle: Vec<Arc<Condvar>>,
    /// Threads that are at a batch of a large request.
    n_bulk: usize,
    seconds_per_token: f64,
    tokens_per_text: f64,
    is_closed: bool,
}

/// Which texts a model thread takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Any.
    All,
    /// Those of small requests, and only while every other thread is busy and one of them with a large request.
    Small,
}

impl Queue {
    /// An empty queue.
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

    /// What is known already.
    #[must_use]
    pub fn cache(&self) -> &Arc<EmbeddingCache> {
        &self.cache
    }

    /// What was measured of the encoder that it is for, or was fixed.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let QueueConfig { budgets, seconds_per_token, .. } = &self.config;
        Measured { budgets: budgets.clone(), seconds_per_token: *seconds_per_token }
    }

    /// How many texts may wait.
    #[must_use]
    pub fn max_texts(&self) -> usize {
        self.config.max_texts
    }

    /// Keeps places for a request with `n_texts` texts, whose caller waits until `deadline`; for all of them or none.
    /// Whether it is a large one.
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

    /// Adds some of the texts that a request was let in with, after one with the tag `last`; the second answer is the
    /// tag of the new last one.
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

    /// Gives up the places of texts that will not be pushed.
    pub(super) fn withdraw(&self, n_promised: usize, is_bulk: bool) {
        self.state.lock().n_promised[usize::from(is_bulk)] -= n_promised;
    }

    /// Drops those of the texts that wait and that nobody awaits any more.
    pub(super) fn abandon(&self, keys: &[TextKey]) {
        for keys in keys.chunks(DROPPED_AT_ONCE) {
            let mut state = self.state.lock();
            note_abandoned(keys.iter().filter(|&&key| state.order.abandon(key)).count());
        }
    }

    /// Takes the next batch, waiting for one; none once the queue is closed. `own` is the calling thread's.
    pub(super) fn pop(&self, takes: Takes, own: &Arc<Condvar>) -> Option<Batch> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(batch) = state.take(takes, &self.config.budgets) {
                // Who came just before a large batch was taken shall not wait for it.
                if state.n_bulk > 0 && state.order.has_small() {
                    self.small_work.notify_one();
                }
                return Some(batch);
            }
            match takes {
                Takes::All => {
                    state.idle.push(own.clone());
                    // Whoever wakes a thread has taken it from the list, and a condition variable of parking_lot wakes for nothing else.
                    own.wait(&mut state);
                }
                Takes::Small => self.small_work.wait(&mut state),
            }
        }
    }

    /// Tells whoever awaits a text what became of it.
    pub(super) fn complete(&self, key: TextKey, answer: Answer) {
        // Kept before it is no longer on its way, so that at every moment it is known to be one of the two.
        if let Ok(encoded) = &answer {
            self.cache.keep(key, encoded.clone());
        }
        let flight = self.state.lock().running.remove(&key);
        if let Some(flight) = flight {
            // A caller that has gone meanwhile is no error.
            let _ = flight.send(Some(answer));
        }
    }

    /// Notes that a thread is done with a batch of `n_tokens` tokens, padding included.
    pub(super) fn done(&self, is_bulk: bool, n_tokens: usize, took: Duration) {
        let mut state = self.state.lock();
        state.n_bulk -= usize::from(is_bulk);
        let pace = took.as_secs_f64() / n_tokens.max(1) as f64;
        state.seconds_per_token += NEWS * (pace - state.seconds_per_token);
    }

    /// Drops what waits and what is pushed later, and lets the model threads end.
    pub fn close(&self) {
        let mut state = self.state.lock();
        (state.is_closed, state.order) = (true, Order::default());
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        idle.iter().for_each(|thread| _ = thread.notify_one());
        self.small_work.notify_all();
    }

    /// How many texts wait.
    pub fn depth(&self) -> usize {
        self.state.lock().order.len()
    }
}

impl State {
    /// Whether a request that comes now with `n_texts` texts gets its turn within `left`, about.
    fn check(&self, n_texts: usize, is_bulk: bool, left: Duration, n_threads: usize) -> Result<(), Refused> {
        let seconds_per_token = self.seconds_per_token / n_threads as f64;
        let wait = |n_tokens: f64| {
            Duration::try_from_secs_f64(n_tokens * seconds_per_token).unwrap_or(Duration::MAX)
        };
        let tokens_of = |n_texts: usize| n_texts as f64 * self.tokens_per_text;
        let n_promised = self.n_promised[..=usize::from(is_bulk)].iter().sum();
        let all = wait(self.order.n_tokens(is_bulk) as f64 + tokens_of(n_promised));
        Refused::check(all, left).or_else(|late| {
            // Larger ones are not ahead of it with all that they have.
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

    /// A receiver of one text's answer, which it joins or begins.
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
