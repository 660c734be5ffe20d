//! What is under way for one user, and who is told what became of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::cache::Known;
use super::link::Away;
use crate::state::{Change, Outcome};

/// What became of a change; or the store is away or refuses, and the change may have been made all the same.
pub(super) type Verdict = Result<Outcome, Away>;

/// Changes that were given together; told once all are settled.
#[derive(Debug)]
struct Batch(Mutex<Open>);

#[derive(Debug)]
struct Open {
    verdicts: Vec<Option<Verdict>>,
    n_open: usize,
    done: Option<oneshot::Sender<Vec<Option<Verdict>>>>,
}

/// One change and where its verdict goes. Dropped without one, it is told that nobody works on it any more.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) change: Change,
    batch: Arc<Batch>,
    idx: usize,
    verdict: Option<Verdict>,
}

impl Task {
    fn settle(mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let mut open = self.batch.0.lock();
        open.verdicts[self.idx] = Some(self.verdict.take().unwrap_or_else(gone));
        open.n_open -= 1;
        if open.n_open == 0
            && let Some(done) = open.done.take()
        {
            // Whoever asked may have gone; what was changed is changed.
            _ = done.send(std::mem::take(&mut open.verdicts));
        }
    }
}

fn gone() -> Verdict {
    Err(Away("its writer has ended".into()))
}

/// A task for each change, and the verdicts, one per change, once all are settled.
pub(super) fn tasks(changes: Vec<Change>) -> (Vec<Task>, impl Future<Output = Vec<Verdict>>) {
    let (done, settled) = oneshot::channel();
    let n_open = changes.len();
    let open = Open { verdicts: vec![None; n_open], n_open, done: Some(done) };
    let batch = Arc::new(Batch(Mutex::new(open)));
    let task = |(idx, change)| Task { change, batch: batch.clone(), idx, verdict: None };
    let tasks = changes.into_iter().enumerate().map(task).collect();
    let verdicts = async move {
        match settled.await {
            Ok(verdicts) => verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(gone)).collect(),
            Err(_) => (0..n_open).map(|_| gone()).collect(),
        }
    };
    (tasks, verdicts)
}

/// What is under way for one user.
#[derive(Debug, Default)]
pub(super) struct Claim {
    pub(super) tasks: Vec<Task>,
    /// The row as the store said it last in this claim.
    pub(super) read: Option<Known>,
    pub(super) n_rounds: u32,
}

impl Claim {
    /// Tells each change its verdict.
    pub(super) fn settle(self, verdicts: Vec<Verdict>) {
        self.tasks.into_iter().zip(verdicts).for_each(|(task, verdict)| task.settle(verdict));
    }

    /// Tells each change why it was not made.
    pub(super) fn fail(self, away: &Away) {
        self.tasks.into_iter().for_each(|task| task.settle(Err(away.clone())));
    }
}
