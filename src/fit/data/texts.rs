//! Keeps every text once, on disk; memory holds only its position.

use std::collections::HashMap;
use std::io;

use super::records::Records;

/// Interned texts in a temporary file.
#[derive(Debug)]
pub struct Texts {
    records: Records,
    n_chars: Vec<u32>,
    /// Numbers of texts by 128 bits of BLAKE3.
    known: HashMap<[u8; 16], u32>,
}

impl Texts {
    /// Creates an empty store of texts.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn new() -> io::Result<Self> {
        Ok(Self { records: Records::new()?, n_chars: Vec::new(), known: HashMap::new() })
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
        let idx = u32::try_from(self.records.len()).map_err(io::Error::other)?;
        self.records.push(text.as_bytes())?;
        self.known.insert(hash, idx);
        self.n_chars.push(u32::try_from(text.chars().count()).unwrap_or(u32::MAX));
        Ok(idx as usize)
    }

    /// Returns a text by its number.
    ///
    /// # Errors
    /// When the temporary file can't be read.
    pub fn get(&self, idx: usize) -> io::Result<String> {
        String::from_utf8(self.records.get(idx)?).map_err(io::Error::other)
    }

    /// Returns the number of characters of a text.
    #[must_use]
    pub fn n_chars(&self, idx: usize) -> usize {
        self.n_chars[idx] as usize
    }

    /// Returns the number of texts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::PENDING;
    use super::*;

    #[test]
    fn a_text_is_what_it_was_before_and_after_it_is_written() {
        let mut texts = Texts::new().unwrap();
        let text = |n: usize| format!("{n} ").repeat(PENDING / 7) + "ä";
        let numbers: Vec<usize> = (0..20).map(|n| texts.intern(&text(n % 10)).unwrap()).collect();
        assert_eq!(numbers[..10], numbers[10..]);
        assert!(texts.records.is_partly_written());
        for (n, &number) in numbers[..10].iter().enumerate() {
            assert_eq!(texts.get(number).unwrap(), text(n));
            assert_eq!(texts.n_chars(number), text(n).chars().count());
        }
    }
}
