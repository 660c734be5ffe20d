//! The first lines of `fit`: the rows that are learned from, and how.

use std::collections::HashSet;

use crate::fit::{Dataset, MixtureBy, Preference, Split};

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
    let mut lines = vec![format!("{n_rows} train rows, {people}; {n_test} test rows")];
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
    let count = |n: usize| format!("{n} train {}", if n == 1 { "row" } else { "rows" });
    let n_equal = rows().filter(|row| row.chosen == row.rejected).count();
    if n_equal > 0 {
        lines.push(format!("{} with the same text chosen and rejected", count(n_equal)));
    }
    let of = |row: &Preference| (row.user, row.prompt, row.context, row.chosen, row.rejected);
    let n_again = n_rows - rows().map(of).collect::<HashSet<_>>().len();
    if n_again > 0 {
        lines.push(format!("{} repeated; each counts", count(n_again)));
    }
    lines
}
