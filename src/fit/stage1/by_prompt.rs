//! Learns a mixture of single pairs: heads and the prompt router together.

use ndarray::Array2;
use rand::Rng;

use super::{Calibration, HeadCount, HeldOut, Learned, Options};
use crate::fit::choose_k::{CANDIDATES, FEW, HeadCountTrial};
use crate::fit::data::{EmbedError, Examples, Pair, stack};
use crate::fit::differences::RowsError;
use crate::fit::merge::alike;
use crate::fit::prompt_mixture::{self, unscaled};
use crate::fit::router::Router;
use crate::fit::router_tuning::{Lesson, Teaching, teach};
use crate::fit::scales::scales;
use crate::mixture::{log_sigmoid, log_sum_exp};

/// One train pair in ten is held out from learning: it calibrates inverse temperatures, and chooses K.
const HELD_OUT: usize = 10;

/// Options for teaching the router the weights of merged heads.
const TEACHING: Teaching = Teaching { steps: 400, rate: 2e-3, noise: 0.0, seed: 0 };

/// Lessons per step.
const BATCH: usize = 256;

/// Learns heads and a router from single pairs.
pub(super) fn learn(
    examples: &Examples,
    pairs: &[usize],
    options: &Options,
    progress: &(impl Fn() + Sync),
) -> Result<Learned, RowsError> {
    let (learned, held_out) = partition(examples, pairs, options.seed);
    let tried: Vec<usize> = match &options.n_heads {
        HeadCount::Auto => CANDIDATES.into_iter().filter(|&k| k <= FEW).collect(),
        HeadCount::Given(counts) => counts.0.clone(),
    };
    let scales = scales(examples, &examples.responses(&learned), options.scalar_scale)?;
    let mut best: Option<(f64, PromptMixtureFit)> = None;
    let mut candidates = Vec::new();
    for n_heads in tried {
        let how = (n_heads, options.ridge.of(0), options.seed);
        let found = prompt_mixture::learn(examples, &learned, &scales, how, options.prompt, progress)?;
        let heads = unscaled(&found.heads, &scales);
        let mixture = PromptMixtureFit::new(examples, heads, found.router, &held_out)?;
        let (log_loss, standard_error) = mixture.log_loss(examples, &held_out);
        // With too few pairs, none is held out, and there is nothing to say.
        if !held_out.is_empty() {
            candidates.push(HeadCountTrial { n_heads, learning_rate: 1.0, log_loss, standard_error });
        }
        if best.as_ref().is_none_or(|(least, _)| log_loss < *least) {
            best = Some((log_loss, mixture));
        }
    }
    let Some((_, mut mixture)) = best else {
        return Err(std::io::Error::other("no number of heads was given").into());
    };
    let groups = alike(mixture.margins.view(), options.merge_above);
    let n_merged = mixture.heads.ncols() - groups.len();
    if n_merged > 0 {
        mixture = mixture.merged(examples, &learned, &held_out, &groups, options.seed)?;
    }
    let files = examples.by_file(&learned);
    let prior = |k: usize| {
        let weight = |&idx: &usize| mixture.weights[[examples.pairs[idx].prompt, k]];
        let of_file = |pairs: &Vec<usize>| pairs.iter().map(weight).sum::<f64>() / pairs.len() as f64;
        files.iter().map(of_file).sum::<f64>() / files.len() as f64
    };
    let of_head = |k: usize| {
        let of_pair = |(i, &pair): (usize, &usize)| HeldOut {
            pair,
            margin: mixture.margins[[i, k]],
            weight: mixture.weights[[examples.pairs[pair].prompt, k]],
        };
        held_out.iter().enumerate().map(of_pair).collect()
    };
    Ok(Learned {
        calibration: (0..groups.len()).map(|k| Calibration::uncalibrated(prior(k))).collect(),
        origins: vec![None; groups.len()],
        n_merged,
        candidates: vec![candidates],
        learning_rate: 1.0,
        learning_rates: Vec::new(),
        held_out: (0..groups.len()).map(of_head).collect(),
        heads: mixture.heads,
        router: mixture.router,
    })
}

/// Heads and router with their margins on held-out pairs and their weights for all prompts.
struct PromptMixtureFit {
    /// The heads, `[D, K]`, for unscaled feature rows.
    heads: Array2<f32>,
    router: Router,
    /// `[held-out pairs, K]`
    margins: Array2<f64>,
    /// `[prompts, K]`
    weights: Array2<f64>,
}

