//! Rows of every kind of feedback: as POST /feedback takes them, as /export gives them, and good or bad answers.

use serde_json::Value;

use super::super::statement::{Response, Said, Statement};
use super::asked::Asked;
use super::chat::{messages, reply};
use super::pairs;
use super::row::{Row, fault, list, text};
use crate::types::{EventKind, Role};

/// True for a row with a kind of feedback, or with columns that only one kind has.
pub(super) fn is_feedback(row: &Row<'_>) -> bool {
    let is_kind = |kind: &str| EventKind::try_from(kind.to_owned()).is_ok();
    row.get("kind").and_then(Value::as_str).is_some_and(is_kind)
        || row.has_all(&["kind", "event_id"])
        || pairs::has_prompt(row) && own_kind(row).is_some()
}

/// Returns the kind that the columns of a row tell without a column for it.
fn own_kind(row: &Row<'_>) -> Option<EventKind> {
    let has = |name: &str, id: &str, other: &str| (row.has(name) || row.has(id)) && row.has(other);
    match () {
        () if has("responses", "response_ids", "ratings") => Some(EventKind::Rating),
        () if has("response", "response_id", "up") => Some(EventKind::Thumb),
        () if has("original", "original_id", "edited") => Some(EventKind::Correction),
        () => None,
    }
}

/// Reads a row of feedback. A row of an export has the columns of a pair or of one answer, whatever its kind.
pub(super) fn read(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    if row.has("completion") {
        return unpaired(row);
    }
    if pairs::has_both(row) {
        return pairs::with_prompt(row);
    }
    let kind = match (row.any(&["kind"]), own_kind(row)) {
        (None, Some(kind)) => kind,
        _ => EventKind::try_from(row.text("kind")?.to_owned())
            .map_err(|error| format!("{}: {error}", row.shown("kind")))?,
    };
    let said = match kind {
        EventKind::Pair => return pairs::with_prompt(row),
        EventKind::Tie => {
            let tied = <[Response; 2]>::try_from(responses(row)?);
            Said::Tie(tied.map_err(|found| format!("found a tie of {} responses, expected 2", found.len()))?)
        }
        EventKind::Ranking => Said::Order(responses(row)?),
        EventKind::Rating => rated(row)?,
        EventKind::Thumb => Said::Thumb(response(row, "response", "response_id")?, row.flag(&["up"])?),
        EventKind::Correction => {
            let edited = Response::Text(row.text("edited")?.to_owned());
            Said::Order(vec![edited, response(row, "original", "original_id")?])
        }
    };
    Ok(vec![Statement::new(Asked::need(row)?.text(), said)])
}

fn response(row: &Row<'_>, name: &str, id: &str) -> Result<Response, String> {
    match (row.has(name), row.has(id)) {
        (true, true) => Err(format!("found both {} and {}, expected one", row.shown(name), row.shown(id))),
        (false, true) => Ok(Response::Id(row.text(id)?.to_owned())),
        _ => {
            let (column, value) = row.need(&[name, id])?;
            Ok(Response::Text(text(column, value)?.to_owned()))
        }
    }
}

fn responses(row: &Row<'_>) -> Result<Vec<Response>, String> {
    let (column, value) = row.need(&["responses", "response_ids"])?;
    let to = if row.has("responses") { Response::Text } else { Response::Id };
    let entry = |(idx, value)| text(&format!("{column}[{idx}]"), value).map(|text| to(text.to_owned()));
    let found: Vec<Response> =
        list(column, value)?.iter().enumerate().map(entry).collect::<Result<_, _>>()?;
    match found.len() {
        n @ ..2 => Err(format!("`{column}`: found {n} responses, expected at least 2")),
        _ => Ok(found),
    }
}

fn rated(row: &Row<'_>) -> Result<Said, String> {
    let responses = responses(row)?;
    let (column, value) = row.need(&["ratings"])?;
    let number = |(idx, value): (usize, &Value)| {
        value.as_f64().ok_or_else(|| fault(&format!("{column}[{idx}]"), value, "a number"))
    };
    let ratings: Vec<f64> = list(column, value)?.iter().enumerate().map(number).collect::<Result<_, _>>()?;
    match (responses.len(), ratings.len()) {
        (n, found) if n != found => Err(format!("`{column}`: found {found} ratings for {n} responses")),
        _ => Ok(Said::Rated(responses.into_iter().zip(ratings).collect())),
    }
}

/// The columns that say if an answer is good.
const LABELS: [&str; 2] = ["label", "kto_tag"];

/// The columns of an answer with a label.
const COMPLETIONS: [&str; 2] = ["completion", "output"];

/// True for a row of one answer that is good or bad.
pub(super) fn is_unpaired(row: &Row<'_>) -> bool {
    LABELS.iter().any(|name| row.has(name))
        && (pairs::has_prompt(row) && COMPLETIONS.iter().any(|name| row.has(name))
            || row.has("messages")
            || row.has("conversations"))
}

/// Reads one answer that is good or bad; in a chat without a column for it, the last turn of the model.
pub(super) fn unpaired(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let is_good = row.flag(&LABELS)?;
    let (asked, answer) = match row.any(&COMPLETIONS) {
        Some((_, Value::String(text))) => (Asked::need(row)?, text.clone()),
        Some((path, value)) => (Asked::need(row)?, reply(path, messages(path, value)?)?),
        None => match Asked::need(row)? {
            Asked::Chat(mut chat) => match chat.pop() {
                Some(last) if last.role == Role::Assistant && !chat.is_empty() => {
                    (Asked::Chat(chat), last.content)
                }
                _ => return Err("found a chat that does not end with an answer of the assistant".to_owned()),
            },
            Asked::Text(_) => {
                return Err(row.need(&COMPLETIONS).map_or_else(|missing| missing, |_| String::new()));
            }
        },
    };
    Ok(vec![Statement::new(asked.text(), Said::Thumb(Response::Text(answer), is_good))])
}
