//! Chooses the number of heads by the log loss on users that the heads were not learned from.

use super::differences::RowsError;
use super::user_mixture::{Ridges, Votes};
use super::votes::FOLDS;

/// Numbers of heads that are tried, smallest first.
pub(super) const CANDIDATES: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// Candidates above this need many people each.
pub(super) const FEW: usize = 8;

/// People for each of many heads: with fewer, heads fit their people and lose on new texts.
const PEOPLE_PER_HEAD: usize = 40;

/// Candidates in a row without a better loss after which no further one is tried.
const PATIENCE: usize = 2;

/// One number of heads that was tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadCountTrial {
    /// K.
    pub n_heads: usize,
    /// Mean log loss per vote of held-out users, in nats.
    pub log_loss: f64,
    /// By user: the standard error, over users, of its difference to the best candidate's, 0 for the best. By prompt:
    /// that of the loss itself, over held-out pairs.
    pub standard_error: f64,
}

/// Returns the fewest heads whose held-out log loss is within one standard error of the best, and all trials; one head
/// and no trial where there are fewer users than folds.
pub(super) fn choose(
    votes: &Votes,
    ridges: Ridges,
    (restarts, seed): (usize, u64),
    progress: &(impl Fn() + Sync),
) -> Result<(usize, Vec<HeadCountTrial>), RowsError> {
    if votes.n_users < FOLDS {
        return Ok((1, Vec::new()));
    }
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let (mut tried, mut scores): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for n_heads in candidates(votes.n_users) {
        let best = (0..scores.len()).max_by(|&a, &b| mean(&scores[a]).total_cmp(&mean(&scores[b])));
        if n_heads > FEW && best.is_some_and(|best| scores.len() - 1 - best >= PATIENCE) {
            break;
        }
        tried.push(n_heads);
        scores.push(votes.held_out(n_heads, ridges, (restarts, seed), progress)?);
    }
    let best = scores.iter().max_by(|a, b| mean(a).total_cmp(&mean(b))).cloned().unwrap_or_default();
    let candidate = |(&n_heads, scores): (&usize, &Vec<f64>)| {
        let differences: Vec<f64> = scores.iter().zip(&best).map(|(a, b)| a - b).collect();
        let center = mean(&differences);
        let variance = differences.iter().map(|d| (d - center).powi(2)).sum::<f64>();
        let n = differences.len().max(2) as f64;
        let standard_error = (variance / (n - 1.0) / n).sqrt();
        HeadCountTrial { n_heads, log_loss: -mean(scores), standard_error }
    };
    let trials: Vec<HeadCountTrial> = tried.iter().zip(&scores).map(candidate).collect();
    let least = trials.iter().map(|c| c.log_loss).fold(f64::INFINITY, f64::min);
    let chosen = trials.iter().find(|c| c.log_loss - c.standard_error <= least);
    Ok((chosen.map_or(1, |candidate| candidate.n_heads), trials))
}

/// Returns the numbers of heads that so many people allow.
pub(super) fn candidates(n_users: usize) -> impl Iterator<Item = usize> {
    let has_people = move |&k: &usize| match k {
        1 => true,
        2..=FEW => 2 * k <= n_users,
        _ => PEOPLE_PER_HEAD * k <= n_users,
    };
    CANDIDATES.into_iter().filter(has_people)
}
