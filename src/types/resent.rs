//! An accepted feedback, as an event that can be sent again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::feedback::{Judgment, ResolvedFeedback};
use super::ids::{EventId, UserId};

/// An event as POST /feedback reads it. Responses that were referenced by ids are texts: their ids may be forgotten.
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
    judgment: ResentJudgment<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ResentJudgment<'a> {
    Pair { chosen: &'a str, rejected: &'a str },
    Several { responses: Vec<&'a str> },
    Rated { responses: Vec<&'a str>, ratings: &'a [f64] },
    Thumb { response: &'a str, up: bool },
    Correction { edited: &'a str, original: &'a str },
}

impl<'a> From<&'a ResolvedFeedback> for Resent<'a> {
    fn from(resolved: &'a ResolvedFeedback) -> Self {
        let ResolvedFeedback {
            event_id,
            user,
            at_ms,
            context,
            prompt,
            responses,
            judgment,
            replaces,
            comment,
            metadata,
        } = resolved;
        let responses: Vec<&str> = responses.iter().map(|response| &*response.text).collect();
        let nth = |idx: usize| responses.get(idx).copied().unwrap_or_default();
        let kind = judgment.kind().label();
        let judgment = match judgment {
            Judgment::Pair => ResentJudgment::Pair { chosen: nth(0), rejected: nth(1) },
            Judgment::Tie | Judgment::Ranking => ResentJudgment::Several { responses },
            Judgment::Rating(ratings) => ResentJudgment::Rated { responses, ratings },
            Judgment::Thumb { up } => ResentJudgment::Thumb { response: nth(0), up: *up },
            Judgment::Correction => ResentJudgment::Correction { edited: nth(0), original: nth(1) },
        };
        Self {
            event_id,
            user,
            kind,
            at: Timestamp::from_millisecond(*at_ms).ok(),
            context: context.as_deref(),
            prompt,
            judgment,
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
    use crate::types::{Event, ResolvedResponse, ResponseRef};

    #[test]
    fn every_kind_is_read_as_it_was_heard() {
        let opinions = [
            (Judgment::Pair, 2),
            (Judgment::Tie, 2),
            (Judgment::Thumb { up: false }, 1),
            (Judgment::Ranking, 3),
            (Judgment::Rating(vec![1.0, -0.5, 1e300]), 3),
            (Judgment::Correction, 2),
        ];
        for (judgment, n) in opinions {
            let text = |idx: usize| Arc::from(format!("response \"{idx}\"\n"));
            let resolved = ResolvedFeedback {
                event_id: "e1".parse().unwrap(),
                user: "ann".parse().unwrap(),
                at_ms: 1_800_000_000_123,
                context: Some("tone".to_owned()),
                prompt: "tea?".into(),
                responses: (0..n).map(|idx| ResolvedResponse { id: None, text: text(idx) }).collect(),
                judgment,
                replaces: Some("e0".parse().unwrap()),
                comment: Some("too sweet".to_owned()),
                metadata: [("page".to_owned(), "7".to_owned())].into(),
            };
            let line = serde_json::to_string(&Resent::from(&resolved)).unwrap();
            let again = serde_json::from_str::<Event>(&line).unwrap().check().unwrap();
            assert_eq!(
                (&again.judgment, &again.event_id, &again.user),
                (&resolved.judgment, &resolved.event_id, &resolved.user)
            );
            assert_eq!(
                (again.at.unwrap().as_millisecond(), again.context),
                (resolved.at_ms, resolved.context)
            );
            assert_eq!(
                (again.replaces, again.comment, again.metadata),
                (resolved.replaces, resolved.comment, resolved.metadata)
            );
            assert_eq!(again.prompt, Some(resolved.prompt));
            assert_eq!(again.responses, (0..n).map(|idx| ResponseRef::Text(text(idx))).collect::<Vec<_>>());
        }
    }
}
