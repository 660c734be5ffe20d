//! Laws of replaying choices, on synthetic users.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use micro_reward::mixture::{Routing, Weights, log_sigmoid, sigmoid};
use micro_reward::replay::{
    Blend, Curve, Estimate, Gate, Order, Person, RatedResponse, Rater, Reference, Reserve, Rule, Seen,
    Served, Setting, Trial, ValueRow, compare_objectives, estimate, estimate_columns, replay, values,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const K: usize = 4;

const SERVED: Served = Served { routing: Routing { eta: 1.0, floor: 1e-3 }, transfer: 0.5 };

const ORDERS: [Order; 4] = [Order::Given, Order::Random, Order::Informative, Order::Questions];

/// Returns a choice between two responses with these rewards by head.
fn trial(chosen: &[f64], rejected: &[f64]) -> Trial {
    let margins: Vec<f64> = chosen.iter().zip(rejected).map(|(a, b)| a - b).collect();
    Trial {
        rulers: [margins.iter().sum::<f64>() / margins.len() as f64; 3],
        longer: margins[0] - margins[1],
        log_prior: vec![-(margins.len() as f64).ln(); margins.len()],
        chosen: chosen.to_vec(),
        rejected: rejected.to_vec(),
        responses: vec![0, 1],
        context: None,
        group: None,
        question: None,
        label: None,
        is_tie: false,
        weight: 1.0,
        margins,
    }
}

/// Returns the same pair with the opposite choice.
fn flipped(trial: &Trial) -> Trial {
    let negated = trial.margins.iter().map(|d| -d).collect();
    Trial {
        margins: negated,
        chosen: trial.rejected.clone(),
        rejected: trial.chosen.clone(),
        longer: -trial.longer,
        rulers: trial.rulers.map(|log_odds| -log_odds),
        ..trial.clone()
    }
}

/// Returns users who each answer as one head says; the head is the group, contexts take turns. All but every
/// `telling`-th pair separate the heads by a tenth only; the others are the questions.
fn people(n_people: usize, n_trials: usize, telling: usize) -> Vec<Person> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let person = |idx: usize| {
        let head = idx % K;
        let choice = |i: usize| {
            let common = rng.random_range(-3.0..3.0_f64);
            let own = if i.is_multiple_of(telling) { 1.0 } else { 0.1 };
            let mut rewards = || (0..K).map(|_| own * rng.random_range(-3.0..3.0_f64)).collect::<Vec<_>>();
            let (mut a, b) = (rewards(), rewards());
            a.iter_mut().for_each(|reward| *reward += (1.0 - own) * common);
            let is_a = rng.random::<f64>() < sigmoid(a[head] - b[head]);
            let mut trial = if is_a { trial(&a, &b) } else { trial(&b, &a) };
            trial.group = Some(head);
            trial.context = [None, Some(7), Some(8)][i % 3];
            trial.question = i.is_multiple_of(telling).then_some(i / telling);
            trial
        };
        Person { name: idx.to_string(), trials: (0..n_trials).map(choice).collect() }
    };
    (0..n_people).map(person).collect()
}

/// The population of blends of other people, and its mixture with the ledger.
static POPULATION: LazyLock<(Blend, Gate)> = LazyLock::new(|| {
    let people = people(40, 15, 3);
    let blend = Blend::learn(&people).unwrap();
    let gate = Gate::learn(&people, &blend, &[0.0; K], SERVED);
    (blend, gate)
});

fn reference() -> Reference {
    Reference {
        log_shares: [0.4_f64, 0.3, 0.2, 0.1].map(f64::ln).to_vec(),
        best_head: Some(0),
        blend: Some(POPULATION.clone()),
        oracle: (0..K).collect(),
        oracle_of_all: 1,
    }
}

fn setting(order: Order, reserve: f64, after: &[usize]) -> Setting {
    let reserve = if reserve > 0.0 { Reserve::Choices(reserve) } else { Reserve::Rest };
    Setting { order, n_seeds: 3, served: SERVED, after: after.to_vec(), reserve }
}

fn curves(people: &[Person], setting: &Setting) -> Vec<Curve> {
    replay(people, &reference(), K, setting)
}

