//! Embeddings on disk, so that a text is encoded once however often one fits.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::types::{Embedding, Encode, EncodeError, Tokens};

/// The embeddings of one encoder, in an append-only file of (hash of the tokens, H floats).
#[derive(Debug)]
pub struct EmbeddingCache {
    path: PathBuf,
    known: HashMap<[u8; 32], Embedding>,
}

/// Why texts have no embeddings.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The cache can't be read or written.
    #[error("{path}: {source}")]
    Cache {
        /// The cache's file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The encoder failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl EmbeddingCache {
    /// Opens the cache of the encoder whose revision is `encoder` in `dir`.
    ///
    /// # Errors
    /// When the directory or the file can't be read.
    pub fn open(dir: &Path, encoder: &str, n_embedding: usize) -> Result<Self, EmbedError> {
        let path = dir.join(format!("{encoder}.embeddings"));
        let failed = |source| EmbedError::Cache { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let size = 32 + 4 * n_embedding;
        let whole = bytes.len() - bytes.len() % size;
        if whole < bytes.len() {
            // An interrupted run left half a record; what is appended must start at a whole one.
            let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
            file.set_len(whole as u64).map_err(failed)?;
        }
        let known = bytes[..whole].chunks_exact(size).map(record).collect();
        Ok(Self { path, known })
    }

    /// The embeddings of `texts`, encoding what is new with one thread per encoder; `progress` gets (done, of).
    ///
    /// Texts are encoded one by one, so that an embedding does not depend on what else is new.
    ///
    /// # Errors
    /// When the encoder fails or the cache can't be written.
    pub fn embed(
        &mut self,
        texts: &[Tokens],
        encoders: &mut [Box<dyn Encode>],
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<Vec<Embedding>, EmbedError> {
        let keys: Vec<[u8; 32]> = texts.iter().map(key).collect();
        let mut new: HashMap<[u8; 32], &Tokens> = HashMap::new();
        for (key, text) in keys.iter().zip(texts).filter(|(key, _)| !self.known.contains_key(*key)) {
            new.insert(*key, text);
        }
        let mut new: Vec<([u8; 32], &Tokens)> = new.into_iter().collect();
        new.sort_unstable_by_key(|(key, text)| (std::cmp::Reverse(text.ids.len()), *key));
        let failed = |source| EmbedError::Cache { path: self.path.clone(), source };
        let file = OpenOptions::new().append(true).create(true).open(&self.path).map_err(failed)?;
        let sink = Mutex::new((file, Vec::new()));
        let next = AtomicUsize::new(0);
        let work = |encoder: &mut Box<dyn Encode>| -> Result<(), EmbedError> {
            while let Some((key, text)) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                let embedding = encoder.encode(&[text])?.pop().ok_or(EncodeError::Gone)?;
                let mut sink = sink.lock();
                // One write per record: two fits that share the cache do not interleave.
                sink.0.write_all(&bytes(key, &embedding)).map_err(failed)?;
                sink.1.push((*key, embedding));
                progress(sink.1.len(), new.len());
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = encoders.iter_mut().map(|encoder| scope.spawn(|| work(encoder))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(EncodeError::Gone.into())))
        })?;
        self.known.extend(sink.into_inner().1);
        keys.iter().map(|key| self.known.get(key).cloned().ok_or_else(|| EncodeError::Gone.into())).collect()
    }
}

fn key(text: &Tokens) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for id in text.ids.iter().chain(&text.type_ids) {
        hasher.update(&id.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn bytes(key: &[u8; 32], embedding: &Embedding) -> Vec<u8> {
    key.iter().copied().chain(embedding.iter().flat_map(|x| x.to_le_bytes())).collect()
}

fn record(bytes: &[u8]) -> ([u8; 32], Embedding) {
    let (mut key, mut number) = ([0; 32], [0; 4]);
    key.copy_from_slice(&bytes[..32]);
    let embedding = bytes[32..].chunks_exact(4).map(|four| {
        number.copy_from_slice(four);
        f32::from_le_bytes(number)
    });
    (key, embedding.collect())
}
