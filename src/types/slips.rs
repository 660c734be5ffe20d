//! Common mistakes of clients in the fields of an event, and the errors that explain them.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::event_kind::EventKind;
use super::json;

/// A kind of feedback that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "found {found:?}, expected \"pair\", \"tie\", \"thumb\", \"ranking\", \"rating\" or \"correction\"{}",
    hint(found)
)]
pub struct UnknownKind {
    found: String,
}

impl TryFrom<String> for EventKind {
    type Error = UnknownKind;

    fn try_from(found: String) -> Result<Self, UnknownKind> {
        let kind = Self::ALL.into_iter().find(|kind| kind.label() == found);
        kind.ok_or_else(|| UnknownKind { found: json::shorten(&found).into_owned() })
    }
}

/// Returns a hint at what to send instead of a kind that other products have.
fn hint(kind: &str) -> &'static str {
    match kind.to_lowercase().as_str() {
        "up" | "like" | "thumb_up" | "thumbs_up" | "thumbup" | "upvote" | "good" | "positive" | "+1" => {
            ": send a \"thumb\" with `up` true"
        }
        "down" | "dislike" | "thumb_down" | "thumbs_down" | "thumbdown" | "downvote" | "bad" | "negative"
        | "-1" => ": send a \"thumb\" with `up` false",
        "thumbs" | "vote" | "binary" | "boolean" | "label" => ": send a \"thumb\" with `up` true or false",
        "score" | "scores" | "stars" | "rate" | "ratings" | "grade" | "numeric" => {
            ": send a \"rating\" of several responses, or a \"thumb\" for one"
        }
        "preference" | "comparison" | "compare" | "choice" | "chosen" => ": send a \"pair\"",
        "rank" | "order" => ": send a \"ranking\"",
        "edit" | "edited" | "rewrite" => ": send a \"correction\"",
        "none" | "clear" | "neutral" | "unvote" | "retract" | "delete" => {
            ": take a vote back by DELETE /feedback/{event_id}?user="
        }
        _ => "",
    }
}

/// Reads the direction of a thumb.
pub(super) fn up<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(Option::<Up>::deserialize(deserializer)?.map(|Up(up)| up))
}

/// Reads one number per response.
pub(super) fn ratings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f64>>, D::Error> {
    let ratings = Option::<Vec<Rating>>::deserialize(deserializer)?;
    Ok(ratings.map(|ratings| ratings.into_iter().map(|Rating(rating)| rating).collect()))
}

struct Up(bool);

impl<'de> Deserialize<'de> for Up {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Thumb;
        impl Visitor<'_> for Thumb {
            type Value = Up;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true for a thumb up or false for a thumb down")
            }

            fn visit_bool<E: Error>(self, up: bool) -> Result<Up, E> {
                Ok(Up(up))
            }
        }
        deserializer.deserialize_any(Thumb)
    }
}

struct Rating(f64);

impl<'de> Deserialize<'de> for Rating {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Rating;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 4 or 4.5")
            }

            fn visit_f64<E: Error>(self, rating: f64) -> Result<Rating, E> {
                Ok(Rating(rating))
            }

            fn visit_i64<E: Error>(self, rating: i64) -> Result<Rating, E> {
                Ok(Rating(rating as f64))
            }

            fn visit_u64<E: Error>(self, rating: u64) -> Result<Rating, E> {
                Ok(Rating(rating as f64))
            }
        }
        deserializer.deserialize_any(Number)
    }
}
