//! Emptying the outbox: what waits there goes the way of every change, in order, as soon as the store is back.
//!
//! The law: nothing that was acked leaves without having been made, but for what can never be: what is late, what another
//! event counts under the id of, and what is of a row that can't be read, which becomes a dead letter. What can't be made now,
//! as its user has said too much or there is no room for another user, goes back into the outbox, behind all others.

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

/// Changes that are sent together.
const CHANGES_AT_ONCE: usize = 1024;

/// How long to wait after what went wrong here, or before what could not be made is tried again; doubled each time.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Empties the outbox whenever there is something in it.
pub(super) async fn run(shared: Arc<Shared>, _part: Part) {
    let Some(outbox) = &shared.outbox else { return };
    let mut pause = Duration::ZERO;
    let mut swept: Option<Instant> = None;
    loop {
        // What was erased on another replica is to leave here as well.
        let every = (shared.erase_within / 2).max(MIN_PAUSE);
        if swept.is_none_or(|swept| swept.elapsed() >= every) && shared.connection.why_down().is_none() {
            forget_erased(&shared, outbox).await;
            swept = Some(Instant::now());
        }
        let wait = if outbox.is_empty() { every } else { pause };
        // Only while the store is away there is something new.
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

/// Why draining stopped.
enum Stop {
    /// The store went away, or takes nothing.
    Unreachable(Unreachable),
    /// A file can't be read or written.
    Broken(StoreError),
}

/// What was done.
struct Drained {
    /// Everything before this position has left its place.
    until: u64,
    /// Changes that were put back.
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
            Ok(sent) => n_waiting += settle(shared, outbox, &path, sent).await?,
            // One that is damaged stays, and the others need not wait for it.
            Err(Stop::Broken(error)) => unread = Err(Stop::Broken(error)),
            Err(unreachable) => return Err(unreachable),
        }
    }
    unread.map(|()| Drained { until, n_waiting })
}

/// What became of the changes of one segment.
#[derive(Default)]
struct Sent {
    n_made: usize,
    n_late: usize,
    n_conflicts: usize,
    /// Those that may be made later.
    waiting: Vec<Change>,
    /// Those that never will be.
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

/// Lets go of a segment, once what is left of it is safe elsewhere; how many changes wait on.
async fn settle(shared: &Arc<Shared>, outbox: &Outbox, path: &Path, sent: Sent) -> Result<usize, Stop> {
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

/// What is left to read of a segment.
enum Left {
    File(PathBuf),
    Rest(Segment),
}

impl Left {
    /// The next changes, and what is left after them. Blocks.
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
            // Another event counts under its id, as its sender would have been told.
            Ok(Outcome::Conflict { .. }) => sent.n_conflicts += 1,
            // Time goes on, or nothing would ever age.
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
        // The store is there for others: it refuses these users' alone.
        Some(_) if is_any_told && shared.connection.why_down().is_none() => sent.waiting.append(&mut left),
        Some(unreachable) => return Err(Stop::Unreachable(unreachable)),
        None => {}
    }
    Ok(())
}

/// Drops dead letters that would no longer count if they were sent again, as those of users who were erased elsewhere.
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
    let goes = move |user: UserKey, at_ms: i64| {
        at_ms < oldest_ms || rows.get(&user).is_some_and(|row| row.is_late(at_ms))
    };
    if let Err(Stop::Broken(error)) = blocking(move || dead_letters.forget(goes)).await {
        tracing::error!(%error, "dead letters of erased users can't be dropped");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Stop> {
    let ended = |error: tokio::task::JoinError| StoreError::Journal(error.to_string().into());
    tokio::task::spawn_blocking(work).await.map_err(|error| Stop::Broken(ended(error)))?.map_err(Stop::Broken)
}
