//! The journal: what has changed, in order, made durable by a thread of its own.
//!
//! Group commit without a timer: what arrives while one fsync runs is written by the next one, so a lone change waits for
//! one fsync and a thousand at once for two. A write that fails is repeated from the last durable byte until it succeeds;
//! meanwhile nothing new is taken.

mod dates;
mod dir;
mod error;
mod rewrite;
pub(super) mod secret;
pub(super) mod segment;

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

pub(super) use dates::Dates;
pub(super) use dir::{DataDir, secret_of};
pub use error::OpenError;
pub(super) use rewrite::drop_frames;
pub use segment::LedgerId;

use super::StoreError;
use crate::telemetry::metric;
use crate::types::Liveness;

/// What may wait to be written; senders wait beyond it.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// A segment is followed by a new one when it is larger.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// How long until a failed write is repeated.
const RETRY: Duration = Duration::from_millis(100);

/// A journal that is open.
#[derive(Debug)]
pub(in crate::state) struct Journal {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    work: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Pending {
    frames: Vec<u8>,
    next_lsn: u64,
    /// A new segment is wanted, so that all there is until now can be compacted.
    is_sealing: bool,
    is_closed: bool,
    /// Nobody writes any more.
    is_over: bool,
}

/// How far the writer is.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// All positions up to this one are durable.
    durable: u64,
    /// Everything from this position on is in a later segment than everything before.
    sealed: u64,
    /// Why the last attempt to begin a segment did not succeed.
    unsealed: Option<Arc<str>>,
    failure: Option<Arc<str>>,
    is_over: bool,
}

impl Journal {
    /// Goes on after `last_lsn`, in a new segment of `dir`. The writer is a part with this name.
    pub(in crate::state) fn open(
        dir: &Path,
        ledger_id: LedgerId,
        last_lsn: u64,
        part: (&Liveness, &'static str),
    ) -> Result<Self, OpenError> {
        Self::start(dir, ledger_id, last_lsn, part, Writer::run)
    }

    fn start(
        dir: &Path,
        ledger_id: LedgerId,
        last_lsn: u64,
        (liveness, name): (&Liveness, &'static str),
        run: impl FnOnce(Writer) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let older = segment::list(dir)?.into_iter().filter_map(|path| segment::first_lsn(&path));
        let after = older.filter(|&first| first <= last_lsn).max().unwrap_or_default();
        let open = OpenSegment::create(dir, ledger_id, (last_lsn + 1, after))
            .map_err(|source| OpenError::io(&segment::path(dir, last_lsn + 1), source))?;
        let start = Progress { durable: last_lsn, sealed: last_lsn + 1, ..Progress::default() };
        let (sender, progress) = watch::channel(start);
        let pending = Mutex::new(Pending { next_lsn: last_lsn + 1, ..Pending::default() });
        let shared = Arc::new(Shared { pending, work: Condvar::new(), progress: sender });
        let writer = Writer { shared: shared.clone(), open, dir: dir.to_owned(), ledger_id };
        // Not before: what could not begin has not died.
        let part = liveness.part(name);
        let writer = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            run(writer);
            part.end();
        });
        let writer = writer.map_err(|source| OpenError::io(dir, source))?;
        Ok(Self { shared, progress, writer: Mutex::new(Some(writer)) })
    }

    /// Adds what is to be written and gives its position. Never waits.
    pub(in crate::state) fn append(&self, payload: &[u8]) -> u64 {
        let mut pending = self.shared.pending.lock();
        let lsn = pending.next_lsn;
        pending.next_lsn += 1;
        if !pending.is_over {
            segment::push_frame(&mut pending.frames, lsn, payload);
        }
        drop(pending);
        self.shared.work.notify_one();
        lsn
    }

    /// Waits until there is room for more. Refuses while writing fails, so that no memory fills with what can't be kept.
    pub(in crate::state) async fn room(&self) -> Result<(), StoreError> {
        loop {
            let mut progress = self.progress.clone();
            let Progress { failure, is_over, .. } = progress.borrow_and_update().clone();
            if let Some(failure) = failure {
                return Err(StoreError::Journal(failure));
            }
            if is_over {
                return Err(over());
            }
            if self.shared.pending.lock().frames.len() < MAX_PENDING_BYTES {
                return Ok(());
            }
            if progress.changed().await.is_err() {
                return Err(over());
            }
        }
    }

    /// Whether so much waits to be written, or nothing can be, that what need not be kept should not be added.
    pub(in crate::state) fn is_behind(&self) -> bool {
        self.failure().is_some() || self.shared.pending.lock().frames.len() >= MAX_PENDING_BYTES
    }

