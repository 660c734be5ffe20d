//! Stage 2: tunes the router on few pairs that name a criterion, with fixed heads.
//!
//! ```text
//! paper:  w_ik = pi_k(x_i, c_i) exp(-L_ik / tau), normalized; recomputed once per epoch            (equation 5)
//! bayes:  w_ck = m_k exp(-sum_{i of c} L_ik), normalized                                           tau = 1, pooled
//! L_ik = -log sigma(beta_k d_ik)
//! ```
//!
//! The paper's tau of 0.001 makes a label's weights one-hot on the head with the largest margin for that single pair;
//! it never pools the labels of a criterion. The Bayes rule adds them up first. Its target does not depend on the
//! prompt, so that every labeled prompt teaches every criterion.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::data::{EmbedError, Examples};
use super::router::Router;
use super::router_tuning::{Lesson, Teaching, teach};
use crate::mixture::log_softmax;

/// The paper's tau on HelpSteer2 and across data sets.
const TAU: f64 = 1e-3;

/// Passes over the labeled pairs (paper, section 4).
const EPOCHS: usize = 10;

/// Lessons per step (paper, section 4).
const BATCH: usize = 32;

/// Lessons per step of the Bayes rule, where a lesson costs no label.
const BAYES_BATCH: usize = 128;

/// Minimum number of steps, so that a few labels are seen more often than in ten epochs.
const MIN_STEPS: usize = 200;

/// Peak learning rate.
const RATE: f64 = 2e-3;

/// The rule that turns a label into the router's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LearningRule {
    /// Soft labels of single pairs at tau = 0.001, from the router's own weights.
    Paper,
    /// The posterior of all labels of the criterion at tau = 1.
    Bayes,
}

/// One labeled pair.
#[derive(Debug, Clone)]
pub struct Labeled {
    /// The criterion: a number below the number of criteria.
    pub criterion: usize,
    /// This pair's prompt with every criterion, as the router reads it: positions in [`Examples::prompts`].
    pub prompts: Vec<usize>,
    /// `log sigma(beta_k d_k)`, shape `[K]`.
    pub log_likelihoods: Vec<f64>,
}

/// Tunes a router; `log_prior`, shape `[K]`, is the prior over heads before any label.
///
/// # Errors
/// When the embeddings can't be read.
pub fn tune(
    router: &Router,
    examples: &Examples,
    labeled: &[Labeled],
    log_prior: &[f64],
    rule: LearningRule,
    seed: u64,
) -> Result<Router, EmbedError> {
    let mut tuned = router.clone();
    if labeled.is_empty() {
        return Ok(tuned);
    }
    let epoch = labeled.len().div_ceil(BATCH);
    match rule {
        LearningRule::Paper => {
            let teaching = Teaching { steps: EPOCHS * epoch, rate: RATE, noise: 0.0, seed };
            let own: Vec<usize> = labeled.iter().map(|label| label.prompts[label.criterion]).collect();
            let mut targets: Vec<Vec<f64>> = Vec::new();
            let mut order: Vec<usize> = (0..labeled.len()).collect();
            teach(&mut tuned, examples, teaching, |step, router, rng| {
                if step.is_multiple_of(epoch) {
                    let log_weights = router.log_weights(examples.prompts(&own)?.view());
                    let sharpened = |(label, log_weights): (&Labeled, ndarray::ArrayView1<'_, f64>)| {
                        normalized(log_weights.iter().zip(&label.log_likelihoods).map(|(w, l)| w + l / TAU))
                    };
                    targets = labeled.iter().zip(log_weights.outer_iter()).map(sharpened).collect();
                    shuffle(&mut order, rng);
                }
                let batch = order.iter().skip(step % epoch * BATCH).take(BATCH);
                Ok(batch.map(|&i| Lesson { prompt: own[i], target: targets[i].clone() }).collect())
            })?;
        }
        LearningRule::Bayes => {
            let teaching = Teaching { steps: (EPOCHS * epoch).max(MIN_STEPS), rate: RATE, noise: 0.0, seed };
            let targets = pooled(labeled, log_prior);
            teach(&mut tuned, examples, teaching, |_, _, rng| {
                let lesson = |_| {
                    let label = &labeled[rng.random_range(0..labeled.len())];
                    let criterion = rng.random_range(0..targets.len());
                    Lesson { prompt: label.prompts[criterion], target: targets[criterion].clone() }
                };
                Ok((0..BAYES_BATCH).map(lesson).collect())
            })?;
        }
    }
    Ok(tuned)
}

/// Returns the log of the router's mean weights for the labeled prompts with their criteria, shape `[K]`.
///
/// # Errors
/// When the embeddings can't be read.
pub fn mean_log_weights(
    router: &Router,
    examples: &Examples,
    labeled: &[Labeled],
) -> Result<Vec<f64>, EmbedError> {
    let own: Vec<usize> = labeled.iter().map(|label| label.prompts[label.criterion]).collect();
    let weights = router.log_weights(examples.prompts(&own)?.view()).mapv_into(f64::exp);
    let mean = weights.sum_axis(ndarray::Axis(0)) / labeled.len().max(1) as f64;
    Ok(mean.iter().map(|p| p.max(f64::MIN_POSITIVE).ln()).collect())
}

/// Returns every criterion's posterior over heads under `log_prior`, `[criteria][K]`: all its labels are of one head.
#[must_use]
pub fn pooled(labeled: &[Labeled], log_prior: &[f64]) -> Vec<Vec<f64>> {
    let n_criteria = labeled.first().map_or(0, |label| label.prompts.len());
    let mut sums = vec![log_prior.to_vec(); n_criteria];
    for label in labeled {
        sums[label.criterion].iter_mut().zip(&label.log_likelihoods).for_each(|(sum, l)| *sum += l);
    }
    sums.into_iter().map(|sum| normalized(sum.into_iter())).collect()
}

fn normalized(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    log_softmax(&logits.collect::<Vec<_>>()).into_iter().map(f64::exp).collect()
}

fn shuffle(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..order.len()).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
}
