//! Ratings as Open WebUI exports them, with the chat that they were given in.

use serde_json::Value;

use super::super::statement::{Response, Said, Statement};
use super::asked::Asked;
use super::chat::messages;
use super::row::{Row, fault, list, numeric, text};

pub(super) fn is_rating(row: &Row<'_>) -> bool {
    row.has_all(&["data", "meta"]) && row.get("type").and_then(Value::as_str) == Some("rating")
}

/// Reads a rating: a pair with each other answer of an arena, and a thumb elsewhere. A rating that was taken back
/// says nothing.
pub(super) fn read(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let (_, data) = row.need(&["data"])?;
    let is_good = match data.get("rating") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(rating) => match numeric(rating) {
            Some(1.0) => true,
            Some(-1.0) => false,
            _ => return Err(fault("data.rating", rating, "1 or -1")),
        },
    };
    let (_, meta) = row.need(&["meta"])?;
    let (_, snapshot) = row.need(&["snapshot"])?;
    let path = "snapshot.chat.chat.history.messages";
    let history = snapshot.pointer("/chat/chat/history/messages");
    let history = history.ok_or_else(|| fault("snapshot", snapshot, "a chat with its history"))?;
    let message = |id: &str| history.get(id).ok_or_else(|| format!("`{path}`: found no message \"{id}\""));
    let id = meta.get("message_id").ok_or_else(|| fault("meta", meta, "a `message_id`"))?;
    let rated = text("meta.message_id", id)?;

    let mut chat = Vec::new();
    let mut before = message(rated)?.get("parentId").and_then(Value::as_str);
    // A history that leads back to itself ends when each of its messages was there.
    let n_most = history.as_object().map_or(0, serde_json::Map::len);
    while let Some(id) = before.filter(|_| chat.len() < n_most) {
        let turn = message(id)?;
        chat.extend(messages(&format!("{path}.{id}"), turn)?);
        before = turn.get("parentId").and_then(Value::as_str);
    }
    chat.reverse();
    if chat.is_empty() {
        return Err(format!("`{path}.{rated}.parentId`: found no message before the rated one"));
    }
    let prompt = Asked::Chat(chat).text();
    let content =
        |id: &str| text(&format!("{path}.{id}.content"), message(id)?.get("content").unwrap_or(&Value::Null));

    let answer = Response::Text(content(rated)?.to_owned());
    let mut others = Vec::new();
    if meta.get("arena") == Some(&Value::Bool(true)) {
        let parent = message(rated)?.get("parentId").and_then(Value::as_str).unwrap_or_default();
        let children = message(parent)?.get("childrenIds");
        for (idx, child) in list("childrenIds", children.unwrap_or(&Value::Null))?.iter().enumerate() {
            let child = text(&format!("childrenIds[{idx}]"), child)?;
            if child != rated && history.get(child).is_some() {
                others.push(Response::Text(content(child)?.to_owned()));
            }
        }
    }
    let user = row.label("user_id")?;
    let weight = 1.0 / others.len().max(1) as f64;
    let with = |said| Statement { user: user.clone(), weight, ..Statement::new(prompt.clone(), said) };
    if others.is_empty() {
        return Ok(vec![with(Said::Thumb(answer, is_good))]);
    }
    let order = |other| if is_good { vec![answer.clone(), other] } else { vec![other, answer.clone()] };
    Ok(others.into_iter().map(|other| with(Said::Order(order(other)))).collect())
}
