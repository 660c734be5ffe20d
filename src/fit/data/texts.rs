//! Keeps every text once, on disk; memory holds only its position.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of pending texts above which they are written.
const PENDING: usize = 1 << 20;

/// Interned texts in a temporary file without a name, which is gone with the process.
#[derive(Debug)]
pub struct Texts {
    file: File,
    /// The end of each text; it begins at the end of the one before it.
    ends: Vec<u64>,
    n_chars: Vec<u32>,
    /// Numbers of texts by 128 bits of BLAKE3.
    known: HashMap<[u8; 16], u32>,
    /// The texts that are not written yet, from byte `written` on.
    pending: Vec<u8>,
    written: u64,
}

impl Texts {
    /// Creates an empty store of texts.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            ends: Vec::new(),
            n_chars: Vec::new(),
            known: HashMap::new(),
            pending: Vec::new(),
            written: 0,
        })
    }

    /// Returns the number of a text; texts are numbered from 0 in the order of their first appearance.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn intern(&mut self, text: &str) -> io::Result<usize> {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        if let Some(&idx) = self.known.get(&hash) {
            return Ok(idx as usize);
        }
        let idx = u32::try_from(self.ends.len()).map_err(io::Error::other)?;
        self.known.insert(hash, idx);
        self.pending.extend_from_slice(text.as_bytes());
        self.ends.push(self.written + self.pending.len() as u64);
        self.n_chars.push(u32::try_from(text.chars().count()).unwrap_or(u32::MAX));
        if self.pending.len() > PENDING {
            self.file.write_all_at(&self.pending, self.written)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(idx as usize)
    }

    /// Returns a text by its number.
    ///
    /// # Errors
    /// When the temporary file can't be read.
    pub fn get(&self, idx: usize) -> io::Result<String> {
        let start = if idx == 0 { 0 } else { self.ends[idx - 1] };
        let n_bytes = (self.ends[idx] - start) as usize;
        let bytes = match start.checked_sub(self.written) {
            Some(offset) => self.pending[offset as usize..][..n_bytes].to_vec(),
            None => {
                let mut bytes = vec![0; n_bytes];
                self.file.read_exact_at(&mut bytes, start)?;
                bytes
            }
        };
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    /// Returns the number of characters of a text.
    #[must_use]
    pub fn n_chars(&self, idx: usize) -> usize {
        self.n_chars[idx] as usize
    }

    /// Returns the number of texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_what_it_was_before_and_after_it_is_written() {
        let mut texts = Texts::new().unwrap();
        let text = |n: usize| format!("{n} ").repeat(PENDING / 7) + "ä";
        let numbers: Vec<usize> = (0..20).map(|n| texts.intern(&text(n % 10)).unwrap()).collect();
        assert_eq!(numbers[..10], numbers[10..]);
        assert!(texts.written > 0 && !texts.pending.is_empty());
        for (n, &number) in numbers[..10].iter().enumerate() {
            assert_eq!(texts.get(number).unwrap(), text(n));
            assert_eq!(texts.n_chars(number), text(n).chars().count());
        }
    }
}
