//! Stage 1 with users: all pairs of one user share their latent head.
//!
//! ```text
//! P(pairs of u) = sum_k rho_k prod_{i of u} sigma(w_k . x_i)            x_i = phi(chosen) - phi(rejected)
//! J = sum_u log P(pairs of u) - ridge/2 sum_k |w_k - c|^2             c = 0, or the single head of all users
//! ```
//!
//! The model is a mixture of logistic regressions with a group's likelihood inside the sum. Two users who disagree
//! end in different heads without any label of their groups; a mixture of single pairs (`prompt_mixture`) can't see
//! that. J is climbed by its gradient, `sum_u q_uk sum_i sigma(-w_k . x_i) x_i - ridge (w_k - c)`, where `q_uk` is
//! the posterior of u's head.

use ndarray::{Array2, ArrayView2, Axis, CowArray, Ix2, Zip};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::differences::{Differences, RowsError};
use super::narrow::{product, transposed_product};
use super::optimizer::AdamW;
use crate::mixture::{log_sigmoid, log_sum_exp, sigmoid};

/// Steps of Adam on all pairs.
pub(super) const STEPS: usize = 200;

/// Steps before responsibilities follow the heads; until then they are the random ones that heads start from.
const HOLD: usize = 20;

/// Distinct pairs whose log-likelihoods are computed at once.
const CHUNK: usize = 512;

/// The peak learning rate.
const RATE: f64 = 0.05;

/// One vote of a user on a distinct pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vote {
    /// A row of the differences.
    pub(super) row: u32,
    /// A user below the number of users.
    pub(super) user: u32,
    pub(super) weight: f64,
    /// True if it counts half in either direction.
    pub(super) is_tie: bool,
}

impl Vote {
    /// Returns its weight for the margin, and against it.
    fn sides(self) -> [f64; 2] {
        if self.is_tie { [0.5 * self.weight; 2] } else { [self.weight, 0.0] }
    }
}

/// The votes of users on distinct pairs.
#[derive(Debug)]
pub(super) struct Votes {
    pub(super) differences: Differences,
    pub(super) votes: Vec<Vote>,
    /// Positions of every user's votes, in their order, so that sums do not depend on the number of threads.
    pub(super) of_user: Vec<Vec<u32>>,
    /// The same of every row.
    pub(super) of_row: Vec<Vec<u32>>,
}

/// Every distinct pair's weight for each head, `[n, K]`: in favor of its margin, and against it where there are ties.
struct Sides {
    favor: Array2<f64>,
    against: Option<Array2<f64>>,
}

/// Heads that were learned from votes.
#[derive(Debug, Clone)]
pub(super) struct UserMixture {
    /// `[D, K]`, for scaled columns.
    pub(super) heads: Array2<f32>,
    /// `ln rho`, shape `[K]`.
    pub(super) log_shares: Vec<f64>,
    /// `q`, shape `[users, K]`.
    pub(super) responsibilities: Array2<f64>,
    /// J, larger is better; 0 of a single head, which has nothing to be compared with.
    pub(super) objective: f64,
}

impl Votes {
    /// Returns the number of users.
    pub(super) fn n_users(&self) -> usize {
        self.of_user.len()
    }

    /// Returns the log-likelihood of every user's votes by every head, shape `[users, K]`; `margins` are `[n, K]`.
    pub(super) fn log_likelihoods(&self, margins: &Array2<f64>) -> Array2<f64> {
        // Many votes may be about one pair, and a logarithm costs more than a sum.
        let mut of_pairs = margins.clone();
        let blocks: Vec<_> = of_pairs.axis_chunks_iter_mut(Axis(0), CHUNK).collect();
        blocks.into_par_iter().for_each(|mut block| block.mapv_inplace(log_sigmoid));
        let mut sums = Array2::zeros((self.n_users(), margins.ncols()));
        let users: Vec<_> = sums.outer_iter_mut().zip(&self.of_user).collect();
        users.into_par_iter().for_each(|(mut sum, votes)| {
            for vote in votes.iter().map(|&vote| self.votes[vote as usize]) {
                let row = vote.row as usize;
                sum.scaled_add(vote.weight, &of_pairs.row(row));
                // The other half of a tie is `log sigma(-d) = log sigma(d) - d`.
                if vote.is_tie {
                    sum.scaled_add(-0.5 * vote.weight, &margins.row(row));
                }
            }
        });
        sums
    }

