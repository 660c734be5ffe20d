//! The next request to the store for a user's changes: a swap, a read, or nothing.

use redis::Cmd;

use super::Shared;
use super::pending::{ChangeResult, PendingChanges};
use super::unknown_users;
use super::value::Value;
use crate::state::{Change, Outcome, Row, UserKey, note_unreadable};

/// The next request for a user's changes.
pub(super) enum NextRequest {
    /// No request: the row was read, and the changes do not change it.
    Answered(Vec<ChangeResult>),
    /// A read of the row: without one, the outcomes are only a guess.
    Read,
    /// A swap of the row.
    Swap(Cmd, Swap),
}

/// State once the swap is made.
pub(super) struct Swap {
    pub(super) new: Value,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) turn: Turn,
    /// True if it makes a tombstone of a user without a row.
    pub(super) is_unknown_user: bool,
}

/// Effect of a swap on the number of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Joins,
    Leaves,
    Stays,
}

/// Applies a claim's changes to the row as it is known. `room` is the number of users that may still join.
pub(super) fn next_request(
    shared: &Shared,
    user: UserKey,
    pending: &PendingChanges,
    room: &mut usize,
) -> NextRequest {
    let rules = &shared.rules;
    let is_read = pending.read.is_some();
    // Without a cached row the guess is that there is none; if that is wrong, the swap returns the row.
    let before = pending.read.clone().or_else(|| shared.cache.get(user)).and_then(|cached| cached.value);
    let mut row = match before.as_ref().map(|value| value.row(rules.n_heads)).transpose() {
        Ok(row) => Some(row.unwrap_or_else(|| Row::new(rules.n_heads))),
        Err(_) if !is_read => return NextRequest::Read,
        Err(error) => {
            note_unreadable(&shared.unreadable(user, error));
            None
        }
    };
    // Few tombstones are kept, so an unreadable row is taken to be a user's.
    let was_there = row.as_ref().is_none_or(|row| !row.is_tombstone());
    let mut has_row = before.is_some();
    let mut change = |change: &Change| {
        if row.is_none() {
            row = change.in_place_of_unreadable(rules.n_heads);
        }
        let Some(row) = &mut row else { return Outcome::Unreadable };
        let is_full_of_users = *room == 0 && row.is_tombstone();
        let is_full_of_unknown_users = !has_row && shared.unknown_users.are_full();
        let before = (is_full_of_users || is_full_of_unknown_users).then(|| row.clone());
        let outcome = row.change(change, rules);
        let is_full = if row.is_tombstone() { is_full_of_unknown_users } else { is_full_of_users };
        // The check comes last, so that a change that adds no row keeps its own outcome.
        match before.filter(|_| is_full && outcome.changes_the_row()) {
            Some(before) => {
                *row = before;
                Outcome::Full { max_users: shared.max_users }
            }
            None => {
                has_row |= outcome.changes_the_row();
                outcome
            }
        }
    };
    let outcomes: Vec<Outcome> = pending.tasks.iter().map(|task| change(&task.change)).collect();
    if !outcomes.iter().any(|outcome| outcome.changes_the_row()) {
        let results = outcomes.into_iter().map(Ok).collect();
        return if is_read { NextRequest::Answered(results) } else { NextRequest::Read };
    }
    // Only a readable row changes.
    let Some(row) = row else { return NextRequest::Read };
    let turn = match (was_there, !row.is_tombstone()) {
        (false, true) => Turn::Joins,
        (true, false) => Turn::Leaves,
        _ => Turn::Stays,
    };
    *room = room.saturating_sub(usize::from(turn == Turn::Joins));
    let is_unknown_user = before.is_none() && row.is_tombstone();
    let ttl_ms = if row.is_tombstone() { unknown_users::ttl_ms(rules) } else { 0 };
    let new = Value::of(&row, before.as_ref());
    NextRequest::Swap(
        shared.keys.swap(user, before.as_ref(), &new, ttl_ms),
        Swap { new, outcomes, turn, is_unknown_user },
    )
}