    /// Waits until a position is durable.
    pub(in crate::state) async fn durable(&self, lsn: u64) -> Result<(), StoreError> {
        let mut progress = self.progress.clone();
        let done =
            |progress: &Progress| progress.durable >= lsn || progress.failure.is_some() || progress.is_over;
        let progress = progress.wait_for(done).await.map_err(|_| over())?;
        match &progress.failure {
            _ if progress.durable >= lsn => Ok(()),
            Some(failure) => Err(StoreError::Journal(failure.clone())),
            None => Err(over()),
        }
    }

    /// As [`Journal::durable`], for a thread that may wait; gives up when writing fails.
    pub(in crate::state) fn wait_durable(&self, lsn: u64) -> Result<(), StoreError> {
        futures::executor::block_on(self.durable(lsn))
    }

    /// Begins a new segment once all that has been added is written; the first position in it.
    pub(in crate::state) fn seal(&self) -> Result<u64, StoreError> {
        let lsn = {
            let mut pending = self.shared.pending.lock();
            pending.is_sealing = true;
            self.shared.progress.send_modify(|progress| progress.unsealed = None);
            pending.next_lsn
        };
        self.shared.work.notify_one();
        let mut progress = self.progress.clone();
        let trouble = |progress: &Progress| progress.failure.clone().or_else(|| progress.unsealed.clone());
        let done =
            |progress: &Progress| progress.sealed >= lsn || trouble(progress).is_some() || progress.is_over;
        let wait = async {
            let progress = progress.wait_for(done).await.map_err(|_| over())?;
            match trouble(&progress) {
                _ if progress.sealed >= lsn => Ok(progress.sealed),
                Some(trouble) => Err(StoreError::Journal(trouble)),
                None => Err(over()),
            }
        };
        futures::executor::block_on(wait)
    }

    /// The position of the last change that was added.
    pub(in crate::state) fn last_lsn(&self) -> u64 {
        self.shared.pending.lock().next_lsn - 1
    }

    /// The first position of the segment that is being written.
    pub(in crate::state) fn first_open_lsn(&self) -> u64 {
        self.progress.borrow().sealed
    }

    /// Why nothing can be written now.
    pub(in crate::state) fn failure(&self) -> Option<Arc<str>> {
        self.progress.borrow().failure.clone()
    }

