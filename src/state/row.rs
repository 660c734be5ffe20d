//! The state of one user, and its changes.
//!
//! The law: every engine changes rows by [`Row::change`] and by nothing else, so that the same changes end in the
//! same row on every engine.

use serde::{Deserialize, Serialize};

use super::merge::Merges;
use super::recent::{Added, Frame, Mark, Recent};
use super::{Answered, Change, ChangeKind, EventKey, LedgerEvent, Outcome, Withdrawal};
use crate::mixture::{Decay, Ledgers};

/// Retention and decay rules of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRules {
    /// Number of heads K.
    pub n_heads: usize,
    /// Decay of evidence.
    pub decay: Decay,
    /// Time for which an event is remembered after it happened, in milliseconds.
    pub max_age_ms: i64,
    /// Upper bound of the remembered events of one user.
    pub max_events: usize,
}

impl RowRules {
    /// Returns the rules to replay a change that was made with this `max_age_ms`: an acked change must count under
    /// stricter rules.
    #[must_use]
    pub fn of_replay(self, max_age_ms: i64) -> Self {
        Self { max_age_ms, max_events: usize::MAX, ..self }
    }
}

/// The state of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Number of changes; it never decreases.
    pub version: u64,
    /// The evidence, in general and per context.
    pub ledgers: Ledgers,
    /// Questions that have been answered.
    pub answered: Answered,
    /// Time in milliseconds since the Unix epoch before which no event counts any longer: its id may have been
    /// forgotten, or the user erased.
    pub(super) horizon_ms: Option<i64>,
    pub(super) recent: Recent,
    /// Relations to other rows; their bytes come after those of the row.
    #[serde(skip)]
    pub(super) merges: Merges,
}

/// Purpose of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The row holds evidence or answers.
    User,
    /// The row only refuses events that must not count.
    Tombstone,
    /// The row redirects to the account that the id was merged into.
    Redirect,
}

/// Result of taking an event back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The event counted until this retraction.
    Now,
    /// The event had been taken back before.
    Before,
    /// The event is not remembered: if it is still to come, it will not count.
    Ahead,
    /// The event does not count, or can't be taken back.
    Never,
}

impl Row {
    /// Returns the row of a user without feedback.
    #[must_use]
    pub fn new(n_heads: usize) -> Self {
        Self {
            version: 0,
            ledgers: Ledgers::new(n_heads),
            answered: Answered::default(),
            horizon_ms: None,
            recent: Recent::default(),
            merges: Merges::default(),
        }
    }

    /// Makes one change, and returns its outcome. A change that is not applied alters nothing but the memory of old
    /// ids.
    pub fn change(&mut self, change: &Change, rules: &RowRules) -> Outcome {
        if self.merges.moved().is_some_and(|moved| !change.kind.is_for_a_moved_row(moved.is_done)) {
            return Outcome::Moved;
        }
        self.forget(change.now_ms, rules);
        match &change.kind {
            ChangeKind::Add(event) => self.add(event, change.now_ms, rules),
            ChangeKind::Retract(key) => self.retract(*key, change.now_ms, rules),
            ChangeKind::Erase => self.erase(change.now_ms, rules),
            ChangeKind::Import(ledgers) => {
                self.ledgers = ledgers.clone();
                // The sums do not contain earlier increments after an import, so these can't be taken back.
                self.recent.import();
                self.applied()
            }
            ChangeKind::Withdraw(withdrawal) => self.withdraw(withdrawal, change.now_ms, rules),
            ChangeKind::Merge(step) => self.step(step, change.now_ms, rules),
        }
    }

    /// Forgets events from before the window.
    pub(super) fn forget(&mut self, now_ms: i64, rules: &RowRules) {
        if let Some(latest) = self.recent.forget_before(now_ms.saturating_sub(rules.max_age_ms)) {
            self.horizon_ms = self.horizon_ms.max(Some(latest + 1));
        }
    }

    /// Reports whether an event of this time is refused, even if it is new.
    pub(super) fn is_late(&self, at_ms: i64) -> bool {
        self.horizon_ms.is_some_and(|horizon_ms| at_ms < horizon_ms)
    }

