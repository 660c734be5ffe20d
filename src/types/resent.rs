//! A feedback that was taken once, as an event that can be sent again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::feedback::{Heard, Opinion};
use super::ids::{EventId, UserId};

/// An event as POST /feedback reads it. Responses that were named by ids are texts: their ids may be forgotten.
#[derive(Debug, Serialize)]
pub struct Resent<'a> {
    event_id: &'a EventId,
    user: &'a UserId,
    kind: &'static str,
    at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    prompt: &'a str,
    #[serde(flatten)]
    opinion: Told<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Pair { chosen: &'a str, rejected: &'a str },
    Several { responses: Vec<&'a str> },
    Rated { responses: Vec<&'a str>, ratings: &'a [f64] },
    Thumb { response: &'a str, up: bool },
    Correction { edited: &'a str, original: &'a str },
}

impl<'a> From<&'a Heard> for Resent<'a> {
    fn from(heard: &'a Heard) -> Self {
        let Heard { event_id, user, at_ms, context, prompt, responses, opinion, replaces, comment, metadata } =
            heard;
        let responses: Vec<&str> = responses.iter().map(|response| &*response.text).collect();
        let nth = |idx: usize| responses.get(idx).copied().unwrap_or_default();
        let told = match opinion {
            Opinion::Pair => Told::Pair { chosen: nth(0), rejected: nth(1) },
            Opinion::Tie | Opinion::Ranking => Told::Several { responses },
            Opinion::Rating(ratings) => Told::Rated { responses, ratings },
            Opinion::Thumb { up } => Told::Thumb { response: nth(0), up: *up },
            Opinion::Correction => Told::Correction { edited: nth(0), original: nth(1) },
        };
        Self {
            event_id,
            user,
            kind: opinion.kind().label(),
            at: Timestamp::from_millisecond(*at_ms).ok(),
            context: context.as_deref(),
            prompt,
            opinion: told,
            replaces: replaces.as_ref(),
            comment: comment.as_deref(),
            metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{Event, HeardResponse, Mention};

    #[test]
    fn every_kind_is_read_as_it_was_heard() {
        let opinions = [
            (Opinion::Pair, 2),
            (Opinion::Tie, 2),
            (Opinion::Thumb { up: false }, 1),
            (Opinion::Ranking, 3),
            (Opinion::Rating(vec![1.0, -0.5, 1e300]), 3),
            (Opinion::Correction, 2),
        ];
        for (opinion, n) in opinions {
            let text = |idx: usize| Arc::from(format!("response \"{idx}\"\n"));
            let heard = Heard {
                event_id: "e1".parse().unwrap(),
                user: "ann".parse().unwrap(),
                at_ms: 1_800_000_000_123,
                context: Some("tone".to_owned()),
                prompt: "tea?".into(),
                responses: (0..n).map(|idx| HeardResponse { id: None, text: text(idx) }).collect(),
                opinion,
                replaces: Some("e0".parse().unwrap()),
                comment: Some("too sweet".to_owned()),
                metadata: [("page".to_owned(), "7".to_owned())].into(),
            };
            let line = serde_json::to_string(&Resent::from(&heard)).unwrap();
            let again = serde_json::from_str::<Event>(&line).unwrap().check().unwrap();
            assert_eq!(
                (&again.opinion, &again.event_id, &again.user),
                (&heard.opinion, &heard.event_id, &heard.user)
            );
            assert_eq!((again.at.unwrap().as_millisecond(), again.context), (heard.at_ms, heard.context));
            assert_eq!(
                (again.replaces, again.comment, again.metadata),
                (heard.replaces, heard.comment, heard.metadata)
            );
            assert_eq!(again.prompt, Some(heard.prompt));
            assert_eq!(again.responses, (0..n).map(|idx| Mention::Text(text(idx))).collect::<Vec<_>>());
        }
    }
}
