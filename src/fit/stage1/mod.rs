//! Stage 1 as a whole: pairs in; heads, router and calibration out.

mod by_prompt;
mod by_user;
mod ruler;
mod single;

use std::collections::BTreeSet;

use ndarray::{Array2, Axis};
use rayon::prelude::*;

pub use ruler::{Ruler, RulerLesson};
pub use single::single;

use super::calibrate::Calibration;
use super::choose_k::{CANDIDATES, FEW, HeadCountTrial, candidates};
use super::data::{EmbedError, Examples, Pair};
use super::differences::RowsError;
use super::learning_rate::LearningRateTrial;
use super::prompt_mixture::{self, PromptOptions};
use super::router::Router;
use super::user_mixture;
use super::votes::{FOLDS, votes_per_user};

/// The pairs that share a latent head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MixtureBy {
    /// By user where every train row has a user and users have two or more rows each in the mean, else by prompt.
    Auto,
    /// All pairs of a user.
    User,
    /// None: every pair has its own head, which depends on its prompt (the paper).
    Prompt,
}

/// The number of heads of a mixture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadCount {
    /// Chosen for every file by held-out log loss.
    Auto,
    /// The given numbers.
    Given(PerFile<usize>),
}

/// One value for every file, or one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerFile<T>(pub Vec<T>);

impl<T: Copy + Default> PerFile<T> {
    /// Returns the value for a file; the last one, if there are fewer values than files.
    #[must_use]
    pub fn of(&self, file: usize) -> T {
        self.0.get(file).or_else(|| self.0.last()).copied().unwrap_or_default()
    }
}

/// Options of stage 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The pairs that share a latent head.
    pub mixture: MixtureBy,
    /// Heads for each file; a mixture by prompt tries every number given, as heads in all.
    pub n_heads: HeadCount,
    /// Ridge of the heads: `ridge / 2 |w_k|^2` is subtracted from the log-likelihood, so the heads of small data are
    /// drawn to 0.
    pub ridge: PerFile<f64>,
    /// Ridge that, if above 0, draws heads to their file's single head instead of to 0.
    pub deviation_ridge: PerFile<f64>,
    /// Scale of columns of one number relative to those of embeddings.
    pub scalar_scale: f64,
    /// Weight of the users' own heads in the router's targets, in [0, 1], rather than their file's shares.
    pub router_personalization: f64,
    /// Starts, of which the likeliest is kept.
    pub restarts: usize,
    /// Correlation of margins on held-out pairs above which heads are merged.
    pub merge_above: f64,
    /// True if length is taken out of the rewards.
    pub is_length_free: bool,
    /// Options of a mixture by prompt.
    pub prompt: PromptOptions,
    /// Seed of random numbers; the same seed gives the same bytes.
    pub seed: u64,
}

/// The result of stage 1.
#[derive(Debug, Clone)]
pub struct Learned {
    /// The heads, `[D, K]`, for unscaled feature rows.
    pub heads: Array2<f32>,
    /// The router.
    pub router: Router,
    /// The calibration of every head.
    pub calibration: Vec<Calibration>,
    /// The file of every head; none where all files made it.
    pub origins: Vec<Option<usize>>,
    /// Number of heads that were merged into others.
    pub n_merged: usize,
    /// Numbers of heads that were tried, by file.
    pub candidates: Vec<Vec<HeadCountTrial>>,
    /// Hedge's learning rate that suits people: 1, Bayes' rule, where they are not known.
    pub learning_rate: f64,
    /// Learning rates that were tried.
    pub learning_rates: Vec<LearningRateTrial>,
    /// Margins on pairs that the heads were not learned from, by head.
    pub held_out: Vec<Vec<HeldOut>>,
}

/// One head's margin on a pair that it was not learned from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// The pair: a position in [`Examples::pairs`].
    pub pair: usize,
    /// The margin, `r(chosen) - r(rejected)`.
    pub margin: f64,
    /// The head's share in the pair.
    pub weight: f64,
}

impl HeldOut {
    /// Returns (margin, weight) as for a choice: a tie is two opposite halves.
    fn sides(self, examples: &Examples) -> Vec<(f64, f64)> {
        let Pair { is_tie, weight, .. } = examples.pairs[self.pair];
        let weight = weight * self.weight;
        match is_tie {
            true => vec![(self.margin, 0.5 * weight), (-self.margin, 0.5 * weight)],
            false => vec![(self.margin, weight)],
        }
    }
}

impl MixtureBy {
    /// Replaces `Auto` by its choice for these pairs.
    #[must_use]
    pub fn resolve(self, examples: &Examples, pairs: &[usize]) -> Self {
        self.of_rows(pairs.iter().map(|&idx| examples.pairs[idx].user))
    }

