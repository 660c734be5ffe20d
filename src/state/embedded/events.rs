//! The event log: the raw events that the journal still holds.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{JournaledChange, user_of};
use crate::state::journal::segment::{self, End, Segment};
use crate::state::journal::{DataDir, OpenError, secret, secret_of};
use crate::state::{
    Absorbed, Change, ChangeKind, Departure, EventKey, LedgerEvent, MergeStep, UserKey, Withdrawal,
};

/// The raw events of a data directory.
#[derive(Debug)]
pub struct EventLog {
    journal: PathBuf,
    /// The directory and its lock; none where a server holds them.
    dir: Option<DataDir>,
}

/// A change as the journal holds it.
#[derive(Debug)]
pub struct Logged {
    /// Its position.
    pub lsn: u64,
    /// The change.
    pub change: Change,
    /// `max_age_ms` of the rules that applied to it.
    pub(super) max_age_ms: i64,
}

/// Later changes that decide which events count.
#[derive(Debug, Default)]
struct EventStatus {
    /// Positions at which events were retracted or replaced: an id may be used again once it is forgotten.
    retracted: HashMap<UserKey, BTreeMap<(EventKey, u64), Undo>>,
    /// Position of each erased user's last erasure.
    erased: HashMap<UserKey, u64>,
    /// Position and target of each merged user's last departure.
    departed: HashMap<UserKey, (u64, Departure)>,
}

/// A change that retracted or replaced events.
#[derive(Debug, Clone, Copy)]
struct Undo {
    /// Events that happened before this time still count: the row had forgotten them.
    since_ms: i64,
    /// Time of the change, in milliseconds since the Unix epoch.
    now_ms: i64,
}

impl EventStatus {
    fn is_retracted(&self, Logged { lsn, change, .. }: &Logged) -> bool {
        let ChangeKind::Add(event) = &change.kind else { return false };
        let is_retracted = |user, since: u64| {
            let later = (event.key, since + 1)..=(event.key, u64::MAX);
            let undos = self.retracted.get(&user).map(|undos| undos.range(later));
            undos.into_iter().flatten().any(|(_, undo)| undo.since_ms <= event.at_ms)
        };
        is_retracted(change.user, *lsn)
            || self.way(change.user, *lsn).any(|(since, departure)| is_retracted(departure.into, since))
    }

    /// Returns the accounts that an event at a position has moved to, in order, each with the position of the move.
    fn way(&self, user: UserKey, lsn: u64) -> impl Iterator<Item = (u64, &Departure)> {
        let next = move |(user, since): (UserKey, u64)| {
            self.departed.get(&user).map(|(at, departure)| (*at, departure)).filter(|(at, _)| since < *at)
        };
        std::iter::successors(next((user, lsn)), move |(at, departure)| next((departure.into, *at)))
    }

    /// Sets the user of an event to the account for which it counts.
    fn name(&self, mut logged: Logged) -> Logged {
        let account =
            self.way(logged.change.user, logged.lsn).last().map(|(_, departure)| &departure.account);
        if let (Some(account), ChangeKind::Add(event)) = (account, &mut logged.change.kind)
            && let Some(resolved) = &mut event.resolved
        {
            Arc::make_mut(resolved).user = account.clone();
        }
        logged
    }

    fn retract(&mut self, user: UserKey, key: EventKey, lsn: u64, undo: Undo) {
        self.retracted.entry(user).or_default().insert((key, lsn), undo);
    }

    /// Applies a merge: an event that was retracted under either id, and is still remembered at the merge, is retracted
    /// under both. The other id's events belong to the account from then on.
    fn join(&mut self, account: UserKey, absorbed: &Absorbed, lsn: u64, merged: Undo) {
        for frame in absorbed.remembered() {
            let undos =
                self.retracted.get(&account).map(|undos| undos.range((frame.key, 0)..(frame.key, lsn)));
            let mut undos = undos.into_iter().flatten();
            if frame.mark.is_taken_back() {
                self.retract(account, frame.key, lsn, merged);
            } else if undos.any(|(_, undo)| undo.now_ms >= merged.since_ms) {
                self.retract(account, frame.key, lsn, Undo { since_ms: frame.at_ms, ..merged });
            }
        }
    }

    fn is_erased(&self, Logged { lsn, change, .. }: &Logged) -> bool {
        self.erased.get(&change.user).is_some_and(|erasure| lsn < erasure)
    }
}

