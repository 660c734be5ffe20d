//! Drains the outbox: waiting changes are applied like all others, in order, as soon as the store is back.
//!
//! The law: no acked change leaves unapplied, except one that can never be applied: one that is late, one under whose
//! id another event counts, and one of an unreadable row, which becomes a dead letter. A change that can't be applied
//! yet, as its user has too many events or there is no room for another user, is put back behind all others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::connection::Unreachable;
use super::outbox::{Outbox, broken};
use crate::state::journal::OpenError;
use crate::state::journal::segment::Segment;
use crate::state::{Change, Outcome, StoreError, UserKey};
use crate::telemetry::metric;
use crate::types::Part;

/// Changes that are submitted together.
const CHANGES_AT_ONCE: usize = 1024;

/// Shortest pause after an error here, or before a retry of changes that wait; doubled up to `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Drains the outbox whenever it holds changes.
pub(super) async fn run(shared: Arc<Shared>, _part: Part) {
    let Some(outbox) = &shared.outbox else { return };
    let mut pause = Duration::ZERO;
    let mut swept: Option<Instant> = None;
    loop {
        // Dead letters of users who were erased on another replica must be dropped here as well.
        let every = (shared.erase_within / 2).max(MIN_PAUSE);
        if swept.is_none_or(|swept| swept.elapsed() >= every) && shared.connection.why_down().is_none() {
            forget_erased(&shared, outbox).await;
            swept = Some(Instant::now());
        }
        let wait = if outbox.is_empty() { every } else { pause };
        // New changes arrive only while the store is away.
        _ = tokio::time::timeout(wait, outbox.work.notified()).await;
        if outbox.is_empty() {
            continue;
        }
        shared.connection.until_up().await;
        let drained = drain(&shared, outbox).await;
        let is_done = matches!(drained, Ok(Drained { n_waiting: 0, .. }));
        pause = if is_done { Duration::ZERO } else { (pause * 2).clamp(MIN_PAUSE, MAX_PAUSE) };
        match drained {
            Ok(Drained { until, .. }) => outbox.drained(Ok(until)),
            Err(Stop::Unreachable(_)) if shared.connection.why_down().is_some() => pause = Duration::ZERO,
            Err(Stop::Unreachable(unreachable)) => outbox.drained(Err(unreachable.0)),
            Err(Stop::Broken(error)) => {
                tracing::error!(%error, "the outbox can't be emptied");
                outbox.drained(Err(error.to_string().into()));
            }
        }
    }
}

/// Reason that draining stopped.
enum Stop {
    /// The store is away, or refuses every change.
    Unreachable(Unreachable),
    /// A file can't be read or written.
    Broken(StoreError),
}

/// Result of a drain.
struct Drained {
    /// Every change before this position has left its place.
    until: u64,
    /// Number of changes that were put back.
    n_waiting: usize,
}

async fn drain(shared: &Arc<Shared>, outbox: &Outbox) -> Result<Drained, Stop> {
    let owner = shared.clone();
    let seal = move || owner.outbox.as_ref().map(Outbox::seal).transpose();
    let (paths, until) = blocking(seal).await?.unwrap_or_default();
    let mut n_waiting = 0;
    let mut unread = Ok(());
    for path in paths {
        match send_segment(shared, &path).await {
            Ok(sent) => n_waiting += finish_segment(shared, outbox, &path, sent).await?,
            // A damaged segment stays, and the others need not wait for it.
            Err(Stop::Broken(error)) => unread = Err(Stop::Broken(error)),
            Err(unreachable) => return Err(unreachable),
        }
    }
    unread.map(|()| Drained { until, n_waiting })
}

/// Outcomes of the changes of one segment.
#[derive(Default)]
struct Sent {
    n_made: usize,
    n_late: usize,
    n_conflicts: usize,
    /// Changes that may be applied later.
    waiting: Vec<Change>,
    /// Changes that can never be applied, as their row is unreadable.
    dead: Vec<Change>,
}

async fn send_segment(shared: &Shared, path: &Path) -> Result<Sent, Stop> {
    let (mut sent, mut left) = (Sent::default(), Some(Left::File(path.to_owned())));
    while let Some(rest) = left.take() {
        let (changes, rest) = blocking(move || rest.read()).await?;
        send(shared, changes, &mut sent).await?;
        left = rest;
    }
    Ok(sent)
}

