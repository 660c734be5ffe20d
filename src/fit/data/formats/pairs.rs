//! Rows of a chosen and a rejected response: by text, by id, or in chats, with a prompt of their own or within them.

use serde_json::Value;

use super::super::statement::{Response, Said, Statement};
use super::asked::{Asked, PROMPTS};
use super::chat::{apart, messages, reply, transcript};
use super::row::{Row, fault};
use crate::types::Message;

/// The columns of the two responses, the preferred one first.
const SIDES: [[&str; 3]; 2] = [["chosen", "chosen_id", "a"], ["rejected", "rejected_id", "b"]];

/// One of two responses as it is in its row.
enum Side {
    One(Response),
    Chat(Vec<Message>),
}

/// True for a row that has both responses.
pub(super) fn has_both(row: &Row<'_>) -> bool {
    SIDES.iter().all(|[text, id, other]| row.has(text) || row.has(id) || row.has(other))
}

/// True for a row that has a prompt in a column of its own.
pub(super) fn has_prompt(row: &Row<'_>) -> bool {
    PROMPTS.iter().any(|name| row.has(name))
}

/// Reads a pair with its prompt.
pub(super) fn with_prompt(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    match [side(row, SIDES[0])?, side(row, SIDES[1])?] {
        [Side::One(chosen), Side::One(rejected)] => order(Asked::need(row)?, [chosen, rejected]),
        [Side::Chat(chosen), Side::Chat(rejected)] => {
            let [shared, chosen, rejected] = apart(chosen, rejected)?;
            let asked = Asked::need(row)?.then(shared);
            order(asked, [answer("chosen", chosen)?, answer("rejected", rejected)?])
        }
        [..] => {
            Err("found a chat beside a text in `chosen` and `rejected`, expected two of a kind".to_owned())
        }
    }
}

/// Reads a pair whose responses begin with the prompt.
pub(super) fn without_prompt(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let (chosen, rejected) = match [side(row, SIDES[0])?, side(row, SIDES[1])?] {
        [Side::Chat(chosen), Side::Chat(rejected)] => (chosen, rejected),
        [Side::One(Response::Text(chosen)), Side::One(Response::Text(rejected))] => {
            match (transcript(&chosen), transcript(&rejected)) {
                (Some(chosen), Some(rejected)) => (chosen, rejected),
                _ => return cut(&chosen, &rejected),
            }
        }
        [..] => return Err("missing `prompt`".to_owned()),
    };
    let [shared, chosen, rejected] = apart(chosen, rejected)?;
    if shared.is_empty() {
        return Err("missing `prompt`: found two chats that begin with their replies".to_owned());
    }
    order(Asked::Chat(shared), [answer("chosen", chosen)?, answer("rejected", rejected)?])
}

/// Cuts two texts after what they begin with, as TRL does: a space before the responses is part of them. Within a
/// word, the cut goes back to its start.
fn cut(chosen: &str, rejected: &str) -> Result<Vec<Statement>, String> {
    let mut pairs = chosen.char_indices().zip(rejected.chars());
    let end = pairs.find(|((_, chosen), rejected)| chosen != rejected).map(|((at, _), _)| at);
    let mut end = end.unwrap_or_else(|| chosen.len().min(rejected.len()));
    let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if is_word(&chosen[end..]) || is_word(&rejected[end..]) {
        let word = chosen[..end].rfind(|c: char| !c.is_ascii_alphanumeric());
        end = word.map_or(end, |at| chosen[..end].ceil_char_boundary(at + 1));
    }
    if chosen[..end].ends_with(' ') {
        end -= 1;
    }
    if end == 0 {
        let hint = "--map names a column as the prompt, such as prompt=question";
        return Err(format!("missing `prompt`: found two texts that do not begin alike; {hint}"));
    }
    let texts = [&chosen[end..], &rejected[end..]].map(|text| Response::Text(text.to_owned()));
    order(Asked::Text(chosen[..end].to_owned()), texts)
}

fn order(asked: Asked, responses: [Response; 2]) -> Result<Vec<Statement>, String> {
    Ok(vec![Statement::new(asked.text(), Said::Order(responses.into()))])
}

fn answer(name: &str, turns: Vec<Message>) -> Result<Response, String> {
    reply(name, turns).map(Response::Text)
}

fn side(row: &Row<'_>, [name, id, other]: [&str; 3]) -> Result<Side, String> {
    if row.has(name) && row.has(id) {
        return Err(format!("found both {} and {}, expected one of them", row.shown(name), row.shown(id)));
    }
    if row.has(id) {
        return Ok(Side::One(Response::Id(row.text(id)?.to_owned())));
    }
    let (path, value) = row.any(&[name, other]).map_or_else(|| row.need(&[name, id]), Ok)?;
    match value {
        Value::String(text) => Ok(Side::One(Response::Text(text.clone()))),
        Value::Array(_) | Value::Object(_) => Ok(Side::Chat(messages(path, value)?)),
        other => Err(fault(path, other, "a text or messages")),
    }
}
