//! The order of waiting texts: fair between requests, alike in length within a batch. Pure: no lock, no clock.
//!
//! Self-clocked fair queueing (Golestani, INFOCOM 1994), with tokens as bits and requests as sessions: a text's tag
//! is the later of its request's last tag and of the clock, plus its own tokens, and the clock is the tag of the
//! text that led the last batch of a thread that takes any text. The lowest tag leads the next batch, and texts of
//! about its length fill it. So a request waits for as many tokens of another as it has itself, however large the
//! other is, and no request starves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

use super::budget::{BatchLimits, Budgets};
use super::flight::Flight;
use crate::types::{TextKey, Tokens};

/// One waiting text and the sender of its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: TextKey,
    pub(super) tokens: Tokens,
    pub(super) flight: Flight,
    pub(super) queued_at: Instant,
}

/// The texts that a model thread encodes next; at least one.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) is_bulk: bool,
}

/// The position of a text in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// True for a text of a large request: those share no batch with small ones, which would wait for it.
    is_bulk: bool,
    tag: u64,
    /// A counter that keeps places distinct.
    age: u64,
}

/// The waiting texts.
#[derive(Debug, Default)]
pub(super) struct Order {
    jobs: BTreeMap<Place, Job>,
    /// Places by length, longest first; neighbors make good batches.
    by_length: BTreeSet<(bool, Reverse<usize>, Place)>,
    places: HashMap<TextKey, Place>,
    next_age: u64,
    /// The clock: the tag of the last text that led a batch of a thread that takes any text.
    now: u64,
    /// Waiting tokens, of small requests and of large ones.
    n_tokens: [usize; 2],
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns the tag of a request's next text, after one with the tag `last`.
    pub(super) fn tag(&self, last: u64, n_tokens: usize) -> u64 {
        last.max(self.now) + n_tokens as u64
    }

    pub(super) fn get(&self, key: TextKey) -> Option<&Job> {
        self.jobs.get(self.places.get(&key)?)
    }

    pub(super) fn insert(&mut self, job: Job, is_bulk: bool, tag: u64) {
        let place = Place { is_bulk, tag, age: self.next_age };
        self.next_age += 1;
        let length = job.tokens.ids.len();
        self.n_tokens[usize::from(is_bulk)] += length;
        self.places.insert(job.key, place);
        self.by_length.insert((is_bulk, Reverse(length), place));
        self.jobs.insert(place, job);
    }

    /// Moves a text that another request awaits as well to the earlier of the two places.
    pub(super) fn promote(&mut self, key: TextKey, is_bulk: bool, tag: u64) {
        let Some(&place) = self.places.get(&key) else { return };
        if (is_bulk, tag) < (place.is_bulk, place.tag)
            && let Some(job) = self.remove(place)
        {
            self.insert(job, is_bulk, tag.min(place.tag));
        }
    }

    /// Removes a text that no request awaits; true if there was one.
    pub(super) fn abandon(&mut self, key: TextKey) -> bool {
        let abandoned = self.places.get(&key).copied();
        let abandoned = abandoned.filter(|place| !self.jobs.get(place).is_some_and(is_awaited));
        abandoned.and_then(|place| self.remove(place)).is_some()
    }

    /// Returns the number of waiting tokens of small requests, or of all requests if `is_bulk`.
    pub(super) fn n_tokens(&self, is_bulk: bool) -> usize {
        self.n_tokens[..=usize::from(is_bulk)].iter().sum()
    }

    /// Returns the number of tokens before the last text of a request that comes now with `n_tokens` tokens. Stops
    /// counting at `enough`.
    pub(super) fn n_tokens_ahead(&self, n_tokens: u64, enough: usize) -> usize {
        let last = self.now.saturating_add(n_tokens);
        let ahead = [false, true].into_iter().flat_map(|is_bulk| {
            let [first, last] = [(0, 0), (last, u64::MAX)].map(|(tag, age)| Place { is_bulk, tag, age });
            self.jobs.range(first..=last)
        });
        let mut sum = 0;
        for (_, job) in ahead {
            sum += job.tokens.ids.len();
            if sum >= enough {
                break;
            }
        }
        sum
    }

    pub(super) fn has_small(&self) -> bool {
        self.jobs.first_key_value().is_some_and(|(place, _)| !place.is_bulk)
    }

    /// Returns the next batch, if there is one: the lowest tag that a request still awaits, and its neighbors in
    /// length. Also returns the number of abandoned texts that were found.
    pub(super) fn cut(&mut self, budgets: &Budgets, only_small: bool) -> (Option<Batch>, usize) {
        let mut n_abandoned = 0;
        while let Some(place) = self.lead(only_small) {
            let Some(lead) = self.remove(place) else { break };
            if !is_awaited(&lead) {
                n_abandoned += 1;
                continue;
            }
            // A thread for small requests takes no turn of the others and leaves the clock as it is: large requests
            // must not fall behind by it.
            if !only_small {
                self.now = self.now.max(place.tag);
            }
            let longest = lead.tokens.ids.len();
            let BatchLimits { n_texts, shortest } = budgets.limits(longest);
            let mut jobs = vec![lead];
            while jobs.len() < n_texts {
                let first = Place { is_bulk: place.is_bulk, tag: 0, age: 0 };
                let mut alike = self.by_length.range((place.is_bulk, Reverse(longest), first)..);
                let next = alike.next().copied();
                let Some((.., next)) = next
                    .filter(|&(is_bulk, length, _)| is_bulk == place.is_bulk && length <= Reverse(shortest))
                else {
                    break;
                };
                match self.remove(next) {
                    Some(job) if is_awaited(&job) => jobs.push(job),
                    _ => n_abandoned += 1,
                }
            }
            return (Some(Batch { jobs, is_bulk: place.is_bulk }), n_abandoned);
        }
        (None, n_abandoned)
    }

    fn lead(&self, only_small: bool) -> Option<Place> {
        let (first, _) = self.jobs.first_key_value()?;
        if only_small {
            return (!first.is_bulk).then_some(*first);
        }
        let bulk = Place { is_bulk: true, tag: 0, age: 0 };
        let first_bulk = self.jobs.range(bulk..).next().map(|(place, _)| place);
        let candidates = [Some(first), first_bulk].into_iter().flatten();
        candidates.min_by_key(|place| (place.tag, place.is_bulk, place.age)).copied()
    }

    fn remove(&mut self, place: Place) -> Option<Job> {
        let job = self.jobs.remove(&place)?;
        let length = job.tokens.ids.len();
        self.n_tokens[usize::from(place.is_bulk)] -= length;
        self.places.remove(&job.key);
        self.by_length.remove(&(place.is_bulk, Reverse(length), place));
        Some(job)
    }
}

fn is_awaited(job: &Job) -> bool {
    !job.flight.is_closed()
}