/// Removes a segment once the rest of its changes is safe elsewhere. Returns the number of changes that still wait.
async fn finish_segment(
    shared: &Arc<Shared>,
    outbox: &Outbox,
    path: &Path,
    sent: Sent,
) -> Result<usize, Stop> {
    let Sent { n_made, n_late, n_conflicts, waiting, dead } = sent;
    let n_dead = dead.len();
    if n_dead > 0 {
        let owner = shared.clone();
        blocking(move || owner.outbox.as_ref().map_or(Ok(()), |outbox| outbox.dead_letters.keep(&dead)))
            .await?;
    }
    outbox.put_back(&waiting).await.map_err(Stop::Broken)?;
    outbox.remove(path);
    let refused = |reason: &'static str, n: usize| {
        metrics::counter!(metric::OUTBOX_REFUSED, "reason" => reason).increment(n as u64);
    };
    refused("late", n_late);
    refused("conflict", n_conflicts);
    refused("unreadable_row", n_dead);
    tracing::info!(made = n_made, waiting = waiting.len(), "feedback that had waited has been sent");
    if n_late + n_conflicts + n_dead > 0 {
        tracing::warn!(
            late = n_late,
            conflicts = n_conflicts,
            dead = n_dead,
            "feedback that had waited can't be made any more"
        );
    }
    Ok(waiting.len())
}

/// The unread part of a segment.
enum Left {
    File(PathBuf),
    Rest(Segment),
}

impl Left {
    /// Reads the next changes. Returns them and the part that is left. Blocks.
    fn read(self) -> Result<(Vec<Change>, Option<Self>), StoreError> {
        let mut changes = Vec::new();
        let mut segment = match self {
            Self::Rest(segment) => segment,
            Self::File(path) => Segment::open(&path).map_err(broken)?,
        };
        while changes.len() < CHANGES_AT_ONCE {
            let Some(frame) = segment.next_whole().map_err(broken)? else { return Ok((changes, None)) };
            let change = postcard::from_bytes(&frame.payload);
            changes
                .push(change.map_err(|error| broken(OpenError::no_change(segment.path(), &frame, &error)))?);
        }
        Ok((changes, Some(Self::Rest(segment))))
    }
}

async fn send(shared: &Shared, changes: Vec<Change>, sent: &mut Sent) -> Result<(), Stop> {
    let results = shared.submit(changes.clone()).await;
    let mut unreachable = None;
    let mut is_any_told = false;
    let mut left = Vec::new();
    for (change, result) in changes.into_iter().zip(results) {
        is_any_told |= result.is_ok();
        match result {
            Ok(
                Outcome::Applied(_)
                | Outcome::Replaced(_)
                | Outcome::Duplicate(_)
                | Outcome::Retracted { .. }
                | Outcome::Unknown { .. },
            ) => sent.n_made += 1,
            Ok(Outcome::Late | Outcome::Moved) => sent.n_late += 1,
            // Another event counts under its id, so the store would have refused a direct request too.
            Ok(Outcome::Conflict { .. }) => sent.n_conflicts += 1,
            // The time of the change advances, or the events that fill the window would never age.
            Ok(Outcome::Crowded { .. }) => {
                let now_ms = shared.clock.now().as_millisecond().max(change.now_ms);
                sent.waiting.push(Change { now_ms, ..change });
            }
            Ok(Outcome::Full { .. } | Outcome::Queued) => sent.waiting.push(change),
            Ok(Outcome::Unreadable) => sent.dead.push(change),
            Err(why) => {
                left.push(change);
                unreachable.get_or_insert(why);
            }
        }
    }
    match unreachable {
        // The store applies other changes, so it refuses only those of these users.
        Some(_) if is_any_told && shared.connection.why_down().is_none() => sent.waiting.append(&mut left),
        Some(unreachable) => return Err(Stop::Unreachable(unreachable)),
        None => {}
    }
    Ok(())
}

/// Drops dead letters that would not count if they were sent again, such as those of users who were erased elsewhere.
async fn forget_erased(shared: &Arc<Shared>, outbox: &Outbox) {
    let dead_letters = outbox.dead_letters.clone();
    let users = blocking(move || dead_letters.users()).await.unwrap_or_default();
    let mut rows = HashMap::new();
    for user in users {
        let row = match shared.read(user).await {
            Ok(value) => shared.row(user, value.as_ref()).ok().flatten(),
            Err(_) => return,
        };
        rows.extend(row.map(|row| (user, row)));
    }
    let dead_letters = outbox.dead_letters.clone();
    let oldest_ms = shared.clock.now().as_millisecond().saturating_sub(shared.rules.max_age_ms);
    let is_dropped = move |user: UserKey, at_ms: i64| {
        at_ms < oldest_ms || rows.get(&user).is_some_and(|row| row.is_late(at_ms))
    };
    if let Err(Stop::Broken(error)) = blocking(move || dead_letters.forget(is_dropped)).await {
        tracing::error!(%error, "dead letters of erased users can't be dropped");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Stop> {
    let ended = |error: tokio::task::JoinError| StoreError::Journal(error.to_string().into());
    tokio::task::spawn_blocking(work).await.map_err(|error| Stop::Broken(ended(error)))?.map_err(Stop::Broken)
}
