//! Laws of the blend ledger, on synthetic users.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;

use micro_reward::mixture::{Routing, sigmoid};
use micro_reward::replay::{
    Blend, Estimate, Gate, Order, Person, Reference, Reserve, Rule, Seen, Served, Setting, Trial, replay,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const K: usize = 4;

const SERVED: Served = Served { routing: Routing { eta: 1.0, floor: 1e-3 }, transfer: 0.5 };

/// Returns a choice with these margins by head.
fn trial(margins: Vec<f64>, responses: [usize; 2]) -> Trial {
    Trial {
        log_prior: vec![0.0; margins.len()],
        chosen: margins.clone(),
        rejected: vec![0.0; margins.len()],
        longer: 0.0,
        rulers: [0.0; 3],
        responses: responses.to_vec(),
        context: None,
        group: None,
        question: None,
        label: None,
        is_tie: false,
        weight: 1.0,
        margins,
    }
}

/// Returns people who choose by their weights of the heads, which `weights` draws.
fn people(n: usize, seed: u64, weights: impl Fn(&mut ChaCha8Rng) -> Vec<f64>) -> Vec<Person> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut person = |idx: usize| {
        let weights = weights(&mut rng);
        let mut choice = |i: usize| {
            let margins: Vec<f64> = (0..K).map(|_| rng.random_range(-3.0..3.0)).collect();
            let odds: f64 = weights.iter().zip(&margins).map(|(w, d)| w * d).sum();
            let sign = if rng.random::<f64>() < sigmoid(odds) { 1.0 } else { -1.0 };
            trial(margins.iter().map(|d| sign * d).collect(), [2 * i, 2 * i + 1])
        };
        Person { name: idx.to_string(), trials: (0..40).map(&mut choice).collect() }
    };
    (0..n).map(&mut person).collect()
}

/// Draws the weights of somebody who likes one head and dislikes another.
fn torn(rng: &mut ChaCha8Rng) -> Vec<f64> {
    let liked = rng.random_range(0..K);
    let disliked = (liked + rng.random_range(1..K)) % K;
    (0..K).map(|k| 2.0 * (f64::from(u8::from(k == liked)) - f64::from(u8::from(k == disliked)))).collect()
}

/// Draws the weights of somebody who has one head.
fn of_one_head(rng: &mut ChaCha8Rng) -> Vec<f64> {
    let head = rng.random_range(0..K);
    (0..K).map(|k| if k == head { 1.0 } else { 0.0 }).collect()
}

fn reference(others: &[Person]) -> Reference {
    let log_shares = vec![0.0; K];
    let blend = Blend::learn(others).unwrap();
    let gate = Gate::learn(others, &blend, &log_shares, SERVED);
    Reference {
        log_shares,
        best_head: None,
        blend: Some((blend, gate)),
        oracle: Vec::new(),
        oracle_of_all: 0,
    }
}

fn chance(rule: Rule, labels: &[Trial], asked: &Trial, reference: &Reference) -> f64 {
    let mut seen = Seen::nothing(K, SERVED);
    labels.iter().for_each(|label| seen.learn(label));
    (-rule.predict(&seen, &[asked], reference)[0].1).exp()
}

/// Returns by how much each of `rules` is above the ledger after `n` labels, on people who are none of those learned
/// from.
fn over_ledger(
    weights: impl Fn(&mut ChaCha8Rng) -> Vec<f64> + Copy,
    n: usize,
    rules: [Rule; 2],
) -> [Estimate; 2] {
    let (others, people) = (people(150, 1, weights), people(100, 2, weights));
    let reserve = Reserve::Rest;
    let setting = Setting { order: Order::Random, n_seeds: 1, served: SERVED, after: vec![n], reserve };
    let curves = replay(&people, &reference(&others), 0, &setting);
    rules.map(|rule| {
        let curve = curves.iter().find(|curve| curve.rule == rule.label()).unwrap();
        curve.points[0].over_ledger.unwrap()
    })
}

#[test]
fn people_who_are_blends_are_known_by_the_blend_ledger() {
    for over in over_ledger(torn, 20, [Rule::Blend, Rule::Both]) {
        assert!(over.mean > 0.05 && over.low > 0.0, "{over:?}");
    }
}

#[test]
fn people_who_have_one_head_lose_nothing_by_the_mixture() {
    for n in [2, 10] {
        let [_, over] = over_ledger(of_one_head, n, [Rule::Blend, Rule::Both]);
        assert!(over.mean + 2.5 * over.standard_error > 0.0, "{n}: {over:?}");
    }
}

#[test]
fn nobody_has_no_population() {
    assert_eq!(Blend::learn(&[]), None);
    let unreal = people(2, 1, |_| vec![f64::NAN; K]);
    let unreal: Vec<Person> = unreal
        .into_iter()
        .map(|mut person| {
            person.trials[0].margins[0] = f64::NAN;
            person
        })
        .collect();
    assert_eq!(Blend::learn(&unreal), None);
}

/// The population of people who like one head and dislike another.
static TORN: LazyLock<Reference> = LazyLock::new(|| reference(&people(20, 1, torn)));

/// The population of people who all have the first head.
static FIRST: LazyLock<Reference> =
    LazyLock::new(|| reference(&people(40, 1, |_| (0..K).map(|k| if k == 0 { 2.0 } else { 0.0 }).collect())));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_labels_changes_no_prediction(
        seed in 0_u64..1000,
        n in 0_usize..12,
    ) {
        let reference = &*TORN;
        let mut labels = people(1, seed, torn).remove(0).trials;
        let asked = labels.remove(0);
        labels.truncate(n);
        for rule in [Rule::Blend, Rule::Both] {
            let before = chance(rule, &labels, &asked, reference);
            let mut other = labels.clone();
            other.reverse();
            other.rotate_left(n / 3);
            prop_assert!((before - chance(rule, &other, &asked, reference)).abs() < 1e-9);
        }
    }

    #[test]
    fn the_other_choice_has_the_other_chance(seed in 0_u64..1000) {
        let reference = &*TORN;
        let mut labels = people(1, seed, torn).remove(0).trials;
        let asked = labels.remove(0);
        let other = trial(asked.margins.iter().map(|d| -d).collect(), [asked.responses[0], asked.responses[1]]);
        for rule in [Rule::Blend, Rule::Both] {
            for n in [0, 5] {
                let [one, other] = [&asked, &other].map(|of| chance(rule, &labels[..n], of, reference));
                prop_assert!((one + other - 1.0).abs() < 1e-9, "{one} {other}");
            }
        }
    }

    #[test]
    fn without_labels_everybody_is_the_population(seed in 0_u64..1000) {
        let asked = people(1, seed, torn).remove(0).trials.remove(0);
        let chance = chance(Rule::Blend, &[], &asked, &FIRST);
        if asked.margins[0].abs() > 0.7 {
            prop_assert_eq!(chance > 0.5, asked.margins[0] > 0.0, "{} {:?}", chance, asked.margins);
        }
    }
}
