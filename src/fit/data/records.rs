//! Records of any length in a temporary file, by number; memory holds only their positions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of pending records above which they are written.
pub(super) const PENDING: usize = 1 << 20;

/// Records in a temporary file without a name, which is gone with the process.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    /// The end of each record; it begins at the end of the one before it.
    ends: Vec<u64>,
    /// The records that are not written yet, from byte `written` on.
    pending: Vec<u8>,
    written: u64,
}

impl Records {
    /// Creates an empty store.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, ends: Vec::new(), pending: Vec::new(), written: 0 })
    }

    /// Appends a record; records are numbered from 0.
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(record);
        self.ends.push(self.written + self.pending.len() as u64);
        if self.pending.len() > PENDING {
            self.file.write_all_at(&self.pending, self.written)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }

    /// Returns a record by its number.
    pub(super) fn get(&self, idx: usize) -> io::Result<Vec<u8>> {
        let start = if idx == 0 { 0 } else { self.ends[idx - 1] };
        let n_bytes = (self.ends[idx] - start) as usize;
        match start.checked_sub(self.written) {
            Some(offset) => Ok(self.pending[offset as usize..][..n_bytes].to_vec()),
            None => {
                let mut bytes = vec![0; n_bytes];
                self.file.read_exact_at(&mut bytes, start)?;
                Ok(bytes)
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    #[cfg(test)]
    pub(super) fn is_partly_written(&self) -> bool {
        self.written > 0 && !self.pending.is_empty()
    }
}
