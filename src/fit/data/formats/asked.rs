//! The prompt of a row, in the columns that people have for it.

use serde_json::Value;

use super::chat::{messages, texts};
use super::row::{Row, fault, list, text};
use crate::types::{Message, Role, render};

/// A prompt as it is in its row.
pub(super) enum Asked {
    Text(String),
    Chat(Vec<Message>),
}

/// Columns of which one holds the prompt.
pub(super) const PROMPTS: [&str; 4] = ["prompt", "messages", "conversations", "instruction"];

impl Asked {
    /// Reads the prompt of a row; none if it has none of its own.
    pub(super) fn read(row: &Row<'_>) -> Result<Option<Self>, String> {
        if row.has("instruction") && !row.has("prompt") {
            return instruction(row).map(Some);
        }
        let Some((path, value)) = row.any(&PROMPTS) else { return Ok(None) };
        match value {
            Value::String(prompt) => Ok(Some(Self::Text(prompt.clone()))),
            Value::Array(_) => {
                let before = if row.has("conversations") { system(row)? } else { Vec::new() };
                Ok(Some(Self::Chat([before, messages(path, value)?].concat())))
            }
            other => Err(fault(path, other, "a text or messages")),
        }
    }

    /// Reads the prompt of a row that must have one.
    pub(super) fn need(row: &Row<'_>) -> Result<Self, String> {
        row.need(&["prompt", "messages"]).or_else(|missing| row.any(&PROMPTS).ok_or(missing))?;
        Self::read(row)?.ok_or_else(|| "missing `prompt`".to_owned())
    }

    /// Adds turns that follow the prompt; turns that begin with another's than the model's are the whole chat.
    pub(super) fn then(self, turns: Vec<Message>) -> Self {
        match (self, turns.first().map(|turn| turn.role)) {
            (asked, None) => asked,
            (Self::Text(prompt), Some(Role::Assistant)) => Self::Chat([vec![user(prompt)], turns].concat()),
            (Self::Chat(chat), Some(Role::Assistant)) => Self::Chat([chat, turns].concat()),
            (_, Some(_)) => Self::Chat(turns),
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Chat(chat) => render(chat),
        }
    }
}

/// Reads an instruction with its input, after a system text and earlier rounds.
fn instruction(row: &Row<'_>) -> Result<Asked, String> {
    let mut prompt = row.text("instruction")?.to_owned();
    if let Some((path, input)) = row.any(&["input"]) {
        let input = text(path, input)?;
        if !input.is_empty() {
            prompt = format!("{prompt}\n{input}");
        }
    }
    let mut chat = system(row)?;
    if let Some((path, history)) = row.any(&["history"]) {
        for (idx, round) in list(path, history)?.iter().enumerate() {
            let path = format!("{path}[{idx}]");
            match <[String; 2]>::try_from(texts(&path, round)?) {
                Ok([asked, answered]) => {
                    chat.push(user(asked));
                    chat.push(Message { role: Role::Assistant, content: answered });
                }
                Err(_) => return Err(fault(&path, round, "two texts")),
            }
        }
    }
    chat.push(user(prompt));
    Ok(Asked::Chat(chat))
}

/// Returns the text of a `system` column as the first message.
fn system(row: &Row<'_>) -> Result<Vec<Message>, String> {
    match row.any(&["system"]) {
        Some((_, Value::String(content))) if !content.is_empty() => {
            Ok(vec![Message { role: Role::System, content: content.clone() }])
        }
        Some((path, value)) if !value.is_string() => Err(fault(path, value, "a text")),
        _ => Ok(Vec::new()),
    }
}

pub(super) fn user(content: String) -> Message {
    Message { role: Role::User, content }
}
