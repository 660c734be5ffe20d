//! The rows of a file, whatever its container: JSON lines, an array, documents one after the other, or a table.
//!
//! The laws: rows come in the order of the file; all that can't be read are told at once, each with its place; an
//! array is read as a stream.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Cursor, Read};
use std::path::Path;

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::super::data_error::{At, BadRows, DataError};
use super::container::{Opened, open};
use crate::types::json;

/// The columns of a row.
pub(in crate::fit::data) type Columns = Map<String, Value>;

/// Names of the one list in an object that holds all rows.
const LISTS: [&str; 5] = ["data", "rows", "examples", "records", "items"];

/// Hands every row of a file to `take`, which says what is wrong with it.
///
/// # Errors
/// The file can't be read, or some rows can't be used.
pub(in crate::fit::data) fn for_each(
    path: &Path,
    mut take: impl FnMut(At, Columns) -> Result<(), String>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut bad = BadRows::default();
    let mut each = |at: At, row: Result<Columns, String>| {
        if let Err(detail) = row.and_then(|row| take(at, row)) {
            bad.add(at, detail);
        }
    };
    match open(path)? {
        Opened::Text(text, Some(b'[')) => array(text, &mut each).map_err(unreadable)?,
        Opened::Text(text, _) => lines(text, &mut each).map_err(unreadable)?,
        Opened::Parquet => super::parquet::for_each(path, &mut each)?,
    }
    bad.into_result(path)
}

/// Takes each row, or the reason why there is none.
type Each<'a> = &'a mut dyn FnMut(At, Result<Columns, String>);

/// Reads a row per line; the whole as documents, if the first line does not end the first one.
fn lines(mut text: Box<dyn BufRead>, each: Each<'_>) -> io::Result<()> {
    let (mut line, mut is_first) = (Vec::new(), true);
    for number in 1.. {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let row = if number == 1 { json::without_mark(&line) } else { &line }.trim_ascii_end();
        if row.trim_ascii_start().is_empty() {
            continue;
        }
        if std::mem::take(&mut is_first) && is_cut(row) {
            let row = [row, b"\n"].concat();
            return documents(Cursor::new(row).chain(text), number, each);
        }
        let at = At { line: Some(number), row: None };
        match std::str::from_utf8(row) {
            Ok(row) => document(at, row, each),
            Err(error) => {
                let (byte, column) = (row[error.valid_up_to()], error.valid_up_to() + 1);
                each(at, Err(format!("is not UTF-8: found the byte {byte:#04x} at column {column}")));
            }
        }
    }
    Ok(())
}

/// True if a text ends within a value.
fn is_cut(text: &[u8]) -> bool {
    let value = serde_json::from_slice::<&RawValue>(text);
    text.starts_with(b"{") && value.is_err_and(|error| error.is_eof())
}

/// Reads the rows of a document: itself, or all of its list.
fn document(at: At, text: &str, each: Each<'_>) {
    let mut columns = match json::read::<Columns>(text.as_bytes()) {
        Ok(columns) => columns,
        Err(fault) => return each(at, Err(fault.of_line())),
    };
    let list = LISTS.iter().find_map(|name| match columns.get_mut(*name) {
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_object) => Some(std::mem::take(list)),
        _ => None,
    });
    let Some(list) = list else { return each(at, Ok(columns)) };
    for (idx, row) in list.into_iter().enumerate() {
        let row = match row {
            Value::Object(row) => Ok(row),
            other => Err(format!("found {}, expected an object", json::shorten(&other.to_string()))),
        };
        each(At { row: Some(idx + 1), ..at }, row);
    }
}

/// Reads documents that go over several lines, from line `first` on.
fn documents(text: impl Read, first: usize, each: Each<'_>) -> io::Result<()> {
    let n_ends = Cell::new(0);
    let counted = Counted { text, n_ends: &n_ends };
    let reader = serde_json::Deserializer::from_reader(counted).into_iter::<Box<RawValue>>();
    for (idx, value) in reader.enumerate() {
        match value {
            Ok(value) => {
                let line = first + n_ends.get() - ends(value.get());
                document(At { line: Some(line), row: Some(idx + 1) }, value.get(), each);
            }
            Err(error) => return broken(error, first - 1, idx + 1, each),
        }
    }
    Ok(())
}

/// Reads the entries of an array as rows.
fn array(mut text: Box<dyn BufRead>, each: Each<'_>) -> io::Result<()> {
    let start = text.fill_buf()?;
    let n_mark = start.len() - json::without_mark(start).len();
    text.consume(n_mark);
    let n_ends = Cell::new(0);
    let mut reader = serde_json::Deserializer::from_reader(Counted { text, n_ends: &n_ends });
    let mut n_rows = 0;
    let entries = Entries { n_ends: &n_ends, n_rows: &mut n_rows, each };
    match reader.deserialize_seq(entries).and_then(|()| reader.end()) {
        Ok(()) => Ok(()),
        Err(error) => broken(error, 0, n_rows + 1, each),
    }
}

/// Tells where a text that is read as a whole stops to be JSON: what follows it is not read.
fn broken(error: serde_json::Error, n_before: usize, row: usize, each: Each<'_>) -> io::Result<()> {
    if error.is_io() {
        return Err(error.into());
    }
    let at = At { line: Some(n_before + error.line()), row: Some(row) };
    each(at, Err(json::syntax(&error)));
    Ok(())
}

/// A visitor that hands on each entry as a row.
struct Entries<'a> {
    n_ends: &'a Cell<usize>,
    n_rows: &'a mut usize,
    each: Each<'a>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<Box<RawValue>>()? {
            *self.n_rows += 1;
            let line = 1 + self.n_ends.get() - ends(entry.get());
            let at = At { line: Some(line), row: Some(*self.n_rows) };
            let row = json::read::<Columns>(entry.get().as_bytes());
            (self.each)(at, row.map_err(|fault| fault.of_line()));
        }
        Ok(())
    }
}

fn ends(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

/// A reader that counts the ends of lines that went through it.
struct Counted<'a, R> {
    text: R,
    n_ends: &'a Cell<usize>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_read = self.text.read(buffer)?;
        let n_ends = buffer[..n_read].iter().filter(|&&byte| byte == b'\n').count();
        self.n_ends.set(self.n_ends.get() + n_ends);
        Ok(n_read)
    }
}
