//! Turns pairs of one file into votes, and measures heads on folds of their users.

use std::collections::HashSet;

use ndarray::{Array1, Array2, Axis};

use super::data::{Examples, Interner};
use super::differences::{Differences, RowsError};
use super::learning_rate::{Prequential, RATES};
use super::user_mixture::{self, Pull, Ridges, UserMixture, Vote, Votes};

/// Number of folds of users.
pub(super) const FOLDS: usize = 5;

/// Steps to learn a fold's heads with given responsibilities: the problem is convex.
const FOLD_STEPS: usize = 60;

impl Votes {
    /// Returns the votes of `pairs` (positions); a pair without a user is a user of its own.
    pub(super) fn new(examples: &Examples, pairs: &[usize], scales: &Array1<f32>) -> Result<Self, RowsError> {
        let mut distinct = Interner::default();
        let mut people = Interner::default();
        let vote = |&idx: &usize| {
            let pair = examples.pairs[idx];
            Vote {
                row: distinct.index((pair.chosen, pair.rejected)) as u32,
                user: people.index(pair.user.ok_or(idx)) as u32,
                weight: pair.weight,
                is_tie: pair.is_tie,
            }
        };
        let votes: Vec<Vote> = pairs.iter().map(vote).collect();
        let differences = Differences::new(examples, distinct.items(), scales)?;
        let (mut of_user, mut of_row) = (vec![Vec::new(); people.len()], vec![Vec::new(); distinct.len()]);
        for (idx, vote) in (0..).zip(&votes) {
            of_user[vote.user as usize].push(idx);
            of_row[vote.row as usize].push(idx);
        }
        Ok(Self { differences, votes, of_user, of_row })
    }

    /// Returns the fold of a user.
    fn fold(user: usize, seed: u64) -> usize {
        let digest = blake3::hash(format!("{seed}/{user}").as_bytes());
        usize::from(digest.as_bytes()[0]) % FOLDS
    }

    /// Returns 1 for users outside of `fold`, 0 for those in it.
    fn without(&self, fold: usize, seed: u64) -> Vec<f64> {
        (0..self.n_users()).map(|user| f64::from(u8::from(Self::fold(user, seed) != fold))).collect()
    }

    /// Returns every vote's margins by heads that were learned without its user, shape `[votes, K]`; the
    /// responsibilities stay those of all users.
    pub(super) fn out_of_fold(
        &self,
        mixture: &UserMixture,
        ridges: Ridges,
        seed: u64,
    ) -> Result<Array2<f64>, RowsError> {
        let mut margins = Array2::zeros((self.votes.len(), mixture.heads.ncols()));
        for fold in 0..FOLDS {
            let include = self.without(fold, seed);
            let pull = ridges.pull(self, &include)?;
            let include = Array1::from(include).insert_axis(Axis(1));
            let q = &mixture.responsibilities * &include;
            let heads = user_mixture::learn_given(self, &q, FOLD_STEPS, &pull)?;
            let of_fold = self.margins(&heads)?;
            for (mut row, vote) in margins.outer_iter_mut().zip(&self.votes) {
                if include[[vote.user as usize, 0]] == 0.0 {
                    row.assign(&of_fold.row(vote.row as usize));
                }
            }
        }
        Ok(margins)
    }

    /// Returns the log loss per vote, by learning rate, of the users of the first `n_folds` folds under K heads learned
    /// without their fold, whose margins are multiplied by `beta`: `[users, rates]`.
    pub(super) fn held_out(
        &self,
        n_heads: usize,
        ridges: Ridges,
        (restarts, seed): (usize, u64),
        (n_folds, beta): (usize, f64),
        progress: &(impl Fn() + Sync),
    ) -> Result<Array2<f64>, RowsError> {
        let mut found = Array2::zeros((self.n_users(), RATES.len()));
        for fold in 0..n_folds {
            let include = self.without(fold, seed);
            let pull = ridges.pull(self, &include)?;
            let mixture = self.best_of(&include, n_heads, &pull, (restarts, seed), progress)?;
            let margins = self.margins(&mixture.heads)? * beta;
            let mut prequential = Prequential::new(self.n_users(), &mixture.log_shares);
            for vote in self.votes.iter().filter(|vote| include[vote.user as usize] == 0.0) {
                let margins = margins.row(vote.row as usize);
                prequential.add(vote.user as usize, margins, vote.weight, vote.is_tie);
            }
            // The users of other folds have no vote here, and a loss of 0.
            found += &prequential.log_losses();
        }
        let held_out: Vec<usize> =
            (0..self.n_users()).filter(|&user| Self::fold(user, seed) < n_folds).collect();
        Ok(found.select(Axis(0), &held_out))
    }

    /// Returns the best of several starts, by its objective.
    pub(super) fn best_of(
        &self,
        include: &[f64],
        n_heads: usize,
        pull: &Pull,
        (restarts, seed): (usize, u64),
        progress: &(impl Fn() + Sync),
    ) -> Result<UserMixture, RowsError> {
        let restarts = if n_heads == 1 { 1 } else { restarts.max(1) };
        let start = |restart: usize| {
            let seed = seed.wrapping_mul(1000).wrapping_add(restart as u64);
            user_mixture::learn(self, include, n_heads, pull, seed, progress)
        };
        let mut best = start(0)?;
        for restart in 1..restarts {
            let other = start(restart)?;
            if other.objective > best.objective {
                best = other;
            }
        }
        Ok(best)
    }
}

/// Returns the mean number of votes per user; none without votes, or where a vote has no user.
pub(super) fn votes_per_user(users: impl Iterator<Item = Option<usize>>) -> Option<f64> {
    let (mut seen, mut n_votes) = (HashSet::new(), 0.0);
    for user in users {
        seen.insert(user?);
        n_votes += 1.0;
    }
    (!seen.is_empty()).then(|| n_votes / seen.len() as f64)
}
