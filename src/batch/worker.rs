//! Model threads: each owns one encoder and takes batches while there are any.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::queue::{Job, Queue};
use crate::types::{Embedding, Encode, EncodeError, Tokens, metric};

/// The model threads of one queue.
#[derive(Debug)]
pub struct Workers {
    queue: Arc<Queue>,
    beats: Vec<Arc<Beat>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a model thread tells about itself.
#[derive(Debug)]
struct Beat(Mutex<Pulse>);

#[derive(Debug, Clone, Copy)]
enum Pulse {
    Idle,
    BusySince(Instant),
    Dead,
}

impl Workers {
    /// Starts a thread per encoder.
    ///
    /// # Errors
    /// When the operating system gives no thread; those that did start end.
    pub fn spawn(queue: &Arc<Queue>, encoders: Vec<Box<dyn Encode>>) -> std::io::Result<Self> {
        let mut beats = Vec::new();
        let mut threads = Vec::new();
        for (idx, encoder) in encoders.into_iter().enumerate() {
            let beat = Arc::new(Beat(Mutex::new(Pulse::Idle)));
            beats.push(beat.clone());
            let shared = queue.clone();
            let work = move || run(&shared, encoder, &beat);
            let thread = std::thread::Builder::new().name(format!("model-{idx}")).spawn(work);
            threads.push(thread.inspect_err(|_| queue.close())?);
        }
        Ok(Self { queue: queue.clone(), beats, threads: Mutex::new(threads) })
    }

    /// Whether every thread lives and none has been at one batch for longer than `limit`.
    #[must_use]
    pub fn are_healthy(&self, limit: Duration) -> bool {
        self.beats.iter().all(|beat| match *beat.0.lock() {
            Pulse::Idle => true,
            Pulse::BusySince(start) => start.elapsed() <= limit,
            Pulse::Dead => false,
        })
    }

    /// Closes the queue and ends the threads, each after the batch it is at. Blocks.
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

/// Marks the thread as dead however it ends.
struct Death<'a>(&'a Beat);

impl Drop for Death<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = Pulse::Dead;
    }
}

fn run(queue: &Queue, mut encoder: Box<dyn Encode>, beat: &Beat) {
    let _death = Death(beat);
    while let Some(batch) = queue.pop() {
        let start = Instant::now();
        *beat.0.lock() = Pulse::BusySince(start);
        encode(encoder.as_mut(), batch);
        metrics::histogram!(metric::STAGE_SECONDS, "stage" => "encode").record(start.elapsed());
        *beat.0.lock() = Pulse::Idle;
    }
}

fn encode(encoder: &mut dyn Encode, batch: Vec<Job>) {
    let texts: Vec<_> = batch.iter().map(|job| &job.tokens).collect();
    let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or_default();
    metrics::histogram!(metric::BATCH_TEXTS).record(texts.len() as f64);
    metrics::histogram!(metric::BATCH_TOKENS).record((texts.len() * longest) as f64);
    match encode_all(encoder, &texts) {
        Ok(embeddings) => {
            for (job, embedding) in batch.into_iter().zip(embeddings) {
                metrics::histogram!(metric::STAGE_SECONDS, "stage" => "queue_and_encode")
                    .record(job.queued_at.elapsed());
                // A caller that has gone meanwhile is no error.
                let _ = job.reply.send(Ok(embedding));
            }
        }
        Err(error) if batch.len() == 1 => {
            for job in batch {
                let _ = job.reply.send(Err(error.clone()));
            }
        }
        // One text must not fail its batch mates, who are other callers'.
        Err(_) => batch.into_iter().for_each(|job| encode(encoder, vec![job])),
    }
}

fn encode_all(encoder: &mut dyn Encode, texts: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
    let embeddings = encoder.encode(texts)?;
    match embeddings.len() == texts.len() {
        true => Ok(embeddings),
        false => Err(EncodeError::Count { found: embeddings.len(), expected: texts.len() }),
    }
}
