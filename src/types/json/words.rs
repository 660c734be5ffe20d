//! Faults in the words of JSON: object, array, text, number, true, false, null.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::FaultKind;

/// Characters of a found value that an error repeats.
const MAX_QUOTED: usize = 64;

/// An error of a [`super::strict::Strict`] over a reader whose errors are `E`.
#[derive(Debug)]
pub(super) enum ReadError<E> {
    /// An error of the reader below.
    Inner(E),
    /// The value is not the expected one.
    Mismatch(Mismatch),
}

#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) kind: FaultKind,
    pub(super) detail: String,
    /// The field of this object that is at fault; none for the value itself.
    pub(super) field: Option<String>,
}

impl<E> ReadError<E> {
    fn mismatch(detail: String, field: Option<&str>) -> Self {
        Self::Mismatch(Mismatch { kind: FaultKind::Form, detail, field: field.map(str::to_owned) })
    }
}

impl<E: de::Error> de::Error for ReadError<E> {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Self::mismatch(detail.to_string(), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch(format!("found {}, expected {}", name(found), plain(expected)), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(n_found: usize, expected: &dyn Expected) -> Self {
        Self::mismatch(format!("found {n_found} entries, expected {}", plain(expected)), None)
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::mismatch(format!("found \"{}\", expected {}", shorten(found), choices(known)), None)
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        let expected = match known {
            [] => "none".to_owned(),
            known => format!("one of {}", list(known, '`')),
        };
        Self::mismatch(format!("unknown field `{}`, expected {expected}", shorten(found)), Some(found))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::mismatch(format!("missing field `{field}`"), Some(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        // The path already ends with the field.
        Self::mismatch(format!("found the field `{field}` twice, expected it once"), None)
    }
}

impl<E: fmt::Display> fmt::Display for ReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Mismatch(mismatch) => f.write_str(&mismatch.detail),
        }
    }
}

impl<E: de::Error> std::error::Error for ReadError<E> {}

/// Describes the set of texts of which one is expected.
pub(super) fn choices(known: &[&str]) -> String {
    match known {
        [one] => format!("\"{one}\""),
        known => format!("one of {}", list(known, '"')),
    }
}

fn list(names: &[&str], quote: char) -> String {
    names.iter().map(|name| format!("{quote}{name}{quote}")).collect::<Vec<_>>().join(", ")
}

/// Returns the beginning of a text, so that an answer does not grow with its request.
pub(crate) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

fn name(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        // The debug form, as in "1000.0", shows that the number may not be whole.
        Unexpected::Float(number) => format!("{number:?}"),
        Unexpected::Char(one) => format!("the text \"{one}\""),
        Unexpected::Str(text) => format!("the text \"{}\"", shorten(text)),
        Unexpected::Unit | Unexpected::Option => "null".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        Unexpected::Other(what) => what.to_owned(),
        _ => "something else".to_owned(),
    }
}

/// Describes what a reader expects, without Rust's names for it. The words of this program's own readers stay.
fn plain(expected: &dyn Expected) -> String {
    let whole = |low: i128, high: i128| format!("a whole number from {low} to {high}");
    let expected = expected.to_string();
    match expected.as_str() {
        "a string" | "a borrowed string" | "path string" | "a character" | "identifier" => {
            "a text".to_owned()
        }
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "a timestamp string" => "a time as text, such as \"2026-01-31T12:00:00Z\"".to_owned(),
        "unit" => "null".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "i8" => whole(i8::MIN.into(), i8::MAX.into()),
        "i16" => whole(i16::MIN.into(), i16::MAX.into()),
        "i32" => whole(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => whole(i64::MIN.into(), i64::MAX.into()),
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => whole(0, u64::MAX.into()),
        other if other.starts_with("a nonzero u") => whole(1, u64::MAX.into()),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other if other.starts_with("tuple ") || other.starts_with("a tuple ") => "an array".to_owned(),
        other if other.starts_with("enum ") => "a text".to_owned(),
        _ => expected,
    }
}

/// Rewrites an error of the reader below about a text that is not JSON.
pub(super) fn of_syntax(mismatch: &str) -> String {
    let words = [
        ("expected ident", "expected null, true or false"),
        ("parsing a string", "parsing a text"),
        ("parsing a list", "parsing an array"),
        ("key must be a string", "a name must be a text"),
    ];
    words.iter().fold(mismatch.to_owned(), |mismatch, (theirs, ours)| mismatch.replace(theirs, ours))
}