fn of_rule(curves: &[Curve], rule: Rule) -> &Curve {
    curves.iter().find(|curve| curve.rule == rule.label() && curve.group.is_none()).unwrap()
}

fn mapped(people: &[Person], of: impl Fn(usize, &Trial) -> Trial) -> Vec<Person> {
    let person = |person: &Person| Person {
        name: person.name.clone(),
        trials: person.trials.iter().enumerate().map(|(i, trial)| of(i, trial)).collect(),
    };
    people.iter().map(person).collect()
}

#[track_caller]
fn assert_near(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() < 1e-9, "{what}: {a} {b}");
}

#[test]
fn a_rule_sees_no_label_before_it_predicts() {
    let people = people(8, 12, 2);
    let n_given = 5;
    let setting = setting(Order::Given, 0.0, &[0, 1, 3, n_given]);
    let before = curves(&people, &setting);
    // Had users made the opposite choices from then on, every prediction would have been as wrong as it was right.
    let other = mapped(&people, |i, trial| if i < n_given { trial.clone() } else { flipped(trial) });
    let after = curves(&other, &setting);
    for (before, after) in before.iter().zip(&after) {
        let at = |curve: &Curve| curve.points.last().unwrap().accuracy.mean;
        assert_near(at(before), 1.0 - at(after), before.rule);
    }
    // The order of later trials does not matter to the predictions either.
    let permuted = |person: &Person| {
        let mut trials = person.trials.clone();
        trials[n_given..].reverse();
        Person { trials, ..person.clone() }
    };
    let permuted: Vec<Person> = people.iter().map(permuted).collect();
    for (before, after) in before.iter().zip(curves(&permuted, &setting)) {
        for (a, b) in before.points.iter().zip(&after.points) {
            assert_near(a.accuracy.mean, b.accuracy.mean, before.rule);
            assert_near(a.log_loss.mean, b.log_loss.mean, before.rule);
        }
    }
}

#[test]
fn before_the_first_answer_no_order_has_seen_a_label() {
    let people = people(8, 12, 2);
    let others = mapped(&people, |_, trial| flipped(trial));
    for order in ORDERS {
        for reserve in [0.0, 0.5] {
            let setting = setting(order, reserve, &[0, 2]);
            let (one, other) = (curves(&people, &setting), curves(&others, &setting));
            for (one, other) in one.iter().zip(&other) {
                let at = |curve: &Curve| curve.points.first().map(|point| point.accuracy.mean);
                match (at(one), at(other)) {
                    (Some(a), Some(b)) => assert_near(a, 1.0 - b, one.rule),
                    (a, b) => assert_eq!(a, b),
                }
            }
        }
    }
}

#[test]
fn everybody_is_measured_on_the_same_choices_by_every_rule() {
    let people = people(9, 15, 2);
    for order in ORDERS {
        for reserve in [0.0, 0.3] {
            let curves = curves(&people, &setting(order, reserve, &[0, 1, 4, 9]));
            let single = of_rule(&curves, Rule::Single);
            assert!(!single.points.is_empty());
            for rule in Rule::ALL {
                let curve = of_rule(&curves, rule);
                assert_eq!(curve.points.len(), single.points.len());
                for (point, single) in curve.points.iter().zip(&single.points) {
                    assert_eq!((point.n, point.people), (single.n, single.people));
                    assert_near(point.pairs, single.pairs, curve.rule);
                    let over = point.accuracy.mean - single.accuracy.mean;
                    assert_near(point.over_single.unwrap().mean, over, curve.rule);
                    let of_ledger = of_rule(&curves, Rule::Bayes).points.iter().find(|p| p.n == point.n);
                    let over = point.accuracy.mean - of_ledger.unwrap().accuracy.mean;
                    assert_near(point.over_ledger.unwrap().mean, over, curve.rule);
                }
            }
        }
    }
}

