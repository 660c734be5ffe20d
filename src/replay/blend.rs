//! The blend ledger: from labels to a Gaussian belief over how a person weights the heads.
//!
//! ```text
//! x  in R^(K+1)              the heads' margins of a choice, and the log-odds of the router's mixture
//! w ~ N(m, S)                the weights of a person, drawn from the population
//! 1 = w . x + noise          noise ~ N(0, s^2); a choice read the other way round is -1 = w . -x, which is the same
//! w | labels ~ N(V (S^-1 m + sum x / s^2), V)         V = (S^-1 + sum x x^T / s^2)^-1
//! ```
//!
//! The sums of `x x^T` and of `x` are all that a belief needs, so that it does not depend on the order of the labels.
//! Where the ledger asks which head a person has, this asks which blend of heads: a person may like two of them and
//! dislike a third. The population `(m, S, s^2)` is that of other people, by expectation maximization; the noise is
//! then scaled, and the link from scores to chances chosen, by the log loss of predictions.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};
use rayon::prelude::*;

use super::features::{Choice, Sums, features};
use super::moments::{Moment, moments};
use super::{Person, Trial};
use crate::mixture::{log_sigmoid, sigmoid};

/// Steps of expectation maximization.
const STEPS: usize = 25;

/// People per block of a sum, so that sums do not depend on the number of threads.
const BLOCK: usize = 64;

/// Factors of the noise that are tried: labels of one person are not independent, and those of texts that come again
/// are worth less than they seem.
const TEMPERS: [f64; 6] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0];

/// The population of people who are blends of heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Blend {
    mean: DVector<f64>,
    precision: DMatrix<f64>,
    /// `precision * mean`.
    pull: DVector<f64>,
    /// `ln det precision`.
    log_det: f64,
    noise: f64,
    /// The log-odds of a choice per unit of its score.
    link: f64,
}

/// The belief about one person's weights.
#[derive(Debug, Clone)]
pub(super) struct Belief {
    mean: DVector<f64>,
    /// The factor of the inverse of V.
    factor: Cholesky<f64, Dyn>,
    noise: f64,
    link: f64,
    /// `ln P(labels)`, a density: it compares with those of the same labels up to a constant per label.
    pub(super) evidence: f64,
}

impl Blend {
    /// Learns the population of `people`; none of nobody, or of margins that are not finite.
    #[must_use]
    pub fn learn(people: &[Person]) -> Option<Self> {
        let choices: Vec<Vec<Choice>> =
            people.par_iter().map(|person| person.trials.iter().map(Choice::from).collect()).collect();
        let n_features = choices.iter().flatten().next()?.x.len();
        let sums: Vec<Sums> = choices.par_iter().map(|labels| Sums::new(n_features, labels.iter())).collect();
        let mut population = Population {
            mean: DVector::from_element(n_features, 1.0 / n_features as f64),
            covariance: DMatrix::identity(n_features, n_features) / n_features as f64,
            noise: 1.0,
        };
        for _ in 0..STEPS {
            population = population.step(&sums)?;
        }
        let moments = moments(people);
        let tempered = TEMPERS.into_iter().filter_map(|temper| {
            let noise = population.noise * temper;
            let blend = Self::of(&Population { noise, ..population.clone() })?;
            let (link, loss) = blend.best_link(&choices, &moments);
            Some((Self { link, ..blend }, loss))
        });
        tempered.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(blend, _)| blend)
    }

    fn new(mean: DVector<f64>, precision: DMatrix<f64>, noise: f64, link: f64) -> Option<Self> {
        let log_det = log_det(&Cholesky::new(precision.clone())?);
        let is_finite = log_det.is_finite() && mean.iter().chain([&noise, &link]).all(|x| x.is_finite());
        let pull = &precision * &mean;
        (is_finite && noise > 0.0).then_some(Self { mean, precision, pull, log_det, noise, link })
    }

    fn of(population: &Population) -> Option<Self> {
        let precision = Cholesky::new(population.covariance.clone())?.inverse();
        Self::new(population.mean.clone(), precision, population.noise, 1.0)
    }

    /// Returns the belief after labels, in any order; none where it can't be computed.
    pub(super) fn believe(&self, labels: &[&Trial]) -> Option<Belief> {
        let labels: Vec<Choice> = labels.iter().map(|&trial| trial.into()).collect();
        self.after(&Sums::new(self.mean.len(), labels.iter()))
    }

    fn after(&self, sums: &Sums) -> Option<Belief> {
        let factor = Cholesky::new(&self.precision + &sums.outer / self.noise)?;
        let pull = &self.pull + &sums.total / self.noise;
        let mean = factor.solve(&pull);
        let gained = mean.dot(&pull) - self.mean.dot(&self.pull) + self.log_det - log_det(&factor);
        let spent = sums.n * (std::f64::consts::TAU * self.noise).ln() + sums.squares / self.noise;
        Some(Belief { mean, factor, noise: self.noise, link: self.link, evidence: 0.5 * (gained - spent) })
    }

    /// Returns the link with the least log loss at `moments`, and the loss: a convex problem of one number.
    fn best_link(&self, choices: &[Vec<Choice>], moments: &[Moment]) -> (f64, f64) {
        let scores = |moment: &Moment| {
            let of = |positions: &[usize]| -> Vec<&Choice> {
                positions.iter().map(|&position| &choices[moment.person][position]).collect()
            };
            let belief = self.after(&Sums::new(self.mean.len(), of(&moment.labels).into_iter()));
            let scores = belief
                .map(|belief| of(&moment.rest).into_iter().map(|choice| belief.score(&choice.x)).collect());
            (scores.unwrap_or_default(), 1.0 / moment.rest.len() as f64)
        };
        let scores: Vec<(Vec<f64>, f64)> = moments.par_iter().map(scores).collect();
        let scores: Vec<(f64, f64)> =
            scores.into_iter().flat_map(|(of, weight)| of.into_iter().map(move |t| (t, weight))).collect();
        let mut link = 1.0;
        for _ in 0..30 {
            let (slope, curvature) = scores.iter().fold((0.0, 1e-9), |(slope, curvature), &(t, weight)| {
                let wrong = sigmoid(-link * t);
                (slope + weight * t * wrong, curvature + weight * t * t * wrong * (1.0 - wrong))
            });
            link += (slope / curvature).clamp(-1.0, 1.0);
        }
        (link, scores.iter().map(|&(t, weight)| -weight * log_sigmoid(link * t)).sum())
    }
}

