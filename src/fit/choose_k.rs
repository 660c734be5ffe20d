//! Chooses the number of heads by the log loss on users that the heads were not learned from.

use super::differences::RowsError;
use super::user_mixture::{Ridges, Votes};
use super::votes::FOLDS;

/// Numbers of heads that are tried, smallest first.
pub(super) const CANDIDATES: [usize; 6] = [1, 2, 3, 4, 6, 8];

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
    let tried: Vec<usize> = CANDIDATES.into_iter().filter(|&k| k == 1 || 2 * k <= votes.n_users).collect();
    let scores: Vec<Vec<f64>> = tried
        .iter()
        .map(|&k| votes.held_out(k, ridges, (restarts, seed), progress))
        .collect::<Result<_, _>>()?;
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let best = scores.iter().max_by(|a, b| mean(a).total_cmp(&mean(b))).cloned().unwrap_or_default();
    let candidate = |(&n_heads, scores): (&usize, &Vec<f64>)| {
        let differences: Vec<f64> = scores.iter().zip(&best).map(|(a, b)| a - b).collect();
        let center = mean(&differences);
        let variance = differences.iter().map(|d| (d - center).powi(2)).sum::<f64>();
        let n = differences.len().max(2) as f64;
        let standard_error = (variance / (n - 1.0) / n).sqrt();
        HeadCountTrial { n_heads, log_loss: -mean(scores), standard_error }
    };
    let candidates: Vec<HeadCountTrial> = tried.iter().zip(&scores).map(candidate).collect();
    let least = candidates.iter().map(|c| c.log_loss).fold(f64::INFINITY, f64::min);
    let chosen = candidates.iter().find(|c| c.log_loss - c.standard_error <= least);
    Ok((chosen.map_or(1, |candidate| candidate.n_heads), candidates))
}
