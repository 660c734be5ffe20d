//! The feedback event on the wire, and the fields of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::Error;
use super::event_kind::EventKind;
use super::feedback::{Feedback, Judgment, ResponseRef};
use super::ids::{EventId, UserId};
use super::prompt::{self, Message};
use super::{at, json, slips};

/// Upper bound of the responses: more than any user orders, and few enough for their pairs to cost well below a
/// millisecond.
const MAX_RESPONSES: usize = 64;

/// Upper bound of the metadata of one event, keys and values together.
const MAX_METADATA_BYTES: usize = 4096;

/// Upper bound of a comment: longer than what users write about one answer.
const MAX_COMMENT_BYTES: usize = 16_384;

/// One feedback as clients send it. Its fields depend on `kind`; [`Event::check`] checks them.
///
/// Responses come as texts with their prompt, or by the ids that a request of /score, /rank, /compare or /elicit
/// gave them for this user or for none; then the prompt is known. A judgment on the two responses of a question of
/// GET /elicit answers that question.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The id of this feedback: the same id again changes nothing, and a retracted one never counts again.
    pub event_id: EventId,
    /// The user whose judgment it is.
    pub user: UserId,
    /// The kind of feedback.
    pub kind: EventKind,
    /// The prompt as text; or `messages`. Neither with responses by id.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The prompt as a chat; or `prompt`.
    #[serde(default)]
    pub messages: Option<Vec<Message>>,
    /// `pair`: the preferred response; or `chosen_id`.
    #[serde(default)]
    pub chosen: Option<String>,
    /// `pair`: the other response; or `rejected_id`.
    #[serde(default)]
    pub rejected: Option<String>,
    /// `pair`: the id of the preferred response.
    #[serde(default)]
    pub chosen_id: Option<String>,
    /// `pair`: the id of the other response.
    #[serde(default)]
    pub rejected_id: Option<String>,
    /// `tie`: exactly two responses that are equally good; `ranking`: 2 to 64, best first; `rating`: 2 to 64 in any
    /// order; or `response_ids`.
    #[serde(default)]
    #[schema(min_items = 2, max_items = 64)]
    pub responses: Option<Vec<String>>,
    /// `tie`, `ranking`, `rating`: the ids of the responses, each once.
    #[serde(default)]
    #[schema(min_items = 2, max_items = 64)]
    pub response_ids: Option<Vec<String>>,
    /// `thumb`: the response; or `response_id`.
    #[serde(default)]
    pub response: Option<String>,
    /// `thumb`: the id of the response.
    #[serde(default)]
    pub response_id: Option<String>,
    /// `thumb`: true for a thumb up, false for a thumb down.
    #[serde(default, deserialize_with = "slips::up")]
    pub up: Option<bool>,
    /// `rating`: one number per response, higher is better. Only their order counts; equal ones are ties.
    #[serde(default, deserialize_with = "slips::ratings")]
    pub ratings: Option<Vec<f64>>,
    /// `correction`: the response as it was; or `original_id`.
    #[serde(default)]
    pub original: Option<String>,
    /// `correction`: the id of the response as it was.
    #[serde(default)]
    pub original_id: Option<String>,
    /// `correction`: the text that the user made of it, and prefers to it.
    #[serde(default)]
    pub edited: Option<String>,
    /// The time of the event: RFC 3339, or seconds or milliseconds since 1970; without it, now.
    #[serde(default, deserialize_with = "at::optional")]
    #[schema(value_type = Option<at::Moment>)]
    pub at: Option<Timestamp>,
    /// The criterion that the user had in mind: the event counts in that context, and elsewhere as far as
    /// preferences carry over.
    #[serde(default)]
    pub context: Option<String>,
    /// The earlier feedback of this user that this one replaces: that one does not count any more, and if it is
    /// still to come, it will not.
    #[serde(default)]
    pub replaces: Option<EventId>,
    /// The user's reason, in words: at most 16,384 bytes. It is exported with the event and changes nothing else.
    #[serde(default)]
    #[schema(max_length = 16384)]
    pub comment: Option<String>,
    /// Any texts to keep with the event, by name, at most 4,096 bytes. They are exported with it and change nothing
    /// else.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// The fields of one kind: its responses by text, the same by id, and those required either way.
struct Fields {
    texts: &'static [&'static str],
    ids: &'static [&'static str],
    always: &'static [&'static str],
}

