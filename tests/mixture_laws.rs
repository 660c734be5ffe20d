//! Laws of the mathematics, as properties.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use micro_reward::mixture::{
    Decay, Increment, Ledger, Ledgers, MAX_CONTEXTS, Routing, Weights, best_probabilities, contextual,
    disagreement, log_sigmoid, maxmin, mutual_information, pair, population, preference, quantile, ranking,
    rating, sigmoid, thumb, tie,
};
use micro_reward::state::{Change, ChangeKind, EventKey, LedgerEvent, Outcome, Row, RowRules, UserKey};
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

/// Returns the most that decay may cost: one unit per event, and one per change of epoch of each of three replicas.
fn slack(events: &[Event]) -> i64 {
    let epochs: BTreeSet<i64> = events.iter().map(|(_, at_ms)| at_ms / (80 * DAY_MS)).collect();
    events.len() as i64 + 4 * epochs.len() as i64
}

/// Checks that ledgers are equal up to `slack` units.
fn assert_same(a: &Ledger, b: &Ledger, slack: i64) {
    assert_eq!((a.n_events(), a.last_at_ms()), (b.n_events(), b.last_at_ms()));
    for (x, y) in a.sums().iter().zip(b.sums()) {
        assert!((x - y).abs() <= slack, "{x} {y} {slack}");
    }
}

/// Returns the ledgers of events that each belong to a context, or to none.
fn ledgers(events: &[(Option<u64>, Event)], decay: Decay) -> Ledgers {
    let mut ledgers = Ledgers::new(K);
    for (context, (increment, at_ms)) in events {
        ledgers.add(*context, increment, *at_ms, decay);
    }
    ledgers
}

/// Generates events of more contexts than have ledgers.
fn contextual_events() -> impl Strategy<Value = Vec<(Option<u64>, Event)>> {
    let context = prop_oneof![1 => Just(None), 5 => (0..2 * MAX_CONTEXTS as u64).prop_map(Some)];
    prop::collection::vec((context, (increment(), 0..400 * DAY_MS)), 1..200)
}

fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// A prior, the evidence of the general ledger and that of each context.
type Said = (Vec<f64>, Vec<f64>, Vec<(u64, Vec<f64>)>);

/// Generates the evidence of a user with three contexts.
fn evidence() -> impl Strategy<Value = Said> {
    let nats = |size: f64| prop::collection::vec(-size..size, K);
    (nats(5.0), nats(30.0), prop::collection::vec(nats(30.0), 3))
        .prop_map(|(prior, general, contexts)| (prior, general, (0..).zip(contexts).collect()))
}

fn assert_close(a: &Weights, b: &Weights, by: f64) {
    for (x, y) in a.as_slice().iter().zip(b.as_slice()) {
        assert!((x - y).abs() <= by, "{a:?} {b:?}");
    }
}

/// Generates weights that may be very uneven.
fn weights() -> impl Strategy<Value = Weights> {
    prop::collection::vec(-12.0..0.0_f64, K)
        .prop_map(|prior| Weights::posterior(&prior, &[0.0; K], Routing::BAYES))
}

/// Generates two to nine rated responses: every head's log-odds of each, of ordinary size or extreme, with many equal
/// ratings.
fn rated() -> impl Strategy<Value = Vec<(Vec<f64>, f64)>> {
    let log_odds = prop::collection::vec(prop_oneof![4 => -8.0..8.0_f64, 1 => -1e6..1e6_f64], K);
    prop::collection::vec((log_odds, (0..5_i8).prop_map(f64::from)), 2..10)
}

fn margins(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn assert_within_one_unit(a: &Increment, b: &Increment) {
    for (x, y) in a.units().iter().zip(b.units()) {
        assert!((x - y).abs() <= 1, "{a:?} {b:?}");
    }
}

/// Returns the largest difference between the heads of an increment, in units.
fn range(increment: &Increment) -> i64 {
    increment.units().iter().max().unwrap() - increment.units().iter().min().unwrap()
}

fn rewards() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![-9.0..9.0_f64, Just(1.0), -1e9..1e9_f64], K)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

const ROUTING: Routing = Routing { eta: 0.7, floor: 0.01 };

/// Rules under which no event is too old.
const RULES: RowRules =
    RowRules { n_heads: K, decay: Decay::NONE, max_age_ms: i64::MAX, max_events: usize::MAX };