    /// Returns `w_k . x` of every distinct pair, shape `[n, K]`.
    pub(super) fn margins(&self, heads: &Array2<f32>) -> Result<Array2<f64>, RowsError> {
        let blocks = self.differences.map(|_, rows| product(rows, heads).mapv(f64::from))?;
        Ok(super::data::stack(&blocks, heads.ncols()))
    }

    /// Returns the weights of the distinct pairs: sums of their voters' rows of `q`.
    fn sides(&self, q: &Array2<f64>) -> Sides {
        let sum = |side: usize| {
            let mut sums = Array2::zeros((self.differences.n_rows(), q.ncols()));
            let rows: Vec<_> = sums.outer_iter_mut().zip(&self.of_row).collect();
            rows.into_par_iter().for_each(|(mut sum, votes)| {
                for vote in votes.iter().map(|&vote| self.votes[vote as usize]) {
                    sum.scaled_add(vote.sides()[side], &q.row(vote.user as usize));
                }
            });
            sums
        };
        let has_ties = self.votes.iter().any(|vote| vote.is_tie);
        Sides { favor: sum(0), against: has_ties.then(|| sum(1)) }
    }

    /// Returns the weight of all votes of users, of whom `share(user)` counts.
    fn total(&self, share: impl Fn(usize) -> f64) -> f64 {
        self.votes.iter().map(|vote| vote.weight * share(vote.user as usize)).sum()
    }
}

/// Ridges that draw the heads to a center.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ridges {
    /// Ridge that draws the single head to 0, and all heads where there is no deviation.
    pub(super) ridge: f64,
    /// Ridge that, if above 0, draws heads to the single head of the same users.
    pub(super) deviation_ridge: f64,
}

impl Ridges {
    /// Returns the pull on the heads of the users in `include`, which depends on no other user.
    pub(super) fn pull(self, votes: &Votes, include: &[f64]) -> Result<Pull, RowsError> {
        let plain = Pull { center: None, ridge: self.ridge };
        if self.deviation_ridge == 0.0 {
            return Ok(plain);
        }
        let single = learn(votes, include, 1, &plain, 0, &|| ())?;
        Ok(Pull { center: Some(single.heads), ridge: self.deviation_ridge })
    }
}

/// The center of a pull and its strength: `ridge / 2 |w_k - center|^2` is subtracted from the log-likelihood.
#[derive(Debug, Clone)]
pub(super) struct Pull {
    /// The center, shape `[D, 1]`; none for 0. Heads start from it.
    center: Option<Array2<f32>>,
    ridge: f64,
}

impl Pull {
    /// Returns `center` for K heads, `[D, K]`.
    fn centers(&self, shape: (usize, usize)) -> Array2<f32> {
        let zero = || Array2::zeros(shape);
        self.center.as_ref().and_then(|center| center.broadcast(shape)).map_or_else(zero, |c| c.to_owned())
    }
}

