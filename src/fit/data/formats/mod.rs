//! Files of feedback in the layouts that people have, read as statements.
//!
//! The columns of a row tell its layout; the first row that has one decides for its file. The laws: every row is
//! read or told with its place, the column, what was found and what was expected; no row is read as two layouts.

mod asked;
mod chat;
mod container;
mod feedback;
mod open_webui;
mod pairs;
mod parquet;
mod row;
mod rows;
mod scores;
mod votes;
mod zstd;

use std::collections::BTreeSet;
use std::path::Path;

use super::data_error::{At, BadRows, DataError};
use super::fields::Fields;
use super::statement::{Response, Said, Statement};
use row::Row;
pub(super) use rows::for_each;
use scores::Together;

/// A layout of rows.
struct Layout {
    /// Its name for users.
    name: &'static str,
    /// True for a row with its columns.
    is: fn(&Row<'_>) -> bool,
    /// Returns the statements of a row.
    read: fn(&Row<'_>) -> Result<Vec<Statement>, String>,
}

/// All layouts; a row has the first one that it fits.
const LAYOUTS: [Layout; 10] = [
    Layout { name: "votes on two chats", is: votes::has_chats, read: votes::of_chats },
    Layout { name: "votes on two answers", is: votes::has_answers, read: votes::of_answers },
    Layout { name: "votes on two comments (SHP)", is: votes::has_refs, read: votes::of_refs },
    Layout { name: "ratings of Open WebUI", is: open_webui::is_rating, read: open_webui::read },
    Layout { name: "feedback", is: feedback::is_feedback, read: feedback::read },
    Layout {
        name: "pairs",
        is: |row| pairs::has_both(row) && pairs::has_prompt(row),
        read: pairs::with_prompt,
    },
    Layout { name: "pairs that begin with their prompt", is: pairs::has_both, read: pairs::without_prompt },
    Layout { name: "answers that are good or bad", is: feedback::is_unpaired, read: feedback::unpaired },
    Layout {
        name: "attributes of answers (HelpSteer)",
        is: scores::has_attributes,
        read: scores::attributes,
    },
    Layout { name: "ratings of single answers", is: scores::has_rating, read: scores::rating },
];

/// The reading of a file.
#[derive(Debug, Default)]
pub struct Found {
    /// The name of its layout; none for a file without rows.
    pub layout: Option<&'static str>,
    /// Number of statements that compare nothing: a rating of one response alone, or one that was taken back.
    pub n_left_out: usize,
    /// Number of statements that prefer an empty text.
    pub n_empty: usize,
    /// Columns that [`Fields`] name and no row has.
    pub absent: BTreeSet<String>,
    /// Columns that were not read.
    pub unread: BTreeSet<String>,
}

/// Columns that a note names.
const NAMED: usize = 12;

impl Found {
    /// Says as what the file was read, and what of it was not; none for a file without rows.
    pub(super) fn note(&self) -> Option<String> {
        let mut parts = vec![format!("read as {}", self.layout?)];
        if self.n_left_out > 0 {
            parts.push(format!("{} left out, which compare nothing", self.n_left_out));
        }
        if self.n_empty > 0 {
            parts.push(format!("{} prefer an empty text", self.n_empty));
        }
        if !self.unread.is_empty() {
            let named: Vec<&str> = self.unread.iter().take(NAMED).map(String::as_str).collect();
            let more = if self.unread.len() > NAMED { ", ..." } else { "" };
            parts.push(format!("columns that are not read: {}{more}", named.join(", ")));
        }
        Some(parts.join("; "))
    }
}

/// Reads a file and hands every statement to `take`, in order, which says what is wrong with it.
///
/// # Errors
/// The file can't be read, or some rows can't be used.
pub fn read(
    path: &Path,
    fields: &Fields,
    mut take: impl FnMut(Statement) -> Result<(), String>,
) -> Result<Found, DataError> {
    let mut found = Found { absent: fields.columns.values().cloned().collect(), ..Found::default() };
    let (mut layout, mut together, mut last) = (None, Together::default(), None);
    for_each(path, |at, columns| {
        found.absent.retain(|column| !columns.contains_key(column));
        last = Some(at);
        let row = Row::new(columns, fields);
        let statements = statements(&row, at, &mut layout)?;
        found.n_left_out += usize::from(statements.is_empty());
        for mut statement in statements {
            check(&statement)?;
            found.n_empty += usize::from(prefers_nothing(&statement));
            row.fill(&mut statement)?;
            found.unread.extend(
                row.unread().filter(|name| !found.unread.contains(*name)).cloned().collect::<Vec<_>>(),
            );
            together.add(statement).into_iter().try_for_each(&mut take)?;
        }
        Ok(())
    })?;
    let mut bad = BadRows::default();
    for (at, statement) in
        last.into_iter().flat_map(|at| together.finish().into_iter().map(move |said| (at, said)))
    {
        if let Err(detail) = take(statement) {
            bad.add(at, detail);
        }
    }
    bad.into_result(path)?;
    found.layout = layout.map(|(layout, _): (&Layout, At)| layout.name);
    found.n_left_out += together.n_alone;
    Ok(found)
}

/// Reads a row by the file's layout, which the first row with a known one decides.
fn statements(
    row: &Row<'_>,
    at: At,
    file: &mut Option<(&'static Layout, At)>,
) -> Result<Vec<Statement>, String> {
    let own = LAYOUTS.iter().find(|layout| (layout.is)(row));
    let Some((layout, first)) = file.or_else(|| own.map(|own| (own, at))) else {
        return Err(format!("found columns of no known layout: {}; --map can name them", row.names()));
    };
    *file = Some((layout, first));
    let statements = (layout.read)(row);
    match own {
        Some(own) if own.name != layout.name => {
            let missing = statements.err().map_or_else(String::new, |missing| format!("{missing}; "));
            Err(format!(
                "{missing}found the columns of {}, expected those of {} as in {first}",
                own.name, layout.name
            ))
        }
        _ => statements,
    }
}

/// Upper bound of the responses of one judgment, as for POST /feedback.
const MAX_RESPONSES: usize = 64;

/// Refuses more responses than have a place in one judgment.
fn check(statement: &Statement) -> Result<(), String> {
    let n = match &statement.said {
        Said::Order(responses) => responses.len(),
        Said::Rated(rated) => rated.len(),
        Said::Tie(_) | Said::Thumb(..) => 0,
    };
    match n {
        0..=MAX_RESPONSES => Ok(()),
        _ => Err(format!("found {n} responses, expected at most {MAX_RESPONSES} in one judgment")),
    }
}

/// True if an empty text is preferred: a column of another name, a broken row, or what somebody liked best.
fn prefers_nothing(statement: &Statement) -> bool {
    let best = match &statement.said {
        Said::Order(responses) => responses.first(),
        Said::Thumb(response, true) => Some(response),
        Said::Tie(_) | Said::Rated(_) | Said::Thumb(..) => None,
    };
    matches!(best, Some(Response::Text(text)) if text.trim().is_empty())
}
