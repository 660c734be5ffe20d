//! What is under way for one user, and who is told what became of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::cache::CachedRow;
use super::connection::Unreachable;
use crate::state::{Change, Outcome};

/// What became of a change; or the store is away or refuses, and the change may have been made all the same.
pub(super) type ChangeResult = Result<Outcome, Unreachable>;

/// Changes that were given together; told once all are settled.
#[derive(Debug)]
struct Batch(Mutex<Open>);

#[derive(Debug)]
struct Open {
    results: Vec<Option<ChangeResult>>,
    n_open: usize,
    done: Option<oneshot::Sender<Vec<Option<ChangeResult>>>>,
}

/// One change and where its verdict goes. Dropped without one, it is told that nobody works on it any more.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) change: Change,
    batch: Arc<Batch>,
    idx: usize,
    result: Option<ChangeResult>,
}

impl PendingChange {
    fn settle(mut self, result: ChangeResult) {
        self.result = Some(result);
    }
}

impl Drop for PendingChange {
    fn drop(&mut self) {
        let mut open = self.batch.0.lock();
        open.results[self.idx] = Some(self.result.take().unwrap_or_else(gone));
        open.n_open -= 1;
        if open.n_open == 0
            && let Some(done) = open.done.take()
        {
            // Whoever asked may have gone; what was changed is changed.
            _ = done.send(std::mem::take(&mut open.results));
        }
    }
}

fn gone() -> ChangeResult {
    Err(Unreachable("its writer has ended".into()))
}

/// A task for each change, and the verdicts, one per change, once all are settled.
pub(super) fn tasks(changes: Vec<Change>) -> (Vec<PendingChange>, impl Future<Output = Vec<ChangeResult>>) {
    let (done, settled) = oneshot::channel();
    let n_open = changes.len();
    let open = Open { results: vec![None; n_open], n_open, done: Some(done) };
    let batch = Arc::new(Batch(Mutex::new(open)));
    let task = |(idx, change)| PendingChange { change, batch: batch.clone(), idx, result: None };
    let tasks = changes.into_iter().enumerate().map(task).collect();
    let results = async move {
        match settled.await {
            Ok(results) => results.into_iter().map(|result| result.unwrap_or_else(gone)).collect(),
            Err(_) => (0..n_open).map(|_| gone()).collect(),
        }
    };
    (tasks, results)
}

/// What is under way for one user.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    pub(super) tasks: Vec<PendingChange>,
    /// The row as the store said it last in this claim.
    pub(super) read: Option<CachedRow>,
    pub(super) n_rounds: u32,
}

impl PendingChanges {
    /// Tells each change its verdict.
    pub(super) fn settle(self, results: Vec<ChangeResult>) {
        self.tasks.into_iter().zip(results).for_each(|(task, result)| task.settle(result));
    }

    /// Tells each change why it was not made.
    pub(super) fn fail(self, unreachable: &Unreachable) {
        self.tasks.into_iter().for_each(|task| task.settle(Err(unreachable.clone())));
    }
}
