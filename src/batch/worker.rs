//! Model threads: each owns one encoder and takes batches while there are any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::order::{Batch, Job};
use super::queue::{Queue, Takes};
use crate::telemetry::metric;
use crate::types::{Embedding, Encode, EncodeError, Encoded, Liveness, Part, Tokens};

/// The encoders that model threads run; a thread for each.
pub struct Encoders {
    /// Encoders for any text.
    pub all: Vec<Box<dyn Encode>>,
    /// Encoders for small requests, which would otherwise wait for a long text of a large one. They share the cores
    /// with the others while they run.
    pub small: Vec<Box<dyn Encode>>,
}

/// The model threads of one queue.
#[derive(Debug)]
pub struct Workers {
    queue: Arc<Queue>,
    beats: Vec<Arc<Beat>>,
    liveness: Liveness,
    /// Number of threads that take any text; their beats come first.
    n_all: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The state that a model thread reports.
#[derive(Debug)]
struct Beat(Mutex<Pulse>);

impl Beat {
    fn is_moving(&self, limit: Duration) -> bool {
        match *self.0.lock() {
            Pulse::Idle => true,
            Pulse::BusySince(start) => start.elapsed() <= limit,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Pulse {
    Idle,
    BusySince(Instant),
}

impl Workers {
    /// Starts a thread per encoder.
    ///
    /// # Errors
    /// Fails when the operating system gives no thread; those that did start end.
    pub fn spawn(queue: &Arc<Queue>, encoders: Encoders) -> std::io::Result<Self> {
        let mut beats = Vec::new();
        let mut threads = Vec::new();
        let liveness = Liveness::default();
        let n_all = encoders.all.len();
        let n_left = Arc::new(AtomicUsize::new(n_all));
        let all = encoders.all.into_iter().map(|encoder| (Takes::All, encoder));
        let small = encoders.small.into_iter().map(|encoder| (Takes::Small, encoder));
        for (idx, (takes, encoder)) in all.chain(small).enumerate() {
            let beat = Arc::new(Beat(Mutex::new(Pulse::Idle)));
            beats.push(beat.clone());
            let part = liveness.part(format!("model thread {idx}"));
            let (shared, n_left) = (queue.clone(), n_left.clone());
            let work = move || {
                let _leaves = Leaves { queue: &shared, takes, n_left: &n_left };
                run(&shared, takes, encoder, &beat, part);
            };
            let thread = std::thread::Builder::new().name(format!("model-{idx}")).spawn(work);
            threads.push(thread.inspect_err(|_| queue.close())?);
        }
        Ok(Self { queue: queue.clone(), beats, n_all, liveness, threads: Mutex::new(threads) })
    }

    /// Returns the liveness of the threads.
    #[must_use]
    pub fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// True if no thread has been at one batch for longer than `limit`.
    #[must_use]
    pub fn are_moving(&self, limit: Duration) -> bool {
        self.beats.iter().all(|beat| beat.is_moving(limit))
    }

    /// True if some thread that takes any text has not been at one batch for longer than `limit`.
    #[must_use]
    pub fn are_serving(&self, limit: Duration) -> bool {
        self.beats.iter().take(self.n_all).any(|beat| beat.is_moving(limit))
    }

    /// Closes the queue and ends the threads, each after its current batch. Blocks.
    pub fn stop(&self) {
        self.queue.close();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a model thread had panicked");
            }
        }
    }
}

impl Drop for Workers {
    /// Lets the threads end without waiting for them: the last owner may be a request.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A thread's guard: however the last thread that takes any text ends, no request waits for a turn that never comes.
struct Leaves<'a> {
    queue: &'a Queue,
    takes: Takes,
    n_left: &'a AtomicUsize,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        if self.takes == Takes::All && self.n_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.queue.close();
        }
    }
}

fn run(queue: &Queue, takes: Takes, mut encoder: Box<dyn Encode>, beat: &Beat, part: Part) {
    let own = Arc::new(Condvar::new());
    while let Some(batch) = queue.pop(takes, &own) {
        let start = Instant::now();
        *beat.0.lock() = Pulse::BusySince(start);
        let longest = batch.jobs.iter().map(|job| job.tokens.ids.len()).max().unwrap_or_default();
        let n_tokens = batch.jobs.len() * longest;
        metrics::histogram!(metric::BATCH_TEXTS).record(batch.jobs.len() as f64);
        metrics::histogram!(metric::BATCH_TOKENS).record(n_tokens as f64);
        let run = Run { queue, batch: &batch, n_tokens, start };
        encode(queue, encoder.as_mut(), &batch.jobs);
        drop(run);
        *beat.0.lock() = Pulse::Idle;
    }
    part.end();
}

