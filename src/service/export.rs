//! The raw events as rows to train on.

use futures::Stream;
use tokio::sync::{mpsc, oneshot};

use super::Service;
use crate::state::{ChangeKind, EventLog, OpenError};
use crate::types::{Error, ErrorKind, Export, ExportRow};

/// Rows leave together from so many bytes of text on.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that wait for a slow reader; the journal is read no further meanwhile.
const CHUNKS: usize = 4;

type Chunk = Result<Vec<ExportRow>, Error>;

impl Service {
    /// The events that stand, in the order in which they came: neither taken back nor of a user who was erased. The rows
    /// end with an error if the journal turns out to be damaged.
    ///
    /// # Errors
    /// `NotFound` for a store that keeps no events, `StoreUnavailable` for a journal that is found damaged at first.
    pub async fn export(&self, export: Export) -> Result<impl Stream<Item = Chunk> + use<>, Error> {
        let log = self.accounts.store().events().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "this `state.engine` keeps no events").with_code("no_events")
        })?;
        let (begun, begins) = oneshot::channel();
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        // Files are read on a thread that may wait, for them and for who reads the rows.
        tokio::task::spawn_blocking(move || {
            let ended = read(&log, &export, begun, &sender);
            if let Err(error) = ended {
                // Nobody may be there to hear it.
                let _ = sender.blocking_send(Err(unreadable(&error)));
            }
        });
        // The first pass has been through the whole journal: what is damaged is rather refused than cut short.
        match begins.await {
            Ok(()) => {}
            Err(_) => {
                let missing = || Err(Error::new(ErrorKind::Internal, "the export ended early"));
                chunks.recv().await.unwrap_or_else(missing)?;
            }
        }
        Ok(futures::stream::poll_fn(move |context| chunks.poll_recv(context)))
    }
}

/// Sends rows until there are no more or nobody reads them.
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
        let Some(heard) = event.heard else {
            n_without_texts += 1;
            continue;
        };
        if !export.wants(&heard) {
            continue;
        }
        n_events += 1;
        let (rows, ties) = export.shape.rows(&heard);
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
    // Whoever exports is the operator, who needs to know which file it is.
    Error::new(ErrorKind::StoreUnavailable, error.to_string()).with_code("unreadable_journal")
}
