//! All that is kept of one user, and how a change changes it.
//!
//! The law: every engine changes rows by [`Row::change`] and by nothing else, so that the same changes end in the same
//! row wherever they are applied.

use serde::{Deserialize, Serialize};

use super::recent::{Added, Mark, Recent};
use super::{Answered, Change, ChangeKind, EventKey, LedgerEvent, Outcome, Withdrawal};
use crate::mixture::{Decay, Ledgers};

/// What rows are kept by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// K.
    pub n_heads: usize,
    /// How evidence fades.
    pub decay: Decay,
    /// For how long an event is remembered after it happened, in milliseconds.
    pub max_age_ms: i64,
    /// How many events of one user are remembered at most.
    pub max_events: usize,
}

impl Rules {
    /// The rules for a change that was made once, with this `max_age_ms`: what was acked must count under stricter ones.
    #[must_use]
    pub fn of_replay(self, max_age_ms: i64) -> Self {
        Self { max_age_ms, max_events: usize::MAX, ..self }
    }
}

/// All that is kept of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The number of changes there were; it never goes down.
    pub version: u64,
    /// The evidence, in general and per context.
    pub ledgers: Ledgers,
    /// The questions that have been answered.
    pub answered: Answered,
    /// Nothing that happened before counts any more: its id may have been forgotten, or the user erased.
    horizon_ms: Option<i64>,
    recent: Recent,
}

impl Row {
    /// The row of somebody who has said nothing yet.
    #[must_use]
    pub fn new(n_heads: usize) -> Self {
        Self {
            version: 0,
            ledgers: Ledgers::new(n_heads),
            answered: Answered::default(),
            horizon_ms: None,
            recent: Recent::default(),
        }
    }

    /// Makes one change, or says why not; what is not applied changes nothing but the memory of old ids.
    pub fn change(&mut self, change: &Change, rules: &Rules) -> Outcome {
        if let Some(latest) = self.recent.forget_before(change.now_ms.saturating_sub(rules.max_age_ms)) {
            self.horizon_ms = self.horizon_ms.max(Some(latest + 1));
        }
        match &change.kind {
            ChangeKind::Add(event) => self.add(event, rules),
            ChangeKind::Retract(key) => self.retract(*key, change.now_ms, rules),
            ChangeKind::Erase => self.erase(change.now_ms, rules),
            ChangeKind::Import(ledgers) => {
                self.ledgers = ledgers.clone();
                // What was added before is no longer in the sums, so it can't be taken back.
                self.recent.make_all_void();
                self.applied()
            }
            ChangeKind::Withdraw(withdrawal) => self.withdraw(withdrawal, change.now_ms, rules),
        }
    }

    /// Whether an event was taken back that is not remembered, and nothing that was added before has been replaced or
    /// erased since.
    pub(super) fn seeks(&self, key: EventKey) -> bool {
        self.recent.find(key).is_some_and(|frame| frame.mark == Mark::Sought)
    }

    /// Whether an event with this key is remembered, be it one that does not count.
    #[must_use]
    pub fn remembers(&self, key: EventKey) -> bool {
        self.recent.find(key).is_some()
    }

    /// Whether the row says nothing: it is only there to refuse what must not count.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.ledgers.n_events() == 0 && self.answered.is_empty()
    }

    /// Whether the row has nothing left to refuse, or to say, that time alone would not.
    #[must_use]
    pub fn is_spent(&self, now_ms: i64, rules: &Rules) -> bool {
        let cutoff_ms = now_ms.saturating_sub(rules.max_age_ms);
        self.is_tombstone()
            && self.horizon_ms.is_none_or(|horizon_ms| horizon_ms <= cutoff_ms)
            && self.recent.iter().all(|frame| frame.at_ms < cutoff_ms)
    }

    /// Whether it is a well-formed row of `n_heads` heads, as bytes from elsewhere may not be.
    pub(super) fn is_of(&self, n_heads: usize) -> bool {
        self.ledgers.are_of(n_heads) && self.answered.is_sorted() && self.recent.is_whole()
    }

    fn add(&mut self, event: &LedgerEvent, rules: &Rules) -> Outcome {
        if self.recent.find(event.key).is_some() {
            return Outcome::Duplicate(self.version);
        }
        if self.horizon_ms.is_some_and(|horizon_ms| event.at_ms < horizon_ms) {
            return Outcome::Late;
        }
        if self.n_remembered(Mark::is_said) >= rules.max_events {
            return Outcome::Crowded { max_events: rules.max_events };
        }
        self.recent.push(event);
        if let Some(key) = event.question {
            self.answered.insert(key);
        }
        self.ledgers.add(event.context, &event.increment, event.at_ms, rules.decay);
        self.applied()
    }

    fn retract(&mut self, key: EventKey, now_ms: i64, rules: &Rules) -> Outcome {
        let Some(frame) = self.recent.find(key) else {
            if self.n_remembered(|mark| !mark.is_said()) >= rules.max_events {
                return Outcome::Crowded { max_events: rules.max_events };
            }
            // The undo may overtake the click, whose clock may be ahead.
            self.recent.push_sought(key, now_ms.saturating_add(rules.max_age_ms));
            return Outcome::Unknown;
        };
        let (Some(Added { context, increment }), at_ms) = (frame.added(), frame.at_ms) else {
            return match frame.mark {
                Mark::Retracted => Outcome::Duplicate(self.version),
                Mark::Counts | Mark::Void | Mark::Sought => Outcome::Unknown,
            };
        };
        self.ledgers.subtract(context, &increment, at_ms, rules.decay);
        self.recent.retract(key);
        self.applied()
    }

    /// Takes back what is no longer remembered. The mark that its retraction left is the guard: it is gone once that was
    /// done, or once the sums are no longer those that were searched for.
    fn withdraw(&mut self, withdrawal: &Withdrawal, now_ms: i64, rules: &Rules) -> Outcome {
        match self.recent.find(withdrawal.key).map(|frame| frame.mark) {
            Some(Mark::Sought) => {
                for event in &withdrawal.events {
                    self.ledgers.subtract(event.context, &event.increment, event.at_ms, rules.decay);
                }
                self.recent.retract(withdrawal.key);
                self.applied()
            }
            Some(Mark::Counts | Mark::Retracted) => self.retract(withdrawal.key, now_ms, rules),
            Some(Mark::Void) | None => Outcome::Late,
        }
    }

    fn erase(&mut self, now_ms: i64, rules: &Rules) -> Outcome {
        if self.is_tombstone() && self.horizon_ms.is_some_and(|horizon_ms| horizon_ms >= now_ms) {
            return Outcome::Duplicate(self.version);
        }
        self.ledgers = Ledgers::new(rules.n_heads);
        self.answered = Answered::default();
        self.horizon_ms = self.horizon_ms.max(Some(now_ms));
        // Hashes of ids stay until their window is over, so that a late retry does not bring the user back.
        self.recent.make_all_void();
        self.applied()
    }

    fn n_remembered(&self, which: impl Fn(Mark) -> bool) -> usize {
        self.recent.iter().filter(|frame| which(frame.mark)).count()
    }

    fn applied(&mut self) -> Outcome {
        self.version += 1;
        Outcome::Applied(self.version)
    }
}