impl PromptMixtureFit {
    fn new(
        examples: &Examples,
        heads: Array2<f32>,
        router: Router,
        held_out: &[usize],
    ) -> Result<Self, EmbedError> {
        let rewards = examples.rewards(&heads)?;
        let mut margins = Array2::zeros((held_out.len(), heads.ncols()));
        for (mut row, pair) in margins.outer_iter_mut().zip(held_out.iter().map(|&idx| examples.pairs[idx])) {
            row.assign(&(&rewards.row(pair.chosen) - &rewards.row(pair.rejected)));
        }
        let blocks = examples.map_prompts(|prompts| router.log_weights(prompts).mapv_into(f64::exp))?;
        let weights = stack(&blocks, heads.ncols());
        Ok(Self { heads, router, margins, weights })
    }

    /// Returns the mean and the standard error of the held-out log loss, in nats.
    fn log_loss(&self, examples: &Examples, held_out: &[usize]) -> (f64, f64) {
        let loss = |(i, &pair): (usize, &usize)| {
            let weights = self.weights.row(examples.pairs[pair].prompt);
            let side = |sign: f64| {
                let joint = weights.iter().zip(self.margins.row(i));
                -log_sum_exp(&joint.map(|(w, &d)| w.ln() + log_sigmoid(sign * d)).collect::<Vec<_>>())
            };
            let Pair { is_tie, weight, .. } = examples.pairs[pair];
            (if is_tie { 0.5 * (side(1.0) + side(-1.0)) } else { side(1.0) }, weight)
        };
        let losses: Vec<(f64, f64)> = held_out.iter().enumerate().map(loss).collect();
        let n = losses.iter().map(|(_, weight)| weight).sum::<f64>().max(f64::MIN_POSITIVE);
        let mean = losses.iter().map(|(loss, weight)| weight * loss).sum::<f64>() / n;
        let squares = losses.iter().map(|(loss, weight)| (weight * (loss - mean)).powi(2)).sum::<f64>();
        (mean, squares.sqrt() / n)
    }

    /// Returns one head for each group, the mean of its members by their weight in the train pairs, and a router that
    /// is taught the groups' sums.
    fn merged(
        &self,
        examples: &Examples,
        learned: &[usize],
        held_out: &[usize],
        groups: &[Vec<usize>],
        seed: u64,
    ) -> Result<Self, EmbedError> {
        let share = |k: usize| {
            learned.iter().map(|&idx| self.weights[[examples.pairs[idx].prompt, k]]).sum::<f64>() + 1e-9
        };
        let mut heads = Array2::zeros((self.heads.nrows(), groups.len()));
        let mut targets = vec![vec![0.0; groups.len()]; examples.prompts.len()];
        for (group, members) in groups.iter().enumerate() {
            let total: f64 = members.iter().map(|&k| share(k)).sum();
            let mut head = heads.column_mut(group);
            for &k in members {
                head.scaled_add((share(k) / total) as f32, &self.heads.column(k));
                for (target, weights) in targets.iter_mut().zip(self.weights.outer_iter()) {
                    target[group] += weights[k];
                }
            }
        }
        let uniform = vec![0.0; groups.len()];
        let mut router = Router::constant(examples.layout.n_embedding, &uniform, seed);
        teach(&mut router, examples, Teaching { seed, ..TEACHING }, |_, _, rng| {
            let draw = |_| examples.pairs[learned[rng.random_range(0..learned.len())]].prompt;
            let prompts = (0..BATCH).map(draw);
            Ok(prompts.map(|prompt| Lesson { prompt, target: targets[prompt].clone() }).collect())
        })?;
        Self::new(examples, heads, router, held_out)
    }
}

/// Splits positions into those to learn from and those to hold out; votes on the same two responses stay together.
/// With too few pairs, none is held out.
fn partition(examples: &Examples, pairs: &[usize], seed: u64) -> (Vec<usize>, Vec<usize>) {
    let is_held_out = |idx: usize| {
        let pair = examples.pairs[idx];
        let (a, b) = (pair.chosen.min(pair.rejected), pair.chosen.max(pair.rejected));
        let digest = blake3::hash(format!("{seed}/{a}/{b}").as_bytes());
        usize::from(digest.as_bytes()[0]).is_multiple_of(HELD_OUT)
    };
    let (held_out, learned): (Vec<usize>, Vec<usize>) = pairs.iter().partition(|&&idx| is_held_out(idx));
    if learned.is_empty() { (held_out, learned) } else { (learned, held_out) }
}
