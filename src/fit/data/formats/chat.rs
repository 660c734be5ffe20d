//! Chats in a column: lists of messages by their usual names, and transcripts with a line per turn.

use serde_json::Value;

use super::row::{fault, list, text};
use crate::types::{Message, Role, turns};

/// Reads a list of messages, or one message as a list of one.
pub(super) fn messages(path: &str, value: &Value) -> Result<Vec<Message>, String> {
    if value.is_object() {
        return Ok(vec![message(path, value)?]);
    }
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| fault(path, value, "messages: objects with a role and a content"))?;
    list.iter().enumerate().map(|(idx, value)| message(&format!("{path}[{idx}]"), value)).collect()
}

fn message(path: &str, value: &Value) -> Result<Message, String> {
    let part = |names: [&'static str; 2]| {
        let found = names.iter().find_map(|name| Some((format!("{path}.{name}"), value.get(name)?)));
        let [name, or] = names;
        found.ok_or_else(|| fault(path, value, &format!("a message with `{name}`, or `{or}`")))
    };
    let (role_path, role) = part(["role", "from"])?;
    let (content_path, content) = part(["content", "value"])?;
    let role = match text(&role_path, role)?.to_lowercase().as_str() {
        "system" | "developer" => Role::System,
        "user" | "human" | "prompter" => Role::User,
        "assistant" | "gpt" | "bot" | "model" | "chatgpt" => Role::Assistant,
        // A request to score has no such turn either, so a reward could not depend on it.
        _ => return Err(fault(&role_path, role, "\"system\", \"user\", \"assistant\" or ShareGPT's names")),
    };
    let content = match content {
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(idx, value)| part_text(&format!("{content_path}[{idx}]"), value))
            .collect::<Result<Vec<_>, _>>()?
            .join("\n"),
        content => text(&content_path, content)?.to_owned(),
    };
    Ok(Message { role, content })
}

/// Reads one part of a content: a reward model of texts has no use for an image.
fn part_text<'a>(path: &str, part: &'a Value) -> Result<&'a str, String> {
    match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
        (Some("text") | None, Some(text)) => Ok(text),
        _ => Err(fault(path, part, "a part of the type \"text\"")),
    }
}

/// Reads a transcript: each turn after a blank line and the label `Human:` or `Assistant:`.
pub(super) fn transcript(text: &str) -> Option<Vec<Message>> {
    const LABELS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
    let whole = format!("\n\n{}", text.trim_start());
    let mut rest = whole.strip_prefix(LABELS[0].0)?;
    let (mut role, mut messages) = (Role::User, Vec::new());
    loop {
        let next = LABELS
            .iter()
            .filter_map(|(label, next)| Some((rest.find(label)?, label.len(), *next)))
            .min_by_key(|next| next.0);
        let end = next.map_or(rest.len(), |(end, ..)| end);
        messages.push(Message { role, content: rest[..end].trim().to_owned() });
        let Some((end, n_label, next)) = next else { return Some(messages) };
        (role, rest) = (next, &rest[end + n_label..]);
    }
}

/// Takes two chats apart: returns the turns that both begin with, and the two replies to them. A reply begins with
/// the last turn of the model before the chats differ, or where they do.
pub(super) fn apart(mut first: Vec<Message>, mut second: Vec<Message>) -> Result<[Vec<Message>; 3], String> {
    let n_most = first.len().min(second.len()).saturating_sub(1);
    let n_equal = first.iter().zip(&second).take_while(|(first, second)| first == second).count();
    let is_reply = |at: &usize| {
        [&first, &second].iter().all(|chat| chat.get(*at).is_some_and(|turn| turn.role == Role::Assistant))
    };
    match (0..=n_equal.min(n_most)).rev().find(is_reply) {
        Some(at) => {
            let (reply, other) = (first.split_off(at), second.split_off(at));
            Ok([first, reply, other])
        }
        None => {
            Err("found two chats that do not share a beginning before a reply of the assistant".to_owned())
        }
    }
}

/// Renders a reply: its first turn without label, as a response is, and those after it as in a prompt.
pub(super) fn reply(path: &str, mut messages: Vec<Message>) -> Result<String, String> {
    let is_models =
        |message: Option<&Message>| message.is_some_and(|message| message.role == Role::Assistant);
    if !is_models(messages.first()) || !is_models(messages.last()) {
        return Err(format!("`{path}`: found no reply of the assistant at the end, expected one"));
    }
    let after = messages.split_off(1);
    let first = messages.pop().map(|message| message.content).unwrap_or_default();
    Ok(if after.is_empty() { first } else { format!("{first}\n\n{}", turns(&after)) })
}

/// Reads a list of texts, in which null is an empty one.
pub(super) fn texts(path: &str, value: &Value) -> Result<Vec<String>, String> {
    let entry = |(idx, value): (usize, &Value)| match value {
        Value::Null => Ok(String::new()),
        value => text(&format!("{path}[{idx}]"), value).map(str::to_owned),
    };
    list(path, value)?.iter().enumerate().map(entry).collect()
}
