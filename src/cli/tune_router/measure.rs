//! Tunes routers on labeled pairs, and measures them and their baselines.

use ndarray::{Array2, ArrayView1};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::Args;
use crate::cli::Failure;
use crate::cli::encode::{encode, in_range, layout, learnable, project, read_lexical};
use crate::cli::files::at;
use crate::cli::inputs::say_notes;
use crate::cli::progress::bar;
use crate::cli::ruled::{Ruled, ruled};
use crate::cli::scored::ScoredExamples;
use crate::fit::{
    Dataset, Examples, Labeled, LearningRule, Router, Ruler, RulerLesson, Split, mean_log_weights, pooled,
    read_router, single, tune,
};
use crate::mixture::{Routing, Weights, preference, win};
use crate::model::{Bundle, Runtime, load_encoder};
use crate::replay::{Estimate, estimate_columns};
use crate::types::config::{Config, Layers};
use crate::types::routed;

/// The results of a run.
pub(super) struct Measured {
    pub(super) figures: Figures,
    /// The router of the largest budget, first seed, given rule.
    pub(super) router: Router,
    /// The posterior over heads of those labels, `[criteria][K]`.
    pub(super) targets: Vec<Vec<f64>>,
}

/// The figures of the JSON file.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// The criteria, in the order of every list.
    pub(super) criteria: Vec<String>,
    /// Number of test pairs of each criterion.
    pub(super) n: Vec<f64>,
    /// Number of users who made them.
    pub(super) people: usize,
    /// The rows that are compared; empty without test pairs.
    pub(super) rows: Vec<ResultRow>,
}

/// One way to choose, on all test pairs.
#[derive(Debug, Serialize)]
pub(super) struct ResultRow {
    pub(super) name: String,
    /// Labeled pairs per criterion; none for a row without tuning.
    pub(super) budget: Option<u32>,
    /// Accuracy by criterion, averaged over seeds.
    pub(super) accuracy: Vec<f64>,
    /// Their mean, with intervals over users.
    pub(super) mean: Estimate,
    /// The mean minus that of the heads fitted on every criterion's own labels, on the same pairs.
    pub(super) over_labels: Estimate,
    /// The mean minus that of the paper's rule with as many labels.
    pub(super) over_paper: Option<Estimate>,
}

/// Wins and counts, `[users][criteria]`.
type Tally = Vec<Vec<(f64, f64)>>;

/// A row before its figures: name, budget, wins.
type Tallied = (String, Option<u32>, Tally);

/// Tunes the router that is kept; where there are test pairs, measures it, the routers of all rules, budgets and
/// seeds, and the baselines.
pub(super) fn measure(args: &Args) -> Result<Measured, Failure> {
    let task = Task::read(args)?;
    let mut budgets = args.budget.clone();
    budgets.sort_unstable();
    budgets.dedup();
    let most = budgets.last().copied().unwrap_or_default();
    let is_measured = !task.test.is_empty();
    let mut rows = if is_measured { baselines(args, &task)? } else { Vec::new() };
    let (rules, budgets, seeds) = match is_measured {
        true => (vec![LearningRule::Paper, LearningRule::Bayes], budgets, args.seeds),
        false => (vec![args.rule], vec![most], 1),
    };

    let mut kept = None;
    let bar = bar("tuning");
    bar.set_length(rules.len() as u64 * seeds * budgets.len() as u64);
    for rule in rules {
        for &budget in &budgets {
            let mut total: Option<Tally> = None;
            for seed in 0..seeds {
                let labeled = task.draw(budget as usize, seed);
                let prior = task.prior(&labeled)?;
                let router = tune(&task.router, &task.examples, &labeled, &prior, rule, seed)
                    .map_err(Failure::failed)?;
                if is_measured {
                    let tally = task.routed(&router)?;
                    total = Some(total.map_or_else(|| tally.clone(), |total| added(total, &tally)));
                }
                if rule == args.rule && seed == 0 {
                    kept = Some(router);
                }
                bar.inc(1);
            }
            rows.extend(total.map(|tally| (rule_name(rule).to_owned(), Some(budget), tally)));
        }
    }
    bar.finish_and_clear();
    let router = kept.ok_or_else(|| Failure::refused("--budget: found none, expected at least one"))?;
    let labeled = task.draw(most as usize, 0);
    let prior = task.prior(&labeled)?;
    let targets = pooled(&labeled, &prior);
    Ok(Measured { figures: task.figures(&rows)?, router, targets })
}

