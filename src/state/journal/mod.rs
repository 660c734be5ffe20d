//! The journal: changes in order, made durable by a thread of its own.
//!
//! Group commit needs no timer: frames that arrive during one fsync are written by the next one, so a lone change
//! waits for one fsync and a thousand at once for two. A write that fails is repeated from the last durable byte
//! until it succeeds; meanwhile no new change is accepted.

mod dates;
mod dir;
mod error;
mod open_segment;
mod rewrite;
pub(super) mod secret;
pub(super) mod segment;

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
use open_segment::OpenSegment;

/// Upper bound of the bytes that wait to be written; senders wait beyond it.
const MAX_PENDING_BYTES: usize = 4 << 20;

/// Size above which a segment is followed by a new one.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// Pause before a failed write is repeated.
const RETRY: Duration = Duration::from_millis(100);

/// An open journal.
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
    /// True if a new segment is requested, so that all earlier ones can be compacted.
    is_sealing: bool,
    is_closed: bool,
    /// True once the writer has ended.
    is_over: bool,
}

/// Progress of the writer.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// All positions up to this one are durable.
    durable: u64,
    /// All positions from this one on are in later segments than those before it.
    sealed: u64,
    /// Reason for which the last attempt to begin a segment failed.
    unsealed: Option<Arc<str>>,
    failure: Option<Arc<str>>,
    is_over: bool,
}

impl Journal {
    /// Opens a journal that continues after `last_lsn`, in a new segment of `dir`. The writer runs as `part`.
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
        // The part begins only here: a writer that could not begin has not died.
        let part = liveness.part(name);
        let writer = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            run(writer);
            part.end();
        });
        let writer = writer.map_err(|source| OpenError::io(dir, source))?;
        Ok(Self { shared, progress, writer: Mutex::new(Some(writer)) })
    }

    /// Appends a frame, and returns its position. Never waits.
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

    /// Waits until there is room for more. Refuses while writing fails, so that memory does not fill with frames that
    /// can't be written.
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

    /// Reports whether optional frames should be skipped, as too many bytes wait to be written or writing fails.
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

    /// Blocks until a position is durable, and gives up when writing fails, as [`Journal::durable`] does.
    pub(in crate::state) fn wait_durable(&self, lsn: u64) -> Result<(), StoreError> {
        futures::executor::block_on(self.durable(lsn))
    }

    /// Begins a new segment once all appended frames are written, and returns the first position in it.
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

    /// Returns the position of the last change that was appended.
    pub(in crate::state) fn last_lsn(&self) -> u64 {
        self.shared.pending.lock().next_lsn - 1
    }

    /// Returns the first position of the segment that is being written.
    pub(in crate::state) fn first_open_lsn(&self) -> u64 {
        self.progress.borrow().sealed
    }

    /// Returns the reason for which writing fails at present.
    pub(in crate::state) fn failure(&self) -> Option<Arc<str>> {
        self.progress.borrow().failure.clone()
    }

    /// Writes the pending frames, and ends the writer.
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
        // Two buffers alternate: senders fill one while the other is written.
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

    /// Writes until it succeeds; returns false if the journal was closed before it did.
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
            // The open segment takes further frames.
            Err(error) => {
                tracing::warn!(%error, "no new segment of the journal can be made");
                self.shared
                    .progress
                    .send_modify(|progress| progress.unsealed = Some(error.to_string().into()));
            }
        }
    }
}

/// Ends all waits for the writer, also if it panics.
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

#[cfg(test)]
pub(in crate::state) mod tests {
    use super::*;

    const LEDGER_ID: LedgerId = LedgerId { n_heads: 1, key: 7 };

    /// Returns a journal whose writer panics at its first frame.
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
        let lsn = journal.append(b"a change");
        let waiting = journal.clone();
        let sealing = tokio::task::spawn_blocking(move || waiting.seal());
        let has_died = |error: StoreError| error.to_string().contains("its writer has died");
        assert!(journal.durable(lsn).await.is_err_and(has_died));
        assert!(journal.room().await.is_err_and(has_died));
        assert!(sealing.await.unwrap().is_err_and(has_died));
        assert!(journal.seal().is_err_and(has_died) && journal.wait_durable(lsn).is_err_and(has_died));
        journal.close();
        assert_eq!(liveness.dead().as_deref(), Some("the journal's writer"));
        // Frames that will never be written fill no memory.
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
