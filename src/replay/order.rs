//! Chooses the order in which choices are asked for.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Trial;
use super::rules::Seen;
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

/// Returns `positions` in `trials` in the order in which they are asked for; the first `n_asked` matter.
pub(super) fn ask<'a>(
    trials: &'a [Trial],
    mut positions: Vec<usize>,
    order: Order,
    n_asked: usize,
    nothing: &Seen<'a>,
    rng: &mut ChaCha8Rng,
) -> Vec<usize> {
    if order.is_random() {
        shuffle(&mut positions, rng);
    }
    match order {
        Order::Given | Order::Random => {}
        Order::Informative => informative(trials, &mut positions, n_asked, nothing),
        Order::Questions => {
            positions.sort_by_key(|&position| trials[position].question.unwrap_or(usize::MAX));
        }
    }
    positions
}

/// Shuffles `items` (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

fn informative<'a>(trials: &'a [Trial], positions: &mut [usize], n_asked: usize, nothing: &Seen<'a>) {
    let mut seen = nothing.clone();
    for next in 0..n_asked.min(positions.len()) {
        let nats = |position: usize| {
            let trial = &trials[position];
            mutual_information(&seen.posterior(trial), &trial.margins)
        };
        let best = (next..positions.len())
            .map(|idx| (idx, nats(positions[idx])))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(next, |(idx, _)| idx);
        positions.swap(next, best);
        seen.learn(&trials[positions[next]]);
    }
}