/// Returns the rows that the tuned router is compared with.
fn baselines(args: &Args, task: &Task) -> Result<Vec<Tallied>, Failure> {
    let (n_heads, beta_margins) = (task.n_heads, &task.margins);
    let mut rows: Vec<Tallied> = Vec::new();
    let by_labels = task.by_labels(args.ridge, args.scalar_scale)?;
    rows.push(("head of the criterion's labels".to_owned(), None, by_labels));
    let length = |idx: usize| {
        let pair = task.examples.pairs[idx];
        f64::from(task.examples.rows[pair.chosen].log_length - task.examples.rows[pair.rejected].log_length)
    };
    rows.push(("length only".to_owned(), None, task.tally(length)));
    for (ruler, rewards) in Ruler::ALL.into_iter().zip(&task.rulers) {
        let by_ruler = |idx: usize| {
            let pair = task.examples.pairs[idx];
            rewards[pair.chosen] - rewards[pair.rejected]
        };
        rows.push((ruler.label().to_owned(), None, task.tally(by_ruler)));
    }
    let wins = |k: usize| task.train.iter().filter(|&&idx| beta_margins[[idx, k]] > 0.0).count();
    let best = (0..n_heads).max_by_key(|&k| wins(k)).unwrap_or_default();
    rows.push((format!("best head ({best})"), None, task.tally(|idx| beta_margins[[idx, best]])));
    rows.push(("router before".to_owned(), None, task.routed(&task.router)?));
    Ok(rows)
}

/// The data, with the router of the bundle and its heads' margins.
struct Task {
    dataset: Dataset,
    examples: Examples,
    train: Vec<usize>,
    test: Vec<usize>,
    n_heads: usize,
    router: Router,
    /// `beta_k (r_k(chosen) - r_k(rejected))`, `[pairs, K]`.
    margins: Array2<f64>,
    /// Every row's reward by each of [`Ruler::ALL`].
    rulers: Ruled,
    /// Positions of a train pair's prompt with each criterion in [`Examples::prompts`]: `[pairs][criteria]`, empty
    /// for test pairs.
    prompts: Vec<Vec<usize>>,
    /// The user of every pair, numbered from 0; a pair without a user has its own number.
    people: Vec<usize>,
    /// Learning rate and floor of the weights, by the defaults of `serve`.
    routing: Routing,
}

