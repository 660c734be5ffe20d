//! Computes the figures of a replay from a bundle and a data set.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::Args;
use super::raters::raters;
use crate::cli::Failure;
use crate::cli::encode::{encode, in_range, layout, learnable, project, read_lexical};
use crate::cli::inputs::{Inputs, say_notes};
use crate::cli::liked::liked;
use crate::cli::progress::bar;
use crate::cli::ruled::ruled;
use crate::cli::scored::ScoredExamples;
use crate::fit::{Dataset, Examples, Preference, Ruler, RulerLesson, Sources, Split, correlation};
use crate::mixture::win;
use crate::model::{Bundle, Question, Runtime, load_encoder};
use crate::page::TextGroup;
use crate::replay::{
    Bin, Blend, Curve, Gate, ObjectiveRow, Person, Reference, Reserve, Rule, Served, Setting, Trial,
    ValueRow, calibration, compare_objectives, replay, values, weights_over_time,
};
use crate::types::config::{Config, Layers};
use crate::types::key64;

/// The results of a replay.
pub(super) struct Measured {
    pub(super) figures: Figures,
    /// Weights of a few users over time, by name.
    pub(super) walks: Vec<(String, Vec<Vec<f64>>)>,
    /// Bins of confidence, by rule.
    pub(super) calibration: Vec<(&'static str, Vec<Bin>)>,
    /// The responses that each head scores highest and lowest.
    pub(super) liked: Vec<TextGroup>,
}

/// The figures of the JSON file.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// The bundle that was replayed.
    pub(super) revision: String,
    /// The names of the heads.
    pub(super) heads: Vec<String>,
    /// The groups: labels of choices.
    pub(super) groups: Vec<String>,
    /// Accuracy of every head on every group's replayed choices, `[K][groups + 1]`, none without choices; the last
    /// column is over all choices.
    pub(super) accuracy: Vec<Vec<Option<f64>>>,
    /// Number of users with train rows as well: the heads may have been learned from them.
    pub(super) known: usize,
    /// Number of choices of every column.
    pub(super) n: Vec<usize>,
    /// The correlation of every head's reward with the log length of the response, shape `[K]`.
    pub(super) length_correlation: Vec<f64>,
    /// The head that is best on all train pairs; none without train pairs.
    pub(super) best_head: Option<usize>,
    /// Rules and objectives that are not compared, because they need train pairs or their users and there are none.
    pub(super) left_out: Vec<String>,
    /// Share of the responses that no label is about, and between which alone choices are measured on.
    pub(super) disjoint: f64,
    /// Accuracy of one policy for all users, by objective.
    pub(super) objectives: Vec<ObjectiveRow>,
    /// Curves of every rule, and of the ledger for every group.
    pub(super) curves: Vec<Curve>,
    /// The value of every rule's picks; empty without ratings.
    pub(super) values: Vec<ValueRow>,
}