#[test]
fn what_is_left_is_what_was_not_asked() {
    let people = people(6, 10, 1);
    for order in [Order::Given, Order::Random, Order::Informative] {
        let curves = curves(&people, &setting(order, 0.0, &[0, 3, 9, 10, 11]));
        let left: Vec<(usize, f64)> =
            of_rule(&curves, Rule::Bayes).points.iter().map(|point| (point.n, point.pairs)).collect();
        assert_eq!(left, [(0, 60.0), (3, 42.0), (9, 6.0)], "{order:?}");
    }
}

/// Returns trials of one user, none a question, each its own group, so that a group's curve shows whether the trial
/// is measured.
fn one_by_one() -> Person {
    let mut person = people(1, 8, 2).remove(0);
    for (i, trial) in person.trials.iter_mut().enumerate() {
        (trial.group, trial.question) = (Some(i), None);
    }
    person
}

#[test]
fn a_reserve_is_never_asked() {
    let person = one_by_one();
    let n_groups = person.trials.len();
    let reference = Reference { oracle: vec![0; n_groups], ..reference() };
    for order in [Order::Given, Order::Random, Order::Informative] {
        let setting = Setting { n_seeds: 1, ..setting(order, 0.5, &[0, 1, 2, 3, 4, 5]) };
        let run = |person: &Person| replay(std::slice::from_ref(person), &reference, n_groups, &setting);
        let curves = run(&person);
        let reserved: BTreeSet<usize> =
            curves.iter().filter(|curve| !curve.points.is_empty()).filter_map(|curve| curve.group).collect();
        assert_eq!(reserved.len(), 4);
        for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
            let after: Vec<usize> = curve.points.iter().map(|point| point.n).collect();
            assert_eq!(after, [0, 1, 2, 3, 4], "no more than the other four can be asked");
            assert!(curve.points.iter().all(|point| point.pairs == curve.points[0].pairs));
        }
        // Had the reserve been learned from, its own reversal would not leave the predictions as they are.
        let other = mapped(std::slice::from_ref(&person), |i, trial| {
            if reserved.contains(&i) { flipped(trial) } else { trial.clone() }
        });
        for (one, other) in curves.iter().zip(&run(&other[0])) {
            assert_eq!(one.points.len(), other.points.len());
            for (one, other) in one.points.iter().zip(&other.points) {
                assert_near(one.accuracy.mean, 1.0 - other.accuracy.mean, "the reserve was asked");
            }
        }
    }
}

