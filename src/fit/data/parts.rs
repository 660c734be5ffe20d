//! Splits a judgment into choices between two responses, whose evidence for a head adds up to the judgment's.

use std::cmp::Ordering;

/// A judgment on responses by their numbers: [`super::statement::Said`] with its texts interned.
pub(super) enum Judgment {
    /// Best first.
    Order(Vec<usize>),
    Tie([usize; 2]),
    /// Higher is better.
    Rated(Vec<(usize, f64)>),
    /// True if the response is good.
    Thumb(usize, bool),
}

/// A choice between two responses; none stands for the average response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) chosen: Option<usize>,
    pub(super) rejected: Option<usize>,
    pub(super) is_tie: bool,
    /// The part's share in the judgment.
    pub(super) share: f64,
}

/// Returns the parts of a judgment, whose shares add up to 1: as for a ledger, an order or rating of n counts as the
/// mean over its n (n - 1) / 2 pairs, and a thumb compares with the average response.
pub(super) fn parts(judgment: Judgment) -> Vec<Part> {
    match judgment {
        Judgment::Order(best_first) => pairs(&best_first, |_, _| Ordering::Greater),
        Judgment::Tie(two) => pairs(&two, |_, _| Ordering::Equal),
        Judgment::Rated(rated) => {
            let responses: Vec<usize> = rated.iter().map(|(response, _)| *response).collect();
            pairs(&responses, |i, j| rated[i].1.total_cmp(&rated[j].1))
        }
        Judgment::Thumb(response, is_good) => {
            let (chosen, rejected) = if is_good { (Some(response), None) } else { (None, Some(response)) };
            vec![Part { chosen, rejected, is_tie: false, share: 1.0 }]
        }
    }
}

/// Returns a part for every i < j; `order(i, j)` is `Greater` if `i` is better.
fn pairs(responses: &[usize], order: impl Fn(usize, usize) -> Ordering) -> Vec<Part> {
    let n = responses.len();
    let share = 1.0 / (n * n.saturating_sub(1) / 2).max(1) as f64;
    let part = |(i, j): (usize, usize)| {
        let order = order(i, j);
        let (better, worse) = if order == Ordering::Less { (j, i) } else { (i, j) };
        let [chosen, rejected] = [better, worse].map(|at| Some(responses[at]));
        Part { chosen, rejected, is_tie: order == Ordering::Equal, share }
    };
    (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::{Increment, log_sigmoid, ranking, rating, thumb, tie};

    /// Rewards of four responses by two heads, and the average of 0.
    const REWARDS: [[f64; 2]; 4] = [[0.3, -1.0], [1.5, 0.2], [-0.7, 0.1], [0.0, 2.0]];

    /// Returns the evidence of a judgment as a fit adds it up.
    fn evidence(judgment: Judgment) -> Vec<i64> {
        let mut sums = vec![0.0; 2];
        for part in parts(judgment) {
            let of = |response: Option<usize>| response.map_or([0.0; 2], |response| REWARDS[response]);
            let (chosen, rejected) = (of(part.chosen), of(part.rejected));
            for (k, sum) in sums.iter_mut().enumerate() {
                let d = chosen[k] - rejected[k];
                let nats =
                    if part.is_tie { 0.5 * (log_sigmoid(d) + log_sigmoid(-d)) } else { log_sigmoid(d) };
                *sum += part.share * nats;
            }
        }
        Increment::new(&sums).units().to_vec()
    }

    #[track_caller]
    fn assert_near(found: &[i64], expected: &Increment) {
        assert!(
            found.iter().zip(expected.units()).all(|(a, b)| a.abs_diff(*b) < 8),
            "{found:?} {expected:?}"
        );
    }

    #[test]
    fn the_parts_of_a_judgment_have_the_evidence_that_a_ledger_adds() {
        let rewards =
            |responses: &[usize]| responses.iter().map(|&i| REWARDS[i].to_vec()).collect::<Vec<_>>();
        assert_near(&evidence(Judgment::Order(vec![2, 0, 3])), &ranking(&rewards(&[2, 0, 3])));
        let rated = vec![(0, 2.0), (1, 5.0), (2, 2.0), (3, -1.0)];
        assert_near(
            &evidence(Judgment::Rated(rated)),
            &rating(&rewards(&[0, 1, 2, 3]), &[2.0, 5.0, 2.0, -1.0]),
        );
        let margins: Vec<f64> = (0..2).map(|k| REWARDS[1][k] - REWARDS[3][k]).collect();
        assert_near(&evidence(Judgment::Tie([1, 3])), &tie(&margins));
        for is_good in [true, false] {
            assert_near(&evidence(Judgment::Thumb(1, is_good)), &thumb(&REWARDS[1], is_good));
        }
    }
}
