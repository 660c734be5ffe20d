//! Splits an array into the texts of its entries, so that one that can't be read fails alone.

use std::fmt;

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::types::{Error, ErrorKind};

/// Events in one array: a megabyte holds fewer than ten thousand of them, but a hundred times as many that are none.
const MAX_EVENTS: usize = 1 << 17;

/// Returns the entries of the array that `body` begins with, unparsed.
///
/// # Errors
/// `Invalid` for a body that is not JSON, `TooLarge` for more than [`MAX_EVENTS`] entries.
pub(super) fn entries(body: &[u8]) -> Result<Vec<&RawValue>, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let found = deserializer.deserialize_seq(Entries).map_err(|error| malformed(&error))?;
    if found.len() > MAX_EVENTS {
        let detail = format!(
            "found more than {MAX_EVENTS} events in one array; send them as lines, of the type application/x-ndjson"
        );
        return Err(Error::new(ErrorKind::TooLarge, detail).with_code("too_many_entries"));
    }
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(found)
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::new(ErrorKind::Invalid, error.to_string()).with_code("malformed_json")
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(text) = seq.next_element()? {
            if found.len() <= MAX_EVENTS {
                found.push(text);
            }
        }
        Ok(found)
    }
}
