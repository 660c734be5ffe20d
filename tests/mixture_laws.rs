//! The laws of the mathematics, as properties.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use micro_reward::mixture::{
    Decay, Increment, Ledger, Routing, Weights, best_probabilities, disagreement, log_sigmoid,
    mutual_information, pair, preference, sigmoid, thumb, tie,
};
use micro_reward::state::{LedgerEvent, Outcome, Row};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const K: usize = 4;
const DAY_MS: i64 = 86_400_000;
const UNITS_PER_NAT: f64 = 4_294_967_296.0;

type Event = (Increment, i64);

fn increment() -> impl Strategy<Value = Increment> {
    (prop::collection::vec(-20.0..20.0_f64, K), 0..3).prop_map(|(margins, kind)| match kind {
        0 => pair(&margins),
        1 => tie(&margins),
        _ => thumb(&margins, margins[0] > 0.0),
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((increment(), 0..400 * DAY_MS), 1..60)
}

fn decay() -> impl Strategy<Value = Decay> {
    prop_oneof![Just(Decay::NONE), (DAY_MS as u64 / 2..40 * DAY_MS as u64).prop_map(half_life)]
}

fn half_life(ms: u64) -> Decay {
    Decay::with_half_life(NonZeroU64::new(ms).unwrap())
}

fn ledger(events: &[Event], decay: Decay) -> Ledger {
    let mut ledger = Ledger::new(K);
    for (increment, at_ms) in events {
        ledger.add(increment, *at_ms, decay);
    }
    ledger
}

/// What forgetting may cost: one unit per event, and one per change of epoch of each of three replicas.
fn slack(events: &[Event]) -> i64 {
    let epochs: BTreeSet<i64> = events.iter().map(|(_, at_ms)| at_ms / (80 * DAY_MS)).collect();
    events.len() as i64 + 4 * epochs.len() as i64
}

/// Equal up to `slack` units.
fn assert_same(a: &Ledger, b: &Ledger, slack: i64) {
    assert_eq!((a.n_events(), a.last_at_ms()), (b.n_events(), b.last_at_ms()));
    for (x, y) in a.sums().iter().zip(b.sums()) {
        assert!((x - y).abs() <= slack, "{x} {y} {slack}");
    }
}

proptest! {
    #[test]
    fn a_question_tells_at_most_one_bit_and_nothing_where_heads_agree(
        margins in prop::collection::vec(-40.0..40.0_f64, K),
        logits in prop::collection::vec(-5.0..5.0_f64, K),
    ) {
        let weights = Weights::posterior(&logits, &[0.0; K], Routing::BAYES);
        let nats = mutual_information(&weights, &margins);
        prop_assert!((0.0..=std::f64::consts::LN_2 + 1e-12).contains(&nats));
        prop_assert!(mutual_information(&weights, &[margins[0]; K]) < 1e-12);
        let opposite: Vec<f64> = margins.iter().map(|d| -d).collect();
        prop_assert!((mutual_information(&weights, &opposite) - nats).abs() < 1e-12);
    }

    #[test]
    fn permuted_events_give_equal_ledgers(events in events(), seed: u64) {
        let mut shuffled = events.clone();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, rng.random_range(0..=i));
        }
        prop_assert_eq!(ledger(&events, Decay::NONE), ledger(&shuffled, Decay::NONE));
        let decay = half_life(10 * DAY_MS as u64);
        assert_same(&ledger(&events, decay), &ledger(&shuffled, decay), slack(&events));
    }

    #[test]
    fn a_duplicate_changes_nothing(events in events(), again in prop::collection::vec(0..16_usize, 60)) {
        let event = |(idx, (increment, at_ms)): (usize, &Event)| LedgerEvent {
            user: "u".parse().unwrap(),
            event_id: format!("{idx}").parse().unwrap(),
            at_ms: *at_ms,
            increment: increment.clone(),
        };
        let events: Vec<LedgerEvent> = events.iter().enumerate().map(event).collect();
        let (mut once, mut retried) = (Row::new(K), Row::new(K));
        for (idx, event) in events.iter().enumerate() {
            prop_assert!(matches!(once.apply(event, Decay::NONE), Outcome::Applied(_)));
            retried.apply(event, Decay::NONE);
            let behind = idx.saturating_sub(again[idx]);
            prop_assert!(matches!(retried.apply(&events[behind], Decay::NONE), Outcome::Duplicate(_)));
        }
        prop_assert_eq!(once, retried);
    }

    #[test]
    fn split_and_merged_streams_give_equal_ledgers(events in events(), owners in prop::collection::vec(0..3_usize, 60)) {
        for (decay, slack) in [(Decay::NONE, 0), (half_life(10 * DAY_MS as u64), slack(&events))] {
            let mut replicas = [Ledger::new(K), Ledger::new(K), Ledger::new(K)];
            for ((increment, at_ms), owner) in events.iter().zip(&owners) {
                replicas[*owner].add(increment, *at_ms, decay);
            }
            let mut merged = Ledger::new(K);
            for replica in replicas.iter().rev() {
                merged.merge(replica, decay);
            }
            assert_same(&merged, &ledger(&events, decay), slack);
        }
    }

    #[test]
    fn decay_read_at_any_time_equals_its_definition(events in events(), days in 1..40_u64, later in 0..50 * DAY_MS) {
        let decay = half_life(days * DAY_MS as u64);
        let ledger = ledger(&events, decay);
        let now = ledger.last_at_ms().unwrap() + later;
        for (k, read) in ledger.evidence(now, decay).into_iter().enumerate() {
            let faded = |(increment, at_ms): &Event| {
                let age = (now - at_ms) as f64 / (days as i64 * DAY_MS) as f64;
                increment.units()[k] as f64 / UNITS_PER_NAT * (-age).exp2()
            };
            let defined: f64 = events.iter().map(faded).sum();
            let n_units = slack(&events);
            prop_assert!((read - defined).abs() <= n_units as f64 / UNITS_PER_NAT + 1e-9 * defined.abs());
        }
    }

    #[test]
    fn weights_are_a_simplex_point_for_extreme_ledgers(
        evidence in prop::collection::vec(-1e6..1e6_f64, K),
        prior in prop::collection::vec(-50.0..0.0_f64, K),
        floor in 0.0..0.5_f64,
    ) {
        let weights = Weights::posterior(&prior, &evidence, Routing { eta: 1.0, floor });
        let total: f64 = weights.as_slice().iter().sum();
        prop_assert!((total - 1.0).abs() < 1e-9);
        prop_assert!(weights.as_slice().iter().all(|w| w.is_finite() && *w >= floor / K as f64 * 0.999));
        prop_assert!((0.999..=K as f64 + 0.001).contains(&weights.effective_heads()));
    }

    #[test]
    fn increments_are_centred_and_finite(increment in increment()) {
        let units = increment.units();
        prop_assert!(units.iter().sum::<i64>().abs() <= K as i64);
    }

    #[test]
    fn two_responses_are_ranked_as_they_are_compared(
        a in prop::collection::vec(-9.0..9.0_f64, K),
        b in prop::collection::vec(-9.0..9.0_f64, K),
        evidence in prop::collection::vec(-3.0..3.0_f64, K),
    ) {
        let weights = Weights::posterior(&[0.0; K], &evidence, Routing::BAYES);
        let margins: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        prop_assert!(disagreement(&weights, &a) >= 0.0);
        let best = best_probabilities(&weights, &[a, b]);
        prop_assert!((best[0] - preference(&weights, &margins)).abs() < 1e-9);
        prop_assert!((best[0] + best[1] - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_sigmoid_and_its_logarithm_agree_and_never_overflow(x in -1e6..1e6_f64) {
        prop_assert!(log_sigmoid(x).is_finite() && (0.0..=1.0).contains(&sigmoid(x)));
        prop_assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn ledgers_under_any_decay_stay_finite(events in events(), decay in decay()) {
        let ledger = ledger(&events, decay);
        prop_assert!(ledger.evidence(i64::MAX / 2, decay).iter().all(|nats| nats.is_finite()));
    }
}

/// The aggregating algorithm's bound, on streams that no distribution generated.
#[test]
fn regret_against_the_best_head_is_at_most_ln_k() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..10_000 {
        let k = rng.random_range(2..=8_usize);
        let scale = [0.1, 1.0, 10.0][rng.random_range(0..3)];
        let mut ledger = Ledger::new(k);
        let (mut own, mut heads) = (0.0, vec![0.0; k]);
        for _ in 0..rng.random_range(1..=60) {
            let margins: Vec<f64> = (0..k).map(|_| rng.random_range(-scale..scale)).collect();
            let evidence = ledger.evidence(0, Decay::NONE);
            let weights = Weights::posterior(&vec![0.0; k], &evidence, Routing::BAYES);
            own -= preference(&weights, &margins).ln();
            heads.iter_mut().zip(&margins).for_each(|(loss, d)| *loss -= log_sigmoid(*d));
            ledger.add(&pair(&margins), 0, Decay::NONE);
        }
        let best = heads.into_iter().fold(f64::INFINITY, f64::min);
        assert!(own - best <= (k as f64).ln() + 1e-6, "{own} {best} {k}");
    }
}

#[test]
fn a_head_that_is_right_gains_and_an_indifferent_one_gains_by_a_tie() {
    assert!(pair(&[2.0, -2.0]).units()[0] > 0);
    assert!(tie(&[0.0, 5.0]).units()[0] > 0);
    assert_eq!(thumb(&[1.0, -1.0], true).units()[0], thumb(&[1.0, -1.0], false).units()[1]);
}
