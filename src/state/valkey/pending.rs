//! The pending changes of one user, and the results that their callers wait for.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::cache::CachedRow;
use super::connection::Unreachable;
use crate::state::{Change, Outcome};

/// Outcome of a change, or the error of a store that is away or refuses; the change may be applied all the same.
pub(super) type ChangeResult = Result<Outcome, Unreachable>;

/// Changes that were submitted together; the caller gets the results once all are complete.
#[derive(Debug)]
struct Batch(Mutex<Open>);

#[derive(Debug)]
struct Open {
    results: Vec<Option<ChangeResult>>,
    n_open: usize,
    done: Option<oneshot::Sender<Vec<Option<ChangeResult>>>>,
}

/// A change and the place of its result. If it is dropped without one, the result is that its writer has ended.
#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) change: Change,
    batch: Arc<Batch>,
    idx: usize,
    result: Option<ChangeResult>,
}

impl PendingChange {
    fn complete(mut self, result: ChangeResult) {
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
            // The caller may have been dropped, which undoes no change.
            _ = done.send(std::mem::take(&mut open.results));
        }
    }
}

fn gone() -> ChangeResult {
    Err(Unreachable("its writer has ended".into()))
}

/// Returns a task for each change, and the results, one per change, once all are complete.
pub(super) fn tasks(changes: Vec<Change>) -> (Vec<PendingChange>, impl Future<Output = Vec<ChangeResult>>) {
    let (done, completed) = oneshot::channel();
    let n_open = changes.len();
    let open = Open { results: vec![None; n_open], n_open, done: Some(done) };
    let batch = Arc::new(Batch(Mutex::new(open)));
    let task = |(idx, change)| PendingChange { change, batch: batch.clone(), idx, result: None };
    let tasks = changes.into_iter().enumerate().map(task).collect();
    let results = async move {
        match completed.await {
            Ok(results) => results.into_iter().map(|result| result.unwrap_or_else(gone)).collect(),
            Err(_) => (0..n_open).map(|_| gone()).collect(),
        }
    };
    (tasks, results)
}

/// The pending changes of one user.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    pub(super) tasks: Vec<PendingChange>,
    /// The row as the store last returned it in this claim.
    pub(super) read: Option<CachedRow>,
    pub(super) n_rounds: u32,
}

impl PendingChanges {
    /// Completes each change with its result.
    pub(super) fn complete(self, results: Vec<ChangeResult>) {
        self.tasks.into_iter().zip(results).for_each(|(task, result)| task.complete(result));
    }

    /// Completes each change with the same error.
    pub(super) fn fail(self, unreachable: &Unreachable) {
        self.tasks.into_iter().for_each(|task| task.complete(Err(unreachable.clone())));
    }
}
