//! Converts messages to the requests that HTTP makes as well, with errors that name the field as HTTP's do.

use std::num::NonZeroUsize;

use super::pb;
use crate::types::{
    Candidate, CompareRequest, ElicitRequest, Error, EventId, Message, ObjectiveKind, Over, Response, Role,
    ScoreItem, ScoreRequest, ShareOf, UserId,
};

impl TryFrom<pb::ScoreRequest> for ScoreRequest {
    type Error = Error;

    fn try_from(request: pb::ScoreRequest) -> Result<Self, Error> {
        let items = request.items.into_iter().enumerate();
        Ok(Self {
            user: user(request.user)?,
            context: request.context,
            items: items
                .map(|(idx, item)| score_item(item, &format!("items[{idx}]")))
                .collect::<Result<_, _>>()?,
            detail: request.detail,
            objective: objective(request.objective)?,
            min_share: request.min_share,
            share_of: share_of(request.share_of)?,
            q: request.q,
            over: over(request.over)?,
            min_version: request.min_version,
        })
    }
}

/// Each verb has a message of its own; these two have one meaning.
impl From<pb::RankRequest> for pb::ScoreRequest {
    fn from(request: pb::RankRequest) -> Self {
        let pb::RankRequest {
            user,
            context,
            items,
            detail,
            objective,
            min_share,
            share_of,
            q,
            over,
            min_version,
        } = request;
        Self { user, context, items, detail, objective, min_share, share_of, q, over, min_version }
    }
}

impl TryFrom<pb::CompareRequest> for CompareRequest {
    type Error = Error;

    fn try_from(request: pb::CompareRequest) -> Result<Self, Error> {
        Ok(Self {
            user: user(request.user)?,
            context: request.context,
            prompt: request.prompt,
            messages: messages(request.messages, "")?,
            a: response(required(request.a, "a")?),
            b: response(required(request.b, "b")?),
            detail: request.detail,
            min_version: request.min_version,
        })
    }
}

impl TryFrom<pb::ElicitRequest> for ElicitRequest {
    type Error = Error;

    fn try_from(request: pb::ElicitRequest) -> Result<Self, Error> {
        let candidates = request.candidates.into_iter().enumerate();
        Ok(Self {
            user: user(request.user)?,
            context: request.context,
            candidates: candidates
                .map(|(idx, found)| candidate(found, &format!("candidates[{idx}]")))
                .collect::<Result<_, _>>()?,
            limit: request.limit.map(limit).transpose()?,
        })
    }
}

/// Checks the id of an event, which is required.
pub(super) fn event_id(text: String) -> Result<EventId, Error> {
    EventId::try_from(text).map_err(|error| Error::invalid_field("event_id", error.to_string()))
}

/// Checks the id of a user, which is required.
pub(super) fn user_id(text: String) -> Result<UserId, Error> {
    UserId::try_from(text).map_err(|error| Error::invalid_field("user", error.to_string()))
}

/// Converts a chat. An empty list is none, as a message can't tell the two apart.
pub(super) fn messages(found: Vec<pb::Message>, at: &str) -> Result<Option<Vec<Message>>, Error> {
    let message = |(idx, found): (usize, pb::Message)| {
        let role = match pb::Role::try_from(found.role) {
            Ok(pb::Role::System) => Role::System,
            Ok(pb::Role::User) => Role::User,
            Ok(pb::Role::Assistant) => Role::Assistant,
            Ok(pb::Role::Unspecified) | Err(_) => {
                return Err(unknown(path(at, &format!("messages[{idx}].role")), found.role));
            }
        };
        Ok(Message { role, content: found.content })
    };
    let found: Vec<Message> = found.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
    Ok(Some(found).filter(|found| !found.is_empty()))
}

pub(super) fn required<T>(found: Option<T>, field: &str) -> Result<T, Error> {
    found.ok_or_else(|| Error::invalid_field(field, "missing"))
}

pub(super) fn unknown(field: impl Into<String>, found: i32) -> Error {
    Error::invalid_field(field, format!("found {found}, expected one of the values that proto/ names"))
}

fn user(text: Option<String>) -> Result<Option<UserId>, Error> {
    text.map(user_id).transpose()
}

fn score_item(item: pb::ScoreItem, at: &str) -> Result<ScoreItem, Error> {
    Ok(ScoreItem {
        prompt: item.prompt,
        messages: messages(item.messages, at)?,
        responses: item.responses.into_iter().map(response).collect(),
    })
}

fn response(pb::Response { id, text }: pb::Response) -> Response {
    Response { id, text }
}

fn candidate(found: pb::Candidate, at: &str) -> Result<Candidate, Error> {
    Ok(Candidate {
        id: found.id,
        prompt: found.prompt,
        messages: messages(found.messages, at)?,
        a: response(required(found.a, &path(at, "a"))?),
        b: response(required(found.b, &path(at, "b"))?),
    })
}

fn limit(found: u64) -> Result<NonZeroUsize, Error> {
    // A limit beyond what this machine can count is none.
    let limit = usize::try_from(found).unwrap_or(usize::MAX);
    NonZeroUsize::new(limit).ok_or_else(|| Error::invalid_field("limit", "found 0, expected at least 1"))
}

fn objective(found: i32) -> Result<ObjectiveKind, Error> {
    Ok(match pb::Objective::try_from(found) {
        Ok(pb::Objective::Unspecified) => ObjectiveKind::default(),
        Ok(pb::Objective::Mixture) => ObjectiveKind::Mixture,
        Ok(pb::Objective::Maxmin) => ObjectiveKind::Maxmin,
        Ok(pb::Objective::Quantile) => ObjectiveKind::Quantile,
        Ok(pb::Objective::Population) => ObjectiveKind::Population,
        Err(_) => return Err(unknown("objective", found)),
    })
}

fn share_of(found: i32) -> Result<Option<ShareOf>, Error> {
    Ok(match pb::ShareOf::try_from(found) {
        Ok(pb::ShareOf::Unspecified) => None,
        Ok(pb::ShareOf::Weights) => Some(ShareOf::Weights),
        Ok(pb::ShareOf::Population) => Some(ShareOf::Population),
        Err(_) => return Err(unknown("share_of", found)),
    })
}

fn over(found: i32) -> Result<Option<Over>, Error> {
    Ok(match pb::Over::try_from(found) {
        Ok(pb::Over::Unspecified) => None,
        Ok(pb::Over::Heads) => Some(Over::Heads),
        Ok(pb::Over::Users) => Some(Over::Users),
        Err(_) => return Err(unknown("over", found)),
    })
}

fn path(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}