/// A batch that a thread encodes, until the thread is done with it or panics.
struct Run<'a> {
    queue: &'a Queue,
    batch: &'a Batch,
    n_tokens: usize,
    start: Instant,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // No request may wait for these texts any more, nor join those that do.
            self.batch.jobs.iter().for_each(|job| self.queue.complete(job.key, Err(EncodeError::Gone)));
        }
        let took = self.start.elapsed();
        self.queue.done(self.batch.is_bulk, self.n_tokens, took);
        metrics::histogram!(metric::STAGE_SECONDS, "stage" => "encode").record(took);
    }
}

fn encode(queue: &Queue, encoder: &mut dyn Encode, jobs: &[Job]) {
    let texts: Vec<_> = jobs.iter().map(|job| &job.tokens).collect();
    match encode_all(encoder, &texts) {
        Ok(embeddings) => {
            for (job, embedding) in jobs.iter().zip(embeddings) {
                // The metric is recorded before the answer, so that a caller that has the answer finds it counted.
                metrics::histogram!(metric::STAGE_SECONDS, "stage" => "queue_and_encode")
                    .record(job.queued_at.elapsed());
                queue.complete(job.key, Ok(Encoded { embedding, kept: job.tokens.kept.clone() }));
            }
        }
        Err(error) => match jobs {
            [job] => queue.complete(job.key, Err(error)),
            // One text must not fail the others of its batch, which belong to other callers.
            _ => jobs.chunks(1).for_each(|job| encode(queue, encoder, job)),
        },
    }
}

fn encode_all(encoder: &mut dyn Encode, texts: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
    let embeddings = encoder.encode(texts)?;
    match embeddings.len() == texts.len() {
        true => Ok(embeddings),
        false => Err(EncodeError::Count { found: embeddings.len(), expected: texts.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Budgets, EmbeddingCache, QueueConfig};
    use crate::types::{Kept, TextKey};

    struct Panics;

    impl Encode for Panics {
        fn encode(&mut self, _: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
            panic!("as a foreign library might");
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_leaves_nobody_waiting() {
        let config = QueueConfig {
            budgets: Budgets::fixed(100),
            max_texts: 10,
            n_threads: 1,
            seconds_per_token: 0.01,
        };
        let queue = Arc::new(Queue::new(config, Arc::new(EmbeddingCache::new(0))));
        let mut ticket = queue.open(2, None).unwrap();
        let tokens = Tokens { ids: vec![1], type_ids: vec![0], kept: Kept::default() };
        ticket.push(vec![(TextKey([1; 16]), tokens.clone()), (TextKey([2; 16]), tokens)]);
        let encoders = Encoders { all: vec![Box::new(Panics)], small: Vec::new() };
        let workers = Workers::spawn(&queue, encoders).unwrap();
        assert_eq!(ticket.answers().all().await, [Err(EncodeError::Gone), Err(EncodeError::Gone)]);
        workers.stop();
        assert_eq!(workers.liveness().dead().as_deref(), Some("model thread 0"));
    }

    #[tokio::test]
    async fn what_waits_for_the_last_thread_is_told_when_it_dies() {
        let config =
            QueueConfig { budgets: Budgets::fixed(1), max_texts: 10, n_threads: 1, seconds_per_token: 0.01 };
        let queue = Arc::new(Queue::new(config, Arc::new(EmbeddingCache::new(0))));
        let tokens = Tokens { ids: vec![1], type_ids: vec![0], kept: Kept::default() };
        // Each text is a batch of its own, and the thread dies at the first.
        let lanes = (0..3).map(|n| {
            let mut ticket = queue.open(1, None).unwrap();
            ticket.push(vec![(TextKey([n; 16]), tokens.clone())]);
            ticket.answers()
        });
        let answers: Vec<_> = lanes.collect();
        let workers =
            Workers::spawn(&queue, Encoders { all: vec![Box::new(Panics)], small: Vec::new() }).unwrap();
        for answers in answers {
            assert_eq!(answers.all().await, [Err(EncodeError::Gone)]);
        }
        let mut late = queue.open(1, None).unwrap();
        late.push(vec![(TextKey([9; 16]), tokens)]);
        assert_eq!(late.answers().all().await, [Err(EncodeError::Gone)]);
        workers.stop();
        assert!(workers.liveness().dead().is_some());
    }
}
