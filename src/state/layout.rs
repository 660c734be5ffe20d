//! Events as bytes, with support for older layouts.
//!
//! postcard writes an option as it writes an enum of two variants, so bytes that end in an optional [`PlainFeedback`]
//! are read as an [`End`], of which only the third variant is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{EventKey, LedgerEvent};
use crate::mixture::Increment;
use crate::types::{EventId, Judgment, ResolvedFeedback, ResolvedResponse, UserId};

/// End of an event's bytes. The order of the variants is part of the format on disk.
#[derive(Serialize, Deserialize)]
enum End {
    Nothing,
    ResolvedFeedback(PlainFeedback),
    Whole { content: Option<u64>, replaces: Option<EventKey>, resolved: Option<Arc<ResolvedFeedback>> },
}

/// A resolved feedback in the layout without metadata, comment and replaced event.
#[derive(Serialize, Deserialize)]
struct PlainFeedback {
    event_id: EventId,
    user: UserId,
    at_ms: i64,
    context: Option<String>,
    prompt: Arc<str>,
    responses: Vec<ResolvedResponse>,
    judgment: Judgment,
}

impl From<PlainFeedback> for ResolvedFeedback {
    fn from(plain: PlainFeedback) -> Self {
        let PlainFeedback { event_id, user, at_ms, context, prompt, responses, judgment } = plain;
        Self {
            event_id,
            user,
            at_ms,
            context,
            prompt,
            responses,
            judgment,
            replaces: None,
            comment: None,
            metadata: BTreeMap::new(),
        }
    }
}

impl Serialize for LedgerEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { key, at_ms, context, question, increment, content, replaces, resolved } = self;
        let end = End::Whole { content: *content, replaces: *replaces, resolved: resolved.clone() };
        (key, at_ms, context, question, increment, end).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LedgerEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Parts = (EventKey, i64, Option<u64>, Option<u64>, Increment, End);
        let (key, at_ms, context, question, increment, end) = Parts::deserialize(deserializer)?;
        let (content, replaces, resolved) = match end {
            End::Nothing => (None, None, None),
            End::ResolvedFeedback(plain) => (None, None, Some(Arc::new(plain.into()))),
            End::Whole { content, replaces, resolved } => (content, replaces, resolved),
        };
        Ok(Self { key, at_ms, context, question, increment, content, replaces, resolved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::pair;
    use crate::state::{Change, ChangeKind, UserKey};

    /// An event in the layout without content and replaced event.
    #[derive(Serialize)]
    struct PlainEvent {
        key: EventKey,
        at_ms: i64,
        context: Option<u64>,
        question: Option<u64>,
        increment: Increment,
        resolved: Option<PlainFeedback>,
    }

    #[derive(Serialize)]
    enum PlainKind {
        Add(PlainEvent),
        Retract(EventKey),
    }

    fn plain_feedback() -> PlainFeedback {
        let response =
            |id: Option<&str>, text: &str| ResolvedResponse { id: id.map(Into::into), text: text.into() };
        PlainFeedback {
            event_id: "e1".parse().unwrap(),
            user: "ann".parse().unwrap(),
            at_ms: -7,
            context: Some("at work".to_owned()),
            prompt: "Tea?".into(),
            responses: vec![response(None, "Yes."), response(Some("m2"), "No.")],
            judgment: Judgment::Rating(vec![1.5, -2.0]),
        }
    }

    fn event(resolved: Option<Arc<ResolvedFeedback>>) -> LedgerEvent {
        LedgerEvent {
            key: EventKey(3),
            at_ms: -7,
            context: Some(9),
            question: None,
            increment: pair(&[1.0, -2.0]),
            content: None,
            replaces: None,
            resolved,
        }
    }

    #[test]
    fn changes_that_were_written_before_events_could_replace_are_read_as_they_were() {
        for resolved in [None, Some(plain_feedback())] {
            let expected = event(resolved.is_some().then(|| Arc::new(plain_feedback().into())));
            let LedgerEvent { key, at_ms, context, question, increment, .. } = expected.clone();
            let kinds = [
                PlainKind::Add(PlainEvent { key, at_ms, context, question, increment, resolved }),
                PlainKind::Retract(EventKey(8)),
            ];
            let expected = [ChangeKind::Add(expected), ChangeKind::Retract(EventKey(8))];
            for (kind, expected) in kinds.into_iter().zip(expected) {
                // The journal appends the age of the rules to a change.
                let bytes = postcard::to_allocvec(&((UserKey::from([1; 16]), 5_i64, kind), 77_i64)).unwrap();
                let (change, max_age_ms): (Change, i64) = postcard::from_bytes(&bytes).unwrap();
                assert_eq!((change.kind, change.now_ms, max_age_ms), (expected, 5, 77));
            }
        }
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let resolved = ResolvedFeedback {
            replaces: Some("e0".parse().unwrap()),
            comment: Some("too long".to_owned()),
            metadata: [("app".to_owned(), "web".to_owned())].into(),
            ..plain_feedback().into()
        };
        let whole = LedgerEvent {
            content: Some(u64::MAX),
            replaces: Some(EventKey(4)),
            ..event(Some(Arc::new(resolved)))
        };
        for event in [whole, event(None)] {
            let bytes = postcard::to_allocvec(&event).unwrap();
            assert_eq!(postcard::from_bytes::<LedgerEvent>(&bytes).unwrap(), event);
        }
    }
}
