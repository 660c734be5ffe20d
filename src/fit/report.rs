//! What a fit reached, beside what it must beat: length alone and a single Bradley-Terry head.

use std::collections::BTreeMap;

use super::dataset::{Dataset, Split};
use super::mixture_loss::Parameters;
use super::train::Examples;
use crate::mixture::{Routing, Weights, preference};

/// Accuracies on test pairs, by slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every file, and every group of a file.
    pub slices: Vec<Slice>,
}

/// Accuracies on one set of test pairs. A tie counts one half.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// `file` or `file/group`.
    pub name: String,
    /// How many test pairs.
    pub n: usize,
    /// The longer response is preferred.
    pub length: f64,
    /// The single head.
    pub single: f64,
    /// The mixture routed by the prompt, knowing nothing of the user.
    pub routed: f64,
    /// The head that is best on the slice's train pairs and its accuracy on the test pairs; none without train pairs.
    pub best_head: Option<(usize, f64)>,
}

impl Slice {
    /// The standard error of an accuracy on this slice, pairs taken as independent.
    #[must_use]
    pub fn standard_error(&self, accuracy: f64) -> f64 {
        (accuracy * (1.0 - accuracy) / self.n.max(1) as f64).sqrt()
    }
}

/// Measures `mixture` (with one temperature per head) and `single` on the test split.
#[must_use]
pub fn report(
    dataset: &Dataset,
    examples: &Examples,
    mixture: &Parameters,
    betas: &[f64],
    single: &Parameters,
) -> Report {
    let rewards = examples.features.dot(&mixture.heads).mapv(f64::from);
    let single = examples.features.dot(&single.heads).mapv(f64::from);
    let log_weights = mixture.log_weights(examples.prompts.view());
    let mut slices: BTreeMap<String, Tally> = BTreeMap::new();
    for (row, pair) in dataset.pairs.iter().zip(&examples.pairs) {
        let margins: Vec<f64> = (0..betas.len())
            .map(|k| betas[k] * (rewards[[pair.chosen, k]] - rewards[[pair.rejected, k]]))
            .collect();
        let prior = log_weights.row(pair.prompt).to_vec();
        let weights = Weights::posterior(&prior, &vec![0.0; prior.len()], Routing::BAYES);
        let longer = dataset.texts[row.chosen].chars().count() as f64
            - dataset.texts[row.rejected].chars().count() as f64;
        let file = &dataset.files[row.file];
        let names = [Some(file.clone()), row.group.as_ref().map(|group| format!("{file}/{group}"))];
        for name in names.into_iter().flatten() {
            let tally = slices.entry(name).or_insert_with(|| Tally::new(betas.len()));
            if row.split == Split::Train {
                tally.n_train += 1;
                tally.train.iter_mut().zip(&margins).for_each(|(sum, d)| *sum += win(*d));
                continue;
            }
            tally.n += 1;
            tally.length += win(longer);
            tally.single += win(single[[pair.chosen, 0]] - single[[pair.rejected, 0]]);
            tally.routed += win(preference(&weights, &margins) - 0.5);
            tally.test.iter_mut().zip(&margins).for_each(|(sum, d)| *sum += win(*d));
        }
    }
    let slices =
        slices.into_iter().filter(|(_, tally)| tally.n > 0).map(|(name, tally)| tally.into_slice(name));
    Report { slices: slices.collect() }
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
        Self {
            n_train: 0,
            n: 0,
            length: 0.0,
            single: 0.0,
            routed: 0.0,
            train: vec![0.0; n_heads],
            test: vec![0.0; n_heads],
        }
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
        }
    }
}

fn win(margin: f64) -> f64 {
    match margin.total_cmp(&0.0) {
        _ if margin == 0.0 => 0.5,
        std::cmp::Ordering::Greater => 1.0,
        _ => 0.0,
    }
}
