//! Finds the responses that each head scores highest and lowest.

use std::collections::BTreeMap;

use super::Failure;
use crate::fit::{Dataset, Examples};
use crate::page::{Scored, TextGroup};

/// Responses shown at either end.
const N_SHOWN: usize = 3;

/// Returns one group per head: the responses of `pairs` (positions) with its highest and its lowest `reward(row, k)`.
pub(super) fn liked(
    dataset: &Dataset,
    examples: &Examples,
    pairs: &[usize],
    heads: &[String],
    reward: impl Fn(usize, usize) -> f64,
) -> Result<Vec<TextGroup>, Failure> {
    let mut responses: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for &idx in pairs {
        let (row, pair) = (&dataset.pairs[idx], examples.pairs[idx]);
        for (row_idx, text) in [(pair.chosen, row.chosen), (pair.rejected, row.rejected)] {
            if let Some(text) = text {
                responses.entry(row_idx).or_insert((row.prompt, text));
            }
        }
    }
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let group = |(k, name): (usize, &String)| {
        let mut sorted: Vec<(f64, usize)> = responses.keys().map(|&row| (reward(row, k), row)).collect();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let shown = |&(score, row): &(f64, usize)| {
            let (prompt, response) = responses[&row];
            Ok(Scored { score, prompt: Some(text(prompt)?), text: text(response)? })
        };
        let high = sorted.iter().take(N_SHOWN).map(shown).collect::<Result<_, Failure>>()?;
        let low = sorted.iter().rev().take(N_SHOWN).map(shown).collect::<Result<_, Failure>>()?;
        Ok(TextGroup { heading: name.clone(), high, low })
    };
    heads.iter().enumerate().map(group).collect()
}
