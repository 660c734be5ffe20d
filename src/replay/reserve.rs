//! The choices of a user that are kept from the labels and measured on.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;

use super::Person;
use super::shuffle::shuffle;

/// The choices that are measured on. A share is drawn anew for each order; questions of the bundle and their
/// responses are never reserved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reserve {
    /// The choices not asked for yet.
    Rest,
    /// This share of each user's choices, which are never asked for.
    ///
    /// An order that picks the choices that tell heads apart leaves those that do not, on which every rule is worse:
    /// only a reserve compares it with another order.
    Choices(f64),
    /// The choices between two of this share of the responses that a user chose among; a choice with one of them is
    /// never asked for. No label is then about a response that is measured on, so that a gain is the user's and not
    /// the texts'.
    Responses(f64),
}

impl Reserve {
    /// True if another seed reserves other choices.
    pub(super) fn is_random(self) -> bool {
        self != Self::Rest
    }

    /// Returns the positions of the choices that may be asked for, in the order of the data, and of those that are
    /// reserved; none where the rest is measured on.
    pub(super) fn split(self, person: &Person, rng: &mut ChaCha8Rng) -> (Vec<usize>, Option<Vec<usize>>) {
        let all = 0..person.trials.len();
        match self {
            Self::Rest => (all.collect(), None),
            Self::Choices(share) => {
                let is_question = |position: &usize| person.trials[*position].question.is_some();
                let (mut asked, others): (Vec<usize>, Vec<usize>) = all.partition(is_question);
                let (others, reserved) = drawn(person.labels(&others), share, rng);
                let reserved = reserved.concat();
                asked.extend(others.concat());
                asked.sort_unstable();
                // A user with so few choices that none is drawn is measured on the rest.
                (asked, (!reserved.is_empty()).then_some(reserved))
            }
            Self::Responses(share) => {
                let responses = |is_question: bool| {
                    let of_sort = person.trials.iter().filter(move |t| t.question.is_some() == is_question);
                    of_sort.flat_map(|trial| trial.responses.iter().copied()).collect::<BTreeSet<usize>>()
                };
                let free = responses(false).difference(&responses(true)).copied().collect();
                let reserved: BTreeSet<usize> = drawn(free, share, rng).1.into_iter().collect();
                let is_reserved = |response: &usize| reserved.contains(response);
                let responses = |position: &usize| person.trials[*position].responses.iter();
                let asked = all.clone().filter(|position| !responses(position).any(is_reserved)).collect();
                (asked, Some(all.filter(|position| responses(position).all(is_reserved)).collect()))
            }
        }
    }
}

/// Draws a share of `items`: returns the others and those drawn.
fn drawn<T>(mut items: Vec<T>, share: f64, rng: &mut ChaCha8Rng) -> (Vec<T>, Vec<T>) {
    let n_drawn = (share * items.len() as f64).round() as usize;
    if n_drawn > 0 {
        shuffle(&mut items, rng);
    }
    let drawn = items.split_off(items.len() - n_drawn);
    (items, drawn)
}
