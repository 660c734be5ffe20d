//! A body as lines. What is wrong with a line is part of its item, so that it spoils that line alone.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::types::{Error, ErrorKind};

/// Splits at `\n`; a line that is too long is reported once and skipped to its end.
#[derive(Debug)]
pub(super) struct Lines {
    max_bytes: usize,
    /// Bytes of the buffer that are known to hold no line end.
    n_scanned: usize,
    is_skipping: bool,
}

impl Lines {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, n_scanned: 0, is_skipping: false }
    }

    fn line(&self, bytes: &[u8]) -> Result<String, Error> {
        if bytes.len() > self.max_bytes {
            return Err(self.too_long());
        }
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("the line is not UTF-8: {error}"))
                .with_code("malformed_json")
        })
    }

    fn too_long(&self) -> Error {
        Error::new(ErrorKind::TooLarge, format!("found a line longer than {} bytes", self.max_bytes))
    }
}

impl Decoder for Lines {
    type Item = Result<String, Error>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        while let Some(end) = buffer[self.n_scanned..].iter().position(|&byte| byte == b'\n') {
            let line = buffer.split_to(self.n_scanned + end + 1);
            self.n_scanned = 0;
            if !std::mem::take(&mut self.is_skipping) {
                return Ok(Some(self.line(&line[..line.len() - 1])));
            }
        }
        self.n_scanned = buffer.len();
        if self.is_skipping || buffer.len() > self.max_bytes {
            buffer.clear();
            self.n_scanned = 0;
            let was_skipping = std::mem::replace(&mut self.is_skipping, true);
            return Ok((!was_skipping).then(|| Err(self.too_long())));
        }
        Ok(None)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => {
                self.n_scanned = 0;
                Ok(Some(self.line(&buffer.split())))
            }
            item => Ok(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a body that comes in these pieces; none for a line that can't be read.
    fn lines(pieces: &[&[u8]]) -> Vec<Option<String>> {
        let (mut decoder, mut buffer, mut found) = (Lines::new(5), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(line) = decoder.decode(&mut buffer).unwrap() {
                found.push(line.ok());
            }
        }
        while let Some(line) = decoder.decode_eof(&mut buffer).unwrap() {
            found.push(line.ok());
        }
        found
    }

    fn text(line: &str) -> Option<String> {
        Some(line.to_owned())
    }

    #[test]
    fn lines_do_not_depend_on_how_the_body_is_cut() {
        let expected = [text("ab"), text(""), text("c\r"), text("d")];
        assert_eq!(lines(&[b"ab\n\nc\r\nd"]), expected);
        assert_eq!(lines(&[b"a", b"b\n", b"\nc\r", b"\n", b"d"]), expected);
    }

    #[test]
    fn a_line_that_cannot_be_read_spoils_itself_alone() {
        assert_eq!(lines(&[b"123456\na\n\xff\nb\n"]), [None, text("a"), None, text("b")]);
        assert_eq!(lines(&[b"123456", b"7890123", b"45\na"]), [None, text("a")]);
        assert_eq!(lines(&[b"123456", b"7"]), [None]);
    }
}
