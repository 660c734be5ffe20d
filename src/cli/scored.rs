//! Scores every response and prompt of a data set by a bundle.

use ndarray::{Array1, Array2};

use super::Failure;
use crate::fit::Examples;
use crate::mixture::log_softmax;
use crate::model::{Bundle, Rewards};
use crate::types::Embedding;

/// Rows of one run of the heads or the router.
const ROWS: usize = 4096;

/// Rewards of the rows of [`Examples::rows`], and log-priors of [`Examples::prompts`].
pub(super) struct ScoredExamples {
    pub(super) rewards: Rewards,
    /// `[prompts, K]`
    pub(super) log_priors: Array2<f64>,
}

impl ScoredExamples {
    pub(super) fn new(bundle: &Bundle, examples: &Examples) -> Result<Self, Failure> {
        let positions: Vec<usize> = (0..examples.rows.len()).collect();
        let mut raw = Vec::with_capacity(positions.len());
        for chunk in positions.chunks(ROWS) {
            let rows = examples.features(chunk).map_err(Failure::failed)?;
            let mut rewards = bundle.rewards(rows.into_raw_vec_and_offset().0).map_err(Failure::failed)?;
            let average = chunk.iter().position(|&row| examples.rows[row].response.is_none());
            average.into_iter().for_each(|row| rewards.set_average(row));
            raw.push(rewards);
        }
        let positions: Vec<usize> = (0..examples.prompts.len()).collect();
        let mut log_priors = Array2::zeros((0, bundle.n_heads()));
        for chunk in positions.chunks(ROWS) {
            let prompts = examples.prompts(chunk).map_err(Failure::failed)?;
            let prompts: Vec<Embedding> = prompts.outer_iter().map(|row| row.to_vec().into()).collect();
            for logits in bundle.router_logits(&prompts).map_err(Failure::failed)? {
                let row = Array1::from(log_softmax(&logits));
                log_priors.push_row(row.view()).map_err(Failure::failed)?;
            }
        }
        Ok(Self { rewards: Rewards::stack(raw), log_priors })
    }
}
