//! The first lines of `fit`: the rows that are learned from, and how.

use std::collections::HashSet;

use crate::cli::Failure;
use crate::fit::{Dataset, MixtureBy, Preference, Split};

/// Rows below which a fit is warned of: hundreds are needed to tell a head from chance.
const FEW: usize = 100;

/// Refuses train rows that compare nothing.
pub(super) fn refuse_nothing(dataset: &Dataset, train: &[usize]) -> Result<(), Failure> {
    let compares = |row: &Preference| row.chosen != row.rejected && !row.is_tie;
    match train.iter().any(|&idx| compares(&dataset.pairs[idx])) {
        true => Ok(()),
        false => Err(Failure::refused(
            "--data: found no train row that prefers one response to another, expected some to learn from",
        )),
    }
}

/// Returns the lines for the train rows at these positions.
pub(super) fn lines(mixture: MixtureBy, dataset: &Dataset, train: &[usize]) -> Vec<String> {
    let rows = || train.iter().map(|&idx| &dataset.pairs[idx]);
    let n_rows = train.len();
    let n_people = rows().filter_map(|row| row.user).collect::<HashSet<_>>().len();
    let n_without = rows().filter(|row| row.user.is_none()).count();
    let n_test = dataset.pairs.iter().filter(|row| row.split == Split::Test).count();
    let each = (n_rows - n_without) as f64 / n_people.max(1) as f64;
    let people = match n_people {
        0 => "no row has a user".to_owned(),
        n => format!("{n} people with {each:.1} rows each"),
    };
    let count = |n: usize| format!("{n} train {}", if n == 1 { "row" } else { "rows" });
    let mut lines = vec![format!("{}, {people}; {n_test} test rows", count(n_rows))];
    let by = mixture.of_rows(rows().map(|row| row.user));
    let why = match (mixture, n_without) {
        (MixtureBy::User | MixtureBy::Prompt, _) => "as --mixture says".to_owned(),
        (MixtureBy::Auto, 0) if by == MixtureBy::User => "every train row has a user".to_owned(),
        (MixtureBy::Auto, 0) => "people with fewer than 2 rows each tell little".to_owned(),
        (MixtureBy::Auto, 1) => format!("1 of {n_rows} train rows has no user"),
        (MixtureBy::Auto, n) => format!("{n} of {n_rows} train rows have no user"),
    };
    let by = if by == MixtureBy::User { "user" } else { "prompt" };
    lines.push(format!("mixture by {by}: {why}"));
    let n_equal = rows().filter(|row| row.chosen == row.rejected).count();
    if n_equal > 0 {
        lines.push(format!("{} with the same text chosen and rejected", count(n_equal)));
    }
    let of = |row: &Preference| (row.user, row.prompt, row.context, row.chosen, row.rejected);
    let n_again = n_rows - rows().map(of).collect::<HashSet<_>>().len();
    if n_again > 0 {
        lines.push(format!("{} repeated; each counts", count(n_again)));
    }
    let n_ties = rows().filter(|row| row.is_tie).count();
    if n_ties > 0 {
        lines.push(format!("{} ties", count(n_ties)));
    }
    let (weight, n_labels) = (rows().map(|row| row.weight).sum::<f64>(), labels(dataset, train));
    if n_labels < n_rows || (weight - n_rows as f64).abs() > 1e-6 {
        lines.push(format!("{n_labels} labels of weight {weight:.1} in all, as a ranking of many is one"));
    }
    if n_test == 0 {
        lines.push(
            "nothing is measured, for want of test rows; --test-share 0.2 holds out a fifth".to_owned(),
        );
    }
    if n_rows < FEW {
        lines.push(format!("fewer than {FEW} train rows: heads and figures are mostly chance"));
    }
    lines
}

/// Returns the number of labels that the rows are of.
fn labels(dataset: &Dataset, train: &[usize]) -> usize {
    train.iter().map(|&idx| dataset.pairs[idx].label).collect::<HashSet<_>>().len()
}