/// Returns the events as changes of one user's row.
fn changes(events: &[Event]) -> Vec<Change> {
    let change = |(idx, (increment, at_ms)): (usize, &Event)| {
        let event = LedgerEvent {
            key: EventKey(idx as u64),
            at_ms: *at_ms,
            context: [None, Some(1), Some(2)][idx % 3],
            question: [None, Some(idx as u64 % 7)][idx % 2],
            increment: increment.clone(),
            content: None,
            replaces: None,
            resolved: None,
        };
        Change { user: UserKey::from([1; 16]), now_ms: *at_ms, kind: ChangeKind::Add(event) }
    };
    events.iter().enumerate().map(change).collect()
}

proptest! {
    #[test]
    fn every_objective_is_between_the_worst_and_the_best_head(
        z in rewards(), own in weights(), users in prop::collection::vec(weights(), 1..20), at in 0.0..=1.0_f64,
    ) {
        let values: Vec<f64> = users.iter().map(|user| user.mean_of(&z)).collect();
        let found = [
            maxmin(&z, own.as_slice(), at),
            quantile(&z, own.as_slice(), at),
            quantile(&values, &vec![1.0; users.len()], at),
            population(&users).unwrap().mean_of(&z),
        ];
        let slack = 1e-9 * greatest(&z).abs().max(least(&z).abs());
        for reward in found {
            prop_assert!(reward.is_finite() && reward >= least(&z) - slack && reward <= greatest(&z) + slack, "{:?}", found);
        }
    }

    #[test]
    fn the_worst_head_is_never_better_than_the_mixture(z in rewards(), own in weights()) {
        let worst = maxmin(&z, own.as_slice(), 0.0);
        prop_assert_eq!(worst, least(&z));
        prop_assert!(worst <= own.mean_of(&z) + 1e-9 * worst.abs());
        let largest = (0..K).max_by(|a, b| own.as_slice()[*a].total_cmp(&own.as_slice()[*b])).unwrap();
        prop_assert_eq!(maxmin(&z, own.as_slice(), 1.0), z[largest], "where none is large enough, the largest");
    }

    #[test]
    fn fewer_eligible_heads_are_never_worse_off(z in rewards(), own in weights(), a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
        let at = |share: f64| maxmin(&z, own.as_slice(), share);
        prop_assert!(at(a.min(b)) <= at(a.max(b)));
    }

    #[test]
    fn quantiles_rise_from_the_least_to_the_greatest(z in rewards(), own in weights(), a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
        let at = |q: f64| quantile(&z, own.as_slice(), q);
        prop_assert_eq!((at(0.0), at(1.0)), (least(&z), greatest(&z)));
        prop_assert!(at(a.min(b)) <= at(a.max(b)));
        let below: f64 = z.iter().zip(own.as_slice()).filter(|(z, _)| **z <= at(a)).map(|(_, share)| share).sum();
        prop_assert!(below >= a - 1e-8, "at least q of the share is at or below the quantile");
    }

    #[test]
    fn a_population_of_equal_users_is_one_of_them(z in rewards(), own in weights(), n in 1..50_usize, q in 0.0..=1.0_f64) {
        let users = vec![own.clone(); n];
        assert_close(&population(&users).unwrap(), &own, 1e-12);
        let values: Vec<f64> = users.iter().map(|user| user.mean_of(&z)).collect();
        prop_assert_eq!(quantile(&values, &vec![1.0; n], q), own.mean_of(&z));
    }

    #[test]
    fn objectives_do_not_depend_on_the_order_of_heads_or_users(
        z in rewards(), own in weights(), users in prop::collection::vec(weights(), 1..20), at in 0.0..=1.0_f64, seed: u64,
    ) {
        let mut pairs: Vec<(f64, f64)> = z.iter().copied().zip(own.as_slice().iter().copied()).collect();
        shuffle(&mut pairs, seed);
        let (z2, shares): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        prop_assert_eq!(maxmin(&z, own.as_slice(), at), maxmin(&z2, &shares, at));
        prop_assert_eq!(quantile(&z, own.as_slice(), 0.0), quantile(&z2, &shares, 0.0));
        prop_assert_eq!(quantile(&z, own.as_slice(), 1.0), quantile(&z2, &shares, 1.0));
        // Heads of equal reward may be summed in another order, which can matter only within the slack.
        let near = [at - 1e-8, at + 1e-8].map(|q| quantile(&z, own.as_slice(), q.clamp(0.0, 1.0)));
        prop_assert!((near[0]..=near[1]).contains(&quantile(&z2, &shares, at)));
        let mut shuffled = users.clone();
        shuffle(&mut shuffled, seed);
        assert_close(&population(&users).unwrap(), &population(&shuffled).unwrap(), 1e-12);
        let values = |users: &[Weights]| users.iter().map(|user| user.mean_of(&z)).collect::<Vec<f64>>();
        let ones = vec![1.0; users.len()];
        prop_assert_eq!(quantile(&values(&users), &ones, at), quantile(&values(&shuffled), &ones, at));
    }

    #[test]
    fn permuted_events_give_equal_ledgers_whatever_their_contexts(events in contextual_events(), seed: u64) {
        let mut shuffled = events.clone();
        shuffle(&mut shuffled, seed);
        let (one, other) = (ledgers(&events, Decay::NONE), ledgers(&shuffled, Decay::NONE));
        prop_assert_eq!(&one, &other);
        prop_assert!(one.contexts().len() <= MAX_CONTEXTS);
        let keys: BTreeSet<u64> = events.iter().filter_map(|(context, _)| *context).collect();
        prop_assert!(one.contexts().iter().map(|(key, _)| *key).eq(keys.into_iter().take(MAX_CONTEXTS)));
        let decay = half_life(10 * DAY_MS as u64);
        let (one, other) = (ledgers(&events, decay), ledgers(&shuffled, decay));
        let events: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
        assert_same(one.of(None).unwrap(), other.of(None).unwrap(), 4 * slack(&events));
        for ((key, a), (_, b)) in one.contexts().iter().zip(other.contexts()) {
            assert_same(a, b, 4 * slack(&events));
            prop_assert_eq!(one.of(Some(*key)), Some(a));
        }
    }

    #[test]
    fn replicas_that_saw_other_contexts_merge_into_what_one_would_have(events in contextual_events(), seed: u64) {
        let mut shuffled = events.clone();
        shuffle(&mut shuffled, seed);
        let (left, right) = shuffled.split_at(seed as usize % shuffled.len());
        let mut merged = ledgers(left, Decay::NONE);
        merged.merge(&ledgers(right, Decay::NONE), Decay::NONE);
        prop_assert_eq!(&merged, &ledgers(&events, Decay::NONE));
    }

    #[test]
    fn an_event_counts_once_whatever_its_context(events in contextual_events()) {
        let split = ledgers(&events, Decay::NONE);
        prop_assert_eq!(split.n_events(), events.len() as u64);
        let pooled: Vec<Event> = events.into_iter().map(|(_, event)| event).collect();
        let pooled = ledger(&pooled, Decay::NONE);
        prop_assert_eq!(split.last_at_ms(), pooled.last_at_ms());
        let total = split.evidence(0, Decay::NONE).total();
        for (x, y) in total.iter().zip(pooled.evidence(0, Decay::NONE)) {
            prop_assert!((x - y).abs() < 1e-6);
        }
    }

    #[test]
    fn full_transfer_pools_all_ledgers((prior, general, contexts) in evidence()) {
        let mut total = general.clone();
        contexts.iter().for_each(|(_, nats)| total.iter_mut().zip(nats).for_each(|(sum, x)| *sum += x));
        let pooled = Weights::posterior(&prior, &total, ROUTING);
        for asked in [None, Some(1), Some(77)] {
            assert_close(&contextual(&prior, &general, &contexts, asked, ROUTING, 1.0), &pooled, 1e-9);
        }
    }

    #[test]
    fn no_transfer_isolates_contexts((prior, general, contexts) in evidence()) {
        let weights = |asked| contextual(&prior, &general, &contexts, asked, ROUTING, 0.0);
        assert_close(&weights(None), &Weights::posterior(&prior, &general, ROUTING), 1e-9);
        assert_close(&weights(Some(1)), &Weights::posterior(&prior, &contexts[1].1, ROUTING), 1e-9);
        assert_close(&weights(Some(77)), &Weights::posterior(&prior, &[0.0; K], ROUTING), 1e-9);
    }

    #[test]
    fn context_weights_are_those_of_the_summed_out_model(
        (prior, general, contexts) in evidence(), transfer in 0.0..=1.0_f64, asked in 0..3_u64,
    ) {
        // The sums run over every assignment of a head to the user and to each context.
        let p = Weights::posterior(&prior, &[0.0; K], Routing::BAYES);
        let (mut user, mut here) = (vec![0.0; K], vec![0.0; K]);
        let scale = general.iter().chain(contexts.iter().flat_map(|(_, nats)| nats)).fold(0.0_f64, |a, x| a.max(x.abs()));
        let heads = |mut code: usize| std::array::from_fn::<usize, 4, _>(|_| { let k = code % K; code /= K; k });
        for code in 0..K.pow(4) {
            let [z, rest @ ..] = heads(code);
            let mut mass = p.as_slice()[z] * (ROUTING.eta * (general[z] - scale)).exp();
            for (z_c, (_, nats)) in rest.iter().zip(&contexts) {
                let stays = if *z_c == z { transfer } else { 0.0 };
                mass *= (stays + (1.0 - transfer) * p.as_slice()[*z_c]) * (ROUTING.eta * (nats[*z_c] - scale)).exp();
            }
            user[z] += mass;
            here[rest[asked as usize]] += mass;
        }
        for (sums, asked) in [(user, None), (here, Some(asked))] {
            let total: f64 = sums.iter().sum();
            prop_assume!(total > 1e-280);
            let routing = Routing { floor: 0.0, ..ROUTING };
            let found = contextual(&prior, &general, &contexts, asked, routing, transfer);
            for (x, y) in found.as_slice().iter().zip(&sums) {
                prop_assert!((x - y / total).abs() < 1e-9, "{:?} {:?} {}", found, sums, transfer);
            }
        }
    }

    #[test]
    fn context_weights_are_a_simplex_point_for_extreme_ledgers(
        general in prop::collection::vec(-1e6..1e6_f64, K),
        contexts in prop::collection::vec(prop::collection::vec(-1e6..1e6_f64, K), 0..5),
        transfer in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64],
        asked in prop::option::of(0..6_u64),
    ) {
        let contexts: Vec<(u64, Vec<f64>)> = (0..).zip(contexts).collect();
        let weights = contextual(&[-50.0, 0.0, -1.0, -2.0], &general, &contexts, asked, ROUTING, transfer);
        prop_assert!((weights.as_slice().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert!(weights.as_slice().iter().all(|w| w.is_finite() && *w >= 0.0));
    }

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
        shuffle(&mut shuffled, seed);
        prop_assert_eq!(ledger(&events, Decay::NONE), ledger(&shuffled, Decay::NONE));
        let decay = half_life(10 * DAY_MS as u64);
        assert_same(&ledger(&events, decay), &ledger(&shuffled, decay), slack(&events));
    }

    #[test]
    fn a_duplicate_changes_nothing(events in events(), again in prop::collection::vec(0..16_usize, 60)) {
        let events = changes(&events);
        let (mut once, mut retried) = (Row::new(K), Row::new(K));
        for (idx, event) in events.iter().enumerate() {
            prop_assert!(matches!(once.change(event, &RULES), Outcome::Applied(_)));
            retried.change(event, &RULES);
            let behind = idx.saturating_sub(again[idx]);
            prop_assert!(matches!(retried.change(&events[behind], &RULES), Outcome::Duplicate(_)));
        }
        prop_assert_eq!(once, retried);
    }

    #[test]
    fn what_is_taken_back_leaves_the_ledgers_of_the_others(events in events(), taken in prop::collection::vec(any::<bool>(), 60)) {
        let (mut kept, mut retracted) = (Row::new(K), Row::new(K));
        let changes = changes(&events);
        for (change, is_taken) in changes.iter().zip(&taken) {
            retracted.change(change, &RULES);
            if !is_taken {
                kept.change(change, &RULES);
            }
        }
        for (change, _) in changes.iter().zip(&taken).filter(|(_, is_taken)| **is_taken) {
            let ChangeKind::Add(event) = &change.kind else { continue };
            let retract = Change { kind: ChangeKind::Retract(event.key), ..change.clone() };
            prop_assert!(matches!(retracted.change(&retract, &RULES), Outcome::Applied(_)));
            prop_assert!(matches!(retracted.change(&retract, &RULES), Outcome::Duplicate(_)));
            let again = retracted.change(change, &RULES);
            prop_assert!(matches!(again, Outcome::Retracted { is_news: false, .. }), "{:?}", again);
        }
        let sums = |row: &Row| {
            let of = |context| row.ledgers.of(context).map(|ledger| (ledger.sums().to_vec(), ledger.n_events()));
            [None, Some(1), Some(2)].map(of)
        };
        prop_assert_eq!(sums(&kept), sums(&retracted));
    }

    #[test]
    fn events_that_replace_and_undos_end_in_the_ledgers_of_what_is_left_in_any_order(
        events in events(), replaced in prop::collection::vec(prop::option::of(0..60_usize), 60),
        taken in prop::collection::vec(any::<bool>(), 60), seed: u64, again: u64,
    ) {
        let mut changes = changes(&events);
        let n = changes.len();
        let mut counts = vec![true; n];
        for (idx, change) in changes.iter_mut().enumerate() {
            let other = replaced[idx].map(|other| other % n).filter(|other| *other != idx);
            if let (ChangeKind::Add(event), Some(other)) = (&mut change.kind, other) {
                event.replaces = Some(EventKey(other as u64));
                counts[other] = false;
            }
        }
        let mut left = Row::new(K);
        let retracts = (0..n).filter(|idx| taken[*idx]).map(|idx| {
            counts[idx] = false;
            Change { kind: ChangeKind::Retract(EventKey(idx as u64)), ..changes[idx].clone() }
        });
        let mut all: Vec<Change> = retracts.collect();
        for (change, _) in changes.iter().zip(&counts).filter(|(_, counts)| **counts) {
            let mut change = change.clone();
            if let ChangeKind::Add(event) = &mut change.kind {
                event.replaces = None;
            }
            left.change(&change, &RULES);
        }
        all.extend(changes);
        shuffle(&mut all, seed);
        let mut row = Row::new(K);
        all.iter().for_each(|change| _ = row.change(change, &RULES));
        let sums = |row: &Row| {
            let of = |context| row.ledgers.of(context).map(|ledger| (ledger.sums().to_vec(), ledger.n_events()));
            [None, Some(1), Some(2)].map(of)
        };
        prop_assert_eq!(sums(&row), sums(&left));
        let once = row.clone();
        shuffle(&mut all, again);
        for change in &all {
            let outcome = row.change(change, &RULES);
            prop_assert!(!matches!(outcome, Outcome::Applied(_) | Outcome::Replaced(_)), "{:?}", outcome);
        }
        prop_assert_eq!(once, row);
    }

    #[test]
    fn a_retry_never_counts_twice_whatever_the_clock_does(
        steps in prop::collection::vec((0..40_usize, -50_i64..50), 1..200),
    ) {
        let rules = RowRules { max_age_ms: 100, ..RULES };
        let mut row = Row::new(K);
        let mut applied = std::collections::HashSet::new();
        let mut now_ms = 0;
        for (id, step) in steps {
            now_ms += step;
            // An event keeps its time, whenever it is sent.
            let mut change = changes(&[(pair(&[1.0; K]), id as i64 * 7)]).remove(0);
            if let ChangeKind::Add(event) = &mut change.kind {
                event.key = EventKey(id as u64);
            }
            change.now_ms = now_ms;
            if matches!(row.change(&change, &rules), Outcome::Applied(_)) {
                prop_assert!(applied.insert(id), "{} counted twice", id);
            }
        }
        prop_assert_eq!(row.ledgers.n_events(), applied.len() as u64);
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
    fn two_responses_in_a_ranking_or_rating_are_the_pair_or_tie(rated in rated()) {
        let (a, b) = (rated[0].0.clone(), rated[1].0.clone());
        let both = [a.clone(), b.clone()];
        prop_assert_eq!(ranking(&both), pair(&margins(&a, &b)));
        prop_assert_eq!(rating(&both, &[2.0, 1.0]), pair(&margins(&a, &b)));
        prop_assert_eq!(rating(&both, &[1.0, 2.0]), pair(&margins(&b, &a)));
        prop_assert_eq!(rating(&both, &[3.0, 3.0]), tie(&margins(&a, &b)));
    }

    #[test]
    fn a_rating_does_not_depend_on_the_order_of_its_responses(rated in rated(), seed: u64) {
        let mut shuffled = rated.clone();
        shuffle(&mut shuffled, seed);
        let of = |rated: Vec<(Vec<f64>, f64)>| {
            let (log_odds, ratings): (Vec<_>, Vec<_>) = rated.into_iter().unzip();
            rating(&log_odds, &ratings)
        };
        assert_within_one_unit(&of(rated), &of(shuffled));
    }

    #[test]
    fn a_ranking_is_a_rating_that_falls(rated in rated()) {
        let log_odds: Vec<Vec<f64>> = rated.into_iter().map(|(log_odds, _)| log_odds).collect();
        let falling: Vec<f64> = (0..log_odds.len()).map(|place| -(place as f64)).collect();
        prop_assert_eq!(ranking(&log_odds), rating(&log_odds, &falling));
    }

    #[test]
    fn the_pairs_of_a_rating_weigh_one_together(rated in rated()) {
        let (log_odds, ratings): (Vec<Vec<f64>>, Vec<f64>) = rated.into_iter().unzip();
        let n = ratings.len();
        let of_pair = |(i, j): (usize, usize)| match ratings[i].total_cmp(&ratings[j]) {
            std::cmp::Ordering::Greater => pair(&margins(&log_odds[i], &log_odds[j])),
            std::cmp::Ordering::Less => pair(&margins(&log_odds[j], &log_odds[i])),
            std::cmp::Ordering::Equal => tie(&margins(&log_odds[i], &log_odds[j])),
        };
        let pairs: Vec<Increment> =
            (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(of_pair).collect();
        let whole = rating(&log_odds, &ratings);
        // The range is at most that of the strongest pair: weights that sum to 1 can't exceed the largest term.
        prop_assert!(range(&whole) <= pairs.iter().map(range).max().unwrap() + 2);
        for (k, unit) in whole.units().iter().enumerate() {
            let mean = pairs.iter().map(|pair| pair.units()[k] as f64).sum::<f64>() / pairs.len() as f64;
            prop_assert!((*unit as f64 - mean).abs() <= 1.001, "{} {}", unit, mean);
        }
    }

    #[test]
    fn increments_are_centered_and_finite(increment in increment()) {
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

/// The aggregating algorithm's bound holds on streams that no distribution generated.
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

/// The default share of 0.1 must not exclude ten equal heads, whose weights differ from a tenth by rounding.
#[test]
fn a_share_that_is_a_hair_too_small_has_a_say() {
    let ten = Weights::posterior(&[0.0; 10], &[0.0; 10], Routing { eta: 1.0, floor: 0.001 });
    let z: Vec<f64> = (0..10).map(f64::from).collect();
    assert_eq!((maxmin(&z, ten.as_slice(), 0.1), maxmin(&z, ten.as_slice(), 0.2)), (0.0, 0.0));
    assert_eq!(quantile(&z, &[0.1; 10], 0.7), 6.0);
}

#[test]
fn a_context_without_room_is_general_to_read_as_to_write() {
    let mut full = Ledgers::new(K);
    (0..MAX_CONTEXTS as u64).for_each(|key| full.add(Some(key), &tie(&[1.0, 0.5, 0.0, 0.0]), 0, Decay::NONE));
    full.add(Some(99), &pair(&[3.0, -3.0, 0.0, 0.0]), 0, Decay::NONE);
    assert_eq!((full.of(Some(99)), full.of(None).unwrap().n_events()), (full.of(None), 1));
    let evidence = full.evidence(0, Decay::NONE);
    let weights = |asked| evidence.weights(&[0.0; K], asked, ROUTING, 0.5);
    assert_eq!(weights(Some(99)), weights(None));
    assert_ne!(weights(Some(7)), weights(None));
}

#[test]
fn a_head_that_is_right_gains_and_an_indifferent_one_gains_by_a_tie() {
    assert!(pair(&[2.0, -2.0]).units()[0] > 0);
    assert!(tie(&[0.0, 5.0]).units()[0] > 0);
    assert_eq!(thumb(&[1.0, -1.0], true).units()[0], thumb(&[1.0, -1.0], false).units()[1]);
}