impl Task {
    fn read(args: &Args) -> Result<Self, Failure> {
        let fields = args.inputs.fields(&args.criterion_field, &args.criterion_field);
        let mut dataset =
            Dataset::read(&args.inputs.data, &args.inputs.responses, &fields).map_err(Failure::refused)?;
        say_notes(&dataset);
        args.inputs.hold_out(&mut dataset)?;
        let train = dataset.split(Split::Train, &args.inputs.data).map_err(Failure::refused)?;
        // Without test pairs, a router is tuned and not measured.
        let test = dataset.split(Split::Test, &args.inputs.data).unwrap_or_default();
        if let Some(row) = dataset.pairs.iter().find(|row| row.context.is_none()) {
            let (field, file) = (&args.criterion_field, &dataset.files[row.file]);
            return Err(Failure::refused(format!(
                "--criterion-field: found a row without `{field}` in {file}, expected it in every row"
            )));
        }
        for criterion in 0..dataset.contexts.len() {
            let is_there =
                |rows: &[usize]| rows.iter().any(|&idx| dataset.pairs[idx].context == Some(criterion));
            if !is_there(&train) || (!test.is_empty() && !is_there(&test)) {
                return Err(Failure::refused(format!(
                    "--criterion-field: found \"{}\" in one split alone, expected every criterion in train and test",
                    dataset.contexts.items()[criterion]
                )));
            }
        }
        let runtime = Runtime::load(&args.inputs.onnxruntime_library).map_err(Failure::refused)?;
        let (bundle, _) = Bundle::load(&runtime, &args.bundle, 1).map_err(Failure::refused)?;
        let path = args.bundle.join(&bundle.manifest().router_graph.file);
        let onnx = std::fs::read(&path).map_err(|error| at(&path, &error))?;
        let router = read_router(&onnx).filter(|router| router.output.ncols() == bundle.n_heads());
        let router = router.ok_or_else(|| {
            Failure::refused(format!(
                "{}: found a router that `fit` did not write, expected one that it wrote",
                path.display()
            ))
        })?;

        let criteria = dataset.contexts.items().to_vec();
        let mut texts = Vec::with_capacity(train.len() * criteria.len());
        for &idx in &train {
            let prompt = dataset.texts.get(dataset.pairs[idx].prompt).map_err(Failure::failed)?;
            for criterion in &criteria {
                texts.push(dataset.texts.intern(&routed(&prompt, Some(criterion))).map_err(Failure::failed)?);
            }
        }
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut encoder = load_encoder(&runtime, &args.bundle, n_threads).map_err(Failure::refused)?;
        let layout = layout(&encoder.input, encoder.n_embedding, 0);
        let encoded = encode(&dataset, &texts, layout, &mut encoder, &args.inputs.cache, &bar("encoding"))?;
        let positions = encoded.more;
        let mut examples = in_range(encoded.examples, &bundle.manifest().input);
        if let Some(table) = bundle.tokenizer().lexical() {
            project(&mut examples, table)?;
        }
        let scored = ScoredExamples::new(&bundle, &examples)?;
        let mut margins = Array2::zeros((0, bundle.n_heads()));
        for pair in &examples.pairs {
            let row = scored.rewards.margins(pair.chosen, pair.rejected);
            margins.push_row(ArrayView1::from(&row)).map_err(Failure::failed)?;
        }
        let mut prompts = vec![Vec::new(); dataset.pairs.len()];
        for (&idx, positions) in train.iter().zip(positions.chunks(criteria.len())) {
            prompts[idx] = positions.to_vec();
        }
        let mut examples = Examples { layout: learnable(&examples.layout), ..examples };
        read_lexical(&mut examples, &train, 0)?;
        examples.average_over(&train).map_err(Failure::failed)?;
        let how = RulerLesson { pairs: &train, ridge: args.ridge, scalar_scale: args.scalar_scale };
        let rulers = ruled(&mut examples, how, Ruler::rewards)?;
        let mut names = crate::fit::Interner::default();
        let person = |(idx, row): (usize, &crate::fit::Preference)| names.index(row.user.ok_or(idx));
        let people = dataset.pairs.iter().enumerate().map(person).collect();
        let posterior = Config::new(Layers::defaults()).map_err(Failure::failed)?.posterior;
        let routing = posterior.routing(bundle.manifest().learning_rate);
        let n_heads = bundle.n_heads();
        Ok(Self {
            dataset,
            examples,
            train,
            test,
            n_heads,
            router,
            margins,
            rulers,
            prompts,
            people,
            routing,
        })
    }

    fn criterion(&self, idx: usize) -> usize {
        self.dataset.pairs[idx].context.unwrap_or_default()
    }