#[test]
fn no_label_is_about_a_response_that_is_measured_on() {
    const N_RESPONSES: usize = 8;
    let pairs: Vec<[usize; 2]> =
        (0..N_RESPONSES).flat_map(|a| (a + 1..N_RESPONSES).map(move |b| [a, b])).collect();
    let mut person = people(1, pairs.len(), 2).remove(0);
    for (i, (trial, responses)) in person.trials.iter_mut().zip(&pairs).enumerate() {
        (trial.group, trial.question, trial.responses) = (Some(i), None, responses.to_vec());
    }
    let n_groups = pairs.len();
    let reference = Reference { oracle: vec![0; n_groups], ..reference() };
    let after: Vec<usize> = (0..12).collect();
    for order in [Order::Given, Order::Random, Order::Informative] {
        let reserve = Reserve::Responses(0.5);
        let setting = Setting { n_seeds: 1, reserve, ..setting(order, 0.0, &after) };
        let run = |person: &Person| replay(std::slice::from_ref(person), &reference, n_groups, &setting);
        let curves = run(&person);
        let measured: BTreeSet<usize> =
            curves.iter().filter(|curve| !curve.points.is_empty()).filter_map(|curve| curve.group).collect();
        let reserved: BTreeSet<usize> = measured.iter().flat_map(|&i| pairs[i]).collect();
        assert_eq!((measured.len(), reserved.len()), (6, 4), "the pairs of half of the responses");
        let n_last = curves.iter().flat_map(|curve| &curve.points).map(|point| point.n).max();
        assert_eq!(n_last, Some(6), "the pairs of the other half are all that can be asked");
        // Had a choice with a reserved response been learned from, its reversal would change a prediction.
        let touches = |i: usize| pairs[i].iter().any(|response| reserved.contains(response));
        let other = mapped(std::slice::from_ref(&person), |i, trial| {
            if touches(i) && !measured.contains(&i) { flipped(trial) } else { trial.clone() }
        });
        let points = |curves: &[Curve]| {
            let of = |curve: &Curve| curve.points.iter().map(|p| (p.n, p.accuracy, p.log_loss)).collect();
            curves.iter().map(of).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(points(&curves), points(&run(&other[0])));
    }
}

#[test]
fn every_order_is_measured_on_the_same_reserve() {
    let people = people(8, 20, 2);
    let at_nothing = |order: Order| {
        let curves = curves(&people, &setting(order, 0.4, &[0]));
        let of = |curve: &Curve| curve.points.iter().map(|p| (p.accuracy, p.log_loss, p.pairs)).collect();
        curves.iter().map(of).collect::<Vec<Vec<_>>>()
    };
    let given = at_nothing(Order::Given);
    assert_eq!(given, at_nothing(Order::Random));
    assert_eq!(given, at_nothing(Order::Informative));
}

#[test]
fn an_informative_order_needs_fewer_answers_than_a_random_one() {
    // One pair in five separates the users.
    let people = people(80, 40, 5);
    let n_answers = [0, 2, 4, 8];
    let ledger = |order: Order| {
        let curves = curves(&people, &setting(order, 0.5, &n_answers));
        of_rule(&curves, Rule::Bayes).points.iter().map(|point| point.log_loss.mean).collect::<Vec<f64>>()
    };
    let (informative, random) = (ledger(Order::Informative), ledger(Order::Random));
    assert_eq!(informative[0], random[0]);
    assert!(informative[1] < random[2], "two answers that tell are worth four: {informative:?} {random:?}");
    assert!(informative[2] < random[3], "four are worth eight: {informative:?} {random:?}");
}

#[test]
fn the_ledger_learns_what_people_like() {
    let people = people(80, 40, 1);
    let curves = curves(&people, &setting(Order::Random, 0.5, &[0, 5, 20]));
    let losses: Vec<f64> =
        of_rule(&curves, Rule::Bayes).points.iter().map(|point| point.log_loss.mean).collect();
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    // Users answer as one head says, so that no rule can predict better than the user's own head.
    let oracle = of_rule(&curves, Rule::Oracle).points[2].log_loss.mean;
    let gained = (losses[0] - losses[2]) / (losses[0] - oracle);
    assert!(gained > 0.8, "twenty answers are most of the way to the own head: {gained}");
}

#[test]
fn questions_of_the_bundle_are_never_reserved() {
    // Every second of 30 trials is a question.
    let people = people(6, 30, 2);
    for order in [Order::Questions, Order::Random, Order::Informative] {
        let curves = curves(&people, &setting(order, 0.4, &[0, 5, 24]));
        let left: Vec<f64> = of_rule(&curves, Rule::Bayes).points.iter().map(|point| point.pairs).collect();
        assert_eq!(left, [36.0; 3], "{order:?}: 40 % of the other 15 of each person");
    }
}

#[test]
fn the_questions_of_the_bundle_are_asked_first_and_in_their_order() {
    let mut person = one_by_one();
    let n_groups = person.trials.len();
    // Trial 7 asks question 0, trial 6 question 1, and so on to trial 3.
    for (i, trial) in person.trials.iter_mut().enumerate() {
        trial.question = (i > 2).then(|| 7 - i);
    }
    let reference = Reference { oracle: vec![0; n_groups], ..reference() };
    let curves =
        replay(&[person], &reference, n_groups, &setting(Order::Questions, 0.0, &[0, 1, 2, 3, 4, 5]));
    for curve in curves.iter().filter(|curve| curve.rule == Rule::Bayes.label()) {
        let Some(group) = curve.group else { continue };
        // A trial is measured until it is asked.
        let last = curve.points.last().unwrap().n;
        assert_eq!(last, if group > 2 { 7 - group } else { 5 }, "trial {group}");
    }
}

/// Returns a rule's probability of a pair's choice.
fn chance(rule: Rule, labels: &[Trial], asked: &Trial) -> f64 {
    let mut seen = Seen::nothing(asked.margins.len(), SERVED);
    labels.iter().for_each(|label| seen.learn(label));
    let log_shares = vec![0.0; asked.margins.len()];
    let reference =
        Reference { log_shares, best_head: Some(0), blend: None, oracle: Vec::new(), oracle_of_all: 0 };
    (-rule.predict(&seen, &[asked], &reference)[0].1).exp()
}

fn label(margins: &[f64]) -> Trial {
    trial(margins, &vec![0.0; margins.len()])
}

#[test]
fn with_tau_near_zero_a_label_votes_for_the_largest_margin() {
    let asked = label(&[-1.0, 0.5, 2.0]);
    let head = |k: usize| sigmoid(asked.margins[k]);
    let votes = [label(&[0.3, 0.1, -2.0]), label(&[-0.5, -0.2, -0.6]), label(&[1.0, 1.5, 2.0])];
    for (k, vote) in votes.iter().enumerate() {
        let found = chance(Rule::Paper, std::slice::from_ref(vote), &asked);
        assert_near(found, head(k), "one label makes its head the only one");
    }
    let found = chance(Rule::Paper, &votes, &asked);
    assert_near(found, (head(0) + head(1) + head(2)) / 3.0, "a vote each");
    // A label has one vote, however sure the first head is of it.
    let two_to_one = [label(&[5.0, -5.0, -5.0]), label(&[0.1, 0.2, 0.0]), label(&[0.1, 0.2, 0.0])];
    let found = chance(Rule::Paper, &two_to_one, &asked);
    assert_near(found, (head(0) + 2.0 * head(1)) / 3.0, "two votes against one");
    assert!(
        (chance(Rule::Bayes, &two_to_one, &asked) - head(0)).abs() < 0.01,
        "a ledger adds up what is said"
    );
}

#[test]
fn without_labels_a_rule_is_its_prior() {
    let asked = label(&[-1.0, 0.5, 2.0]);
    let even = asked.margins.iter().map(|&d| sigmoid(d)).sum::<f64>() / 3.0;
    for rule in [Rule::Static, Rule::Paper, Rule::HyRe, Rule::Bayes] {
        assert_near(chance(rule, &[], &asked), even, rule.label());
    }
}

#[test]
fn the_ledger_of_one_context_is_the_posterior() {
    let labels = [label(&[1.0, -0.3, 0.2]), label(&[0.5, 0.1, -2.0])];
    let asked = label(&[-1.0, 0.5, 2.0]);
    let nats: Vec<f64> =
        (0..3).map(|k| labels.iter().map(|label| log_sigmoid(label.margins[k])).sum()).collect();
    let weights = Weights::posterior(&asked.log_prior, &nats, SERVED.routing);
    let expected = weights.mean_of(&asked.margins.iter().map(|&d| sigmoid(d)).collect::<Vec<_>>());
    assert_near(chance(Rule::Bayes, &labels, &asked), expected, "Bayes");
}

#[test]
fn maxmin_does_not_give_up_the_minority_of_two_opposed_groups() {
    // A share of 70 % likes what 30 % dislike; the two responses differ in degree.
    let opposed = |x: f64, y: f64, group: usize| {
        let sign = if group == 0 { 1.0 } else { -1.0 };
        let (chosen, rejected) = if sign * x > sign * y { (x, y) } else { (y, x) };
        let mut trial = trial(&[chosen, -chosen], &[rejected, -rejected]);
        trial.log_prior = vec![0.7_f64.ln(), 0.3_f64.ln()];
        trial.group = Some(group);
        trial
    };
    let person = |group: usize| Person {
        name: group.to_string(),
        trials: vec![opposed(2.0, -1.0, group), opposed(1.0, -2.0, group)],
    };
    // A third group is named, and no replayed user has it.
    let people = [person(0), person(1)];
    let rows = compare_objectives(&people, &people, 3, SERVED);
    let row = |name: &str| rows.iter().find(|row| row.objective.starts_with(name)).unwrap();
    assert_eq!(row("mixture").by_group, [Some(1.0), Some(0.0), None]);
    assert_eq!(row("maxmin").by_group, [Some(0.5), Some(0.5), None]);
    assert!(row("maxmin").worst > row("mixture").worst);
    for row in &rows {
        let there: Vec<f64> = row.by_group.iter().flatten().copied().collect();
        assert_near(row.mean, (there[0] + there[1]) / 2.0, &row.objective);
        assert_eq!(row.worst, there[0].min(there[1]));
    }
}

#[test]
fn a_replay_does_not_depend_on_the_number_of_threads() {
    let people = people(20, 15, 2);
    let json = |n_threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let setting = setting(Order::Random, 0.3, &[0, 1, 5]);
        let run = || (curves(&people, &setting), compare_objectives(&people, &people, K, SERVED));
        serde_json::to_string(&pool.install(run)).unwrap()
    };
    assert_eq!(json(1), json(4));
}

