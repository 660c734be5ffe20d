//! One value at a time: from what was read to what it has to be, or a problem with its key.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::Provider;
use super::layers::Layers;
use crate::mixture::Decay;
use crate::types::Secret;

/// A shorter secret could be found by trying.
const MIN_SECRET_BYTES: usize = 16;

/// Reads values one by one. A value that is refused is replaced by something harmless, so that the others are
/// still looked at; the caller discards the result when there is any problem.
pub(super) struct Check {
    pub(super) layers: Layers,
}

impl Check {
    pub(super) fn address(&mut self, key: &str, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            self.layers.refuse(
                key,
                format!("found \"{text}\", expected an address and port such as \"0.0.0.0:8080\""),
            );
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    pub(super) fn count(&mut self, key: &str, number: i64) -> NonZeroUsize {
        usize::try_from(number).ok().and_then(NonZeroUsize::new).unwrap_or_else(|| {
            self.layers.refuse(key, format!("found {number}, expected a whole number above 0"));
            NonZeroUsize::MIN
        })
    }

    pub(super) fn size(&mut self, key: &str, number: i64) -> u64 {
        u64::try_from(number).unwrap_or_else(|_| {
            self.layers.refuse(key, format!("found {number}, expected a whole number of bytes, 0 or above"));
            0
        })
    }

    pub(super) fn count_up_to(&mut self, key: &str, number: i64, at_most: i64) -> NonZeroUsize {
        if number > at_most {
            self.layers.refuse(key, format!("found {number}, expected at most {at_most}"));
            return NonZeroUsize::MIN;
        }
        self.count(key, number)
    }

    /// A number that is at least that of another key.
    pub(super) fn count_from(&mut self, key: &str, number: i64, (other, least): (&str, i64)) -> NonZeroUsize {
        if number > 0 && number < least {
            self.layers.refuse(key, format!("found {number}, expected at least `{other}`, which is {least}"));
            return NonZeroUsize::MIN;
        }
        self.count(key, number)
    }

    pub(super) fn within(&mut self, key: &str, number: f64, low: f64, high: f64) -> f64 {
        if !(low..=high).contains(&number) {
            let low = if low == f64::MIN_POSITIVE { "above 0".to_owned() } else { format!("from {low}") };
            self.layers.refuse(key, format!("found {number}, expected a number {low} to {high}"));
        }
        number
    }

    pub(super) fn duration(&mut self, key: &str, text: &str, at_most: Duration) -> Duration {
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= at_most => duration,
            found => {
                let limit = humantime::format_duration(at_most);
                let expected =
                    if found.is_ok() { format!("of at most {limit}") } else { "such as \"25s\"".to_owned() };
                self.layers.refuse(key, format!("found \"{text}\", expected a duration {expected}"));
                at_most
            }
        }
    }

    pub(super) fn span(&mut self, key: &str, text: &str, at_most: Duration) -> Duration {
        let duration = self.duration(key, text, at_most);
        if duration.is_zero() {
            self.layers.refuse(key, format!("found \"{text}\", expected a duration above 0"));
        }
        duration
    }

    pub(super) fn half_life(&mut self, key: &str, text: &str) -> Decay {
        if text == "off" {
            return Decay::NONE;
        }
        let half_life = humantime::parse_duration(text).ok();
        let millis = half_life.and_then(|d| u64::try_from(d.as_millis()).ok());
        millis.and_then(std::num::NonZeroU64::new).map_or_else(
            || {
                self.layers
                    .refuse(key, format!("found \"{text}\", expected \"off\" or a duration such as \"30d\""));
                Decay::NONE
            },
            Decay::with_half_life,
        )
    }

    pub(super) fn filled(&mut self, key: &str, text: String) -> String {
        if text.is_empty() {
            self.layers.refuse(key, "found \"\", expected a path".to_owned());
        }
        text
    }

    /// Never shows what it found.
    pub(super) fn secret_key(&mut self, key: &str, text: String) -> Secret {
        if !text.is_empty() && text.len() < MIN_SECRET_BYTES {
            let found = text.len();
            self.layers
                .refuse(key, format!("found {found} bytes, expected at least {MIN_SECRET_BYTES} or none"));
        }
        text.into()
    }

    /// Never shows what it found: a url may hold a password.
    pub(super) fn urls(&mut self, key: &str, text: &str, is_cluster: bool) -> Vec<Secret> {
        let urls: Vec<&str> = text.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        match urls.len() {
            0 => self.layers.refuse(key, "found none, expected such as \"redis://host:6379\"".to_owned()),
            1 => {}
            n if !is_cluster => {
                self.layers.refuse(key, format!("found {n}, expected one, or `valkey.cluster = true`"));
            }
            _ => {}
        }
        urls.into_iter().map(|url| url.to_owned().into()).collect()
    }

    pub(super) fn providers(&mut self, key: &str, names: &[String]) -> Vec<Provider> {
        if names.is_empty() {
            self.layers.refuse(key, "found none, expected at least one".to_owned());
        }
        names.iter().map(|name| self.one_of(key, name, Provider::NAMES)).collect()
    }

    pub(super) fn filter(&mut self, key: &str, text: String) -> String {
        if let Err(error) = text.parse::<tracing_subscriber::EnvFilter>() {
            self.layers.refuse(key, format!("found \"{text}\", expected a level such as \"info\": {error}"));
        }
        text
    }

    pub(super) fn one_of<T: Copy>(&mut self, key: &str, text: &str, choices: &[(&str, T)]) -> T {
        choices.iter().find(|(name, _)| *name == text).map_or_else(
            || {
                let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                self.layers.refuse(key, format!("found \"{text}\", expected {}", names.join(" or ")));
                choices[0].1
            },
            |(_, choice)| *choice,
        )
    }
}
