//! People with ratings, from whose picks a replay tells the value of a rule.

use std::collections::HashMap;

use ndarray::Array1;

use crate::cli::Failure;
use crate::cli::scored::ScoredExamples;
use crate::fit::{Dataset, Rated, Split};
use crate::replay::{Person, RatedResponse, Rater};

/// Returns the people of `people` who have ratings. `rated` has the prompt and the rows of every entry of
/// [`Dataset::rated`], `single` the single head's log-odds of every row; train ratings are those of other people.
pub(super) fn raters(
    dataset: &Dataset,
    scored: &ScoredExamples,
    rated: &[(usize, Vec<usize>)],
    single: Option<&Array1<f64>>,
    people: &[Person],
) -> Result<Vec<Rater>, Failure> {
    let mut sums: HashMap<usize, (f64, f64)> = HashMap::new();
    for entry in dataset.rated.iter().filter(|entry| entry.split == Split::Train) {
        for &(response, rating) in &entry.responses {
            let sum = sums.entry(response).or_default();
            *sum = (sum.0 + rating, sum.1 + 1.0);
        }
    }
    let by_name: HashMap<&str, &Person> =
        people.iter().map(|person| (person.name.as_str(), person)).collect();
    let rater = |(entry, (prompt, rows)): (&Rated, &(usize, Vec<usize>))| {
        let person = *by_name.get(dataset.users.items()[entry.user].as_str())?;
        let response = |(&(response, rating), &row): (&(usize, f64), &usize)| RatedResponse {
            response,
            rating,
            z: scored.rewards.calibrated(row),
            single: single.map_or(0.0, |single| single[row]),
            pooled: sums.get(&response).map(|(sum, n)| sum / n),
        };
        let rated = entry.responses.iter().zip(rows).map(response).collect();
        let log_prior = scored.log_priors.row(*prompt).to_vec();
        Some(Rater { person: person.clone(), rated, log_prior })
    };
    let entries = dataset.rated.iter().zip(rated).filter(|(entry, _)| entry.split != Split::Train);
    let raters: Vec<Rater> = entries.filter_map(rater).collect();
    if raters.is_empty() {
        return Err(Failure::refused(
            "--value: found no rating of a person who is replayed, outside the train split",
        ));
    }
    Ok(raters)
}