#[test]
fn intervals_shrink_with_people() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let values: Vec<f64> = (0..1600).map(|_| rng.random_range(0.0..1.0)).collect();
    let of = |n: usize| estimate(&values[..n]).unwrap();
    let (few, many) = (of(100), of(1600));
    let ratio = |width: fn(Estimate) -> f64| width(few) / width(many);
    // The ratio is the square root of 16.
    for ratio in [ratio(|e| e.standard_error), ratio(|e| e.high - e.low)] {
        assert!((3.0..5.0).contains(&ratio), "{ratio}");
    }
    let expected = (1.0 / 12.0 / 1600.0_f64).sqrt();
    assert!((many.standard_error / expected - 1.0).abs() < 0.15, "{many:?}");
}

#[test]
fn nobody_has_no_mean() {
    assert_eq!((estimate(&[]), estimate_columns(&[])), (None, None));
    let one = estimate(&[0.25]).unwrap();
    assert_eq!((one.mean, one.low, one.high, one.standard_error), (0.25, 0.25, 0.25, 0.0));
}

#[test]
fn a_column_counts_like_any_other_however_full_it_is() {
    // Column 0 has 3 of 4, column 1 has 10 of 40, and column 2 is empty.
    let people = [vec![(1.0, 1.0), (4.0, 20.0), (0.0, 0.0)], vec![(2.0, 3.0), (6.0, 20.0), (0.0, 0.0)]];
    assert_near(estimate_columns(&people).unwrap().mean, 0.5, "mean of 0.75 and 0.25");
}

