//! Stage 1 as a whole: pairs in; heads, router and calibration out.

mod by_prompt;
mod by_user;

use std::collections::BTreeSet;

use ndarray::{Array2, Axis};

use super::calibrate::{Calibration, inverse_temperature};
use super::choose_k::{CANDIDATES, HeadCountTrial};
use super::data::{EmbedError, Examples};
use super::differences::RowsError;
use super::prompt_mixture::{self, PromptOptions, unscaled};
use super::router::Router;
use super::scales::scales;
use super::user_mixture::{self, Ridges, UserMixture, Votes};
use super::votes::{FOLDS, votes_per_user};

/// What shares a latent head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mixture {
    /// By user where every train row has one and they have two or more each in the mean, else by prompt.
    Auto,
    /// All pairs of a user.
    User,
    /// Nothing: every pair has its own, which its prompt tells something about (the paper).
    Prompt,
}

/// How many heads a mixture of users has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadCount {
    /// Chosen for every file by held-out log loss.
    Auto,
    /// How many.
    Given(PerFile<usize>),
}

/// One value for every file, or one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerFile<T>(pub Vec<T>);

impl<T: Copy + Default> PerFile<T> {
    /// The value for a file; the last one, if there are fewer values than files.
    #[must_use]
    pub fn of(&self, file: usize) -> T {
        self.0.get(file).or_else(|| self.0.last()).copied().unwrap_or_default()
    }
}

/// How to learn.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What shares a latent head.
    pub mixture: Mixture,
    /// Heads for each file; a mixture by prompt tries every number given, as heads in all.
    pub n_heads: HeadCount,
    /// `ridge / 2 |w_k|^2` is taken off the log-likelihood: the heads of small data are drawn to 0.
    pub ridge: PerFile<f64>,
    /// If above 0, heads are drawn to their file's single head by this ridge, instead of to 0.
    pub deviation_ridge: PerFile<f64>,
    /// How much larger columns of one number are than those of embeddings.
    pub scalar_scale: f64,
    /// How far the router follows the users' own heads, in [0, 1], rather than their file's shares.
    pub router_personalization: f64,
    /// Starts of which the likeliest is kept.
    pub restarts: usize,
    /// Heads whose margins on held-out pairs correlate above this are merged.
    pub merge_above: f64,
    /// Whether length is taken out of the rewards.
    pub is_length_free: bool,
    /// For a mixture by prompt.
    pub prompt: PromptOptions,
    /// The same seed gives the same bytes.
    pub seed: u64,
}

/// What stage 1 ends in.
#[derive(Debug, Clone)]
pub struct Learned {
    /// `[D, K]`, for feature rows as they are.
    pub heads: Array2<f32>,
    /// The router.
    pub router: Router,
    /// One per head.
    pub calibration: Vec<Calibration>,
    /// Which file each head is from; none where all files made it.
    pub origins: Vec<Option<usize>>,
    /// How many heads were merged into others.
    pub n_merged: usize,
    /// What was tried for K, by file.
    pub candidates: Vec<Vec<HeadCountTrial>>,
    /// What heads say of pairs they were not learned from, by head.
    pub held_out: Vec<Vec<HeldOut>>,
}

/// What one head says of a pair that it was not learned from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// A position in [`Examples::pairs`].
    pub pair: usize,
    /// `r(chosen) - r(rejected)`
    pub margin: f64,
    /// The head's share in the pair.
    pub weight: f64,
}

impl Mixture {
    /// What `auto` comes to for these pairs.
    #[must_use]
    pub fn resolve(self, examples: &Examples, pairs: &[usize]) -> Self {
        match self {
            Self::Auto if votes_per_user(examples, pairs).is_some_and(|n| n >= 2.0) => Self::User,
            Self::Auto => Self::Prompt,
            given => given,
        }
    }
}

