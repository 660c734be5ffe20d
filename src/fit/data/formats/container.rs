//! The container of a file: plain, packed, or a table, told by its first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::super::data_error::DataError;
use super::zstd::{self, Zstd};

/// First bytes that tell a container; the first line of a file of CSV is shorter.
const N_HEAD: u64 = 4096;

/// First bytes of files that are not read, and their names.
const REFUSED: [(&[u8], &str); 8] = [
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a file packed by bzip2"),
    (b"\xfd7zXZ", "a file packed by xz"),
    (b"ARROW1", "a file of Arrow"),
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
];

/// The content of a file.
pub(super) enum Opened {
    /// Text, and its first byte that is no white space; none in an empty file.
    Text(Box<dyn BufRead>, Option<u8>),
    /// A table of parquet.
    Parquet,
}

/// Opens a file and unpacks it.
pub(super) fn open(path: &Path) -> Result<Opened, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let refused = |detail| DataError::Kind { path: path.to_owned(), detail };
    let file = File::open(path).map_err(unreadable)?;
    let (mut head, mut reader) = peek(Box::new(file)).map_err(unreadable)?;
    if head.starts_with(b"\x1f\x8b") {
        (head, reader) = peek(Box::new(MultiGzDecoder::new(reader))).map_err(unreadable)?;
    } else if zstd::begins(&head) {
        (head, reader) = peek(Box::new(Zstd::new(reader))).map_err(unreadable)?;
    } else if head.starts_with(b"PAR1") {
        return Ok(Opened::Parquet);
    }
    if let Some((_, name)) = REFUSED.iter().find(|(start, _)| head.starts_with(start)) {
        let convert = match name.strip_prefix("UTF-") {
            Some(bits) => format!("; `iconv -f UTF-{bits} -t UTF-8` makes it so"),
            None => String::new(),
        };
        return Err(refused(format!(
            "found {name}, expected JSON lines in UTF-8, plain, .gz or .zst{convert}"
        )));
    }
    // Texts of JSON have no NUL; UTF-16 without a mark has one in every other byte of what is ASCII.
    if head.iter().take(2).any(|&byte| byte == 0) {
        let detail = "found UTF-16, expected JSON lines in UTF-8; `iconv -f UTF-16LE -t UTF-8` makes it so";
        return Err(refused(detail.to_owned()));
    }
    let text = crate::types::json::without_mark(&head).trim_ascii_start();
    match (text.first().copied(), csv(text)) {
        (first, Some(line)) if !matches!(first, Some(b'{' | b'[')) => Err(refused(format!(
            "found CSV (first line {line}), expected JSON lines; \
             `python3 -c 'import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]'` \
             makes them of it"
        ))),
        (first, _) => Ok(Opened::Text(reader, first)),
    }
}

/// Returns the first bytes of a reader, and one that still has them.
fn peek(mut reader: Box<dyn Read>) -> io::Result<(Vec<u8>, Box<dyn BufRead>)> {
    let mut head = Vec::new();
    reader.by_ref().take(N_HEAD).read_to_end(&mut head)?;
    let whole = Cursor::new(head.clone()).chain(BufReader::new(reader));
    Ok((head, Box::new(whole)))
}

/// Returns the first line of a text if it has several cells.
fn csv(text: &[u8]) -> Option<String> {
    let line = text.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
    line.contains([',', ';', '\t']).then(|| format!("`{}`", crate::types::json::shorten(&line)))
}
