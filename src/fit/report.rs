//! Reports a fit's accuracy on test pairs beside its baselines: length alone and a single Bradley-Terry head.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use super::data::{Dataset, Examples, Split};
use super::differences::RowsError;
use super::merge::correlation;
use super::stage1::Learned;
use crate::mixture::{Routing, Weights, preference, win};

/// Accuracies on test pairs by slice, and the heads' correlation with length.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every file, and every group of a file.
    pub slices: Vec<Slice>,
    /// The correlation of every head's reward with the log length over the train responses, shape `[K]`.
    pub length_correlation: Vec<f64>,
}

/// Accuracies on one set of test pairs. A tie counts one half.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// `file` or `file/group`.
    pub name: String,
    /// Number of test pairs.
    pub n: usize,
    /// Accuracy of preferring the longer response.
    pub length: f64,
    /// Accuracy of a single head, learned from the file's train pairs.
    pub single: f64,
    /// Accuracy of the mixture routed by the prompt, without any evidence of the user.
    pub routed: f64,
    /// Accuracy of every head on its own, shape `[K]`.
    pub heads: Vec<f64>,
    /// The head that is best on the slice's train pairs and its accuracy on the test pairs; none without train pairs.
    pub best_head: Option<(usize, f64)>,
}

impl Slice {
    /// Returns the standard error of an accuracy on this slice, with pairs taken as independent.
    #[must_use]
    pub fn standard_error(&self, accuracy: f64) -> f64 {
        (accuracy * (1.0 - accuracy) / self.n.max(1) as f64).sqrt()
    }
}

/// Measures what was learned; `singles` has one head for each file.
///
/// # Errors
/// When the embeddings can't be read.
pub fn report(
    dataset: &Dataset,
    examples: &Examples,
    learned: &Learned,
    singles: &[Array2<f32>],
) -> Result<Report, RowsError> {
    let rewards = examples.rewards(&learned.heads)?;
    let single = examples.rewards(
        &ndarray::concatenate(
            ndarray::Axis(1),
            &singles.iter().map(|single| single.view()).collect::<Vec<_>>(),
        )
        .map_err(std::io::Error::other)?,
    )?;
    let blocks = examples.map_prompts(|prompts| learned.router.log_weights(prompts))?;
    let log_weights = super::data::stack(&blocks, learned.heads.ncols());
    let n_heads = learned.heads.ncols();
    let mut slices: BTreeMap<String, Tally> = BTreeMap::new();
    for (row, pair) in dataset.pairs.iter().zip(&examples.pairs) {
        let margins: Vec<f64> = (0..n_heads)
            .map(|k| learned.calibration[k].beta * (rewards[[pair.chosen, k]] - rewards[[pair.rejected, k]]))
            .collect();
        let longer = examples.rows[pair.chosen].log_length - examples.rows[pair.rejected].log_length;
        if row.split == Split::Candidate {
            continue;
        }
        let file = &dataset.files[row.file];
        let group = row.group.map(|group| format!("{file}/{}", dataset.groups.items()[group]));
        for name in std::iter::once(file.clone()).chain(group) {
            let tally = slices.entry(name).or_insert_with(|| Tally::new(n_heads));
            if row.split == Split::Train {
                tally.n_train += 1;
                tally.train.iter_mut().zip(&margins).for_each(|(sum, d)| *sum += win(*d));
                continue;
            }
            let prior = log_weights.row(pair.prompt).to_vec();
            let weights = Weights::posterior(&prior, &vec![0.0; prior.len()], Routing::BAYES);
            tally.n += 1;
            tally.length += win(f64::from(longer));
            tally.single += win(single[[pair.chosen, row.file]] - single[[pair.rejected, row.file]]);
            tally.routed += win(preference(&weights, &margins) - 0.5);
            tally.test.iter_mut().zip(&margins).for_each(|(sum, d)| *sum += win(*d));
        }
    }
    let slices =
        slices.into_iter().filter(|(_, tally)| tally.n > 0).map(|(name, tally)| tally.into_slice(name));
    let is_train = |idx: &usize| dataset.pairs[*idx].split == Split::Train;
    let train = (0..dataset.pairs.len()).filter(is_train).map(|idx| examples.pairs[idx]);
    let rows: BTreeSet<usize> = train.flat_map(|pair| [pair.chosen, pair.rejected]).collect();
    let lengths: Vec<f64> = rows.iter().map(|&row| f64::from(examples.rows[row].log_length)).collect();
    let of_head = |k: usize| {
        let column: Vec<f64> = rows.iter().map(|&row| rewards[[row, k]]).collect();
        correlation(column.iter(), lengths.iter())
    };
    Ok(Report { slices: slices.collect(), length_correlation: (0..n_heads).map(of_head).collect() })
}

struct Tally {
    n_train: usize,
    n: usize,
    length: f64,
    single: f64,
    routed: f64,
    train: Vec<f64>,
    test: Vec<f64>,
}

impl Tally {
    fn new(n_heads: usize) -> Self {
        let (train, test) = (vec![0.0; n_heads], vec![0.0; n_heads]);
        Self { n_train: 0, n: 0, length: 0.0, single: 0.0, routed: 0.0, train, test }
    }

    fn into_slice(self, name: String) -> Slice {
        let n = self.n as f64;
        let best = (0..self.train.len())
            .max_by(|&a, &b| self.train[a].total_cmp(&self.train[b]))
            .unwrap_or_default();
        Slice {
            name,
            n: self.n,
            length: self.length / n,
            single: self.single / n,
            routed: self.routed / n,
            best_head: (self.n_train > 0).then(|| (best, self.test[best] / n)),
            heads: self.test.iter().map(|wins| wins / n).collect(),
        }
    }
}
