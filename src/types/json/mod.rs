//! JSON as callers send it: one reader for every body, line and row, whose errors use the words of JSON alone.
//!
//! The laws: an object is read by its names, never an array by position; an error names the path of its value, an
//! entry of an array by its index; half a surrogate pair is U+FFFD; a byte order mark is no part of the text.

mod place;
mod strict;
mod surrogates;
mod words;

use std::fmt;

use serde::Deserializer;
use serde::de::DeserializeOwned;

use place::Place;
use strict::Strict;

pub(crate) use words::shorten;

/// Upper bound of the entries of all arrays of one document: more than any request needs, and few enough for tiny
/// ones not to take up a hundred times the bytes that were sent.
const MAX_ENTRIES: usize = 1 << 20;

/// The reason why a text can't be read as the expected value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The values found and expected.
    pub detail: String,
    /// The path of the value, like `items[0].responses[2].text`; empty for the document itself.
    pub path: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { detail, path, .. } = self;
        let is_named = path.is_empty() || detail.contains(&format!("`{path}`"));
        if is_named { f.write_str(detail) } else { write!(f, "`{path}`: {detail}") }
    }
}

impl Fault {
    /// Describes the fault in one line of a file, without the line number: its reader knows that number, and this
    /// one is always 1.
    #[must_use]
    pub fn of_line(&self) -> String {
        self.to_string().replace(" at line 1 column", " at column")
    }
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It is not JSON.
    Syntax,
    /// It is JSON of another form.
    Form,
    /// It has more entries than are read.
    Size,
}

/// Reads one value. It is read once; a second time only where a surrogate of an escape stands alone.
///
/// # Errors
/// Returns the first fault.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Fault> {
    let json = without_mark(json);
    match attempt(json) {
        Err(Failed::Surrogate(_)) => attempt(&surrogates::replaced(json)).map_err(Failed::into_fault),
        read => read.map_err(Failed::into_fault),
    }
}

/// Reads one value from another format's reader, with the same laws and the same words.
///
/// # Errors
/// Returns the first fault.
pub fn read_from<'de, T: DeserializeOwned, D: Deserializer<'de>>(reader: D) -> Result<T, Fault> {
    let place = Place::new(MAX_ENTRIES);
    let read = T::deserialize(Strict::new(reader, &place)).map_err(|error| place.lower(error));
    read.map_err(|error| {
        let (path, mismatch) = place.into_parts();
        mismatch.unwrap_or_else(|| Fault { kind: FaultKind::Syntax, detail: error.to_string(), path })
    })
}

/// Describes an error of another reader of JSON, without its line, which its caller knows.
pub(crate) fn syntax(error: &serde_json::Error) -> String {
    let (said, column) = (words::of_syntax(&error.to_string()), error.column());
    let said = said.split(" at line ").next().unwrap_or_default();
    format!("{said} at column {column}")
}

/// Returns a text without the byte order mark that some programs begin UTF-8 with.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

enum Failed {
    /// The text may be valid once its lone surrogates are replaced.
    Surrogate(Fault),
    Fault(Fault),
}

impl Failed {
    fn into_fault(self) -> Fault {
        match self {
            Self::Surrogate(fault) | Self::Fault(fault) => fault,
        }
    }
}

fn attempt<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failed> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let place = Place::new(MAX_ENTRIES);
    let strict = Strict::new(&mut deserializer, &place);
    let read = T::deserialize(strict).map_err(|error| place.lower(error));
    read.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| failed(&error, place))
}

fn failed(error: &serde_json::Error, place: Place) -> Failed {
    let (path, mismatch) = place.into_parts();
    if let Some(fault) = mismatch {
        return Failed::Fault(fault);
    }
    let detail = error.to_string();
    if detail.starts_with("number out of range") {
        let detail = "found a number that is too large, expected one of at most 1.7e308".to_owned();
        return Failed::Fault(Fault { kind: FaultKind::Form, detail, path });
    }
    let detail = words::of_syntax(&detail);
    let is_surrogate = ["lone leading surrogate", "unexpected end of hex escape"];
    let is_surrogate = is_surrogate.iter().any(|start| detail.starts_with(start));
    let fault = Fault { kind: FaultKind::Syntax, detail, path };
    if is_surrogate { Failed::Surrogate(fault) } else { Failed::Fault(fault) }
}

#[cfg(test)]
mod tests;
