//! Writers: tasks that turn changes of rows into compare-and-swaps, one in flight per user.
//!
//! A user belongs to one writer. Changes that arrive while the user's swap is in flight are part of the next, so that
//! many changes of one user become one call, and replicas that change one user compete with at most one swap each.
//!
//! The law: an outcome is returned only if the row that it rests on is the store's: the one that was swapped, or one
//! that was read after the change arrived. A cached row is a guess.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::Value as Answer;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Shared;
use super::cache::CachedRow;
use super::connection::Unreachable;
use super::next_request::{NextRequest, Turn, next_request};
use super::pending::{ChangeResult, PendingChange, PendingChanges, tasks};
use super::value::Value;
use crate::state::{Change, UserKey};
use crate::telemetry::metric;
use crate::types::Part;

/// Users whose rows one writer changes in one pipeline; more wait for the next.
const USERS_AT_ONCE: usize = 256;

/// Rounds that a change may lose to other replicas before it fails. One replica wins every round.
const MAX_ROUNDS: u32 = 200;

/// Rounds in which the functions are loaded again where they are missing.
const MAX_LOADS: u32 = 4;

/// Changes that wait for a writer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    work: Notify,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    tasks: VecDeque<PendingChange>,
    /// True once the writer has ended, on purpose or not.
    is_over: bool,
}

impl Inbox {
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.work.notify_one();
    }

    /// Adds a task, or drops it if the writer has ended.
    fn push(&self, task: PendingChange) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_over {
            waiting.tasks.push_back(task);
        }
    }
}

/// A writer's hold on its inbox: however the writer ends, the waiting tasks are dropped and their callers get an error.
pub(super) struct Serves {
    pub(super) shared: Arc<Shared>,
    pub(super) idx: usize,
}

impl Drop for Serves {
    fn drop(&mut self) {
        let mut waiting = self.shared.inboxes[self.idx].waiting.lock();
        waiting.is_over = true;
        let left = std::mem::take(&mut waiting.tasks);
        drop(waiting);
        drop(left);
    }
}

/// Submits changes to their writers and waits for the results, one per change.
pub(super) async fn submit(inboxes: &[Inbox], changes: Vec<Change>) -> Vec<ChangeResult> {
    if changes.is_empty() {
        return Vec::new();
    }
    let (tasks, results) = tasks(changes);
    for task in tasks {
        inboxes[usize::from(task.change.user.as_bytes()[15]) % inboxes.len()].push(task);
    }
    let has_work = |inbox: &&Inbox| !inbox.waiting.lock().tasks.is_empty();
    inboxes.iter().filter(has_work).for_each(|inbox| inbox.work.notify_one());
    results.await
}

/// Runs rounds until the inbox is closed and empty.
pub(super) async fn run(serves: Serves, part: Part) {
    let (shared, inbox) = (&serves.shared, &serves.shared.inboxes[serves.idx]);
    let mut claims: HashMap<UserKey, PendingChanges> = HashMap::new();
    loop {
        {
            let mut waiting = inbox.waiting.lock();
            while claims.len() < USERS_AT_ONCE
                && let Some(task) = waiting.tasks.pop_front()
            {
                claims.entry(task.change.user).or_default().tasks.push(task);
            }
        }
        if !claims.is_empty() {
            round(shared, &mut claims).await;
        } else if inbox.is_closed.load(Ordering::Acquire) {
            return part.end();
        } else {
            inbox.work.notified().await;
        }
    }
}

/// Sends one command per user, and completes the changes that the answers decide.
async fn round(shared: &Shared, claims: &mut HashMap<UserKey, PendingChanges>) {
    let mut room = shared.room();
    let (mut sent, mut commands) = (Vec::new(), Vec::new());
    for (user, pending) in std::mem::take(claims) {
        let (command, swap) = match next_request(shared, user, &pending, &mut room) {
            NextRequest::Answered(results) => {
                pending.complete(results);
                continue;
            }
            NextRequest::Read => (shared.keys.get(user), None),
            NextRequest::Swap(command, swap) => (command, Some(swap)),
        };
        commands.push(command);
        sent.push((user, pending, swap));
    }
    if commands.is_empty() {
        return;
    }
    let began = Instant::now();
    let answers = shared.connection.send(commands).await;
    metrics::histogram!(metric::STORE_SECONDS, "op" => "swap").record(began.elapsed());
    let answers = match answers {
        Ok(answers) => answers,
        Err(unreachable) => return sent.into_iter().for_each(|(_, pending, _)| pending.fail(&unreachable)),
    };
    let mut done = Vec::new();
    let mut is_loading = false;
    for ((user, mut pending, swap), answer) in sent.into_iter().zip(answers) {
        let row_of = |value| CachedRow { value, as_of: began };
        pending.n_rounds += 1;
        let is_swap = swap.is_some();
        let read = match (answer, swap) {
            (Answer::Int(1), Some(swap)) => {
                shared.cache.written(user, row_of(Some(swap.new.clone())));
                if swap.is_unknown_user {
                    shared.unknown_users.note();
                }
                done.push((user, pending, swap));
                continue;
            }
            // A failover or a flush may have lost the functions.
            (Answer::ServerError(error), Some(_)) if is_missing(&error) && pending.n_rounds < MAX_LOADS => {
                is_loading = true;
                claims.insert(user, pending);
                continue;
            }
            (Answer::ServerError(error), _) => match Value::of_another_type(&error) {
                Some(value) => row_of(Some(value)),
                None => {
                    pending.fail(&Unreachable(error.to_string().into()));
                    continue;
                }
            },
            (Answer::BulkString(bytes), _) => row_of(Some(Value::from(bytes))),
            (_, _) => row_of(None),
        };
        metrics::counter!(metric::STORE_CONFLICTS).increment(u64::from(is_swap));
        shared.cache.read(user, read.clone());
        pending.read = Some(read);
        if pending.n_rounds < MAX_ROUNDS {
            claims.insert(user, pending);
        } else {
            pending.fail(&Unreachable("other replicas were faster every time".into()));
        }
    }
    let of = |turn| done.iter().filter(move |(.., swap)| swap.turn == turn).map(|(user, ..)| *user);
    shared.note(&of(Turn::Joins).collect::<Vec<_>>(), &of(Turn::Leaves).collect::<Vec<_>>()).await;
    for (_, pending, swap) in done {
        pending.complete(swap.outcomes.into_iter().map(Ok).collect());
    }
    if is_loading && let Err(error) = shared.connection.load().await {
        tracing::warn!(%error, "the functions can't be loaded");
    }
}

fn is_missing(error: &redis::ServerError) -> bool {
    error.details().is_some_and(|details| details.contains("unction not found"))
}
