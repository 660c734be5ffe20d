//! Learns a mixture of users for every file, and a router that follows users and tells the files apart.

use ndarray::{Array2, ArrayView1, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Calibration, HeadCount, HeldOut, Learned, Options};
use crate::fit::calibrate::inverse_temperature;
use crate::fit::choose_k::{HeadCountTrial, choose};
use crate::fit::data::Examples;
use crate::fit::differences::RowsError;
use crate::fit::learning_rate;
use crate::fit::merge::alike;
use crate::fit::prompt_mixture::unscaled;
use crate::fit::router::Router;
use crate::fit::router_tuning::{Lesson, Teaching, teach};
use crate::fit::scales::scales;
use crate::fit::user_mixture::{self, Pull, Ridges, UserMixture, Vote, Votes};
use crate::fit::votes::FOLDS;

/// Options for teaching the router the heads of a prompt's users.
const TEACHING: Teaching = Teaching { steps: 400, rate: 2e-3, noise: 0.6, seed: 0 };

/// Users who are enough to choose the learning rate.
const RATE_USERS: usize = 200;

/// Share of a head in a vote up to which it says nothing about an inverse temperature.
const NEGLIGIBLE: f64 = 0.01;

/// Lessons per step.
const BATCH: usize = 256;

/// Learns the heads of every file's own users, and a router that tells the files apart.
pub(super) fn learn(
    examples: &Examples,
    pairs: &[usize],
    options: &Options,
    progress: &(impl Fn() + Sync),
) -> Result<Learned, RowsError> {
    let files = examples.by_file(pairs);
    let parts: Vec<Part> = files
        .iter()
        .map(|pairs| Part::learn(examples, pairs, options, progress))
        .collect::<Result<_, _>>()?;
    let n_heads = parts.iter().map(|part| part.shares.len()).sum();
    let mut heads = Array2::zeros((examples.layout.n_columns(), 0));
    let mut firsts = Vec::with_capacity(parts.len());
    let mut calibration = Vec::with_capacity(n_heads);
    for part in &parts {
        firsts.push(heads.ncols());
        let prior = |share: &f64| Calibration::uncalibrated(share / parts.len() as f64);
        calibration.extend(part.shares.iter().map(prior));
        heads = ndarray::concatenate![Axis(1), heads, part.heads];
    }
    let log_priors: Vec<f64> = calibration.iter().map(|c| c.prior.ln()).collect();
    let mut router = Router::constant(examples.layout.n_embedding, &log_priors, options.seed);
    if files.len() > 1 || options.router_personalization > 0.0 {
        let lesson = |rng: &mut ChaCha8Rng| {
            let file = rng.random_range(0..files.len());
            let i = rng.random_range(0..files[file].len());
            let part = &parts[file];
            let mut target = vec![0.0; n_heads];
            for (k, share) in part.shares.iter().enumerate() {
                let own = part.held_out[k][i].weight;
                target[firsts[file] + k] =
                    options.router_personalization * own + (1.0 - options.router_personalization) * share;
            }
            Lesson { prompt: examples.pairs[files[file][i]].prompt, target }
        };
        teach(&mut router, examples, Teaching { seed: options.seed, ..TEACHING }, |_, _, rng| {
            Ok((0..BATCH).map(|_| lesson(rng)).collect())
        })?;
    }
    let log_losses: Vec<Array2<f64>> = parts.iter().filter_map(|part| part.log_losses.clone()).collect();
    let (learning_rate, learning_rates) = learning_rate::choose(&log_losses);
    Ok(Learned {
        heads,
        router,
        calibration,
        origins: parts.iter().flat_map(|part| vec![Some(part.file); part.shares.len()]).collect(),
        n_merged: parts.iter().map(|part| part.n_merged).sum(),
        held_out: parts.iter().flat_map(|part| part.held_out.clone()).collect(),
        candidates: parts.into_iter().map(|part| part.candidates).collect(),
        learning_rate,
        learning_rates,
    })
}

/// The result of one file's users.
struct Part {
    /// The heads, `[D, K of this file]`, for unscaled feature rows.
    heads: Array2<f32>,
    shares: Vec<f64>,
    held_out: Vec<Vec<HeldOut>>,
    n_merged: usize,
    candidates: Vec<HeadCountTrial>,
    /// By learning rate, of held-out users, `[users, rates]`; none of a single head.
    log_losses: Option<Array2<f64>>,
    file: usize,
}

