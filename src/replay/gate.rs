//! The ledger and the blend ledger together: a Bayes mixture of the two by their evidence.
//!
//! ```text
//! P(next) = g P_blend(next) + (1 - g) P_ledger(next)      g = sigma(a + b (ln Z_blend - ln Z_ledger) + c n)
//! ```
//!
//! Each `ln Z` is the log-likelihood of a person's n labels with the person's weights or head summed out, which no
//! order changes. Bayes' rule has b = 1, and `a` the log-odds of the share of people who are blends. The blend's `Z` is
//! a density and the ledger's a chance, which differ by a constant for each label, c; labels of one person are not
//! independent, so that evidence may count less, b < 1. The three are those with the least log loss on other people's
//! choices, with b >= 0: more evidence for a rule is never a reason to leave it.

use nalgebra::{Matrix3, RowVector3, Vector3};
use rayon::prelude::*;

use super::Person;
use super::blend::Blend;
use super::moments::{Moment, moments};
use super::seen::{Seen, Served};
use crate::mixture::{log_softmax, log_sum_exp, preference, sigmoid};

/// Steps of the descent.
const STEPS: usize = 50;

/// The pull of the weights to 0: a gate that is not pulled to the middle would be sure of what few people can't tell.
const PULL: Vector3<f64> = Vector3::new(0.1, 0.1, 0.1);

/// The weights of what is known when the two are mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// `a`, `b` and `c`.
    weights: [f64; 3],
}

/// A prediction of both, and what the gate reads.
struct Lesson {
    blend: f64,
    ledger: f64,
    inputs: Vector3<f64>,
    weight: f64,
}

impl Gate {
    /// Learns how the ledger and `blend` are mixed from `people`; `log_shares` are the heads' shares of the
    /// population.
    #[must_use]
    pub fn learn(people: &[Person], blend: &Blend, log_shares: &[f64], served: Served) -> Self {
        let lessons = |moment: &Moment| -> Vec<Lesson> {
            let trials = &people[moment.person].trials;
            let mut seen = Seen::nothing(log_shares.len(), served);
            moment.labels.iter().for_each(|&position| seen.learn(&trials[position]));
            let Some(belief) = blend.believe(seen.trials()) else { return Vec::new() };
            let inputs = inputs(&seen, belief.evidence, log_shares);
            let lesson = |&position: &usize| Lesson {
                blend: belief.chance(&trials[position]),
                ledger: preference(&seen.posterior(&trials[position]), &trials[position].margins),
                inputs,
                weight: 1.0 / moment.rest.len() as f64,
            };
            moment.rest.iter().map(lesson).collect()
        };
        let lessons: Vec<Vec<Lesson>> = moments(people).par_iter().map(lessons).collect();
        let lessons: Vec<Lesson> = lessons.into_iter().flatten().collect();
        Self { weights: least(&lessons).into() }
    }

    /// Returns the share of the blend after the labels of `seen`, of which `evidence` is the blend's.
    pub(super) fn share(&self, seen: &Seen<'_>, evidence: f64, log_shares: &[f64]) -> f64 {
        sigmoid(Vector3::from(self.weights).dot(&inputs(seen, evidence, log_shares)))
    }
}

/// Returns `[1, ln Z_blend - ln Z_ledger, n]`.
fn inputs(seen: &Seen<'_>, evidence: f64, log_shares: &[f64]) -> Vector3<f64> {
    let joint: Vec<f64> = log_softmax(log_shares).iter().zip(seen.total()).map(|(p, l)| p + l).collect();
    Vector3::new(1.0, evidence - log_sum_exp(&joint), seen.n() as f64)
}

/// Returns the weights with the least log loss, by damped steps of Gauss and Newton from even ones.
fn least(lessons: &[Lesson]) -> Vector3<f64> {
    let mixed = |lesson: &Lesson, weights: &Vector3<f64>| {
        let gate = sigmoid(weights.dot(&lesson.inputs));
        (gate, (gate * lesson.blend + (1.0 - gate) * lesson.ledger).max(f64::MIN_POSITIVE))
    };
    let loss = |weights: &Vector3<f64>| -> f64 {
        lessons.iter().map(|lesson| -lesson.weight * mixed(lesson, weights).1.ln()).sum()
    };
    let pulled = |weights: &Vector3<f64>| loss(weights) + 0.5 * weights.component_mul(&PULL).dot(weights);
    let mut weights = Vector3::new(0.0, 0.1, 0.0);
    let mut best = pulled(&weights);
    for _ in 0..STEPS {
        let mut slope = -weights.component_mul(&PULL);
        let mut curvature = Matrix3::from_diagonal(&PULL);
        for lesson in lessons {
            let (gate, chance) = mixed(lesson, &weights);
            let gain = (lesson.blend - lesson.ledger) * gate * (1.0 - gate) / chance;
            slope += lesson.inputs * (lesson.weight * gain);
            curvature += lesson.inputs * lesson.inputs.transpose() * (lesson.weight * gain * gain);
        }
        if weights[1] == 0.0 && slope[1] < 0.0 {
            // A weight at its bound that would leave it takes no part in the step.
            slope[1] = 0.0;
            curvature.set_row(1, &RowVector3::new(0.0, 1.0, 0.0));
            curvature.set_column(1, &Vector3::new(0.0, 1.0, 0.0));
        }
        let Some(step) = curvature.cholesky().map(|factor| factor.solve(&slope)) else { break };
        let found = (0..20).find_map(|halvings| {
            let mut tried = weights + step * 0.5_f64.powi(halvings);
            tried[1] = tried[1].max(0.0);
            let loss = pulled(&tried);
            (loss < best - 1e-9).then_some((tried, loss))
        });
        let Some((tried, loss)) = found else { break };
        (weights, best) = (tried, loss);
    }
    weights
}
