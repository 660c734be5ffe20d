//! Reports a fit's accuracy on test pairs beside its rulers: length alone, a single head, style and words.

use std::collections::BTreeMap;

use ndarray::Array1;

use super::data::{Dataset, Examples, Split};
use super::differences::RowsError;
use super::merge::correlation;
use super::stage1::{Learned, Ruler};
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
    /// Number of test pairs, each by its weight; ties do not count.
    pub n: usize,
    /// The rulers: length alone, then [`Ruler::ALL`], learned from the file's train pairs.
    pub rulers: Vec<RulerSlice>,
    /// Accuracy of the mixture routed by the prompt, without any evidence of the user.
    pub routed: f64,
    /// Accuracy of every head on its own, shape `[K]`.
    pub heads: Vec<f64>,
    /// The head that is best on the slice's train pairs and its accuracy on the test pairs; none without train pairs.
    pub best_head: Option<(usize, f64)>,
}

/// A ruler on one set of test pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct RulerSlice {
    /// Its name.
    pub name: &'static str,
    /// Its accuracy.
    pub accuracy: f64,
    /// Accuracy of the routed mixture minus that of the ruler.
    pub routed_over: f64,
    /// The standard error of that difference on the same pairs, taken as independent.
    pub standard_error: f64,
}

/// Length: the longer response.
const LENGTH: &str = "length";

impl Slice {
    /// Returns the standard error of an accuracy on this slice, with pairs taken as independent.
    #[must_use]
    pub fn standard_error(&self, accuracy: f64) -> f64 {
        (accuracy * (1.0 - accuracy) / self.n.max(1) as f64).sqrt()
    }
}

/// Measures what was learned; `rulers` have the reward of every row for each file, `[files][rulers]`.
///
/// # Errors
/// When the embeddings can't be read.
pub fn report(
    dataset: &Dataset,
    examples: &Examples,
    learned: &Learned,
    rulers: &[[Array1<f64>; Ruler::ALL.len()]],
) -> Result<Report, RowsError> {
    let rewards = examples.rewards(&learned.heads)?;
    let blocks = examples.map_prompts(|prompts| learned.router.log_weights(prompts))?;
    let log_weights = super::data::stack(&blocks, learned.heads.ncols());
    let n_heads = learned.heads.ncols();
    let mut slices: BTreeMap<String, Tally> = BTreeMap::new();
    for (row, pair) in dataset.pairs.iter().zip(&examples.pairs) {
        let margins: Vec<f64> = (0..n_heads)
            .map(|k| learned.calibration[k].beta * (rewards[[pair.chosen, k]] - rewards[[pair.rejected, k]]))
            .collect();
        let longer = examples.rows[pair.chosen].log_length - examples.rows[pair.rejected].log_length;
        if row.split == Split::Candidate || row.is_tie {
            continue;
        }
        let weight = row.weight;
        let file = &dataset.files[row.file];
        let group = row.group.map(|group| format!("{file}/{}", dataset.groups.items()[group]));
        for name in std::iter::once(file.clone()).chain(group) {
            let tally = slices.entry(name).or_insert_with(|| Tally::new(n_heads));
            if row.split == Split::Train {
                tally.n_train += 1;
                tally.train.iter_mut().zip(&margins).for_each(|(sum, d)| *sum += weight * win(*d));
                continue;
            }
            let prior = log_weights.row(pair.prompt).to_vec();
            let weights = Weights::posterior(&prior, &vec![0.0; prior.len()], Routing::BAYES);
            let of_ruler = rulers[row.file].iter().map(|r| win(r[pair.chosen] - r[pair.rejected]));
            tally.n += weight;
            let ruled = std::iter::once(win(f64::from(longer))).chain(of_ruler);
            tally.add(weight, win(preference(&weights, &margins) - 0.5), ruled);
            tally.test.iter_mut().zip(&margins).for_each(|(sum, d)| *sum += weight * win(*d));
        }
    }
    let slices =
        slices.into_iter().filter(|(_, tally)| tally.n > 0.0).map(|(name, tally)| tally.into_slice(name));
    let is_train = |idx: &usize| dataset.pairs[*idx].split == Split::Train;
    let train: Vec<usize> = (0..dataset.pairs.len()).filter(is_train).collect();
    let rows = examples.responses(&train);
    let lengths: Vec<f64> = rows.iter().map(|&row| f64::from(examples.rows[row].log_length)).collect();
    let of_head = |k: usize| {
        let column: Vec<f64> = rows.iter().map(|&row| rewards[[row, k]]).collect();
        correlation(column.iter(), lengths.iter())
    };
    Ok(Report { slices: slices.collect(), length_correlation: (0..n_heads).map(of_head).collect() })
}

struct Tally {
    n_train: usize,
    /// Weight of the test pairs.
    n: f64,
    routed: f64,
    /// Sums over test pairs for length and every ruler: its wins, and what routing has over it, plain and squared.
    ruled: [[f64; 3]; 1 + Ruler::ALL.len()],
    train: Vec<f64>,
    test: Vec<f64>,
}

impl Tally {
    fn new(n_heads: usize) -> Self {
        let (train, test) = (vec![0.0; n_heads], vec![0.0; n_heads]);
        Self { n_train: 0, n: 0.0, routed: 0.0, ruled: [[0.0; 3]; 1 + Ruler::ALL.len()], train, test }
    }

    fn add(&mut self, weight: f64, routed: f64, ruled: impl Iterator<Item = f64>) {
        self.routed += weight * routed;
        for (sums, won) in self.ruled.iter_mut().zip(ruled) {
            let over = routed - won;
            sums.iter_mut().zip([won, over, over * over]).for_each(|(sum, x)| *sum += weight * x);
        }
    }

    fn into_slice(self, name: String) -> Slice {
        let n = self.n;
        let best = (0..self.train.len())
            .max_by(|&a, &b| self.train[a].total_cmp(&self.train[b]))
            .unwrap_or_default();
        let names = std::iter::once(LENGTH).chain(Ruler::ALL.map(Ruler::label));
        let ruler = |(name, [won, over, squared]): (&'static str, [f64; 3])| RulerSlice {
            name,
            accuracy: won / n,
            routed_over: over / n,
            standard_error: ((squared / n - (over / n).powi(2)).max(0.0) / n).sqrt(),
        };
        Slice {
            name,
            n: n.round() as usize,
            rulers: names.zip(self.ruled).map(ruler).collect(),
            routed: self.routed / n,
            best_head: (self.n_train > 0).then(|| (best, self.test[best] / n)),
            heads: self.test.iter().map(|wins| wins / n).collect(),
        }
    }
}
