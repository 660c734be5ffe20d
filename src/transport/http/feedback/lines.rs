//! Splits a body into lines. The error of a line is its item, so that it fails alone.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;
use tokio_util::codec::Decoder;

use crate::types::{Error, ErrorKind, Held, json};

/// Length up to which the beginning of a line does not count as held: every stream has such a one.
const FREE_BYTES: usize = 64 << 10;

/// Time for which an incomplete line may count as held: one that comes byte by byte takes up the room of other bodies.
const LINE_TIME: Duration = Duration::from_secs(60);

/// A decoder that splits at `\n`; it reports a line that is too long, or too slow, once and skips to its end.
#[derive(Debug)]
pub(in super::super) struct Lines {
    max_bytes: usize,
    /// Bytes of the buffer that are known to hold no line end.
    n_scanned: usize,
    is_skipping: bool,
    is_first: bool,
    /// Share of the budget for a long line; for a returned line, until the next is asked for.
    held: Held,
    /// Deadline of an incomplete line that counts as held.
    end: Option<Instant>,
}

impl Lines {
    pub(in super::super) fn new(max_bytes: usize, held: Held) -> Self {
        Self { max_bytes, n_scanned: 0, is_skipping: false, is_first: true, held, end: None }
    }

    fn line(&mut self, bytes: &[u8]) -> Result<String, Error> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let bytes = if is_first { json::without_mark(bytes) } else { bytes };
        if bytes.len() > self.max_bytes {
            return Err(self.too_long());
        }
        let text = std::str::from_utf8(bytes).map(str::to_owned);
        text.map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("the line is not UTF-8: {error}"))
                .with_code("malformed_json")
        })
    }

    /// Returns the length of a line's beginning, without the mark that the first may have or be about to have.
    fn n_unmarked(&self, beginning: &[u8]) -> usize {
        match beginning.len() {
            0..3 if self.is_first => 0,
            _ if self.is_first => json::without_mark(beginning).len(),
            n => n,
        }
    }

    /// Checks the length and the time of an incomplete line, and counts a long one as held.
    fn check(&mut self, n_bytes: usize) -> Result<(), Error> {
        if n_bytes > self.max_bytes {
            return Err(self.too_long());
        }
        if n_bytes <= FREE_BYTES {
            return Ok(());
        }
        let now = Instant::now();
        if *self.end.get_or_insert(now + LINE_TIME) < now {
            let detail = format!("found a line that takes longer than {LINE_TIME:?} to come");
            return Err(Error::new(ErrorKind::DeadlineExceeded, detail).with_code("slow_line"));
        }
        self.held.resize(n_bytes)
    }

    fn too_long(&self) -> Error {
        Error::new(ErrorKind::TooLarge, format!("found a line longer than {} bytes", self.max_bytes))
    }
}

impl Decoder for Lines {
    type Item = Result<String, Error>;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        self.held.shrink_to(if buffer.len() > FREE_BYTES { buffer.len() } else { 0 });
        while let Some(end) = buffer[self.n_scanned..].iter().position(|&byte| byte == b'\n') {
            let line = buffer.split_to(self.n_scanned + end + 1);
            (self.n_scanned, self.end) = (0, None);
            if !std::mem::take(&mut self.is_skipping) {
                return Ok(Some(self.line(&line[..line.len() - 1])));
            }
        }
        self.n_scanned = buffer.len();
        let refused = if self.is_skipping { None } else { self.check(self.n_unmarked(buffer)).err() };
        self.is_skipping |= refused.is_some();
        self.is_first &= refused.is_none();
        if self.is_skipping {
            buffer.clear();
            (self.n_scanned, self.end) = (0, None);
            self.held.shrink_to(0);
        }
        Ok(refused.map(Err))
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
    use std::num::NonZeroUsize;

    use super::*;
    use crate::types::Bodies;

    fn bodies(max_held: usize) -> Bodies {
        let max_held = NonZeroUsize::new(max_held).unwrap();
        Bodies::new(max_held, max_held)
    }

    /// Returns the lines of a body that comes in these pieces; none for a line that can't be read.
    fn lines(pieces: &[&[u8]]) -> Vec<Option<String>> {
        let mut decoder = Lines::new(5, bodies(1).hold());
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
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
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert_eq!(lines(&[b"\xef\xbb", b"\xbfab\nc"]), [text("ab"), text("c")]);
        assert_eq!(lines(&[b"\xef\xbb\xbf\n\xef\xbb\xbfa"]), [text(""), text("\u{feff}a")]);
        assert_eq!(lines(&[b"\xef\xbb", b"\xbf12345", b"\nc"]), [text("12345"), text("c")]);
        assert_eq!(lines(&[b"123456", b"\n\xef\xbb\xbfa"]), [None, text("\u{feff}a")]);
    }

    #[test]
    fn a_long_line_counts_as_held_until_the_next_is_asked_for() {
        let bodies = bodies(3 * FREE_BYTES);
        let (mut decoder, mut buffer) = (Lines::new(4 * FREE_BYTES, bodies.hold()), BytesMut::new());
        let mut feed = |n: usize, end: &[u8]| {
            buffer.extend_from_slice(&vec![b'x'; n]);
            buffer.extend_from_slice(end);
            decoder.decode(&mut buffer).unwrap()
        };
        assert!(feed(FREE_BYTES, b"").is_none());
        assert_eq!(bodies.n_held(), 0);
        assert!(feed(FREE_BYTES, b"").is_none());
        assert_eq!(bodies.n_held(), 2 * FREE_BYTES);
        assert_eq!(feed(0, b"\n").unwrap().unwrap().len(), 2 * FREE_BYTES);
        assert_eq!(bodies.n_held(), 2 * FREE_BYTES, "it is being worked on");
        assert!(feed(1, b"").is_none());
        assert_eq!(bodies.n_held(), 0);
        let mut other = bodies.hold();
        other.resize(2 * FREE_BYTES).unwrap();
        let error = feed(2 * FREE_BYTES, b"").unwrap().unwrap_err();
        assert_eq!((error.code(), bodies.n_held()), ("too_many_bytes", 2 * FREE_BYTES));
        assert!(feed(2 * FREE_BYTES, b"").is_none(), "told once");
        assert_eq!(feed(0, b"\na\n").unwrap().unwrap(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_that_comes_byte_by_byte_gives_its_room_to_others() {
        let bodies = bodies(3 * FREE_BYTES);
        let (mut decoder, mut buffer) = (Lines::new(4 * FREE_BYTES, bodies.hold()), BytesMut::new());
        let mut feed = |bytes: &[u8]| {
            buffer.extend_from_slice(bytes);
            decoder.decode(&mut buffer).unwrap()
        };
        for _ in 0..2 {
            assert!(feed(&vec![b'x'; 2 * FREE_BYTES]).is_none());
            tokio::time::advance(LINE_TIME).await;
            assert!(feed(b"x").is_none());
            assert_eq!(bodies.n_held(), 2 * FREE_BYTES + 1);
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(feed(b"x").unwrap().unwrap_err().code(), "slow_line");
            assert_eq!(bodies.n_held(), 0);
            assert!(feed(&vec![b'x'; 2 * FREE_BYTES]).is_none(), "told once");
            assert_eq!(feed(b"\na\n").unwrap().unwrap(), "a");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_spoils_itself_alone() {
        assert_eq!(lines(&[b"123456\na\n\xff\nb\n"]), [None, text("a"), None, text("b")]);
        assert_eq!(lines(&[b"123456", b"7890123", b"45\na"]), [None, text("a")]);
        assert_eq!(lines(&[b"123456", b"7"]), [None]);
    }
}
