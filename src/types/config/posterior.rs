//! `[posterior]`: from evidence to weights.

use std::num::NonZeroU64;

use super::section::Section;
use crate::mixture::{Decay, MAX_LEARNING_RATE, Routing};

/// The parameters from evidence to weights.
#[derive(Debug, Clone, Copy)]
pub struct Posterior {
    /// Hedge's learning rate; none for the bundle's.
    pub learning_rate: Option<f64>,
    /// The share of the weight that is spread evenly over the heads, in [0, 0.5].
    pub floor: f64,
    pub decay: Decay,
    /// The probability that a user's head is the same in another context, in [0, 1].
    pub transfer: f64,
}

impl Posterior {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        Self {
            learning_rate: Some(section.number("learning_rate", 0.0, MAX_LEARNING_RATE))
                .filter(|&rate| rate > 0.0),
            floor: section.number("floor", 0.0, 0.5),
            decay: half_life(&mut section, "half_life"),
            transfer: section.number("transfer", 0.0, 1.0),
        }
    }

    /// Returns the rule from evidence to weights for a bundle with this learning rate.
    #[must_use]
    pub fn routing(&self, of_bundle: f64) -> Routing {
        Routing { eta: self.learning_rate.unwrap_or(of_bundle), floor: self.floor }
    }
}

fn half_life(section: &mut Section<'_>, key: &str) -> Decay {
    let text: String = section.value(key);
    if text == "off" {
        return Decay::NONE;
    }
    let half_life = humantime::parse_duration(&text).ok();
    let millis = half_life.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    millis.and_then(NonZeroU64::new).map_or_else(
        || {
            section.refuse(key, format!("found \"{text}\", expected \"off\" or a duration such as \"30d\""));
            Decay::NONE
        },
        Decay::with_half_life,
    )
}
