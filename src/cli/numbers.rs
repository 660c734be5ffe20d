//! Parses numbers in flags and checks their ranges.

use std::ops::RangeInclusive;

use crate::mixture::MAX_LEARNING_RATE;

/// Parses a number >= 0.
pub(super) fn non_negative(text: &str) -> Result<f64, String> {
    within(text, 0.0..=f64::MAX, ">= 0")
}

/// Parses a learning rate.
pub(super) fn learning_rate(text: &str) -> Result<f64, String> {
    within(text, f64::MIN_POSITIVE..=MAX_LEARNING_RATE, &format!("above 0, at most {MAX_LEARNING_RATE}"))
}

/// Parses a number from 0 to 1.
pub(super) fn unit(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1.0, "from 0 to 1")
}

/// Parses a share from 0 to 0.9, which leaves a rest.
pub(super) fn share(text: &str) -> Result<f64, String> {
    within(text, 0.0..=0.9, "from 0 to 0.9")
}

fn within(text: &str, range: RangeInclusive<f64>, expected: &str) -> Result<f64, String> {
    let number = text.trim().parse().map_err(|_| format!("found \"{text}\", expected a number"))?;
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("found {text}, expected a number {expected}"))
    }
}
