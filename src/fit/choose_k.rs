//! Chooses the number of heads by the log loss on users that the heads were not learned from, each number at the
//! learning rate that suits it.

use ndarray::Array1;

use super::differences::RowsError;
use super::learning_rate::RATES;
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
    /// The learning rate that is best for this many heads; 1 by prompt.
    pub learning_rate: f64,
    /// Mean log loss per vote of held-out users at that rate, in nats.
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
    if votes.n_users() < FOLDS {
        return Ok((1, Vec::new()));
    }
    let (mut tried, mut losses): (Vec<(usize, f64)>, Vec<Array1<f64>>) = (Vec::new(), Vec::new());
    let mean = |losses: &Array1<f64>| losses.mean().unwrap_or(f64::INFINITY);
    let least = |losses: &[Array1<f64>]| {
        (0..losses.len()).min_by(|&a, &b| mean(&losses[a]).total_cmp(&mean(&losses[b]))).unwrap_or_default()
    };
    for n_heads in candidates(votes.n_users()) {
        if n_heads > FEW && losses.len() - 1 - least(&losses) >= PATIENCE {
            break;
        }
        let by_rate = votes.held_out(n_heads, ridges, (restarts, seed), (FOLDS, 1.0), progress)?;
        let by_rate: Vec<Array1<f64>> =
            by_rate.columns().into_iter().map(|column| column.to_owned()).collect();
        let best = least(&by_rate);
        tried.push((n_heads, RATES[best]));
        losses.push(by_rate[best].clone());
    }
    let best = &losses[least(&losses)];
    let trial = |(&(n_heads, learning_rate), losses): (&(usize, f64), &Array1<f64>)| {
        let standard_error = ((losses - best).var(1.0) / losses.len() as f64).sqrt();
        HeadCountTrial { n_heads, learning_rate, log_loss: mean(losses), standard_error }
    };
    let trials: Vec<HeadCountTrial> = tried.iter().zip(&losses).map(trial).collect();
    let chosen = trials.iter().find(|trial| trial.log_loss - trial.standard_error <= mean(best));
    Ok((chosen.map_or(1, |trial| trial.n_heads), trials))
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
