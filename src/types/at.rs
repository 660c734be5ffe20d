//! The time of an event, as clients write it.

use std::fmt;

use jiff::Timestamp;
use serde::Deserializer;
use serde::de::{Error, Visitor};
use utoipa::ToSchema;

use super::json;

/// The accepted forms, for errors.
const TIME_FORMS: &str =
    "a time such as \"2026-01-31T12:00:00Z\", or seconds or milliseconds since 1970 such as 1769860800";

/// The least number that is read as milliseconds, since March 1973; smaller ones are seconds, until the year 5138.
const LEAST_MILLIS: f64 = 1e11;

/// A time: RFC 3339, or a number of seconds or milliseconds since 1970. Numbers below 100,000,000,000 either way are
/// seconds.
#[derive(Debug, ToSchema)]
#[schema(examples("2026-01-31T12:00:00Z", 1_769_860_800, 1_769_860_800_000_i64))]
#[expect(dead_code, reason = "it describes what `at` takes")]
pub(super) enum Moment {
    /// RFC 3339 with its offset.
    #[schema(format = DateTime)]
    Text(String),
    /// Seconds or milliseconds since 1970.
    Number(f64),
}

/// Reads the time of a text in any of the forms; none if it is none.
fn time_of(text: &str) -> Option<Timestamp> {
    let number = || text.parse().ok().and_then(of_number);
    text.parse().ok().or_else(number)
}

/// Returns the time of a number of seconds or milliseconds since 1970, to the millisecond.
fn of_number(number: f64) -> Option<Timestamp> {
    let millis = if number.abs() < LEAST_MILLIS { number * 1000.0 } else { number };
    // The cast saturates, so that a number beyond all times stays beyond them; it would turn NaN into 0.
    (!millis.is_nan()).then(|| Timestamp::from_millisecond(millis.round() as i64).ok()).flatten()
}

/// Reads an optional time, for serde.
///
/// # Errors
/// Fails for a value that is no time in any of the forms.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    deserializer.deserialize_any(Moments)
}

struct Moments;

impl<'de> Visitor<'de> for Moments {
    type Value = Option<Timestamp>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TIME_FORMS)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        time_of(text).map(Some).ok_or_else(|| {
            let why = if text.parse::<jiff::civil::DateTime>().is_ok() {
                ", which has no offset from UTC"
            } else {
                ""
            };
            E::custom(format_args!("found {:?}{why}, expected {TIME_FORMS}", json::shorten(text)))
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        of_number(number)
            .map(Some)
            .ok_or_else(|| E::custom(format_args!("found {number}, expected {TIME_FORMS}")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_f64(number as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_seconds_and_milliseconds_say_the_same_time() {
        let expected: Timestamp = "2026-01-31T12:00:00.25Z".parse().unwrap();
        for text in [
            "2026-01-31T12:00:00.25Z",
            "2026-01-31T13:00:00.25+01:00",
            "1769860800.25",
            "1769860800250",
            "1769860800250.0",
        ] {
            assert_eq!(time_of(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_decided_by_magnitude() {
        for (number, millis) in [
            ("0", 0),
            ("-1.5", -1500),
            ("99999999999", 99_999_999_999_000),
            ("100000000000", 100_000_000_000),
            ("-100000000000", -100_000_000_000),
        ] {
            assert_eq!(time_of(number).map(|at| at.as_millisecond()), Some(millis), "{number}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        // 1769860800250000 is in microseconds: as milliseconds its year can't be written.
        for text in
            ["", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "1769860800250000", "1e300", "inf", "NaN"]
        {
            assert_eq!(time_of(text), None, "{text}");
        }
    }
}
