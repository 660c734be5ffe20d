//! Chooses the order in which choices are asked for.

use rand_chacha::ChaCha8Rng;

use super::Trial;
use super::seen::Seen;
use super::shuffle::shuffle;
use crate::mixture::mutual_information;

/// The order in which a user's choices are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Order {
    /// The order of the data.
    Given,
    /// A random order.
    Random,
    /// The choice with the most information about the user's head, given the answers so far, as POST /elicit serves.
    Informative,
    /// The bundle's questions first, in their order, then the other choices at random.
    Questions,
}

impl Order {
    /// True if another seed gives another order.
    #[must_use]
    pub fn is_random(self) -> bool {
        !matches!(self, Self::Given)
    }
}

/// Returns labels, positions in `trials` each, in the order in which they are asked for; the first `n_asked` matter.
pub(super) fn ask<'a>(
    trials: &'a [Trial],
    mut labels: Vec<Vec<usize>>,
    order: Order,
    n_asked: usize,
    nothing: &Seen<'a>,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<usize>> {
    if order.is_random() {
        shuffle(&mut labels, rng);
    }
    match order {
        Order::Given | Order::Random => {}
        Order::Informative => informative(trials, &mut labels, n_asked, nothing),
        Order::Questions => {
            let question = |label: &Vec<usize>| label.first().and_then(|&position| trials[position].question);
            labels.sort_by_key(|label| question(label).unwrap_or(usize::MAX));
        }
    }
    labels
}

fn informative<'a>(trials: &'a [Trial], labels: &mut [Vec<usize>], n_asked: usize, nothing: &Seen<'a>) {
    let mut seen = nothing.clone();
    for next in 0..n_asked.min(labels.len()) {
        let nats = |&position: &usize| {
            let trial = &trials[position];
            trial.weight * mutual_information(&seen.posterior(trial), &trial.margins)
        };
        let best = (next..labels.len())
            .map(|idx| (idx, labels[idx].iter().map(nats).sum::<f64>()))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(next, |(idx, _)| idx);
        labels.swap(next, best);
        labels[next].iter().for_each(|&position| seen.learn(&trials[position]));
    }
}
