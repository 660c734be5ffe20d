//! Every text once, on disk: memory holds where a text is, not what it says.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Texts that have not been written yet, in bytes.
const PENDING: usize = 1 << 20;

/// Interned texts in a temporary file without a name, which is gone with the process.
#[derive(Debug)]
pub struct Texts {
    file: File,
    /// Where each text ends; it begins where the one before it ends.
    ends: Vec<u64>,
    n_chars: Vec<u32>,
    /// 128 bits of BLAKE3 to a text's number.
    known: HashMap<[u8; 16], u32>,
    /// The end of all texts, from `written` on.
    pending: Vec<u8>,
    written: u64,
}

impl Texts {
    /// No text yet.
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

    /// The number of a text; texts are numbered from 0 in the order of their first appearance.
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

    /// A text by its number.
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

    /// How many characters a text has.
    #[must_use]
    pub fn n_chars(&self, idx: usize) -> usize {
        self.n_chars[idx] as usize
    }

    /// How many texts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
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