    /// Writes what is there and ends the writer.
    pub(in crate::state) fn close(&self) {
        self.shared.pending.lock().is_closed = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

fn over() -> StoreError {
    StoreError::Journal("it is closed".into())
}

struct Writer {
    shared: Arc<Shared>,
    open: OpenSegment,
    dir: PathBuf,
    ledger_id: LedgerId,
}

impl Writer {
    fn run(mut self) {
        // Two buffers in turn: senders fill one while the other is written.
        let mut frames = Vec::new();
        loop {
            frames.clear();
            let (last_lsn, is_sealing, is_closed) = self.take(&mut frames);
            if !frames.is_empty() && !self.write(&frames, last_lsn) {
                break;
            }
            if is_sealing || self.open.length > MAX_SEGMENT_BYTES {
                self.rotate(last_lsn + 1);
            }
            if is_closed {
                break;
            }
        }
    }

    fn take(&self, frames: &mut Vec<u8>) -> (u64, bool, bool) {
        let mut pending = self.shared.pending.lock();
        while pending.frames.is_empty() && !pending.is_sealing && !pending.is_closed {
            self.shared.work.wait(&mut pending);
        }
        std::mem::swap(&mut pending.frames, frames);
        (pending.next_lsn - 1, std::mem::take(&mut pending.is_sealing), pending.is_closed)
    }

    /// Writes until it succeeds; false if the journal was closed before it did.
    fn write(&mut self, frames: &[u8], last_lsn: u64) -> bool {
        loop {
            let start = tokio::time::Instant::now();
            let Err(error) = self.open.write(frames) else {
                metrics::histogram!(metric::STORE_SECONDS, "op" => "commit").record(start.elapsed());
                self.shared.progress.send_modify(|progress| {
                    if progress.failure.take().is_some() {
                        tracing::info!("the journal can be written again");
                    }
                    progress.durable = last_lsn;
                });
                return true;
            };
            let failure: Arc<str> = format!("{}: {error}", self.open.path.display()).into();
            self.shared.progress.send_modify(|progress| {
                if progress.failure.is_none() {
                    tracing::error!(%failure, "the journal can't be written; feedback is refused until it can");
                }
                progress.failure = Some(failure);
            });
            let mut pending = self.shared.pending.lock();
            if pending.is_closed {
                tracing::error!("the last changes were not written, and none of them was acked");
                return false;
            }
            self.shared.work.wait_for(&mut pending, RETRY);
        }
    }

    fn rotate(&mut self, lsn: u64) {
        if self.open.first_lsn == lsn {
            return self.shared.progress.send_modify(|progress| progress.sealed = lsn);
        }
        match OpenSegment::create(&self.dir, self.ledger_id, (lsn, self.open.first_lsn)) {
            Ok(open) => {
                self.open = open;
                self.shared.progress.send_modify(|progress| progress.sealed = lsn);
            }
            // The segment that is open still does.
            Err(error) => {
                tracing::warn!(%error, "no new segment of the journal can be made");
                self.shared
                    .progress
                    .send_modify(|progress| progress.unsealed = Some(error.to_string().into()));
            }
        }
    }
}

/// However the writer ends, nobody waits for it any more.
impl Drop for Writer {
    fn drop(&mut self) {
        let mut pending = self.shared.pending.lock();
        pending.is_over = true;
        let died = (!pending.is_closed).then(|| Arc::from("its writer has died"));
        pending.frames = Vec::new();
        drop(pending);
        self.shared.progress.send_modify(|progress| {
            progress.is_over = true;
            progress.failure = died.or_else(|| progress.failure.take());
        });
    }
}

/// The segment that is written.
struct OpenSegment {
    path: PathBuf,
    file: File,
    first_lsn: u64,
    /// Bytes that are durable.
    length: u64,
    is_clean: bool,
}

impl OpenSegment {
    fn create(dir: &Path, ledger_id: LedgerId, (first_lsn, after): (u64, u64)) -> std::io::Result<Self> {
        let path = segment::path(dir, first_lsn);
        let part = path.with_extension(rewrite::PART);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&part)?;
        let mut open = Self { path, file, first_lsn, length: 0, is_clean: true };
        let made = open
            .write(&segment::file_head(ledger_id, after))
            .and_then(|()| std::fs::rename(&part, &open.path))
            .and_then(|()| segment::sync_dir(dir));
        // The names of segments say what is in those before them: one that is not used must not be there.
        if let Err(error) = made {
            for path in [&part, &open.path] {
                let _ = std::fs::remove_file(path);
            }
            return Err(error);
        }
        Ok(open)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if !self.is_clean {
            // What a failed write left behind must not stand before what follows.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        self.is_clean = false;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.is_clean = true;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::state) mod tests {
    use super::*;

    const LEDGER_ID: LedgerId = LedgerId { n_heads: 1, key: 7 };

    /// A journal whose writer panics at its first frame.
    pub(in crate::state) fn dying(
        dir: &Path,
        ledger_id: LedgerId,
        last_lsn: u64,
        liveness: &Liveness,
    ) -> Journal {
        let run = |writer: Writer| {
            writer.take(&mut Vec::new());
            panic!("as a defect of the writer would");
        };
        Journal::start(dir, ledger_id, last_lsn, (liveness, "the journal's writer"), run).unwrap()
    }

    #[tokio::test]
    async fn who_waits_for_a_dead_writer_gets_an_error_at_once() {
        let (dir, liveness) = (tempfile::tempdir().unwrap(), Liveness::default());
        let journal = Arc::new(dying(dir.path(), LEDGER_ID, 0, &liveness));
        let waiting = journal.clone();
        let sealing = tokio::task::spawn_blocking(move || waiting.seal());
        let lsn = journal.append(b"a change");
        let has_died = |error: StoreError| error.to_string().contains("its writer has died");
        assert!(journal.durable(lsn).await.is_err_and(has_died));
        assert!(journal.room().await.is_err_and(has_died));
        assert!(sealing.await.unwrap().is_err_and(has_died));
        assert!(journal.seal().is_err_and(has_died) && journal.wait_durable(lsn).is_err_and(has_died));
        journal.close();
        assert_eq!(liveness.dead().as_deref(), Some("the journal's writer"));
        // What nobody will write fills no memory.
        journal.append(&[0; 1000]);
        assert!(journal.shared.pending.lock().frames.is_empty());
    }

    #[tokio::test]
    async fn after_a_stop_nobody_waits_and_nothing_is_dead() {
        let (dir, liveness) = (tempfile::tempdir().unwrap(), Liveness::default());
        let journal = Journal::open(dir.path(), LEDGER_ID, 0, (&liveness, "the journal's writer")).unwrap();
        let lsn = journal.append(b"a change");
        journal.close();
        assert!(journal.durable(lsn).await.is_ok());
        let late = journal.append(&vec![0; 2 * MAX_PENDING_BYTES]);
        assert!(journal.room().await.is_err() && journal.durable(late).await.is_err());
        assert_eq!(liveness.dead(), None);
    }
}