impl Belief {
    /// Returns `w . x` in standard deviations of what is predicted for the choice.
    fn score(&self, x: &DVector<f64>) -> f64 {
        let spread = self.factor.l_dirty().solve_lower_triangular(x).map_or(0.0, |y| y.norm_squared());
        self.mean.dot(x) / (self.noise + spread).sqrt()
    }

    /// Returns the chance of the choice.
    pub(super) fn chance(&self, trial: &Trial) -> f64 {
        sigmoid(self.link * self.score(&features(trial)))
    }
}

/// The parameters that expectation maximization finds.
#[derive(Debug, Clone)]
struct Population {
    mean: DVector<f64>,
    covariance: DMatrix<f64>,
    noise: f64,
}

impl Population {
    /// Returns the likelier parameters, given everybody's beliefs under these; none if they are not finite.
    fn step(&self, people: &[Sums]) -> Option<Self> {
        let n_features = self.mean.len();
        let prior = Blend::of(self)?;
        let none = || (DVector::zeros(n_features), DMatrix::zeros(n_features, n_features), 0.0);
        let of_block = |block: &[Sums]| {
            let (mut first, mut second, mut residual) = none();
            for sums in block {
                let belief = prior.after(sums)?;
                let (mean, variance) = (belief.mean, belief.factor.inverse());
                residual += sums.squares - 2.0 * mean.dot(&sums.total)
                    + mean.dot(&(&sums.outer * &mean))
                    + variance.dot(&sums.outer);
                second += variance;
                second.ger(1.0, &mean, &mean, 1.0);
                first += mean;
            }
            Some((first, second, residual))
        };
        let blocks: Vec<_> = people.par_chunks(BLOCK).map(of_block).collect::<Option<_>>()?;
        let (mut first, mut second, mut residual) = none();
        for (a, b, c) in blocks {
            first += a;
            second += b;
            residual += c;
        }
        let n_people = people.len() as f64;
        let mean = first / n_people;
        let scatter = second - &mean * mean.transpose() * n_people;
        // Some people more, who spread evenly, keep the covariance of many heads from few people invertible.
        let n_even = 0.5 * (n_features + 2) as f64;
        let even = scatter.trace() / n_people / n_features as f64;
        let covariance =
            (scatter + DMatrix::identity(n_features, n_features) * (n_even * even)) / (n_people + n_even);
        let noise = residual / people.iter().map(|sums| sums.n).sum::<f64>();
        noise.is_finite().then_some(Self { mean, covariance, noise: noise.max(1e-6) })
    }
}

fn log_det(factor: &Cholesky<f64, Dyn>) -> f64 {
    2.0 * factor.l_dirty().diagonal().iter().map(|x| x.ln()).sum::<f64>()
}
