//! Votes between two responses that are named after their place: of arenas, and of SHP.

use serde_json::Value;

use super::super::statement::{Response, Said, Statement};
use super::asked::{Asked, user};
use super::chat::{apart, messages, reply, texts};
use super::row::{Row, fault};
use crate::types::{Message, Role};

const CHATS: [&str; 2] = ["conversation_a", "conversation_b"];
const ANSWERS: [&str; 2] = ["response_a", "response_b"];
const WINNERS: [&str; 3] = ["winner_model_a", "winner_model_b", "winner_tie"];
const REFS: [&str; 2] = ["human_ref_A", "human_ref_B"];

pub(super) fn has_chats(row: &Row<'_>) -> bool {
    row.has_all(&CHATS) && row.has("winner")
}

pub(super) fn has_answers(row: &Row<'_>) -> bool {
    row.has("prompt") && row.has_all(&ANSWERS) && (row.has("winner") || row.has_all(&WINNERS))
}

pub(super) fn has_refs(row: &Row<'_>) -> bool {
    row.has_all(&REFS) && row.has_all(&["history", "labels"])
}

/// Reads a vote on two chats. One that went on after the vote is cut at the turn that it was given on.
pub(super) fn of_chats(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let chat = |name: &'static str| {
        let (path, value) = row.need(&[name])?;
        let mut chat = messages(path, value)?;
        if row.has("turn") {
            let turn = row.number("turn")?;
            let replies = chat.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
            let last = replies.zip(1..).find(|(_, n)| f64::from(*n) == turn).map(|((at, _), _)| at);
            chat.truncate(last.map_or(chat.len(), |at| at + 1));
        }
        Ok::<_, String>(chat)
    };
    vote(row, CHATS, chat(CHATS[0])?, chat(CHATS[1])?)
}

/// Reads a vote on two answers: texts, or lists with one per turn, which may be the text of one.
pub(super) fn of_answers(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let turns = |name: &'static str| {
        let (path, value) = row.need(&[name])?;
        match value {
            Value::String(text) if text.starts_with('[') => match serde_json::from_str::<Value>(text) {
                Ok(list @ Value::Array(_)) => texts(path, &list),
                _ => Ok(vec![text.clone()]),
            },
            Value::String(text) => Ok(vec![text.clone()]),
            value => texts(path, value),
        }
    };
    let prompts = turns("prompt")?;
    let chat = |name: &'static str| {
        let answers = turns(name)?;
        if answers.len() != prompts.len() {
            let (n, found, name) = (prompts.len(), answers.len(), row.shown(name));
            return Err(format!("{name}: found {found} turns for {n} in {}", row.shown("prompt")));
        }
        let rounds = prompts.iter().cloned().zip(answers);
        Ok(rounds
            .flat_map(|(asked, content)| [user(asked), Message { role: Role::Assistant, content }])
            .collect())
    };
    vote(row, ANSWERS, chat(ANSWERS[0])?, chat(ANSWERS[1])?)
}

fn vote(
    row: &Row<'_>,
    names: [&str; 2],
    first: Vec<Message>,
    second: Vec<Message>,
) -> Result<Vec<Statement>, String> {
    let [shared, first, second] = apart(first, second)?;
    let [a, b] = [reply(names[0], first)?, reply(names[1], second)?].map(Response::Text);
    let said = match winner(row)? {
        Winner::First => Said::Order(vec![a, b]),
        Winner::Second => Said::Order(vec![b, a]),
        Winner::Tie => Said::Tie([a, b]),
    };
    let user = row.label("judge")?;
    Ok(vec![Statement { user, ..Statement::new(Asked::Chat(shared).text(), said) }])
}

enum Winner {
    First,
    Second,
    Tie,
}

fn winner(row: &Row<'_>) -> Result<Winner, String> {
    let Some((path, value)) = row.any(&["winner"]) else {
        let flags = [row.flag(&WINNERS[..1])?, row.flag(&WINNERS[1..2])?, row.flag(&WINNERS[2..])?];
        return match flags {
            [true, false, false] => Ok(Winner::First),
            [false, true, false] => Ok(Winner::Second),
            [false, false, true] => Ok(Winner::Tie),
            _ => Err(format!("found no single winner in {}, expected one that is 1", WINNERS.join(", "))),
        };
    };
    match value.as_str() {
        Some("model_a") => Ok(Winner::First),
        Some("model_b") => Ok(Winner::Second),
        Some("tie" | "tie (bothbad)" | "both_bad" | "bothbad") => Ok(Winner::Tie),
        _ => Err(fault(path, value, "\"model_a\", \"model_b\", \"tie\" or \"tie (bothbad)\"")),
    }
}

/// Reads a row of SHP: the first comment is preferred where the label is 1.
pub(super) fn of_refs(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let [a, b] = [row.text(REFS[0])?, row.text(REFS[1])?].map(|text| Response::Text(text.to_owned()));
    let order = if row.flag(&["labels"])? { vec![a, b] } else { vec![b, a] };
    Ok(vec![Statement::new(row.text("history")?.to_owned(), Said::Order(order))])
}