proptest! {
    #[test]
    fn an_interval_contains_the_mean(values in prop::collection::vec(0.0..1.0_f64, 1..60)) {
        let Estimate { mean, low, high, standard_error } = estimate(&values).unwrap();
        prop_assert!(low - 1e-12 <= mean && mean <= high + 1e-12, "{low} {mean} {high}");
        prop_assert!(standard_error >= 0.0);
        let (least, most) = values.iter().fold((1.0_f64, 0.0_f64), |(a, b), &x| (a.min(x), b.max(x)));
        prop_assert!(least - 1e-12 <= low && high <= most + 1e-12);
        let columns: Vec<Vec<(f64, f64)>> = values.iter().map(|&x| vec![(x, 1.0)]).collect();
        let pooled = estimate_columns(&columns).unwrap();
        prop_assert!((pooled.mean - mean).abs() < 1e-12);
    }

    #[test]
    fn the_paper_counts_votes(winners in prop::collection::vec(0..K, 1..12)) {
        let vote = |&winner: &usize| {
            let margins: Vec<f64> = (0..K).map(|k| if k == winner { 0.5 } else { -0.5 }).collect();
            label(&margins)
        };
        let votes: Vec<Trial> = winners.iter().map(vote).collect();
        let asked = label(&[-2.0, -0.5, 0.7, 1.5]);
        let share = |k: usize| winners.iter().filter(|&&w| w == k).count() as f64 / winners.len() as f64;
        let expected: f64 = (0..K).map(|k| share(k) * sigmoid(asked.margins[k])).sum();
        prop_assert!((chance(Rule::Paper, &votes, &asked) - expected).abs() < 1e-6);
    }
}