/// Returns the number of folds of which the users choose the learning rate: all, or as many as have enough users.
pub(super) fn folds_of_rate(n_users: usize) -> usize {
    (FOLDS * RATE_USERS).div_ceil(n_users).min(FOLDS)
}

impl Part {
    fn learn(
        examples: &Examples,
        pairs: &[usize],
        options: &Options,
        progress: &(impl Fn() + Sync),
    ) -> Result<Self, RowsError> {
        let Options { restarts, seed, .. } = *options;
        let file = examples.pairs[pairs[0]].file;
        let ridges =
            Ridges { ridge: options.ridge.of(file), deviation_ridge: options.deviation_ridge.of(file) };
        let scales = scales(examples, &examples.responses(pairs), options.scalar_scale)?;
        let votes = Votes::new(examples, pairs, &scales)?;
        let all_users = vec![1.0; votes.n_users()];
        let pull = ridges.pull(&votes, &all_users)?;
        let (n_heads, candidates) = match &options.n_heads {
            HeadCount::Auto => choose(&votes, ridges, (restarts, seed), progress)?,
            HeadCount::Given(counts) => (counts.of(file), Vec::new()),
        };
        let mut mixture = votes.best_of(&all_users, n_heads, &pull, (restarts, seed), progress)?;
        let mut margins = votes.out_of_fold(&mixture, ridges, seed)?;
        let groups = alike(margins.view(), options.merge_above);
        if groups.len() < n_heads {
            mixture = merged(&votes, &mixture, &groups, &pull)?;
            margins = votes.out_of_fold(&mixture, ridges, seed)?;
        }
        let log_losses = if groups.len() > 1 && votes.n_users() >= FOLDS {
            let how =
                (folds_of_rate(votes.n_users()), common_inverse_temperature(&votes, &mixture, &margins));
            Some(votes.held_out(groups.len(), ridges, (1, seed), how, progress)?)
        } else {
            None
        };
        let held_out = |k: usize| {
            let of_vote = |(vote, &pair): (usize, &usize)| HeldOut {
                pair,
                margin: margins[[vote, k]],
                weight: mixture.responsibilities[[votes.votes[vote].user as usize, k]],
            };
            pairs.iter().enumerate().map(of_vote).collect()
        };
        Ok(Self {
            heads: unscaled(&mixture.heads, &scales),
            shares: mixture.log_shares.iter().map(|share| share.exp()).collect(),
            held_out: (0..groups.len()).map(held_out).collect(),
            n_merged: n_heads - groups.len(),
            candidates,
            log_losses,
            file,
        })
    }
}

/// Returns one inverse temperature for all heads, by out-of-fold margins `[votes, K]`.
fn common_inverse_temperature(votes: &Votes, mixture: &UserMixture, margins: &Array2<f64>) -> f64 {
    let of_vote = |(vote, margins): (&Vote, ArrayView1<'_, f64>)| {
        let weights = mixture.responsibilities.row(vote.user as usize).mapv(|q| q * vote.weight);
        let weighted = margins.to_owned().into_iter().zip(weights);
        weighted.filter(|&(_, weight)| weight > NEGLIGIBLE).collect::<Vec<_>>()
    };
    let choices = votes.votes.iter().zip(margins.outer_iter()).filter(|(vote, _)| !vote.is_tie);
    inverse_temperature(&choices.flat_map(of_vote).collect::<Vec<_>>())
}

/// Returns one head for each group, learned anew from its members' users.
fn merged(
    votes: &Votes,
    mixture: &UserMixture,
    groups: &[Vec<usize>],
    pull: &Pull,
) -> Result<UserMixture, RowsError> {
    let mut q = Array2::zeros((votes.n_users(), groups.len()));
    for (mut column, members) in q.columns_mut().into_iter().zip(groups) {
        members.iter().for_each(|&k| column += &mixture.responsibilities.column(k));
    }
    let heads = user_mixture::learn_given(votes, &q, user_mixture::STEPS, pull)?;
    Ok(UserMixture {
        heads,
        log_shares: user_mixture::log_shares(&q),
        responsibilities: q,
        objective: mixture.objective,
    })
}
