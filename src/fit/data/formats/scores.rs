//! Rows of one response with numbers for it: those of one prompt that follow one another are rated together.

use super::super::statement::{Response, Said, Statement};
use super::asked::Asked;
use super::row::Row;

/// The attributes of HelpSteer and HelpSteer2.
const ATTRIBUTES: [&str; 5] = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"];

pub(super) fn has_attributes(row: &Row<'_>) -> bool {
    row.has_all(&["prompt", "response", ATTRIBUTES[0]])
}

pub(super) fn has_rating(row: &Row<'_>) -> bool {
    row.has_all(&["prompt", "response", "rating"])
}

/// Reads a statement for each attribute, whose name is context and group. Each rates one response as yet.
pub(super) fn attributes(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    let of = |name: &str| {
        let label = Some(name.to_owned());
        Ok(Statement { context: label.clone(), group: label, ..one(row, name)? })
    };
    ATTRIBUTES.into_iter().map(of).collect()
}

/// Reads a statement that rates one response as yet.
pub(super) fn rating(row: &Row<'_>) -> Result<Vec<Statement>, String> {
    Ok(vec![one(row, "rating")?])
}

fn one(row: &Row<'_>, name: &str) -> Result<Statement, String> {
    let response = Response::Text(row.text("response")?.to_owned());
    Ok(Statement::new(Asked::need(row)?.text(), Said::Rated(vec![(response, row.number(name)?)])))
}

/// The ratings of one prompt so far: one statement for each user, context, group and split.
#[derive(Default)]
pub(super) struct Together {
    statements: Vec<Statement>,
    /// Number of statements that rate one response alone, and so compare nothing.
    pub(super) n_alone: usize,
}

impl Together {
    /// Adds a statement of a row, and returns those that are complete by it.
    pub(super) fn add(&mut self, statement: Statement) -> Vec<Statement> {
        let Said::Rated(rated) = &statement.said else { return vec![statement] };
        if rated.len() != 1 {
            return vec![statement];
        }
        let is_next = self.statements.first().is_some_and(|first| first.prompt != statement.prompt);
        let complete = if is_next { self.finish() } else { Vec::new() };
        let same = self.statements.iter_mut().find(|other| {
            let labels = |statement: &Statement| {
                (statement.user.clone(), statement.context.clone(), statement.group.clone(), statement.split)
            };
            labels(other) == labels(&statement)
        });
        match (same, statement.said) {
            (Some(Statement { said: Said::Rated(all), .. }), Said::Rated(one)) => all.extend(one),
            (_, said) => self.statements.push(Statement { said, ..statement }),
        }
        complete
    }

    /// Returns the statements of the last prompt.
    pub(super) fn finish(&mut self) -> Vec<Statement> {
        let mut complete = std::mem::take(&mut self.statements);
        let n_all = complete.len();
        complete.retain(|statement| !matches!(&statement.said, Said::Rated(rated) if rated.len() < 2));
        self.n_alone += n_all - complete.len();
        complete
    }
}