#[test]
fn without_train_pairs_what_is_learned_from_them_is_left_out_and_nothing_else_changes() {
    let (people, others) = (people(12, 20, 3), people(6, 20, 3));
    let known = Reference { oracle: vec![0; K], ..reference() };
    let unknown = Reference { best_head: None, ..known.clone() };
    let setting = setting(Order::Random, 0.0, &[0, 5]);
    let (with, without) = (replay(&people, &known, K, &setting), replay(&people, &unknown, K, &setting));
    let needs = [Rule::Single, Rule::Style, Rule::Lexical, Rule::BestHead].map(Rule::label);
    let kept: Vec<&Curve> = with.iter().filter(|curve| !needs.contains(&curve.rule)).collect();
    assert_eq!(kept.len() + needs.len(), with.len());
    assert_eq!(kept.len(), without.len());
    for (with, without) in kept.into_iter().zip(&without) {
        assert_eq!((with.rule, with.group), (without.rule, without.group));
        for (with, without) in with.points.iter().zip(&without.points) {
            assert_eq!((with.n, with.accuracy.mean), (without.n, without.accuracy.mean));
            assert!(with.over_single.is_some() && without.over_single.is_none());
        }
    }
    let alone = Reference { blend: None, ..known };
    let needs = [Rule::Blend.label(), Rule::Both.label()];
    let left: Vec<&str> = replay(&people, &alone, K, &setting).iter().map(|curve| curve.rule).collect();
    let all: Vec<&str> = with.iter().map(|curve| curve.rule).filter(|rule| !needs.contains(rule)).collect();
    assert_eq!((left.len() + 2, left), (with.len(), all), "what is learned from other people");
    let names = |others: &[Person]| -> Vec<String> {
        compare_objectives(&people, others, K, SERVED).into_iter().map(|row| row.objective).collect()
    };
    let (all, alone) = (names(&others), names(&[]));
    assert_eq!(alone, all[..3]);
    assert!(all[3].contains("over users") && all[4] == "population", "{all:?}");
}

/// Returns a person whose choices are three labels: two of one choice and a ranking of three responses, as its pairs.
fn ranker() -> Person {
    let rewards = [[1.0, 0.0, 0.0, 0.5], [0.2, 0.9, 0.0, 0.1], [0.0, 0.3, 1.0, 0.0]];
    let pair = |(a, b): (usize, usize)| Trial {
        responses: vec![a, b],
        label: Some(7),
        weight: 1.0 / 3.0,
        ..trial(&rewards[a], &rewards[b])
    };
    let alone = |a: usize, b: usize| Trial { responses: vec![a, b], ..trial(&rewards[a], &rewards[b]) };
    let ranking = [(0, 1), (0, 2), (1, 2)].map(pair);
    let trials = [alone(0, 1)].into_iter().chain(ranking).chain([alone(2, 1)]).collect();
    Person { name: "ranker".to_owned(), trials }
}

#[test]
fn a_ranking_is_one_label_of_weight_1() {
    let person = ranker();
    let mut seen = Seen::nothing(K, SERVED);
    person.trials.iter().for_each(|trial| seen.learn(trial));
    assert_eq!(seen.n(), 3);
    let once = |trial: &Trial| trial.margins.iter().map(|&d| log_sigmoid(d)).collect::<Vec<_>>();
    let total = |k: usize| {
        let pairs: f64 = person.trials[1..4].iter().map(|trial| once(trial)[k] / 3.0).sum();
        pairs + once(&person.trials[0])[k] + once(&person.trials[4])[k]
    };
    assert!((0..K).all(|k| (seen.total()[k] - total(k)).abs() < 1e-12));

    // Three labels can be given, and what is left after two is a choice of weight 1.
    for order in ORDERS {
        let curves = replay(&[ranker()], &reference(), 0, &setting(order, 0.0, &[0, 1, 2, 3]));
        let bayes = curves.iter().find(|curve| curve.rule == Rule::Bayes.label()).unwrap();
        let left: Vec<(usize, f64)> =
            bayes.points.iter().map(|point| (point.n, point.pairs.round())).collect();
        assert_eq!(left, [(0, 3.0), (1, 2.0), (2, 1.0)], "{order:?}");
    }
}

