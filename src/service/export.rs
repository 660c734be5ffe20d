//! Exports the raw events as rows to train on.

use futures::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Service;
use crate::state::{ChangeKind, EventLog, OpenError};
use crate::types::{Error, ErrorKind, Export, ExportRow};

/// Bytes of text at which a chunk of rows is sent.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that may wait for a slow reader; a full queue pauses the reading of the journal.
const CHUNKS: usize = 4;

type Chunk = Result<Vec<ExportRow>, Error>;

impl Service {
    /// Streams the standing events in order of arrival, without retracted events and those of erased users. The rows
    /// end with an error if the journal turns out to be damaged.
    ///
    /// # Errors
    /// `NotFound` for a store that keeps no events, `StoreUnavailable` for a journal that the first pass finds damaged.
    pub async fn export(&self, export: Export) -> Result<impl Stream<Item = Chunk> + use<>, Error> {
        let log = self.accounts.store().events().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "this `state.engine` keeps no events").with_code("no_events")
        })?;
        let (begun, begins) = oneshot::channel();
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        // The files are read on a blocking thread, which may wait for the disk and for the reader of the rows.
        let reading = tokio::task::spawn_blocking(move || {
            let ended = read(&log, &export, begun, &sender);
            if let Err(error) = ended {
                // The receiver may be gone already.
                let _ = sender.blocking_send(Err(unreadable(&error)));
            }
        });
        // The first pass reads the whole journal before it sends `begun`: a damaged journal is refused rather than
        // cut short.
        match begins.await {
            Ok(()) => {}
            Err(_) => {
                let missing = || Err(Error::new(ErrorKind::Internal, "the export ended early"));
                chunks.recv().await.unwrap_or_else(missing)?;
            }
        }
        Ok(Box::pin(whole(chunks, reading)))
    }
}

/// Yields the chunks, and an error if the task that sends them panics: rows that merely end would look complete.
fn whole(chunks: mpsc::Receiver<Chunk>, reading: JoinHandle<()>) -> impl Stream<Item = Chunk> {
    futures::stream::unfold((chunks, Some(reading)), async |(mut chunks, mut reading)| {
        if let Some(chunk) = chunks.recv().await {
            return Some((chunk, (chunks, reading)));
        }
        let died = reading.take()?.await.err()?;
        let error = Error::new(ErrorKind::Internal, "the export ended early").with_source(died);
        Some((Err(error), (chunks, None)))
    })
}

/// Sends rows until there are no more or the receiver is gone.
fn read(
    log: &EventLog,
    export: &Export,
    begun: oneshot::Sender<()>,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), OpenError> {
    let events = log.standing()?;
    let _ = begun.send(());
    let (mut n_events, mut n_rows, mut n_ties, mut n_without_texts) = (0_u64, 0_u64, 0, 0_u64);
    let (mut chunk, mut n_bytes) = (Vec::new(), 0);
    for logged in events {
        let ChangeKind::Add(event) = logged?.change.kind else { continue };
        let Some(resolved) = event.resolved else {
            n_without_texts += 1;
            continue;
        };
        if !export.wants(&resolved) {
            continue;
        }
        n_events += 1;
        let (rows, ties) = export.shape.rows(&resolved);
        n_ties += ties;
        for row in rows {
            n_rows += 1;
            n_bytes += row.n_bytes();
            chunk.push(row);
            if n_bytes >= CHUNK_BYTES {
                n_bytes = 0;
                if chunks.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                    return Ok(());
                }
            }
        }
    }
    if chunks.blocking_send(Ok(chunk)).is_ok() {
        tracing::info!(
            events = n_events,
            rows = n_rows,
            ties = n_ties,
            without_texts = n_without_texts,
            "exported"
        );
    }
    Ok(())
}

fn unreadable(error: &OpenError) -> Error {
    // The caller is the operator, who needs the name of the file.
    Error::new(ErrorKind::StoreUnavailable, error.to_string()).with_code("unreadable_journal")
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_export_whose_reader_dies_ends_with_an_error() {
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let reading = tokio::task::spawn_blocking(move || {
            let _ = sender.blocking_send(Ok(Vec::new()));
            panic!("as a defect would");
        });
        let all: Vec<Chunk> = whole(chunks, reading).collect().await;
        assert!(matches!(all[..], [Ok(_), Err(_)]));
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let reading = tokio::task::spawn_blocking(move || _ = sender.blocking_send(Ok(Vec::new())));
        let all: Vec<Chunk> = whole(chunks, reading).collect().await;
        assert!(matches!(all[..], [Ok(_)]));
    }
}