impl EventKind {
    const fn fields(self) -> Fields {
        let (texts, ids, always): (&[_], &[_], &[_]) = match self {
            Self::Pair => (&["chosen", "rejected"], &["chosen_id", "rejected_id"], &[]),
            Self::Tie | Self::Ranking => (&["responses"], &["response_ids"], &[]),
            Self::Rating => (&["responses"], &["response_ids"], &["ratings"]),
            Self::Thumb => (&["response"], &["response_id"], &["up"]),
            Self::Correction => (&["original"], &["original_id"], &["edited"]),
        };
        Fields { texts, ids, always }
    }
}

impl Event {
    /// Turns the flat wire form into a checked feedback.
    ///
    /// # Errors
    /// Names the field that is missing, does not belong to this kind or beside another, or has a wrong number of
    /// entries.
    pub fn check(self) -> Result<Feedback, Error> {
        let is_by_id = self.check_fields()?;
        let Self { event_id, user, kind, at, context, replaces, comment, metadata, .. } = self;
        let prompt = if is_by_id { None } else { Some(prompt::text(self.prompt, self.messages, "")?.into()) };
        let many = || response_refs(self.responses, self.response_ids);
        let (responses, judgment) = match kind {
            EventKind::Pair => {
                let responses =
                    vec![response(self.chosen, self.chosen_id), response(self.rejected, self.rejected_id)];
                (responses, Judgment::Pair)
            }
            EventKind::Tie => (many(), Judgment::Tie),
            EventKind::Ranking => (many(), Judgment::Ranking),
            EventKind::Rating => (many(), Judgment::Rating(self.ratings.unwrap_or_default())),
            EventKind::Thumb => {
                let up = self.up.unwrap_or_default();
                (vec![response(self.response, self.response_id)], Judgment::Thumb { up })
            }
            EventKind::Correction => {
                let responses = vec![response(self.edited, None), response(self.original, self.original_id)];
                (responses, Judgment::Correction)
            }
        };
        let comment = comment.filter(|comment| !comment.is_empty());
        let metadata = metadata.unwrap_or_default();
        let feedback = Feedback {
            event_id,
            user,
            at,
            context,
            prompt,
            responses,
            judgment,
            replaces,
            comment,
            metadata,
        };
        check_counts(&feedback)?;
        check_ids(&feedback)?;
        check_notes(&feedback)?;
        Ok(feedback)
    }

    /// Returns true if the responses come by id; refuses fields that do not belong together.
    fn check_fields(&self) -> Result<bool, Error> {
        let given = self.given();
        let is_given = |field: &str| given.iter().any(|(name, is_given)| *is_given && *name == field);
        let Fields { texts, ids, always } = self.kind.fields();
        let kind = self.kind.label();
        let belongs = |field| [texts, ids, always].iter().any(|fields| fields.contains(&field));
        if let Some((field, _)) = given.iter().find(|(field, is_given)| *is_given && !belongs(*field)) {
            let instead = match (self.kind, *field) {
                (EventKind::Thumb, "ratings") => ", which has `up`: true or false",
                (EventKind::Rating, "up") => ", which has `ratings`; a thumb has `up`",
                _ => "",
            };
            return Err(Error::invalid_field(*field, format!("does not belong to a {kind}{instead}")));
        }
        let by_id = ids.iter().find(|field| is_given(field));
        if let (Some(id), Some(text)) = (by_id, texts.iter().find(|field| is_given(field))) {
            return Err(Error::invalid_field(
                *text,
                format!("found beside `{id}`, expected texts or ids, not both"),
            ));
        }
        let needed = if by_id.is_some() { ids } else { texts };
        if let Some(idx) = needed.iter().position(|field| !is_given(field)) {
            let is_open = by_id.is_none() && !texts.iter().any(|field| is_given(field));
            let or = if is_open { format!(", or `{}`", ids[idx]) } else { String::new() };
            return Err(Error::invalid_field(needed[idx], format!("missing; a {kind} needs it{or}")));
        }
        if let Some(field) = always.iter().find(|field| !is_given(field)) {
            return Err(Error::invalid_field(*field, format!("missing; a {kind} needs it")));
        }
        let prompts = [("prompt", self.prompt.is_some()), ("messages", self.messages.is_some())];
        match (by_id, prompts.iter().find(|(_, is_given)| *is_given)) {
            (Some(id), Some((field, _))) => {
                let detail = format!(
                    "found beside `{id}`, expected none: the prompt of a remembered response is known"
                );
                Err(Error::invalid_field(*field, detail))
            }
            _ => Ok(by_id.is_some()),
        }
    }