    /// Reports whether an event was taken back that was not remembered, so that its increment must be searched for.
    /// An import or an erasure ends the search, as the increment is gone with the rest.
    pub(super) fn seeks(&self, key: EventKey) -> bool {
        self.recent.find(key).is_some_and(|frame| frame.mark == Mark::Sought)
    }

    /// Reports whether an event counted, and was taken back.
    pub(super) fn has_taken_back(&self, key: EventKey) -> bool {
        self.recent.find(key).is_some_and(|frame| frame.mark == Mark::Retracted)
    }

    /// Returns the outcome of an event whose id is remembered; none if it is not, or if it happened before
    /// `since_ms`: the next change forgets older events. An event of unknown content is taken for the remembered one.
    #[must_use]
    pub fn known(&self, key: EventKey, content: Option<u64>, since_ms: i64) -> Option<Outcome> {
        let frame = self.recent.find(key).filter(|frame| frame.at_ms >= since_ms)?;
        Some(match (frame.mark, frame.content(), content) {
            (Mark::Retracted | Mark::Void | Mark::Sought, ..) => {
                Outcome::Retracted { version: self.version, is_news: false }
            }
            (Mark::Counts, Some(kept), Some(found)) if kept != found => Outcome::Conflict { kept },
            (Mark::Counts | Mark::Imported, ..) => Outcome::Duplicate(self.version),
        })
    }