pub(super) fn measure(args: &Args) -> Result<Measured, Failure> {
    let fields = args.inputs.fields(&args.context_field, &args.group_field);
    let Inputs { data, responses, .. } = &args.inputs;
    let sources = Sources { data, responses, candidates: None, ratings: args.value.as_ref() };
    let mut dataset = Dataset::read_all(sources, &fields).map_err(Failure::refused)?;
    say_notes(&dataset);
    // Rows of an export name no split: all are replayed, and nothing is learned from them.
    if !args.inputs.hold_out(&mut dataset)? && args.split == Split::Test {
        dataset.test_all();
    }
    let replayed = dataset.split(args.split, &args.inputs.data).map_err(Failure::refused)?;
    // Without train pairs, the rules that are learned from them are left out.
    let train = dataset.split(Split::Train, &args.inputs.data).unwrap_or_default();
    let runtime = Runtime::load(&args.inputs.onnxruntime_library).map_err(Failure::refused)?;
    let (bundle, _) = Bundle::load(&runtime, &args.bundle, 1).map_err(Failure::refused)?;
    let questions = asked(&mut dataset, bundle.questions()).map_err(Failure::failed)?;
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut encoder = load_encoder(&runtime, &args.bundle, n_threads).map_err(Failure::refused)?;
    let layout = layout(&encoder.input, encoder.n_embedding, 0);
    let bar = bar("encoding");
    let encoded = encode(&dataset, &[], layout, &mut encoder, &args.inputs.cache, &bar)?;

    let mut examples = in_range(encoded.examples, &bundle.manifest().input);
    if let Some(table) = bundle.tokenizer().lexical() {
        project(&mut examples, table)?;
    }
    let scored = ScoredExamples::new(&bundle, &examples)?;
    let mut examples = Examples { layout: learnable(&examples.layout), ..examples };
    read_lexical(&mut examples, &train, 0)?;
    examples.average_over(&train).map_err(Failure::failed)?;
    let rulers = match train.is_empty() {
        true => None,
        false => {
            let how = RulerLesson { pairs: &train, ridge: args.ridge, scalar_scale: args.scalar_scale };
            Some(ruled(&mut examples, how, Ruler::log_odds)?)
        }
    };
    let trial = |idx: usize| {
        let (choice, pair) = (&dataset.pairs[idx], examples.pairs[idx]);
        Trial {
            margins: scored.rewards.margins(pair.chosen, pair.rejected),
            chosen: scored.rewards.calibrated(pair.chosen),
            rejected: scored.rewards.calibrated(pair.rejected),
            log_prior: scored.log_priors.row(pair.prompt).to_vec(),
            longer: f64::from(
                examples.rows[pair.chosen].log_length - examples.rows[pair.rejected].log_length,
            ),
            rulers: rulers.as_ref().map_or([0.0; 3], |rulers| {
                rulers.each_ref().map(|log_odds| log_odds[pair.chosen] - log_odds[pair.rejected])
            }),
            responses: [choice.chosen, choice.rejected].into_iter().flatten().collect(),
            context: choice.context.map(|context| key64(dataset.contexts.items()[context].as_bytes())),
            group: choice.group,
            question: about(choice).and_then(|about| questions.get(&about).copied()),
            label: Some(choice.label),
            is_tie: choice.is_tie,
            weight: choice.weight,
        }
    };
    let people_of = |pairs: &[usize]| {
        let mut people: BTreeMap<usize, Vec<Trial>> = BTreeMap::new();
        for &idx in pairs {
            if let Some(user) = dataset.pairs[idx].user {
                people.entry(user).or_default().push(trial(idx));
            }
        }
        let name = |user: usize| dataset.users.items()[user].clone();
        people.into_iter().map(|(user, trials)| Person { name: name(user), trials }).collect::<Vec<_>>()
    };
    if let Some(&idx) = replayed.iter().find(|&&idx| dataset.pairs[idx].user.is_none()) {
        return Err(no_user(&dataset, &dataset.pairs[idx]));
    }
    let people = people_of(&replayed);
    let is_replayed: HashSet<&str> = people.iter().map(|person| person.name.as_str()).collect();
    let mut others = people_of(&train);
    let n_known = others.len();
    others.retain(|person| !is_replayed.contains(person.name.as_str()));
    let n_known = n_known - others.len();
    let n_questions = |person: &Person| person.trials.iter().filter(|trial| trial.question.is_some()).count();
    let people: Vec<Person> =
        people.into_iter().filter(|person| n_questions(person) >= args.answers).collect();
    if people.is_empty() {
        let answers = args.answers;
        return Err(Failure::refused(format!(
            "--answers: found nobody with {answers} answers to questions of the bundle"
        )));
    }
    let groups = dataset.groups.items().to_vec();
    let (accuracy, n) = accuracies(&people, bundle.n_heads(), groups.len());
    let best_head = (!train.is_empty()).then(|| best_head(&scored, &examples, &train, bundle.n_heads()));
    let share = |k: usize, column: usize| -> f64 { accuracy[k][column].unwrap_or_default() };
    let top = |column: usize| {
        (0..accuracy.len()).max_by(|&a, &b| share(a, column).total_cmp(&share(b, column))).unwrap_or_default()
    };
    let posterior = Config::new(Layers::defaults()).map_err(Failure::failed)?.posterior;
    let routing = posterior.routing(args.learning_rate.unwrap_or_else(|| bundle.manifest().learning_rate));
    let served = Served { routing, transfer: args.transfer.unwrap_or(posterior.transfer) };
    let reference = Reference {
        log_shares: bundle.log_prior(),
        best_head,
        blend: population_of(&others, &bundle.log_prior(), served),
        oracle: (0..groups.len()).map(top).collect(),
        oracle_of_all: top(groups.len()),
    };
    let mut after = args.after.clone();
    after.sort_unstable();
    after.dedup();
    let reserve = match (args.reserve, args.disjoint) {
        (0.0, 0.0) => Reserve::Rest,
        (0.0, share) => Reserve::Responses(share),
        (share, _) => Reserve::Choices(share),
    };
    let setting = Setting { order: args.order, n_seeds: args.seeds, served, after, reserve };
    let curves = replay(&people, &reference, groups.len(), &setting);
    let values = match &args.value {
        None => Vec::new(),
        Some(_) => {
            let single = rulers.as_ref().map(|[single, ..]| single);
            values(&raters(&dataset, &scored, &encoded.rated, single, &people)?, &reference, &setting)
        }
    };
    let view = bundle.view();
    let heads: Vec<String> = view.heads.into_iter().map(|head| head.name).collect();
    let liked = liked(&dataset, &examples, &replayed, &heads, |row, k| scored.rewards.calibrated(row)[k])?;
    let rules = [Rule::Bayes, Rule::Both, Rule::Single].into_iter().filter(|rule| reference.knows(*rule));
    let left_out = left_out(&reference, &others);
    Ok(Measured {
        walks: shown(&people)
            .into_iter()
            .map(|person| (person.name.clone(), weights_over_time(person, &reference, served)))
            .collect(),
        calibration: rules
            .map(|rule| (rule.label(), calibration(&people, rule, &reference, served)))
            .collect(),
        liked,
        figures: Figures {
            revision: view.revision,
            known: n_known,
            heads,
            length_correlation: length_correlation(&scored, &examples, &replayed, bundle.n_heads()),
            accuracy,
            n,
            best_head,
            left_out,
            disjoint: args.disjoint,
            objectives: compare_objectives(&people, &others, groups.len(), served),
            curves,
            values,
            groups,
        },
    })
}

