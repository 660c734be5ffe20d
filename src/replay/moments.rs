//! Cuts other people's choices into labels and choices to predict, from which rules are calibrated.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Person;
use super::reserve::Reserve;
use super::shuffle::shuffle;

/// Numbers of labels at the moments.
const AFTER: [usize; 7] = [0, 1, 2, 5, 10, 20, 40];

/// A moment in the life of a person: labels given so far, and choices to predict.
pub(super) struct Moment {
    /// The position of the person.
    pub(super) person: usize,
    /// The positions of the labels.
    pub(super) labels: Vec<usize>,
    /// The positions of the choices to predict, at least one.
    pub(super) rest: Vec<usize>,
}

/// Returns moments of everybody: half of them predict choices between responses that no label is about, half all other
/// choices, as in service some texts come again and others are new.
pub(super) fn moments(people: &[Person]) -> Vec<Moment> {
    let of_person = |(idx, person): (usize, &Person)| {
        let mut rng = ChaCha8Rng::seed_from_u64(idx as u64);
        let mut found = Vec::new();
        for reserve in [Reserve::Responses(0.5), Reserve::Rest] {
            let (asked, reserved) = reserve.split(person, &mut rng);
            let mut labels = person.labels(&asked);
            shuffle(&mut labels, &mut rng);
            for n in AFTER.into_iter().filter(|n| *n <= labels.len()) {
                let mut rest = reserved.clone().unwrap_or_else(|| labels[n..].concat());
                rest.retain(|&position| !person.trials[position].is_tie);
                if !rest.is_empty() {
                    found.push(Moment { person: idx, labels: labels[..n].concat(), rest });
                }
            }
        }
        found
    };
    people.iter().enumerate().flat_map(of_person).collect()
}