    /// True if the row holds no evidence and no answers: it only refuses events that must not count.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.ledgers.n_events() == 0 && self.answered.is_empty()
    }

    pub(super) fn sort(&self) -> Sort {
        match (self.is_moved(), self.is_tombstone()) {
            (true, _) => Sort::Redirect,
            (false, true) => Sort::Tombstone,
            (false, false) => Sort::User,
        }
    }

    /// True if the row holds nothing, and refuses nothing that time alone would not refuse.
    #[must_use]
    pub fn is_spent(&self, now_ms: i64, rules: &RowRules) -> bool {
        let cutoff_ms = now_ms.saturating_sub(rules.max_age_ms);
        self.is_tombstone()
            && self.merges.is_empty()
            && self.horizon_ms.is_none_or(|horizon_ms| horizon_ms <= cutoff_ms)
            && self.recent.iter().all(|frame| frame.at_ms < cutoff_ms)
    }

    /// True if it is a well-formed row of `n_heads` heads, as external bytes may not be.
    pub(super) fn is_of(&self, n_heads: usize) -> bool {
        self.ledgers.are_of(n_heads) && self.answered.is_sorted() && self.recent.is_whole()
    }

    fn add(&mut self, event: &LedgerEvent, now_ms: i64, rules: &RowRules) -> Outcome {
        let is_late = self.is_late(event.at_ms);
        if let Some(known) = self.known(event.key, event.content, i64::MIN) {
            let forestalled = |frame: Frame<'_>| matches!(frame.mark, Mark::Void | Mark::Sought);
            let is_ahead = self.recent.find(event.key).is_some_and(forestalled);
            return match event.replaces.filter(|_| is_ahead && !is_late) {
                Some(replaced) => self.pass_over(replaced, now_ms, rules),
                None => known,
            };
        }
        if is_late {
            return Outcome::Late;
        }
        if let Err(crowded) = self.check_room(Mark::is_said, rules) {
            return crowded;
        }
        let replaced = match event.replaces.map(|key| self.take_back(key, now_ms, rules)).transpose() {
            Ok(taken) => taken == Some(Taken::Now),
            Err(crowded) => return crowded,
        };
        self.recent.push(event);
        if let Some(key) = event.question {
            self.answered.insert(key);
        }
        self.ledgers.add(event.context, &event.increment, event.at_ms, rules.decay);
        self.version += 1;
        if replaced { Outcome::Replaced(self.version) } else { Outcome::Applied(self.version) }
    }

    /// Takes back the event that is replaced by one whose undo came first, so that the order in which events, their
    /// replacements and undos arrive does not matter.
    fn pass_over(&mut self, replaced: EventKey, now_ms: i64, rules: &RowRules) -> Outcome {
        let is_news = match self.take_back(replaced, now_ms, rules) {
            Ok(Taken::Now) => {
                self.version += 1;
                true
            }
            Ok(Taken::Ahead) => true,
            Ok(Taken::Before | Taken::Never) => false,
            Err(crowded) => return crowded,
        };
        Outcome::Retracted { version: self.version, is_news }
    }

    fn retract(&mut self, key: EventKey, now_ms: i64, rules: &RowRules) -> Outcome {
        match self.take_back(key, now_ms, rules) {
            Ok(Taken::Now) => self.applied(),
            Ok(Taken::Before) => Outcome::Duplicate(self.version),
            Ok(Taken::Ahead) => Outcome::Unknown { is_news: true },
            Ok(Taken::Never) => Outcome::Unknown { is_news: false },
            Err(crowded) => crowded,
        }
    }

    /// Takes an event back.
    ///
    /// # Errors
    /// When nothing more can be remembered.
    fn take_back(&mut self, key: EventKey, now_ms: i64, rules: &RowRules) -> Result<Taken, Outcome> {
        let Some(frame) = self.recent.find(key) else {
            self.check_room(|mark| !mark.is_said(), rules)?;
            // The undo may arrive before the event, whose clock may be ahead.
            self.recent.push_sought(key, now_ms.saturating_add(rules.max_age_ms));
            return Ok(Taken::Ahead);
        };
        if frame.added().is_none() {
            return Ok(if frame.mark == Mark::Retracted { Taken::Before } else { Taken::Never });
        }
        self.subtract_all(key, rules.decay);
        Ok(Taken::Now)
    }

    /// Takes back the events with this key: two, where another id, which was merged into this one, had an event of
    /// the same id.
    pub(super) fn subtract_all(&mut self, key: EventKey, decay: Decay) {
        for frame in self.recent.iter().filter(|frame| frame.key == key) {
            let Some(Added { context, increment }) = frame.added() else { continue };
            self.ledgers.subtract(context, &increment, frame.at_ms, decay);
        }
        self.recent.retract(key);
    }

    /// Takes back events that the row does not remember. The mark of their retraction is the guard: it is gone once
    /// they are subtracted, or once the sums differ from those that were searched.
    fn withdraw(&mut self, withdrawal: &Withdrawal, now_ms: i64, rules: &RowRules) -> Outcome {
        match self.recent.find(withdrawal.key).map(|frame| frame.mark) {
            Some(Mark::Sought) => {
                for event in &withdrawal.events {
                    self.ledgers.subtract(event.context, &event.increment, event.at_ms, rules.decay);
                }
                self.recent.retract(withdrawal.key);
                self.applied()
            }
            Some(Mark::Counts | Mark::Retracted) => self.retract(withdrawal.key, now_ms, rules),
            Some(Mark::Void | Mark::Imported) | None => Outcome::Late,
        }
    }

    fn erase(&mut self, now_ms: i64, rules: &RowRules) -> Outcome {
        let is_alone = self.merges.is_empty();
        if is_alone && self.is_tombstone() && self.horizon_ms.is_some_and(|horizon_ms| horizon_ms >= now_ms) {
            return Outcome::Duplicate(self.version);
        }
        self.ledgers = Ledgers::new(rules.n_heads);
        self.answered = Answered::default();
        self.merges = Merges::default();
        self.horizon_ms = self.horizon_ms.max(Some(now_ms));
        // Hashes of ids stay until their window is over, so that a late retry does not restore the user.
        self.recent.erase();
        self.applied()
    }

    /// Checks that one more event of a sort can be remembered; the error holds the time when it can.
    fn check_room(&self, is_of_sort: impl Fn(Mark) -> bool, rules: &RowRules) -> Result<(), Outcome> {
        let times = || self.recent.iter().filter(|frame| is_of_sort(frame.mark)).map(|frame| frame.at_ms);
        if times().count() < rules.max_events {
            return Ok(());
        }
        let oldest_ms = times().min().unwrap_or_default();
        let until_ms = oldest_ms.saturating_add(rules.max_age_ms).saturating_add(1);
        Err(Outcome::Crowded { max_events: rules.max_events, until_ms })
    }

    pub(super) fn applied(&mut self) -> Outcome {
        self.version += 1;
        Outcome::Applied(self.version)
    }
}