#[test]
fn a_tie_is_learned_from_and_not_measured_on() {
    let tied = |person: &Person| {
        let mut trials = person.trials.clone();
        trials.iter_mut().step_by(2).for_each(|trial| trial.is_tie = true);
        Person { trials, ..person.clone() }
    };
    let people: Vec<Person> = people(6, 20, 3).iter().map(tied).collect();
    let curves = replay(&people, &reference(), 0, &setting(Order::Given, 0.0, &[0, 10]));
    let bayes = curves.iter().find(|curve| curve.rule == Rule::Bayes.label()).unwrap();
    assert_eq!(bayes.points.iter().map(|point| point.pairs).collect::<Vec<_>>(), [60.0, 30.0]);
    // A tie favors the heads that are indifferent, whichever of its responses comes first.
    let (mut seen, mut turned) = (Seen::nothing(K, SERVED), Seen::nothing(K, SERVED));
    let tie = Trial { is_tie: true, ..trial(&[3.0, 0.1, 0.0, 1.0], &[0.0, 0.0, 0.0, 0.0]) };
    seen.learn(&tie);
    let opposite = flipped(&tie);
    turned.learn(&opposite);
    assert_eq!(seen.total(), turned.total());
    let most = (0..K).max_by(|&a, &b| seen.total()[a].total_cmp(&seen.total()[b]));
    assert_eq!(most, Some(2));
}

/// Number of responses that a rater rates.
const RATED: usize = 150;

/// Returns people who rate responses by one head, with choices between them.
fn raters(n_people: usize) -> Vec<Rater> {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let z: Vec<Vec<f64>> =
        (0..RATED).map(|_| (0..K).map(|_| rng.random_range(-2.0..2.0)).collect()).collect();
    let rater = |idx: usize| {
        let head = idx % K;
        let mut choice = || {
            let (a, b) = (rng.random_range(0..z.len()), rng.random_range(0..z.len()));
            let (a, b) = if z[a][head] > z[b][head] { (a, b) } else { (b, a) };
            Trial { responses: vec![a, b], ..trial(&z[a], &z[b]) }
        };
        let trials = (0..20).map(|_| choice()).collect();
        let rated = z.iter().enumerate().map(|(response, z)| RatedResponse {
            response,
            rating: z[head],
            z: z.clone(),
            single: z.iter().sum(),
            pooled: Some(z.iter().sum::<f64>() / K as f64),
        });
        let log_prior = vec![-(K as f64).ln(); K];
        Rater { person: Person { name: idx.to_string(), trials }, rated: rated.collect(), log_prior }
    };
    (0..n_people).map(rater).collect()
}

#[test]
fn the_value_of_a_pick_lies_between_chance_and_the_oracle_and_grows_with_labels() {
    let raters = raters(40);
    let found = values(&raters, &reference(), &setting(Order::Random, 0.0, &[0, 5, 20]));
    let mean = |rule: &str| {
        let row: &ValueRow = found.iter().find(|row| row.rule == rule).unwrap();
        row.points.iter().map(|point| point.value.mean).collect::<Vec<_>>()
    };
    let [random, single, ledger, oracle] = ["random", "single head", "Bayes ledger", "oracle"].map(mean);
    assert!(random[0].abs() < 1e-12, "before a label, the mean of all responses is the person's mean");
    assert!(random.iter().zip(&ledger).zip(&oracle).all(|((a, b), c)| a < b && b <= c));
    assert!(ledger[1] > single[1] + 0.1 && ledger[2] > ledger[0] + 0.1, "{ledger:?} {single:?}");
    assert!((ledger[2] - oracle[2]).abs() < 0.2, "{ledger:?} {oracle:?}");
    // A response with a label is not picked: with labels about all but one, that one is.
    let mut person = raters[0].clone();
    person.person.trials =
        (0..RATED - 1).map(|a| Trial { responses: vec![a], ..person.person.trials[0].clone() }).collect();
    let found = values(&[person.clone()], &reference(), &setting(Order::Given, 0.0, &[RATED - 1]));
    let mean = person.rated.iter().map(|rated| rated.rating).sum::<f64>() / RATED as f64;
    let last = person.rated[RATED - 1].rating - mean;
    assert!(found.iter().all(|row| (row.points[0].value.mean - last).abs() < 1e-12));
}
