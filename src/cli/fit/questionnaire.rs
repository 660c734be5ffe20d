//! Chooses the bundle's questionnaire from candidates.

use std::collections::HashSet;

use super::Args;
use crate::cli::Failure;
use crate::fit::{CandidateQuestion, Dataset, Examples, Learned, Preference, Split, choose_questions};
use crate::model::Question;

/// Refuses candidates that no bundle may ask, before anything is learned.
pub(super) fn check(args: &Args, dataset: &Dataset) -> Result<(), Failure> {
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let mut candidates = dataset.pairs.iter().filter_map(question).peekable();
    if args.questions > 0 && candidates.peek().is_none() {
        return Err(Failure::refused(
            "--candidates: found no pair of two different responses, expected some",
        ));
    }
    for [prompt, a, b] in candidates {
        let (prompt, a, b) = (text(prompt)?, text(a)?, text(b)?);
        if let Some(problem) = (Question { id: "q".to_owned(), prompt, a, b }).problem() {
            return Err(Failure::refused(format!("--candidates: {problem}")));
        }
    }
    Ok(())
}

/// Returns the prompt and the two different responses of a candidate; none for another row.
fn question(row: &Preference) -> Option<[usize; 3]> {
    let [a, b] = row.responses()?;
    (row.split == Split::Candidate && a != b).then_some([row.prompt, a, b])
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
    let is_new = |&(_, [prompt, a, b]): &(usize, [usize; 3])| met.insert((prompt, a.min(b), a.max(b)));
    let asked = dataset.pairs.iter().enumerate().filter_map(|(idx, row)| Some((idx, question(row)?)));
    let asked: Vec<(usize, [usize; 3])> = asked.filter(is_new).collect();
    let rewards = examples.rewards(&learned.heads).map_err(Failure::failed)?;
    let candidate = |&(idx, texts): &(usize, [usize; 3])| {
        let pair = examples.pairs[idx];
        let margin = |k: usize| {
            learned.calibration[k].beta * (rewards[[pair.chosen, k]] - rewards[[pair.rejected, k]])
        };
        CandidateQuestion {
            margins: (0..learned.heads.ncols()).map(margin).collect(),
            n_chars: texts.map(|text| dataset.texts.n_chars(text)).iter().sum(),
        }
    };
    let candidates: Vec<CandidateQuestion> = asked.iter().map(candidate).collect();
    let log_shares: Vec<f64> = learned.calibration.iter().map(|head| head.prior.ln()).collect();
    let chosen = choose_questions(&candidates, &log_shares, args.questions as usize, args.seed);
    let text = |idx: usize| dataset.texts.get(idx).map_err(Failure::failed);
    let of_bundle = |(n, &position): (usize, &usize)| {
        let (_, [prompt, a, b]) = asked[position];
        Ok(Question { id: format!("q{:02}", n + 1), prompt: text(prompt)?, a: text(a)?, b: text(b)? })
    };
    chosen.iter().enumerate().map(of_bundle).collect()
}
