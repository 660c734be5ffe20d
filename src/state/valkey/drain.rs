//! Emptying the outbox: what waits there goes the way of every change, in order, as soon as the store is back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::link::Away;
use super::outbox::{Outbox, broken};
use super::writer::Fault;
use crate::state::journal::OpenError;
use crate::state::journal::segment::Segment;
use crate::state::{Change, Outcome, StoreError};
use crate::types::Part;

/// Changes that are sent together.
const CHANGES_AT_ONCE: usize = 1024;

/// How long to wait after what went wrong here.
const PAUSE: Duration = Duration::from_secs(1);

/// Empties the outbox whenever there is something in it.
pub(super) async fn run(shared: Arc<Shared>, _part: Part) {
    let Some(outbox) = &shared.outbox else { return };
    loop {
        if outbox.is_empty() {
            outbox.work.notified().await;
        }
        shared.link.until_up().await;
        match drain(&shared, outbox).await {
            Ok(until) => outbox.drained(Ok(until)),
            Err(Stop::Away(_)) if shared.link.why_down().is_some() => {}
            Err(Stop::Away(away)) => {
                outbox.drained(Err(away.0));
                tokio::time::sleep(PAUSE).await;
            }
            Err(Stop::Broken(error)) => {
                tracing::error!(%error, "the outbox can't be emptied");
                outbox.drained(Err(error.to_string().into()));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Why draining stopped.
enum Stop {
    /// The store went away, or takes a change of one user no more.
    Away(Away),
    /// A file or a row can't be read.
    Broken(StoreError),
}

async fn drain(shared: &Arc<Shared>, outbox: &Outbox) -> Result<u64, Stop> {
    let owner = shared.clone();
    let seal = move || owner.outbox.as_ref().map(Outbox::seal).transpose();
    let (paths, sealed) = blocking(seal).await?.unwrap_or_default();
    for path in paths {
        let (mut n_sent, mut left) = (0, Some(Left::File(path.clone())));
        while let Some(rest) = left.take() {
            let (changes, rest) = blocking(move || rest.read()).await?;
            n_sent += changes.len();
            send(shared, changes).await?;
            left = rest;
        }
        outbox.remove(&path);
        tracing::info!(changes = n_sent, "feedback that had waited has been sent");
    }
    Ok(sealed)
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
            let damaged = |error: postcard::Error| OpenError::Damaged {
                path: segment.path().to_owned(),
                offset: frame.offset,
                what: format!("a frame is no change ({error})"),
            };
            changes.push(postcard::from_bytes(&frame.payload).map_err(|error| broken(damaged(error)))?);
        }
        Ok((changes, Some(Self::Rest(segment))))
    }
}

async fn send(shared: &Shared, changes: Vec<Change>) -> Result<(), Stop> {
    let mut n_refused = 0;
    let mut broken = None;
    for verdict in shared.submit(changes).await {
        match verdict {
            Ok(
                Outcome::Applied(_)
                | Outcome::Replaced(_)
                | Outcome::Duplicate(_)
                | Outcome::Retracted { .. }
                | Outcome::Unknown,
            ) => {}
            Ok(
                Outcome::Late
                | Outcome::Conflict { .. }
                | Outcome::Crowded { .. }
                | Outcome::Full { .. }
                | Outcome::Queued,
            ) => n_refused += 1,
            Err(Fault::Away(away)) => return Err(Stop::Away(away)),
            Err(fault) => broken = Some(shared.error(fault)),
        }
    }
    if n_refused > 0 {
        tracing::warn!(changes = n_refused, "feedback that had waited came too late or found no room");
    }
    broken.map_or(Ok(()), |error| Err(Stop::Broken(error)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Stop> {
    let ended = |error: tokio::task::JoinError| StoreError::Journal(error.to_string().into());
    tokio::task::spawn_blocking(work).await.map_err(|error| Stop::Broken(ended(error)))?.map_err(Stop::Broken)
}