    /// Replaces `Auto` by its choice for rows of these users.
    #[must_use]
    pub fn of_rows(self, users: impl Iterator<Item = Option<usize>>) -> Self {
        match self {
            Self::Auto if votes_per_user(users).is_some_and(|n| n >= 2.0) => Self::User,
            Self::Auto => Self::Prompt,
            given => given,
        }
    }
}

/// Learns from `pairs` (positions, not empty); `progress` is called at every step.
///
/// # Errors
/// When embeddings can't be read, temporary files can't be written, or a result is not finite.
pub fn learn(
    examples: &Examples,
    pairs: &[usize],
    options: &Options,
    progress: &(impl Fn() + Sync),
) -> Result<Learned, RowsError> {
    let responses = examples.responses(pairs);
    let mut learned = match options.mixture.resolve(examples, pairs) {
        MixtureBy::User => by_user::learn(examples, pairs, options, progress)?,
        _ => by_prompt::learn(examples, pairs, options, progress)?,
    };
    if options.is_length_free {
        take_length_out(examples, &responses, &mut learned)?;
    }
    let rewards = examples.rewards(&learned.heads)?.select(Axis(0), &responses);
    let held_out = &learned.held_out;
    learned.calibration.par_iter_mut().enumerate().for_each(|(k, calibration)| {
        let held_out: Vec<(f64, f64)> =
            held_out[k].iter().flat_map(|held_out| held_out.sides(examples)).collect();
        *calibration = Calibration::new(rewards.column(k), &held_out, calibration.prior);
    });
    let Router { hidden, hidden_bias, output, output_bias } = &learned.router;
    let is_finite = [&learned.heads, hidden, hidden_bias, output, output_bias]
        .into_iter()
        .all(|array| array.iter().all(|x| x.is_finite()))
        && learned.calibration.iter().all(|c| [c.mean, c.std, c.beta, c.prior].iter().all(|x| x.is_finite()));
    if !is_finite {
        return Err(RowsError::NotFinite);
    }
    Ok(learned)
}

/// Returns an upper bound of the number of times that [`learn`] calls `progress`.
#[must_use]
pub fn n_steps(examples: &Examples, pairs: &[usize], options: &Options) -> usize {
    if options.mixture.resolve(examples, pairs) == MixtureBy::User {
        let starts = |k: usize| if k == 1 { 1 } else { options.restarts };
        let of_file = |pairs: &Vec<usize>| {
            let users: BTreeSet<_> = pairs.iter().map(|&idx| examples.pairs[idx].user.ok_or(idx)).collect();
            let of_rate = |k: usize| if k == 1 { 0 } else { by_user::folds_of_rate(users.len()) };
            match &options.n_heads {
                HeadCount::Given(counts) => {
                    let k = counts.of(examples.pairs[pairs[0]].file);
                    starts(k) + of_rate(k)
                }
                HeadCount::Auto => {
                    let tried = candidates(users.len()).map(|k| FOLDS * starts(k)).sum::<usize>();
                    tried + options.restarts + of_rate(2)
                }
            }
        };
        let files = examples.by_file(pairs);
        return files.iter().map(of_file).sum::<usize>() * user_mixture::STEPS;
    }
    let tried = match &options.n_heads {
        HeadCount::Given(counts) => counts.0.len(),
        HeadCount::Auto => CANDIDATES.into_iter().filter(|&k| k <= FEW).count(),
    };
    tried * prompt_mixture::steps(pairs.len(), options.prompt)
}

/// Subtracts from every head what a regression of its reward on the log length over `responses` explains (as ARMO
/// does for verbosity; Wang et al., arXiv 2406.12845): the correlation with length is then 0 there.
fn take_length_out(
    examples: &Examples,
    responses: &[usize],
    learned: &mut Learned,
) -> Result<(), EmbedError> {
    let Some(column) = examples.layout.log_length() else { return Ok(()) };
    let rewards = examples.rewards(&learned.heads)?;
    let length = |row: usize| f64::from(examples.rows[row].log_length);
    let n = responses.len() as f64;
    let mean = responses.iter().map(|&row| length(row)).sum::<f64>() / n;
    let variance = responses.iter().map(|&row| (length(row) - mean).powi(2)).sum::<f64>();
    if variance < 1e-9 * n {
        return Ok(());
    }
    for k in 0..learned.heads.ncols() {
        let covariance = responses.iter().map(|&row| (length(row) - mean) * rewards[[row, k]]).sum::<f64>();
        let slope = covariance / variance;
        learned.heads[[column, k]] -= slope as f32;
        for held_out in &mut learned.held_out[k] {
            let pair = examples.pairs[held_out.pair];
            held_out.margin -= slope * (length(pair.chosen) - length(pair.rejected));
        }
    }
    Ok(())
}
