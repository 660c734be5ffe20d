//! Caches embeddings on disk, so that a text is encoded once over any number of fits.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::types::{Encode, EncodeError, Tokens};

/// Bytes of a record's key, before its H floats.
const KEY: usize = 32;

/// The embeddings of one encoder: a file of (hash of the tokens, H floats), to which only one process writes.
#[derive(Debug)]
pub struct EmbeddingCache {
    path: PathBuf,
    file: File,
    /// The row of every encoded text.
    rows: HashMap<[u8; KEY], u32>,
    /// Number of records in the file.
    n_rows: u32,
    n_embedding: usize,
}

/// The reason why texts have no embeddings.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The cache can't be read or written.
    #[error("{path}: {source}")]
    Cache {
        /// The cache's file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process writes to the cache.
    #[error("{0}: in use by another process; wait for it, or name another directory by --cache")]
    InUse(PathBuf),
    /// The encoder failed.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The temporary files of surfaces can't be read.
    #[error("the temporary files for surfaces: {0}")]
    Surfaces(#[from] io::Error),
}

impl EmbeddingCache {
    /// Opens the cache of the encoder whose revision is `encoder` in `dir`.
    ///
    /// # Errors
    /// When the directory or the file can't be read, or another process has it open.
    pub fn open(dir: &Path, encoder: &str, n_embedding: usize) -> Result<Self, EmbedError> {
        let path = dir.join(format!("{encoder}.embeddings"));
        let failed = |source| EmbedError::Cache { path: path.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EmbedError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut record = vec![0; KEY + 4 * n_embedding];
        let n_rows = (file.metadata().map_err(failed)?.len() / record.len() as u64) as u32;
        // An interrupted run may have left half a record; the next record must start after a whole one.
        file.set_len(u64::from(n_rows) * record.len() as u64).map_err(failed)?;
        let mut rows = HashMap::new();
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        for row in 0..n_rows {
            reader.read_exact(&mut record).map_err(failed)?;
            let mut key = [0; KEY];
            key.copy_from_slice(&record[..KEY]);
            rows.insert(key, row);
        }
        drop(reader);
        Ok(Self { path, file, rows, n_rows, n_embedding })
    }

    /// Returns the rows of the texts' embeddings and encodes new texts with one thread per encoder; `progress`
    /// receives the number of further texts that are done.
    ///
    /// Texts are encoded one by one, so that an embedding does not depend on the other new texts.
    ///
    /// # Errors
    /// When the encoder fails or the cache can't be written.
    pub fn embed(
        &mut self,
        texts: &[Tokens],
        encoders: &mut [Box<dyn Encode>],
        progress: impl Fn(u64) + Sync,
    ) -> Result<Vec<u32>, EmbedError> {
        let keys: Vec<[u8; KEY]> = texts.iter().map(key).collect();
        let mut new: HashMap<[u8; KEY], &Tokens> = HashMap::new();
        for (key, text) in keys.iter().zip(texts).filter(|(key, _)| !self.rows.contains_key(*key)) {
            new.insert(*key, text);
        }
        let mut new: Vec<([u8; KEY], &Tokens)> = new.into_iter().collect();
        new.sort_unstable_by_key(|(key, text)| (std::cmp::Reverse(text.ids.len()), *key));
        progress((texts.len() - new.len()) as u64);
        let size = (KEY + 4 * self.n_embedding) as u64;
        let failed = |source| EmbedError::Cache { path: self.path.clone(), source };
        let (file, next) = (&self.file, AtomicUsize::new(0));
        let written = Mutex::new((&mut self.rows, &mut self.n_rows));
        let work = |encoder: &mut Box<dyn Encode>| -> Result<(), EmbedError> {
            while let Some((key, text)) = new.get(next.fetch_add(1, Ordering::Relaxed)) {
                let embedding = encoder.encode(&[text])?.pop().ok_or(EncodeError::Gone)?;
                let mut record = key.to_vec();
                record.extend(embedding.iter().flat_map(|x| x.to_le_bytes()));
                let mut written = written.lock();
                let row = *written.1;
                file.write_all_at(&record, u64::from(row) * size).map_err(failed)?;
                written.0.insert(*key, row);
                *written.1 += 1;
                progress(1);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = encoders.iter_mut().map(|encoder| scope.spawn(|| work(encoder))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(EncodeError::Gone.into())))
        })?;
        keys.iter().map(|key| self.rows.get(key).copied().ok_or_else(|| EncodeError::Gone.into())).collect()
    }

    /// Reads one embedding, shape `[H]`.
    pub(super) fn read(&self, row: u32, embedding: &mut [f32]) -> Result<(), EmbedError> {
        let mut bytes = vec![0; 4 * self.n_embedding];
        let offset = u64::from(row) * (KEY + bytes.len()) as u64 + KEY as u64;
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| EmbedError::Cache { path: self.path.clone(), source })?;
        let mut number = [0; 4];
        for (x, four) in embedding.iter_mut().zip(bytes.chunks_exact(4)) {
            number.copy_from_slice(four);
            *x = f32::from_le_bytes(number);
        }
        Ok(())
    }
}

fn key(text: &Tokens) -> [u8; KEY] {
    let mut hasher = blake3::Hasher::new();
    for id in text.ids.iter().chain(&text.type_ids) {
        hasher.update(&id.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}
