//! Chooses from candidates a short questionnaire that tells the heads apart.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::mixture::{Routing, Weights, log_sigmoid, mutual_information, sigmoid};

/// Simulated users, drawn from the heads, who answer the questions chosen so far.
const PEOPLE: usize = 256;

/// Characters at which a question is worth half of one that needs no reading.
const HALF_LENGTH: f64 = 600.0;

/// A pair that may become a question.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateQuestion {
    /// `beta_k (r_k(a) - r_k(b))`, shape `[K]`.
    pub margins: Vec<f64>,
    /// Characters to read.
    pub n_chars: usize,
}

/// Returns the positions of at most `n` candidates, the most informative first; candidates without information are
/// left out.
///
/// Each is the one with the most information about the head of a user drawn from the population (`log_shares`, shape
/// `[K]`), in the mean over the likely answers to those before it, discounted by its length. The likely answers are
/// those of 256 users who are drawn from the shares and answer as their head does.
#[must_use]
pub fn choose_questions(
    candidates: &[CandidateQuestion],
    log_shares: &[f64],
    n: usize,
    seed: u64,
) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let prior = Weights::posterior(log_shares, &vec![0.0; log_shares.len()], Routing::BAYES);
    let mut people: Vec<(usize, Vec<f64>)> =
        (0..PEOPLE).map(|_| (draw(&prior, &mut rng), vec![0.0; log_shares.len()])).collect();
    let tells = |idx: &usize| mutual_information(&prior, &candidates[*idx].margins) > 0.0;
    let mut left: Vec<usize> = (0..candidates.len()).filter(tells).collect();
    let mut chosen = Vec::new();
    while chosen.len() < n && !left.is_empty() {
        let posteriors: Vec<Weights> = people
            .iter()
            .map(|(_, evidence)| Weights::posterior(log_shares, evidence, Routing::BAYES))
            .collect();
        let worth = |candidate: &CandidateQuestion| {
            let nats: f64 = posteriors.iter().map(|w| mutual_information(w, &candidate.margins)).sum();
            nats * HALF_LENGTH / (HALF_LENGTH + candidate.n_chars as f64)
        };
        let worths: Vec<f64> = left.iter().map(|&idx| worth(&candidates[idx])).collect();
        let best = (0..left.len()).fold(0, |best, i| if worths[i] > worths[best] { i } else { best });
        let question = left.remove(best);
        for (head, evidence) in &mut people {
            let is_a = rng.random::<f64>() < sigmoid(candidates[question].margins[*head]);
            let sign = if is_a { 1.0 } else { -1.0 };
            evidence
                .iter_mut()
                .zip(&candidates[question].margins)
                .for_each(|(e, d)| *e += log_sigmoid(sign * d));
        }
        chosen.push(question);
    }
    chosen
}

fn draw(weights: &Weights, rng: &mut ChaCha8Rng) -> usize {
    let mut left: f64 = rng.random();
    let of = weights.as_slice();
    let drawn = of.iter().position(|w| {
        left -= w;
        left < 0.0
    });
    drawn.unwrap_or(of.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(margins: &[f64], n_chars: usize) -> CandidateQuestion {
        CandidateQuestion { margins: margins.to_vec(), n_chars }
    }

    #[test]
    fn a_questionnaire_asks_each_difference_once_before_it_asks_again() {
        let even = vec![0.0; 4];
        let halves = candidate(&[5.0, 5.0, -5.0, -5.0], 100);
        let pairs = candidate(&[5.0, -5.0, 5.0, -5.0], 100);
        let nothing = candidate(&[5.0, 5.0, 5.0, 5.0], 10);
        let candidates = [halves.clone(), nothing, halves, pairs];
        let chosen = choose_questions(&candidates, &even, 2, 0);
        assert!(chosen == [0, 3] || chosen == [3, 0], "{chosen:?}");
    }

    #[test]
    fn of_two_questions_that_tell_the_same_the_shorter_is_asked() {
        let candidates = [candidate(&[3.0, -3.0], 500), candidate(&[3.0, -3.0], 50)];
        assert_eq!(choose_questions(&candidates, &[0.0, 0.0], 1, 0), [1]);
    }
}
