//! Chooses the bundle's questionnaire from candidates.

use std::collections::HashSet;

use super::Args;
use crate::cli::Failure;
use crate::fit::{CandidateQuestion, Dataset, Examples, Learned, Preference, Split, choose_questions};
use crate::model::Question;

/// Refuses candidates that no bundle may ask, before anything is learned.
pub(super) fn check(args: &Args, dataset: &Dataset) -> Result<(), Failure> {
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let is_candidate = |row: &&Preference| row.split == Split::Candidate && row.chosen != row.rejected;
    let mut candidates = dataset.pairs.iter().filter(is_candidate).peekable();
    if args.questions > 0 && candidates.peek().is_none() {
        return Err(Failure::refused(
            "--candidates: found no pair of two different responses, expected some",
        ));
    }
    for row in candidates {
        let (prompt, a, b) = (text(row.prompt)?, text(row.chosen)?, text(row.rejected)?);
        if let Some(problem) = (Question { id: "q".to_owned(), prompt, a, b }).problem() {
            return Err(Failure::refused(format!("--candidates: {problem}")));
        }
    }
    Ok(())
}

/// Chooses `args.questions` of the candidates; a pair is asked once, in either order of its responses.
pub(super) fn choose(
    args: &Args,
    dataset: &Dataset,
    examples: &Examples,
    learned: &Learned,
) -> Result<Vec<Question>, Failure> {
    if args.questions == 0 {
        return Ok(Vec::new());
    }
    let mut met = HashSet::new();
    let is_new = |idx: &usize| {
        let row = &dataset.pairs[*idx];
        let (a, b) = (row.chosen.min(row.rejected), row.chosen.max(row.rejected));
        row.split == Split::Candidate && a != b && met.insert((row.prompt, a, b))
    };
    let positions: Vec<usize> = (0..dataset.pairs.len()).filter(is_new).collect();
    let rewards = examples.rewards(&learned.heads).map_err(Failure::failed)?;
    let candidate = |&idx: &usize| {
        let (row, pair) = (&dataset.pairs[idx], examples.pairs[idx]);
        let margin = |k: usize| {
            learned.calibration[k].beta * (rewards[[pair.chosen, k]] - rewards[[pair.rejected, k]])
        };
        CandidateQuestion {
            margins: (0..learned.heads.ncols()).map(margin).collect(),
            n_chars: [row.prompt, row.chosen, row.rejected]
                .map(|text| dataset.texts.n_chars(text))
                .iter()
                .sum(),
        }
    };
    let candidates: Vec<CandidateQuestion> = positions.iter().map(candidate).collect();
    let log_shares: Vec<f64> = learned.calibration.iter().map(|head| head.prior.ln()).collect();
    let chosen = choose_questions(&candidates, &log_shares, args.questions as usize, args.seed);
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let question = |(n, &position): (usize, &usize)| {
        let row = &dataset.pairs[positions[position]];
        let (a, b) = (text(row.chosen)?, text(row.rejected)?);
        Ok(Question { id: format!("q{:02}", n + 1), prompt: text(row.prompt)?, a, b })
    };
    chosen.iter().enumerate().map(question).collect()
}