    /// Returns every field that belongs to some kinds only, and whether it is there.
    const fn given(&self) -> [(&'static str, bool); 13] {
        [
            ("chosen", self.chosen.is_some()),
            ("rejected", self.rejected.is_some()),
            ("chosen_id", self.chosen_id.is_some()),
            ("rejected_id", self.rejected_id.is_some()),
            ("responses", self.responses.is_some()),
            ("response_ids", self.response_ids.is_some()),
            ("response", self.response.is_some()),
            ("response_id", self.response_id.is_some()),
            ("up", self.up.is_some()),
            ("ratings", self.ratings.is_some()),
            ("original", self.original.is_some()),
            ("original_id", self.original_id.is_some()),
            ("edited", self.edited.is_some()),
        ]
    }
}

/// Returns one response, by its id where there is one.
fn response(text: Option<String>, id: Option<String>) -> ResponseRef {
    id.map_or_else(|| ResponseRef::Text(text.unwrap_or_default().into()), |id| ResponseRef::Id(id.into()))
}

fn response_refs(texts: Option<Vec<String>>, ids: Option<Vec<String>>) -> Vec<ResponseRef> {
    let ids = ids.unwrap_or_default().into_iter().map(|id| ResponseRef::Id(id.into()));
    ids.chain(texts.unwrap_or_default().into_iter().map(|text| ResponseRef::Text(Arc::from(text)))).collect()
}

fn check_counts(feedback: &Feedback) -> Result<(), Error> {
    let n = feedback.responses.len();
    let (fits, expected) = match feedback.judgment {
        Judgment::Tie => (n == 2, "2".to_owned()),
        Judgment::Ranking | Judgment::Rating(_) => {
            ((2..=MAX_RESPONSES).contains(&n), format!("2 to {MAX_RESPONSES}"))
        }
        Judgment::Pair | Judgment::Correction | Judgment::Thumb { .. } => return Ok(()),
    };
    if !fits {
        let field = if feedback.prompt.is_some() { "responses" } else { "response_ids" };
        let instead = match feedback.judgment {
            Judgment::Rating(_) if n == 1 => {
                "; a judgment of one response is a thumb, with `up`: true or false"
            }
            _ => "",
        };
        return Err(Error::invalid_field(
            field,
            format!("found {n} responses, expected {expected}{instead}"),
        ));
    }
    let Judgment::Rating(ratings) = &feedback.judgment else { return Ok(()) };
    if ratings.len() != n {
        let found = ratings.len();
        return Err(Error::invalid_field("ratings", format!("found {found} ratings for {n} responses")));
    }
    match ratings.iter().position(|rating| !rating.is_finite()) {
        Some(idx) => {
            let detail = format!("found {}, expected a finite number", ratings[idx]);
            Err(Error::invalid_field(format!("ratings[{idx}]"), detail))
        }
        None => Ok(()),
    }
}

/// Refuses the same id twice: a response is not better than itself, so it is a mistake of the client.
fn check_ids(feedback: &Feedback) -> Result<(), Error> {
    let responses = &feedback.responses;
    let is_repeated = |idx: &usize| match &responses[*idx] {
        ResponseRef::Id(_) => responses[..*idx].contains(&responses[*idx]),
        ResponseRef::Text(_) => false,
    };
    match (1..responses.len()).find(is_repeated) {
        Some(idx) => Err(Error::invalid_field(
            feedback.field(idx),
            "found the same id twice, expected different responses",
        )),
        None => Ok(()),
    }
}

/// Checks the bounds of comment and metadata, and that the event does not replace itself.
fn check_notes(feedback: &Feedback) -> Result<(), Error> {
    if feedback.replaces.as_ref() == Some(&feedback.event_id) {
        return Err(Error::invalid_field(
            "replaces",
            "found the event's own id, expected that of an earlier one",
        ));
    }
    let n_bytes = feedback.comment.as_ref().map_or(0, String::len);
    if n_bytes > MAX_COMMENT_BYTES {
        let detail = format!("found {n_bytes} bytes, expected at most {MAX_COMMENT_BYTES}");
        return Err(Error::invalid_field("comment", detail));
    }
    let mut n_bytes = 0;
    let over = feedback.metadata.iter().find(|(key, value)| {
        n_bytes += key.len() + value.len();
        n_bytes > MAX_METADATA_BYTES
    });
    match over {
        Some((key, _)) => {
            let key = json::shorten(key);
            let detail = format!(
                "found {n_bytes} bytes of keys and values with this one, expected at most {MAX_METADATA_BYTES}"
            );
            Err(Error::invalid_field(format!("metadata.{key}"), detail))
        }
        None => Ok(()),
    }
}