/// Learns the population of people who are blends of heads; none of nobody.
fn population_of(people: &[Person], log_shares: &[f64], served: Served) -> Option<(Blend, Gate)> {
    let blend = Blend::learn(people)?;
    let gate = Gate::learn(people, &blend, log_shares, served);
    Some((blend, gate))
}

/// Returns the names left out: rules without train pairs or other people to learn from, and objectives over users
/// without other users.
fn left_out(reference: &Reference, others: &[Person]) -> Vec<String> {
    let rules = Rule::ALL.into_iter().filter(|rule| !reference.knows(*rule));
    let objectives = ["quantile over users", "population"].into_iter().filter(|_| others.is_empty());
    rules.map(Rule::label).chain(objectives).map(ToOwned::to_owned).collect()
}

/// Returns up to three users with the most choices, of as many groups as possible.
fn shown(people: &[Person]) -> Vec<&Person> {
    let mut most: Vec<&Person> = people.iter().collect();
    most.sort_by_key(|person| std::cmp::Reverse(person.trials.len()));
    let group = |person: &Person| person.trials.first().and_then(|trial| trial.group);
    let mut shown: Vec<&Person> = Vec::new();
    for person in &most {
        if shown.len() < 3 && shown.iter().all(|other| group(other) != group(person)) {
            shown.push(person);
        }
    }
    let rest = most.into_iter().filter(|person| !shown.iter().any(|other| other.name == person.name));
    let rest: Vec<&Person> = rest.take(3 - shown.len()).collect();
    shown.into_iter().chain(rest).collect()
}

