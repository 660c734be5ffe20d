//! A prompt: plain text, or chat messages rendered to text.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Error;

/// One turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The author of the turn.
    pub role: Role,
    /// The text of the turn.
    pub content: String,
}

/// The author of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The instructions of the product.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// Returns the label in a rendered chat, as published preference data use it.
    const fn label(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::User => "Human",
            Self::Assistant => "Assistant",
        }
    }
}

/// Returns the text that the router reads: the prompt, and the criterion after it where there is one.
#[must_use]
pub fn routed(prompt: &str, context: Option<&str>) -> String {
    context.map_or_else(|| prompt.to_owned(), |context| format!("{prompt} {context}"))
}

/// Returns the one prompt of a request, as text. `at` is the path of the object that holds the two fields.
///
/// Messages become `Human: ...`, blank line, `Assistant: ...`; a lone user message is its content.
pub(super) fn text(
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    at: &str,
) -> Result<String, Error> {
    let path = |field: &str| if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") };
    match (prompt, messages) {
        (Some(prompt), None) => Ok(prompt),
        (None, Some(messages)) if messages.is_empty() => {
            Err(Error::invalid_field(path("messages"), "found no message, expected at least one"))
        }
        (None, Some(messages)) => Ok(render(messages)),
        (Some(_), Some(_)) => Err(Error::invalid_field(
            path("messages"),
            "found beside `prompt`, expected one of `prompt` and `messages`",
        )),
        (None, None) => Err(Error::invalid_field(
            path("prompt"),
            "missing; expected `prompt` (text) or `messages` (a chat)",
        )),
    }
}

/// Returns a chat as the text of a prompt.
pub(crate) fn render(mut messages: Vec<Message>) -> String {
    if let [Message { role: Role::User, content }] = messages.as_mut_slice() {
        return std::mem::take(content);
    }
    turns(&messages)
}

/// Returns turns of a chat as text, each with its label.
pub(crate) fn turns(messages: &[Message]) -> String {
    let turns: Vec<String> = messages.iter().map(|m| format!("{}: {}", m.role.label(), m.content)).collect();
    turns.join("\n\n")
}