impl EventLog {
    /// Opens the events of a directory that no server uses, and holds the directory until this is dropped.
    ///
    /// # Errors
    /// When another process has the directory.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let dir = DataDir::open(dir)?;
        Ok(Self { journal: dir.journal(), dir: Some(dir) })
    }

    pub(super) fn of(journal: PathBuf) -> Self {
        Self { journal, dir: None }
    }

    /// Iterates over the changes in order, without feedback that was retracted or replaced and without users who were
    /// erased later. Feedback under a merged id has the account as its user. Reads everything twice.
    ///
    /// # Errors
    /// When a file can't be read or is damaged; the iterator ends with such an error too.
    pub fn standing(&self) -> Result<impl Iterator<Item = Result<Logged, OpenError>> + use<>, OpenError> {
        let status = self.status()?;
        let standing = move |logged: Result<Logged, OpenError>| match logged {
            Ok(logged) if status.is_erased(&logged) || status.is_retracted(&logged) => None,
            logged => Some(logged.map(|logged| status.name(logged))),
        };
        Ok(self.changes()?.filter_map(standing))
    }

    /// Iterates over all changes in order, except those of a user who was erased later: applied again, they give the
    /// same rows. Reads everything twice.
    ///
    /// # Errors
    /// As [`EventLog::standing`].
    pub fn unerased(&self) -> Result<impl Iterator<Item = Result<Logged, OpenError>> + use<>, OpenError> {
        let status = self.status()?;
        let stays = move |logged: &Logged| !status.is_erased(logged);
        Ok(self.changes()?.filter(move |logged| logged.as_ref().map_or(true, &stays)))
    }

    /// Copies the secret to another directory, so that both derive the same user keys; [`EventLog::survey`] has checked
    /// it. False if there is no secret: the user keys are unkeyed hashes.
    ///
    /// # Errors
    /// When the secret can't be read or written.
    pub fn hand_on_secret(&self, to: &Path) -> Result<bool, OpenError> {
        let Some(dir) = &self.dir else { return Ok(false) };
        let Some(keys) = secret::read(&dir.secret())? else { return Ok(false) };
        std::fs::create_dir_all(to).map_err(|source| OpenError::io(to, source))?;
        secret::write(&secret_of(to), &keys).map(|()| true)
    }

    /// Returns the paths of the file of rows and of the secret beside it, for a directory that no server uses.
    pub(super) fn rows(&self) -> Option<(PathBuf, PathBuf)> {
        self.dir.as_ref().map(|dir| (dir.rows(), dir.secret()))
    }

    /// Returns the number of heads of the changes; 0 where there are no segments.
    pub(super) fn n_heads(&self) -> Result<usize, OpenError> {
        let first = segment::list(&self.journal)?.into_iter().next();
        first.map_or(Ok(0), |path| Ok(Segment::open(&path)?.ledger_id.n_heads))
    }

    /// Reads all changes for those that decide which events count.
    fn status(&self) -> Result<EventStatus, OpenError> {
        let mut status = EventStatus::default();
        for logged in self.changes()? {
            let Logged { lsn, change, max_age_ms } = logged?;
            let undo = Undo { since_ms: change.now_ms.saturating_sub(max_age_ms), now_ms: change.now_ms };
            match change.kind {
                ChangeKind::Retract(key) | ChangeKind::Withdraw(Withdrawal { key, .. }) => {
                    status.retract(change.user, key, lsn, Undo { since_ms: i64::MIN, ..undo });
                }
                ChangeKind::Add(LedgerEvent { replaces: Some(key), .. }) => {
                    status.retract(change.user, key, lsn, undo);
                }
                ChangeKind::Merge(MergeStep::Depart(departure)) => {
                    status.departed.insert(change.user, (lsn, departure));
                }
                ChangeKind::Merge(MergeStep::Absorb(absorbed)) => {
                    status.join(change.user, &absorbed, lsn, undo);
                }
                ChangeKind::Erase => _ = status.erased.insert(change.user, lsn),
                ChangeKind::Add(_) | ChangeKind::Import(_) | ChangeKind::Merge(_) => {}
            }
        }
        Ok(status)
    }

    /// Iterates over all changes, in order.
    pub(super) fn changes(&self) -> Result<Changes, OpenError> {
        let paths = segment::list(&self.journal)?.into();
        Ok(Changes { paths, segment: None, before: None, users: None })
    }

    /// Iterates over the changes of some users, in order, with one at a time in memory.
    pub(super) fn changes_of(
        &self,
        users: HashSet<UserKey>,
    ) -> Result<impl Iterator<Item = Result<Logged, OpenError>> + use<>, OpenError> {
        Ok(Changes { users: Some(users), ..self.changes()? })
    }
}

/// An iterator over the changes in one segment after another.
pub(super) struct Changes {
    paths: VecDeque<PathBuf>,
    segment: Option<Segment>,
    /// Path of the segment that was opened last.
    before: Option<PathBuf>,
    /// Users whose changes are read; none for all users.
    users: Option<HashSet<UserKey>>,
}

impl Changes {
    fn next_change(&mut self) -> Result<Option<Logged>, OpenError> {
        loop {
            let Some(segment) = &mut self.segment else {
                let Some(path) = self.paths.pop_front() else { return Ok(None) };
                self.segment = match Segment::open(&path) {
                    // A server may drop an old segment after it was listed.
                    Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        None
                    }
                    opened => Some(opened?),
                };
                if let (Some(segment), Some(before)) = (&self.segment, &self.before) {
                    segment.follows(before)?;
                }
                self.before = self.segment.as_ref().map(|_| path);
                continue;
            };
            let frame = match segment.next()? {
                Ok(frame) => frame,
                // A torn end is damage in every segment but the newest, which the server may be writing.
                Err(End::Torn) if !self.paths.is_empty() => return Err(segment.torn()),
                Err(_) => {
                    self.segment = None;
                    continue;
                }
            };
            if let (Some(users), Some(user)) = (&self.users, user_of(&frame))
                && !users.contains(&user)
            {
                continue;
            }
            let JournaledChange { change, max_age_ms } = postcard::from_bytes(&frame.payload)
                .map_err(|error| OpenError::no_change(segment.path(), &frame, &error))?;
            return Ok(Some(Logged { lsn: frame.lsn, change, max_age_ms }));
        }
    }
}

impl Iterator for Changes {
    type Item = Result<Logged, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_change().transpose();
        if matches!(next, Some(Err(_))) {
            self.paths.clear();
            self.segment = None;
        }
        next
    }
}