/// Learns K heads from the votes of users whose `include` is 1 (others: 0), shape `[users]`.
pub(super) fn learn(
    votes: &Votes,
    include: &[f64],
    n_heads: usize,
    pull: &Pull,
    seed: u64,
    progress: &(impl Fn() + Sync),
) -> Result<UserMixture, RowsError> {
    // A single head is responsible for everything, so that no step depends on a likelihood.
    if n_heads == 1 {
        let responsibilities = Array2::from_shape_fn((votes.n_users(), 1), |(user, _)| include[user]);
        let heads = learn_given(votes, &responsibilities, STEPS, pull)?;
        (0..STEPS).for_each(|_| progress());
        return Ok(UserMixture { heads, log_shares: vec![0.0], responsibilities, objective: 0.0 });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut q = Array2::from_shape_simple_fn((votes.n_users(), n_heads), || spread(&mut rng));
    normalize(&mut q, include);
    let n = votes.total(|user| include[user]);
    let mut climb = Climb::new(votes, n_heads, STEPS, pull, n);
    let mut found = UserMixture {
        heads: climb.heads.clone(),
        log_shares: log_shares(&q),
        responsibilities: q.clone(),
        objective: 0.0,
    };
    let mut sides = votes.sides(&q);
    for step in 0..STEPS {
        let margins = votes.margins(&climb.heads)?;
        if step >= HOLD {
            let mut joint = votes.log_likelihoods(&margins);
            joint +=
                &ArrayView2::from_shape((1, n_heads), &found.log_shares).map_err(std::io::Error::other)?;
            found.objective = -0.5 * pull.ridge * climb.distance();
            for ((mut row, mut q), include) in joint.outer_iter_mut().zip(q.outer_iter_mut()).zip(include) {
                let total = log_sum_exp(&row.to_vec());
                found.objective += include * total;
                row.mapv_inplace(|x| include * (x - total).exp());
                q.assign(&row);
            }
            found.log_shares = log_shares(&q);
            sides = votes.sides(&q);
        }
        climb.step(&sides, Some(&margins))?;
        progress();
    }
    Ok(UserMixture { heads: climb.heads, responsibilities: q, ..found })
}

/// Learns one head per column of `q` `[users, K]`, which stays fixed: a convex problem.
pub(super) fn learn_given(
    votes: &Votes,
    q: &Array2<f64>,
    steps: usize,
    pull: &Pull,
) -> Result<Array2<f32>, RowsError> {
    let n = votes.total(|user| q.row(user).sum());
    let mut climb = Climb::new(votes, q.ncols(), steps, pull, n);
    let sides = votes.sides(q);
    for _ in 0..steps {
        climb.step(&sides, None)?;
    }
    Ok(climb.heads)
}

/// Gradient steps on the heads.
struct Climb<'a> {
    votes: &'a Votes,
    heads: Array2<f32>,
    centers: Array2<f32>,
    optimizer: AdamW,
    ridge: f64,
    n: f64,
}

impl<'a> Climb<'a> {
    fn new(votes: &'a Votes, n_heads: usize, steps: usize, pull: &Pull, n: f64) -> Self {
        let shape = (votes.differences.n_columns(), n_heads);
        let optimizer = AdamW::new(&[shape], steps, RATE, 0.0);
        let centers = pull.centers(shape);
        Self { votes, heads: centers.clone(), centers, optimizer, ridge: pull.ridge, n: n.max(1.0) }
    }

    fn distance(&self) -> f64 {
        (&self.heads - &self.centers).iter().map(|&w| f64::from(w).powi(2)).sum()
    }

    /// Moves the heads along the gradient; without `margins` they are computed while a block's rows are at hand.
    fn step(&mut self, sides: &Sides, margins: Option<&Array2<f64>>) -> Result<(), RowsError> {
        let parts = self.votes.differences.map(|first, rows| {
            let block = (first..first + rows.nrows()).into();
            let margins: CowArray<'_, f64, Ix2> = match margins {
                Some(margins) => margins.slice_axis(Axis(0), block).into(),
                None => product(rows, &self.heads).mapv(f64::from).into(),
            };
            let mut pull = Array2::zeros(margins.dim());
            Zip::from(&mut pull)
                .and(&margins)
                .and(sides.favor.slice_axis(Axis(0), block))
                .for_each(|pull, &d, &weight| *pull = (weight * sigmoid(-d) / self.n) as f32);
            if let Some(against) = &sides.against {
                Zip::from(&mut pull)
                    .and(&margins)
                    .and(against.slice_axis(Axis(0), block))
                    .for_each(|pull, &d, &weight| *pull -= (weight * sigmoid(d) / self.n) as f32);
            }
            transposed_product(rows, &pull)
        })?;
        let mut gradient = (&self.heads - &self.centers) * ((self.ridge / self.n) as f32);
        for part in parts {
            gradient -= &part;
        }
        self.optimizer.step([&mut self.heads], [&mut gradient]);
        Ok(())
    }
}

/// Returns the log-shares of the heads with one user more for each, so that no share becomes 0.
pub(super) fn log_shares(q: &Array2<f64>) -> Vec<f64> {
    let total = q.sum() + q.ncols() as f64;
    q.sum_axis(Axis(0)).iter().map(|sum| ((sum + 1.0) / total).ln()).collect()
}

/// Draws a number such that rows of them, normalized, are mostly near a corner of the simplex.
fn spread(rng: &mut ChaCha8Rng) -> f64 {
    rng.random_range(1e-3..1.0_f64).powi(4)
}

fn normalize(q: &mut Array2<f64>, include: &[f64]) {
    for (mut row, include) in q.outer_iter_mut().zip(include) {
        let total = row.sum();
        row.mapv_inplace(|x| include * x / total);
    }
}