    /// Draws `budget` random train pairs of every criterion; all of them, where there are fewer.
    fn draw(&self, budget: usize, seed: u64) -> Vec<Labeled> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut labeled = Vec::new();
        for criterion in 0..self.dataset.contexts.len() {
            let own: Vec<usize> =
                self.train.iter().copied().filter(|&idx| self.criterion(idx) == criterion).collect();
            for position in sample(&mut rng, own.len(), budget.min(own.len())) {
                let (pair, margins) = (self.examples.pairs[own[position]], self.margins.row(own[position]));
                labeled.push(Labeled {
                    criterion,
                    prompts: self.prompts[own[position]].clone(),
                    log_likelihoods: margins.iter().map(|&d| pair.log_likelihood(d)).collect(),
                });
            }
        }
        labeled
    }

    /// Returns the router's mean log-weights before it is tuned.
    fn prior(&self, labeled: &[Labeled]) -> Result<Vec<f64>, Failure> {
        mean_log_weights(&self.router, &self.examples, labeled).map_err(Failure::failed)
    }

    /// Counts the wins of a margin on test pairs, by their weight; equal rewards count one half.
    fn tally(&self, margin: impl Fn(usize) -> f64) -> Tally {
        let n_people = self.people.iter().max().map_or(0, |most| most + 1);
        let mut tally = vec![vec![(0.0, 0.0); self.dataset.contexts.len()]; n_people];
        for &idx in self.test.iter().filter(|&&idx| !self.examples.pairs[idx].is_tie) {
            let cell = &mut tally[self.people[idx]][self.criterion(idx)];
            let weight = self.examples.pairs[idx].weight;
            cell.0 += weight * win(margin(idx));
            cell.1 += weight;
        }
        tally.retain(|row| row.iter().any(|cell| cell.1 > 0.0));
        tally
    }

    fn routed(&self, router: &Router) -> Result<Tally, Failure> {
        let blocks = self.examples.map_prompts(|rows| router.log_weights(rows)).map_err(Failure::failed)?;
        let rows: Vec<Vec<f64>> = blocks
            .iter()
            .flat_map(|block| block.outer_iter().map(|row| row.to_vec()).collect::<Vec<_>>())
            .collect();
        let nothing = vec![0.0; self.n_heads];
        Ok(self.tally(|idx| {
            let weights = Weights::posterior(&rows[self.examples.pairs[idx].prompt], &nothing, self.routing);
            preference(&weights, &self.margins.row(idx).to_vec()) - 0.5
        }))
    }

    /// Counts the wins of heads that are fitted on all train pairs of their criterion.
    fn by_labels(&self, ridge: f64, scalar_scale: f64) -> Result<Tally, Failure> {
        let mut rewards = Vec::new();
        for criterion in 0..self.dataset.contexts.len() {
            let own: Vec<usize> =
                self.train.iter().copied().filter(|&idx| self.criterion(idx) == criterion).collect();
            let head = single(&self.examples, &own, ridge, scalar_scale).map_err(Failure::failed)?;
            rewards.push(self.examples.rewards(&head).map_err(Failure::failed)?);
        }
        Ok(self.tally(|idx| {
            let (pair, rewards) = (self.examples.pairs[idx], &rewards[self.criterion(idx)]);
            rewards[[pair.chosen, 0]] - rewards[[pair.rejected, 0]]
        }))
    }

    fn figures(&self, rows: &[Tallied]) -> Result<Figures, Failure> {
        let no_user = || Failure::refused("found nobody in the test split");
        let labels = rows.first().map_or(&[][..], |(_, _, labels)| labels);
        let row = |(name, budget, tally): &Tallied| {
            let columns =
                |c: usize| tally.iter().fold((0.0, 0.0), |sum, row| (sum.0 + row[c].0, sum.1 + row[c].1));
            let over = |other: &[Vec<(f64, f64)>]| -> Tally {
                tally.iter().zip(other).map(|(a, b)| a.iter().zip(b).map(difference).collect()).collect()
            };
            let papers =
                rows.iter().find(|(name, b, _)| b == budget && name == rule_name(LearningRule::Paper));
            Ok(ResultRow {
                name: name.clone(),
                budget: *budget,
                accuracy: (0..self.dataset.contexts.len())
                    .map(|c| columns(c).0 / columns(c).1.max(1.0))
                    .collect(),
                mean: estimate_columns(tally).ok_or_else(no_user)?,
                over_labels: estimate_columns(&over(labels)).ok_or_else(no_user)?,
                over_paper: papers.and_then(|(_, _, paper)| estimate_columns(&over(paper))),
            })
        };
        Ok(Figures {
            criteria: self.dataset.contexts.items().to_vec(),
            n: (0..self.dataset.contexts.len()).map(|c| labels.iter().map(|row| row[c].1).sum()).collect(),
            people: labels.len(),
            rows: rows.iter().map(row).collect::<Result<_, Failure>>()?,
        })
    }
}

/// Returns the wins of `a` minus those of `b` on b's pairs; `a` and `b` may count each pair once per seed.
fn difference((a, b): (&(f64, f64), &(f64, f64))) -> (f64, f64) {
    if b.1 > 0.0 { (a.0 * b.1 / a.1 - b.0, b.1) } else { (0.0, 0.0) }
}

fn added(mut a: Tally, b: &Tally) -> Tally {
    for (x, y) in a.iter_mut().flatten().zip(b.iter().flatten()) {
        *x = (x.0 + y.0, x.1 + y.1);
    }
    a
}

fn rule_name(rule: LearningRule) -> &'static str {
    match rule {
        LearningRule::Paper => "paper's rule",
        LearningRule::Bayes => "Bayes",
    }
}
