//! One section of the configuration: each key is read once, and checked as it is read.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::layers::Layers;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const YEAR: Duration = Duration::from_secs(8766 * 3600);

/// A section that is being read. A refused value is replaced by a harmless one, so that the others are still
/// checked; the caller discards the result when there is any problem.
pub(super) struct Section<'a> {
    layers: &'a mut Layers,
    name: &'static str,
}

impl<'a> Section<'a> {
    pub(super) fn new(layers: &'a mut Layers, name: &'static str) -> Self {
        Self { layers, name }
    }

    /// Records a problem with a key, found and expected, at the layer that set it.
    pub(super) fn refuse(&mut self, key: &str, detail: String) {
        self.layers.refuse(&format!("{}.{key}", self.name), detail);
    }

    /// Takes the merged value; it has the type of its default.
    pub(super) fn value<T: DeserializeOwned + Default>(&mut self, key: &str) -> T {
        let problem = match self.layers.take(self.name, key).map(toml::Value::try_into) {
            Some(Ok(value)) => return value,
            Some(Err(error)) => error.to_string().trim_end().to_owned(),
            None => "has no default".to_owned(),
        };
        self.refuse(key, problem);
        T::default()
    }

    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        let text: String = self.value(key);
        text.parse().unwrap_or_else(|_| {
            let expected = "an address and port such as \"0.0.0.0:8080\"";
            self.refuse(key, format!("found \"{text}\", expected {expected}"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    pub(super) fn path(&mut self, key: &str) -> PathBuf {
        let path: PathBuf = self.value(key);
        if path.as_os_str().is_empty() {
            self.refuse(key, "found \"\", expected a path".to_owned());
        }
        path
    }

    pub(super) fn count(&mut self, key: &str) -> NonZeroUsize {
        let number: i64 = self.value(key);
        self.positive(key, number)
    }

    pub(super) fn count_up_to(&mut self, key: &str, at_most: i64) -> NonZeroUsize {
        self.zero_or_count_up_to(key, at_most).unwrap_or_else(|| self.positive(key, 0))
    }

    /// Reads a count of at least `least`, the value of the key `other` of this section.
    pub(super) fn count_from(&mut self, key: &str, other: &str, least: NonZeroUsize) -> NonZeroUsize {
        let number: i64 = self.value(key);
        if number > 0 && usize::try_from(number).is_ok_and(|number| number < least.get()) {
            let expected = format!("at least `{}.{other}`, which is {least}", self.name);
            self.refuse(key, format!("found {number}, expected {expected}"));
            return least;
        }
        self.positive(key, number)
    }

    /// Reads a count; none for 0, which has a meaning of its own.
    pub(super) fn zero_or_count(&mut self, key: &str) -> Option<NonZeroUsize> {
        self.zero_or_count_up_to(key, i64::MAX)
    }

    /// Reads a count of at most `at_most`; none for 0, which has a meaning of its own.
    pub(super) fn zero_or_count_up_to(&mut self, key: &str, at_most: i64) -> Option<NonZeroUsize> {
        let number: i64 = self.value(key);
        if number > at_most {
            self.refuse(key, format!("found {number}, expected at most {at_most}"));
            return Some(NonZeroUsize::MIN);
        }
        (number != 0).then(|| self.positive(key, number))
    }

    pub(super) fn bytes(&mut self, key: &str) -> u64 {
        let number: i64 = self.value(key);
        u64::try_from(number).unwrap_or_else(|_| {
            self.refuse(key, format!("found {number}, expected a whole number of bytes, 0 or above"));
            0
        })
    }

    /// Reads a number from `low` to `high`, or above 0 where `low` is the least positive one.
    pub(super) fn number(&mut self, key: &str, low: f64, high: f64) -> f64 {
        let number: f64 = self.value(key);
        if !(low..=high).contains(&number) {
            let low = if low == f64::MIN_POSITIVE { "above 0".to_owned() } else { format!("from {low}") };
            self.refuse(key, format!("found {number}, expected a number {low} to {high}"));
        }
        number
    }

    pub(super) fn duration(&mut self, key: &str, at_most: Duration) -> Duration {
        let text: String = self.value(key);
        match humantime::parse_duration(&text) {
            Ok(duration) if duration <= at_most => duration,
            found => {
                let limit = humantime::format_duration(at_most);
                let expected =
                    if found.is_ok() { format!("of at most {limit}") } else { "such as \"25s\"".to_owned() };
                self.refuse(key, format!("found \"{text}\", expected a duration {expected}"));
                at_most
            }
        }
    }

    pub(super) fn duration_above_zero(&mut self, key: &str, at_most: Duration) -> Duration {
        let duration = self.duration(key, at_most);
        if duration.is_zero() {
            self.refuse(key, "found \"0s\", expected a duration above 0".to_owned());
        }
        duration
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let text: String = self.value(key);
        self.chosen(key, &text, choices)
    }

    /// Reads one or more of the choices.
    pub(super) fn choices<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Vec<T> {
        let texts: Vec<String> = self.value(key);
        if texts.is_empty() {
            self.refuse(key, "found none, expected at least one".to_owned());
        }
        texts.iter().map(|text| self.chosen(key, text, choices)).collect()
    }

    fn chosen<T: Copy>(&mut self, key: &str, text: &str, choices: &[(&str, T)]) -> T {
        choices.iter().find(|(name, _)| *name == text).map_or_else(
            || {
                let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                self.refuse(key, format!("found \"{text}\", expected {}", names.join(" or ")));
                choices[0].1
            },
            |(_, choice)| *choice,
        )
    }

    fn positive(&mut self, key: &str, number: i64) -> NonZeroUsize {
        usize::try_from(number).ok().and_then(NonZeroUsize::new).unwrap_or_else(|| {
            self.refuse(key, format!("found {number}, expected a whole number above 0"));
            NonZeroUsize::MIN
        })
    }
}