/// Learns from `pairs` (positions, not empty); `progress` is called at every step.
///
/// # Errors
/// When embeddings can't be read or temporary files not be written.
pub fn learn(
    examples: &Examples,
    pairs: &[usize],
    options: &Options,
    progress: &(impl Fn() + Sync),
) -> Result<Learned, RowsError> {
    let responses = responses(examples, pairs);
    let mut learned = match options.mixture.resolve(examples, pairs) {
        Mixture::User => by_user::learn(examples, pairs, options, progress)?,
        _ => by_prompt::learn(examples, pairs, options, progress)?,
    };
    if options.is_length_free {
        take_length_out(examples, &responses, &mut learned)?;
    }
    let rewards = examples.rewards(&learned.heads)?.select(Axis(0), &responses);
    for (k, calibration) in learned.calibration.iter_mut().enumerate() {
        let held_out: Vec<(f64, f64)> =
            learned.held_out[k].iter().map(|held_out| (held_out.margin, held_out.weight)).collect();
        *calibration = Calibration::new(rewards.column(k), &held_out, calibration.prior);
    }
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

/// How often [`learn`] calls `progress`, where no file has fewer people than heads to try.
#[must_use]
pub fn n_steps(examples: &Examples, pairs: &[usize], options: &Options) -> usize {
    if options.mixture.resolve(examples, pairs) == Mixture::User {
        let starts = |k: usize| if k == 1 { 1 } else { options.restarts };
        let of_file = |file: usize| match &options.n_heads {
            HeadCount::Given(counts) => starts(counts.of(file)),
            HeadCount::Auto => {
                CANDIDATES.iter().map(|&k| FOLDS * starts(k)).sum::<usize>() + options.restarts
            }
        };
        let files = prompt_mixture::by_file(examples, pairs);
        return files.iter().map(|pairs| of_file(examples.pairs[pairs[0]].file)).sum::<usize>()
            * user_mixture::STEPS;
    }
    let tried = match &options.n_heads {
        HeadCount::Given(counts) => counts.0.len(),
        HeadCount::Auto => CANDIDATES.len(),
    };
    tried * prompt_mixture::steps(pairs.len(), options.prompt)
}

/// Takes from every head what a regression of its reward on the log length over `responses` explains (as ARMO does for
/// verbosity; Wang et al., arXiv 2406.12845): the correlation with length is then 0 there.
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

/// Learns a single Bradley-Terry head from `pairs` (positions, not empty): K = 1, for feature rows as they are, shape `[D, 1]`.
///
/// # Errors
/// As [`learn`].
pub fn single(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<Array2<f32>, RowsError> {
    Ok(learn_single(examples, pairs, ridge, scalar_scale)?.head)
}

/// As [`single`], with the inverse_temperature that people give it from whom it was not learned.
///
/// # Errors
/// As [`learn`].
pub fn calibrated_single(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<(Array2<f32>, f64), RowsError> {
    let Single { votes, mixture, head } = learn_single(examples, pairs, ridge, scalar_scale)?;
    let margins = votes.out_of_fold(&mixture, Ridges { ridge, deviation_ridge: 0.0 }, 0)?;
    let held_out: Vec<(f64, f64)> = margins.iter().map(|&margin| (margin, 1.0)).collect();
    Ok((head, inverse_temperature(&held_out)))
}

/// A single head with what it was learned from.
struct Single {
    votes: Votes,
    mixture: UserMixture,
    head: Array2<f32>,
}

fn learn_single(
    examples: &Examples,
    pairs: &[usize],
    ridge: f64,
    scalar_scale: f64,
) -> Result<Single, RowsError> {
    let scales = scales(examples, &responses(examples, pairs), scalar_scale)?;
    let votes = Votes::new(examples, pairs, &scales)?;
    let everybody = vec![1.0; votes.n_users];
    let pull = Ridges { ridge, deviation_ridge: 0.0 }.pull(&votes, &everybody)?;
    let mixture = user_mixture::learn(&votes, &everybody, 1, &pull, 0, &|| ())?;
    let head = unscaled(&mixture.heads, &scales);
    if !head.iter().all(|x| x.is_finite()) {
        return Err(RowsError::NotFinite);
    }
    Ok(Single { votes, mixture, head })
}

/// Rows of all responses of `pairs`, ascending, each once.
fn responses(examples: &Examples, pairs: &[usize]) -> Vec<usize> {
    let rows = pairs.iter().flat_map(|&idx| [examples.pairs[idx].chosen, examples.pairs[idx].rejected]);
    rows.collect::<BTreeSet<usize>>().into_iter().collect()
}