fn length_correlation(
    scored: &ScoredExamples,
    examples: &Examples,
    pairs: &[usize],
    n_heads: usize,
) -> Vec<f64> {
    let rows = pairs.iter().flat_map(|&idx| [examples.pairs[idx].chosen, examples.pairs[idx].rejected]);
    let rows: BTreeSet<usize> = rows.collect();
    let lengths: Vec<f64> = rows.iter().map(|&row| f64::from(examples.rows[row].log_length)).collect();
    let rewards: Vec<Vec<f64>> = rows.iter().map(|&row| scored.rewards.calibrated(row)).collect();
    let of_head = |k: usize| {
        let column: Vec<f64> = rewards.iter().map(|z| z[k]).collect();
        correlation(column.iter(), lengths.iter())
    };
    (0..n_heads).map(of_head).collect()
}

/// Returns the accuracy of every head on every group, and on all in the last column; and the choices per column.
fn accuracies(people: &[Person], n_heads: usize, n_groups: usize) -> (Vec<Vec<Option<f64>>>, Vec<usize>) {
    let mut wins = vec![vec![0.0; n_groups + 1]; n_heads];
    let mut n = vec![0.0; n_groups + 1];
    for trial in people.iter().flat_map(|person| &person.trials).filter(|trial| !trial.is_tie) {
        for column in trial.group.into_iter().chain(std::iter::once(n_groups)) {
            n[column] += trial.weight;
            for (wins, &margin) in wins.iter_mut().zip(&trial.margins) {
                wins[column] += trial.weight * win(margin);
            }
        }
    }
    let share = |(wins, &n): (f64, &f64)| (n > 0.0).then(|| wins / n);
    let shares = wins.into_iter().map(|row| row.into_iter().zip(&n).map(share).collect()).collect();
    (shares, n.iter().map(|n| n.round() as usize).collect())
}

/// Returns the prompt and the responses of a pair, in an order that does not depend on the choice; none for a thumb.
fn about(choice: &Preference) -> Option<[usize; 3]> {
    let [a, b] = choice.responses()?;
    Some([choice.prompt, a.min(b), a.max(b)])
}

/// Returns the position of every question in the questionnaire, by its prompt and responses.
fn asked(dataset: &mut Dataset, questions: &[Question]) -> std::io::Result<HashMap<[usize; 3], usize>> {
    let mut asked = HashMap::new();
    for (idx, question) in questions.iter().enumerate() {
        let [prompt, a, b] =
            [&question.prompt, &question.a, &question.b].map(|text| dataset.texts.intern(text));
        let (a, b) = (a?, b?);
        asked.insert([prompt?, a.min(b), a.max(b)], idx);
    }
    Ok(asked)
}

fn best_head(scored: &ScoredExamples, examples: &Examples, train: &[usize], n_heads: usize) -> usize {
    let mut wins = vec![0.0; n_heads];
    for pair in train.iter().map(|&idx| examples.pairs[idx]).filter(|pair| !pair.is_tie) {
        for (wins, margin) in wins.iter_mut().zip(scored.rewards.margins(pair.chosen, pair.rejected)) {
            *wins += pair.weight * win(margin);
        }
    }
    (0..n_heads).max_by(|&a, &b| wins[a].total_cmp(&wins[b])).unwrap_or_default()
}

fn no_user(dataset: &Dataset, choice: &Preference) -> Failure {
    let file = &dataset.files[choice.file];
    Failure::refused(format!(
        "found a row without `user` in {file}, expected one in every row that is replayed"
    ))
}
