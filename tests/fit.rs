//! Laws of learning heads and routers, on synthetic users.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use micro_reward::fit::{
    Block, EmbeddingCache, Examples, FeatureRow, HeadCount, Labeled, Layout, Learned, LearningRule,
    MixtureBy, OnnxGraph, Options, Pair, PerFile, PromptOptions, Router, Surfaces, correlation, heads_graph,
    learn, pooled, read_router, router_graph, single, tune,
};
use micro_reward::mixture::{Routing, Weights, log_sigmoid, preference, sigmoid};
use micro_reward::model::{Graph, Runtime};
use micro_reward::types::{Embedding, Encode, EncodeError, Kept, Tokens};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers of an embedding.
const H: usize = 8;

/// Number of responses: more than are processed at once.
const POOL: usize = 2500;

/// Number of prompts of every group.
const PROMPTS: usize = 20;

/// Log-odds of a user's choice at a difference of 1.
const SURENESS: f64 = 20.0;

/// An encoder whose texts are numbers: each is its only token.
struct Table(Vec<Vec<f32>>);

impl Encode for Table {
    fn encode(&mut self, batch: &[&Tokens]) -> Result<Vec<Embedding>, EncodeError> {
        Ok(batch.iter().map(|tokens| self.0[tokens.ids[0] as usize].clone().into()).collect())
    }
}

/// Returns examples over texts with these embeddings; a row is (prompt, response, log length), and the router reads
/// `prompts`.
fn examples(
    blocks: &[Block],
    embeddings: &[Vec<f32>],
    rows: &[(Option<usize>, usize, f32)],
    prompts: &[usize],
    pairs: Vec<Pair>,
) -> Examples {
    let n_embedding = embeddings[0].len();
    let dir = tempfile::tempdir().unwrap();
    let mut cache = EmbeddingCache::open(dir.path(), "table", n_embedding).unwrap();
    let tokens = |idx: usize| Tokens { ids: vec![idx as u32], type_ids: vec![0], kept: Kept::default() };
    let texts: Vec<Tokens> = (0..embeddings.len()).map(tokens).collect();
    let at = cache.embed(&texts, &mut [Box::new(Table(embeddings.to_vec()))], |_| ()).unwrap();
    let row = |&(prompt, response, log_length): &(Option<usize>, usize, f32)| FeatureRow {
        prompt: prompt.map(|text| at[text]),
        response: Some(at[response]),
        log_length,
        surface: 0,
    };
    Examples {
        layout: Layout { blocks: blocks.to_vec(), n_embedding, n_lexical: 0 },
        rows: rows.iter().map(row).collect(),
        prompts: prompts.iter().map(|&text| at[text]).collect(),
        pairs,
        cache,
        surfaces: Surfaces::new().unwrap(),
        averaged: Vec::new(),
        average: Vec::new(),
    }
}

/// Returns a choice of nobody, of weight 1.
fn pair(prompt: usize, chosen: usize, rejected: usize) -> Pair {
    Pair { file: 0, user: None, prompt, chosen, rejected, is_tie: false, weight: 1.0 }
}

/// Returns a point on the unit sphere, near the axis `near` if there is one.
fn direction(rng: &mut ChaCha8Rng, near: Option<usize>) -> Vec<f32> {
    let mut numbers: Vec<f32> = (0..H).map(|_| rng.random_range(-1.0..1.0)).collect();
    if let Some(axis) = near {
        numbers.iter_mut().for_each(|x| *x *= 0.4);
        numbers[axis] += 1.0;
    }
    let length = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    numbers.iter().map(|x| x / length).collect()
}

/// Coefficients of a group's taste: of the first number of an embedding, and of the log length.
struct Taste {
    first: f32,
    length: f32,
}

const LIKES: Taste = Taste { first: 1.0, length: 0.0 };
const DISLIKES: Taste = Taste { first: -1.0, length: 0.0 };

struct Crowd<'a> {
    /// One for each group; user u is in group u modulo their number.
    tastes: &'a [Taste],
    n_people: usize,
    n_votes: usize,
    /// True if a prompt reveals the group of its user; else all users share the prompts.
    prompts_tell: bool,
}

impl Crowd<'_> {
    /// Returns the choices of all users, user by user, between random responses.
    fn examples(&self, seed: u64) -> Examples {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut embeddings: Vec<Vec<f32>> = (0..POOL).map(|_| direction(&mut rng, None)).collect();
        for group in 0..self.tastes.len() {
            embeddings.extend((0..PROMPTS).map(|_| direction(&mut rng, Some(group))));
        }
        let rows: Vec<_> = (0..POOL).map(|text| (None, text, rng.random_range(0.0..6.0))).collect();
        let mut pairs = Vec::new();
        for user in 0..self.n_people {
            let group = user % self.tastes.len();
            let Taste { first, length } = self.tastes[group];
            let value = |row: usize| first * embeddings[row][0] + length * rows[row].2;
            for _ in 0..self.n_votes {
                let (a, b) = (rng.random_range(0..POOL), rng.random_range(0..POOL));
                let prefers_a = rng.random::<f64>() < sigmoid(SURENESS * f64::from(value(a) - value(b)));
                let (chosen, rejected) = if prefers_a { (a, b) } else { (b, a) };
                let asks = if self.prompts_tell { group } else { rng.random_range(0..self.tastes.len()) };
                let prompt = asks * PROMPTS + rng.random_range(0..PROMPTS);
                pairs.push(Pair { user: Some(user), ..pair(prompt, chosen, rejected) });
            }
        }
        let prompts: Vec<usize> = (POOL..embeddings.len()).collect();
        examples(&[Block::Response, Block::LogLength], &embeddings, &rows, &prompts, pairs)
    }
}

fn two_groups(n_people: usize, n_votes: usize) -> Examples {
    Crowd { tastes: &[LIKES, DISLIKES], n_people, n_votes, prompts_tell: false }.examples(1)
}

fn options(n_heads: usize) -> Options {
    Options {
        mixture: MixtureBy::Auto,
        n_heads: HeadCount::Given(PerFile(vec![n_heads])),
        ridge: PerFile(vec![1.0]),
        deviation_ridge: PerFile(vec![0.0]),
        scalar_scale: 1.0,
        router_personalization: 1.0,
        restarts: 3,
        merge_above: 0.95,
        is_length_free: false,
        prompt: PromptOptions { epochs: 20, batch: 64, rate: 2e-2, entropy: 0.0, sparse: 0.1, balance: 0.5 },
        seed: 0,
    }
}

fn all(examples: &Examples) -> Vec<usize> {
    (0..examples.pairs.len()).collect()
}

fn learned(examples: &Examples, options: &Options) -> Learned {
    learn(examples, &all(examples), options, &|| ()).unwrap()
}

/// Returns `r_k(chosen) - r_k(rejected)` of every pair, shape `[pairs, K]`.
fn margins(examples: &Examples, heads: &Array2<f32>) -> Array2<f64> {
    let rewards = examples.rewards(heads).unwrap();
    let of = |(i, k): (usize, usize)| {
        rewards[[examples.pairs[i].chosen, k]] - rewards[[examples.pairs[i].rejected, k]]
    };
    Array2::from_shape_fn((examples.pairs.len(), heads.ncols()), of)
}

fn share(is: impl Iterator<Item = bool>) -> f64 {
    let is: Vec<bool> = is.collect();
    is.iter().filter(|is| **is).count() as f64 / is.len() as f64
}

fn most(values: impl IntoIterator<Item = f64>) -> usize {
    values.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
}

#[track_caller]
fn assert_same(a: &Learned, b: &Learned) {
    assert_eq!(a.heads, b.heads);
    assert_eq!(a.router, b.router);
    assert_eq!(a.calibration, b.calibration);
    assert_eq!(a.held_out, b.held_out);
    assert_eq!((&a.origins, a.n_merged, &a.candidates), (&b.origins, b.n_merged, &b.candidates));
}

#[test]
fn people_who_disagree_end_in_different_heads() {
    let (n_known, n_people, n_votes) = (80, 120, 12);
    let examples = two_groups(n_people, n_votes);
    let train: Vec<usize> = (0..n_known * n_votes).collect();
    let found = learn(&examples, &train, &options(2), &|| ()).unwrap();
    assert_eq!(found.heads.ncols(), 2);
    let margins_of_heads = margins(&examples, &found.heads);
    let margins_of_single = margins(&examples, &single(&examples, &train, 1.0, 1.0).unwrap());
    let (mut heads, mut by_single) = (BTreeSet::new(), Vec::new());
    for group in 0..2 {
        let people: Vec<usize> = (n_known..n_people).filter(|user| user % 2 == group).collect();
        let mut by_head = Vec::new();
        for user in people {
            let votes = user * n_votes..(user + 1) * n_votes;
            let (known, unseen) = (votes.start..votes.start + 6, votes.start + 6..votes.end);
            let fit = |k: usize| known.clone().map(|i| log_sigmoid(margins_of_heads[[i, k]])).sum::<f64>();
            let own = most((0..2).map(fit));
            heads.insert((group, own));
            by_head.extend(unseen.clone().map(|i| margins_of_heads[[i, own]] > 0.0));
            by_single.extend(unseen.map(|i| margins_of_single[[i, 0]] > 0.0));
        }
        let right = share(by_head.into_iter());
        assert!(right > 0.8, "group {group}: its head {right}");
    }
    let right = share(by_single.into_iter());
    assert!(right < 0.6, "one head for both groups is hardly better than a coin: {right}");
    assert_eq!(heads.len(), 2, "every group has one head for all its people: {heads:?}");
}

#[test]
fn the_same_seed_gives_the_same_heads_whatever_the_number_of_threads() {
    let examples = two_groups(60, 50);
    let distinct: BTreeSet<(usize, usize)> = examples.pairs.iter().map(|p| (p.chosen, p.rejected)).collect();
    assert!(distinct.len() > 2048, "more than one block of rows");
    let once = PromptOptions { epochs: 2, ..options(2).prompt };
    for mixture in [MixtureBy::User, MixtureBy::Prompt] {
        let options = Options { mixture, restarts: 2, prompt: once, ..options(2) };
        let first = learned(&examples, &options);
        assert_same(&first, &learned(&examples, &options));
        for n_threads in [1, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            assert_same(&first, &pool.install(|| learned(&examples, &options)));
        }
        let other = learned(&examples, &Options { seed: 1, ..options });
        assert_ne!(first.heads, other.heads, "another seed starts elsewhere");
    }
}

#[test]
fn auto_finds_two_groups_and_one_where_there_is_one() {
    // With a weak ridge, several heads with different noise predict better than the true one.
    let ridge = PerFile(vec![40.0]);
    let auto = Options { n_heads: HeadCount::Auto, restarts: 2, ridge, ..options(0) };
    let one = Crowd { tastes: &[LIKES], n_people: 40, n_votes: 12, prompts_tell: false }.examples(2);
    for (examples, n_groups) in [(two_groups(40, 12), 2), (one, 1)] {
        let found = learned(&examples, &auto);
        assert_eq!((found.heads.ncols(), found.n_merged), (n_groups, 0), "{:?}", found.candidates);
        let tried: Vec<usize> = found.candidates[0].iter().map(|candidate| candidate.n_heads).collect();
        assert_eq!(tried, [1, 2, 3, 4, 6, 8]);
    }
}

/// Asserts that two data sets teach the same heads, but for rounding.
#[track_caller]
fn assert_same_lesson(a: &Examples, b: &Examples) {
    for n_heads in [1, 2] {
        let [of_a, of_b] = [a, b].map(|examples| learned(examples, &options(n_heads)));
        let far = (&of_a.heads - &of_b.heads).iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let size = of_a.heads.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        assert!(far < 0.02 * size, "{far} {size}");
        let betas = |learned: &Learned| learned.calibration.iter().map(|c| c.beta).collect::<Vec<_>>();
        let is_near = |(a, b): (f64, f64)| (a - b).abs() < 0.02 * a;
        assert!(
            betas(&of_a).into_iter().zip(betas(&of_b)).all(is_near),
            "{:?} {:?}",
            betas(&of_a),
            betas(&of_b)
        );
    }
}

#[test]
fn a_choice_of_weight_two_is_the_choice_made_twice() {
    let (mut twice, mut weighted) = (two_groups(30, 8), two_groups(30, 8));
    twice.pairs = twice.pairs.iter().flat_map(|&pair| [pair, pair]).collect();
    weighted.pairs.iter_mut().for_each(|pair| pair.weight = 2.0);
    assert_same_lesson(&twice, &weighted);
}

#[test]
fn a_tie_is_two_opposite_halves() {
    let (mut halves, mut ties) = (two_groups(30, 8), two_groups(30, 8));
    let is_tie = |idx: usize| idx.is_multiple_of(3);
    let half = |pair: Pair| Pair { weight: 0.5, ..pair };
    let opposite = |pair: Pair| Pair { chosen: pair.rejected, rejected: pair.chosen, ..pair };
    let split = |(idx, &pair): (usize, &Pair)| {
        if is_tie(idx) { vec![half(pair), half(opposite(pair))] } else { vec![pair] }
    };
    halves.pairs = halves.pairs.iter().enumerate().flat_map(split).collect();
    ties.pairs.iter_mut().enumerate().for_each(|(idx, pair)| pair.is_tie = is_tie(idx));
    assert_same_lesson(&halves, &ties);
}

/// People who say of single responses that they are good or bad have their tastes learned as from pairs.
#[test]
fn a_thumb_is_a_choice_over_the_average_response() {
    let mut thumbs = two_groups(80, 20);
    let average = thumbs.rows.len();
    thumbs.rows.push(FeatureRow { prompt: None, response: None, log_length: 0.0, surface: 0 });
    let split = |pair: &Pair| [Pair { rejected: average, ..*pair }, Pair { chosen: average, ..*pair }];
    thumbs.pairs = thumbs.pairs.iter().flat_map(split).collect();
    let all_pairs = all(&thumbs);
    thumbs.average_over(&all_pairs).unwrap();
    let of_thumbs = learned(&thumbs, &options(2));
    let rewards = thumbs.rewards(&of_thumbs.heads).unwrap();
    for (k, calibration) in of_thumbs.calibration.iter().enumerate() {
        assert!((rewards[[average, k]] - calibration.mean).abs() < 1e-4 * calibration.std);
    }
    let of_pairs = learned(&two_groups(80, 20), &options(2));
    let along = |a: usize, b: usize| {
        let (a, b) = (of_thumbs.heads.column(a), of_pairs.heads.column(b));
        a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()
    };
    let found = [along(0, 0).max(along(0, 1)), along(1, 0).max(along(1, 1))];
    assert!(found.iter().all(|&cosine| cosine > 0.95), "{found:?}");
}

#[test]
fn heads_that_say_the_same_are_merged() {
    let one = Crowd { tastes: &[LIKES], n_people: 60, n_votes: 12, prompts_tell: false }.examples(3);
    // Heads of a mixture by prompt share a population that is not split by users: they agree only roughly.
    for (mixture, merge_above) in [(MixtureBy::User, 0.95), (MixtureBy::Prompt, 0.2)] {
        let asked = Options { mixture, merge_above, ..options(4) };
        let found = learned(&one, &asked);
        let n_heads = found.heads.ncols();
        assert!(found.n_merged > 0, "{mixture:?}: none of {n_heads} was merged");
        assert_eq!(n_heads + found.n_merged, 4);
        assert_eq!(found.router.output.ncols(), n_heads);
        assert_eq!((found.calibration.len(), found.origins.len()), (n_heads, n_heads));
        let shares: f64 = found.calibration.iter().map(|head| head.prior).sum();
        assert!((shares - 1.0).abs() < 1e-3, "{mixture:?}: the shares sum to {shares}");
        let apart = learned(&one, &Options { merge_above: 1.0, ..asked });
        assert_eq!((apart.heads.ncols(), apart.n_merged), (4, 0));
    }
}

#[test]
fn length_free_rewards_do_not_correlate_with_length() {
    let tastes = [Taste { first: 1.0, length: 0.1 }, Taste { first: -1.0, length: 0.1 }];
    let examples = Crowd { tastes: &tastes, n_people: 60, n_votes: 12, prompts_tell: false }.examples(4);
    let train: Vec<usize> = (0..examples.pairs.len() / 2).collect();
    let responses: BTreeSet<usize> =
        train.iter().flat_map(|&i| [examples.pairs[i].chosen, examples.pairs[i].rejected]).collect();
    let lengths: Vec<f64> = responses.iter().map(|&row| f64::from(examples.rows[row].log_length)).collect();
    for mixture in [MixtureBy::User, MixtureBy::Prompt] {
        for is_length_free in [false, true] {
            let options = Options { mixture, is_length_free, ..options(2) };
            let found = learn(&examples, &train, &options, &|| ()).unwrap();
            let rewards = examples.rewards(&found.heads).unwrap();
            for k in 0..found.heads.ncols() {
                let of_head: Vec<f64> = responses.iter().map(|&row| rewards[[row, k]]).collect();
                let found = correlation(of_head.iter(), lengths.iter());
                let is_as_asked = if is_length_free { found.abs() < 1e-3 } else { found > 0.1 };
                assert!(is_as_asked, "{mixture:?}, length free {is_length_free}, head {k}: {found}");
            }
        }
    }
}

/// Heads do not extrapolate: one odd text in a thousand does not widen the range.
#[test]
fn the_range_of_a_scalar_is_from_quantile_001_to_999_of_training_and_what_is_beyond_becomes_its_end() {
    // The rows are texts of 0 to 1999, one that is much longer than any, and one that only a test reads.
    let (ordinary, [huge, unseen]) = (2000, [2000, 2001]);
    let lengths = (0..ordinary).map(|n| n as f32).chain([1e9, -1e9]);
    let rows: Vec<_> = lengths.map(|length| (None, 0, length)).collect();
    let pair = |chosen, rejected| pair(0, chosen, rejected);
    // Every pair has the huge one, which counts once.
    let pairs: Vec<Pair> = (0..ordinary).map(|row| pair(row, huge)).chain([pair(0, unseen)]).collect();
    let mut examples = examples(&[Block::Response, Block::LogLength], &[vec![0.5; H]], &rows, &[0], pairs);
    let training: Vec<usize> = (0..ordinary).collect();
    assert_eq!(examples.log_length_range(&training), [2.0, 1998.0]);
    examples.clamp_log_lengths([2.0, 1998.0]);
    let clamped = [0, 1, 2, 3, 1000, 1997, 1998, 1999, huge, unseen].map(|row| examples.rows[row].log_length);
    assert_eq!(clamped, [2.0, 2.0, 2.0, 3.0, 1000.0, 1997.0, 1998.0, 1998.0, 1998.0, 2.0]);
    assert_eq!(examples.log_length_range(&[]), [0.0, 0.0]);
}

/// Returns a graph's answers to rows.
fn run(graph: OnnxGraph, rows: ArrayView2<'_, f32>, n_out: usize) -> Array2<f32> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), graph.into_bytes()).unwrap();
    let runtime = Runtime::load(&common::library()).unwrap();
    let graph = Graph::open(&runtime, file.path(), (rows.ncols(), "the test"), (n_out, "the test")).unwrap();
    graph.run(rows).unwrap()
}

#[test]
fn a_product_is_made_inside_the_graph() {
    use Block::{LogLength, Product, Prompt, Response, Similarity};
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let embeddings: Vec<Vec<f32>> = (0..20).map(|_| direction(&mut rng, None)).collect();
    let rows: Vec<_> = (0..20).map(|i| (Some((i * 7 + 3) % 20), i, i as f32 / 4.0)).collect();
    let layouts: [&[Block]; 7] = [
        &[Response, Similarity, LogLength],
        &[Product, LogLength, Response],
        &[LogLength, Prompt, Product, Similarity],
        &[Similarity],
        &[Product],
        &[Response, LogLength],
        &[LogLength, Prompt, Response],
    ];
    for blocks in layouts {
        let mut examples = examples(blocks, &embeddings, &rows, &[], Vec::new());
        let layout = examples.layout.clone();
        let heads = Array2::from_shape_simple_fn((layout.n_columns(), 3), || rng.random_range(-2.0..2.0_f32));
        let direct = examples.rewards(&heads).unwrap();
        // A bundle is fed the input columns only.
        examples.layout = Layout { blocks: layout.inputs(), ..layout.clone() };
        assert!(!examples.layout.blocks.iter().any(|block| matches!(block, Product | Similarity)));
        let fed = examples.features(&(0..rows.len()).collect::<Vec<_>>()).unwrap();
        let answers = run(heads_graph(&layout, &heads), fed.view(), 3);
        for (at, answer) in answers.indexed_iter() {
            assert!(
                (f64::from(*answer) - direct[at]).abs() < 1e-5,
                "{blocks:?} {at:?}: {answer} {}",
                direct[at]
            );
        }
    }
}

fn random_router(n_heads: usize, seed: u64) -> Router {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = |shape| Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0_f32));
    Router {
        hidden: uniform((H, 16)),
        hidden_bias: uniform((1, 16)),
        output: uniform((16, n_heads)),
        output_bias: uniform((1, n_heads)),
    }
}

#[test]
fn a_router_read_back_is_the_one_written() {
    for (n_heads, seed) in [(1, 0), (3, 1), (64, 2)] {
        let router = random_router(n_heads, seed);
        let onnx = router_graph(&router).into_bytes();
        assert_eq!(read_router(&onnx), Some(router));
    }
    let router = learned(&two_groups(20, 6), &options(2)).router;
    assert_eq!(read_router(&router_graph(&router).into_bytes()), Some(router));
}

#[test]
fn a_router_answers_in_its_graph_as_it_does_here() {
    let router = random_router(3, 6);
    let prompts = Array2::from_shape_fn((5, H), |(i, j)| ((i * H + j) as f32).sin());
    let logits = run(router_graph(&router), prompts.view(), 3).mapv(f64::from);
    let log_weights = router.log_weights(prompts.view());
    for (logits, log_weights) in logits.outer_iter().zip(log_weights.outer_iter()) {
        let weights = Weights::posterior(&logits.to_vec(), &[0.0; 3], Routing::BAYES);
        for (w, log_w) in weights.as_slice().iter().zip(log_weights) {
            assert!((w - log_w.exp()).abs() < 1e-6, "{w} {log_w}");
        }
    }
}

#[test]
fn what_is_no_router_is_not_read_as_one() {
    let router = random_router(3, 7);
    let onnx = router_graph(&router).into_bytes();
    assert_eq!(read_router(b""), None);
    assert_eq!(read_router(b"no protocol buffer at all"), None);
    for end in 0..onnx.len() {
        let of_a_part = read_router(&onnx[..end]);
        assert!(of_a_part.is_none_or(|read| read == router), "cut at {end} of {}", onnx.len());
    }
    assert_eq!(read_router(&onnx[..onnx.len() / 2]), None);
    assert_eq!(read_router(&OnnxGraph::heads(&router.hidden).into_bytes()), None);
    let misfits: [fn(&mut Router); 4] = [
        |router| router.hidden = Array2::zeros((H, 15)),
        |router| router.hidden_bias = Array2::zeros((2, 16)),
        |router| router.output = Array2::zeros((17, 3)),
        |router| router.output_bias = Array2::zeros((1, 4)),
    ];
    for (idx, misfit) in misfits.into_iter().enumerate() {
        let mut other = router.clone();
        misfit(&mut other);
        assert_eq!(read_router(&router_graph(&other).into_bytes()), None, "misfit {idx}");
    }
}

#[test]
fn a_mixture_by_prompt_is_what_auto_comes_to_without_people() {
    let mut examples = two_groups(10, 2);
    let pairs = all(&examples);
    assert_eq!(MixtureBy::Auto.resolve(&examples, &pairs), MixtureBy::User);
    assert_eq!(MixtureBy::Prompt.resolve(&examples, &pairs), MixtureBy::Prompt);
    // One row has no user.
    examples.pairs[7].user = None;
    assert_eq!(MixtureBy::Auto.resolve(&examples, &pairs), MixtureBy::Prompt);
    assert_eq!(
        MixtureBy::Auto.resolve(&examples, &pairs[..6]),
        MixtureBy::User,
        "only what is learned from counts"
    );
    // Users who chose once can't be told apart.
    examples.pairs.iter_mut().enumerate().for_each(|(idx, pair)| pair.user = Some(idx));
    assert_eq!(MixtureBy::Auto.resolve(&examples, &pairs), MixtureBy::Prompt);
}

#[test]
fn without_people_the_prompt_tells_the_groups_apart() {
    let mut examples =
        Crowd { tastes: &[LIKES, DISLIKES], n_people: 2, n_votes: 800, prompts_tell: true }.examples(8);
    examples.pairs.iter_mut().for_each(|pair| pair.user = None);
    let (train, test): (Vec<usize>, Vec<usize>) = all(&examples).into_iter().partition(|idx| idx % 4 > 0);
    let found = learn(&examples, &train, &options(2), &|| ()).unwrap();
    assert_eq!(found.origins, [None, None]);
    let prompts: Vec<usize> = (0..examples.prompts.len()).collect();
    let log_weights = found.router.log_weights(examples.prompts(&prompts).unwrap().view());
    let (of_heads, of_single) =
        (margins(&examples, &found.heads), margins(&examples, &single(&examples, &train, 1.0, 1.0).unwrap()));
    let is_routed_right = |&idx: &usize| {
        let log_weights = log_weights.row(examples.pairs[idx].prompt).to_vec();
        let weights = Weights::posterior(&log_weights, &[0.0; 2], Routing::BAYES);
        let margins = [0, 1].map(|k| found.calibration[k].beta * of_heads[[idx, k]]);
        preference(&weights, &margins) > 0.5
    };
    let routed = share(test.iter().map(is_routed_right));
    let single = share(test.iter().map(|&idx| of_single[[idx, 0]] > 0.0));
    assert!(routed > 0.8 && single < 0.65, "routed {routed}, single {single}");
}

#[test]
fn heads_of_two_files_are_told_apart_by_their_prompts() {
    let mut examples =
        Crowd { tastes: &[LIKES, DISLIKES], n_people: 40, n_votes: 12, prompts_tell: true }.examples(9);
    examples.pairs.iter_mut().for_each(|pair| pair.file = pair.user.unwrap() % 2);
    let found = learned(&examples, &options(1));
    assert_eq!(found.origins, [Some(0), Some(1)]);
    for head in &found.calibration {
        assert!((head.prior - 0.5).abs() < 1e-9, "every file weighs the same: {head:?}");
    }
    let prompts: Vec<usize> = (0..examples.prompts.len()).collect();
    let log_weights = found.router.log_weights(examples.prompts(&prompts).unwrap().view());
    for prompt in prompts {
        assert_eq!(most(log_weights.row(prompt).to_vec()), prompt / PROMPTS, "prompt {prompt}");
    }
}

const CRITERIA: usize = 3;

/// Returns prompts with every criterion: the router's text for prompt p and criterion c is at `p * CRITERIA + c`.
fn criteria(n_prompts: usize, seed: u64) -> Examples {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let near = |text: usize| direction(&mut rng, Some(text % CRITERIA));
    let embeddings: Vec<Vec<f32>> = (0..n_prompts * CRITERIA).map(near).collect();
    let texts: Vec<usize> = (0..embeddings.len()).collect();
    examples(&[Block::Response], &embeddings, &[], &texts, Vec::new())
}

/// Returns `budget` labels of every criterion, each about a prompt of its own. Head c agrees with all labels of
/// criterion c, and all other heads with every other one: there is one head more than there are criteria.
fn labels(budget: usize, seed: u64) -> Vec<Labeled> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut label = |i: usize| {
        let criterion = i % CRITERIA;
        let mut margin = |k: usize| match k == criterion {
            true => rng.random_range(0.5..3.0),
            false => rng.random_range(0.5..3.0) * [-1.0, 1.0][(i / CRITERIA + k) % 2],
        };
        Labeled {
            criterion,
            prompts: (0..CRITERIA).map(|c| i * CRITERIA + c).collect(),
            log_likelihoods: (0..=CRITERIA).map(&mut margin).map(log_sigmoid).collect(),
        }
    };
    (0..budget * CRITERIA).map(&mut label).collect()
}

fn constant_router(n_heads: usize) -> Router {
    let random = random_router(n_heads, 10);
    let (output, output_bias) = (Array2::zeros((16, n_heads)), Array2::zeros((1, n_heads)));
    Router { output, output_bias, ..random }
}

#[test]
fn pooled_labels_teach_the_router_criteria() {
    let (n_labeled, n_prompts) = (5 * CRITERIA, 100);
    let examples = criteria(n_prompts, 11);
    let before = constant_router(CRITERIA + 1);
    for seed in 0..3 {
        let labeled = labels(5, seed);
        let even = [0.0; CRITERIA + 1];
        let router = tune(&before, &examples, &labeled, &even, LearningRule::Bayes, seed).unwrap();
        assert_eq!(before, constant_router(CRITERIA + 1), "what is tuned is a copy");
        for (criterion, target) in pooled(&labeled, &even).into_iter().enumerate() {
            assert_eq!(most(target), criterion, "five labels say which head it is");
            let unseen: Vec<usize> = (n_labeled..n_prompts).map(|p| p * CRITERIA + criterion).collect();
            let log_weights = router.log_weights(examples.prompts(&unseen).unwrap().view());
            let right = share(log_weights.outer_iter().map(|row| most(row.to_vec()) == criterion));
            assert!(right > 0.8, "seed {seed}, criterion {criterion}: {right} of the unseen prompts");
        }
    }
}

#[test]
fn labels_of_a_criterion_are_pooled_as_a_posterior() {
    let label = |criterion: usize, log_likelihoods: &[f64]| Labeled {
        criterion,
        prompts: vec![0, 1],
        log_likelihoods: log_likelihoods.to_vec(),
    };
    let log_shares = [0.5_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln()];
    let labeled =
        [label(0, &[-0.1, -0.7, -2.0]), label(0, &[-0.3, -0.2, -1.0]), label(0, &[-0.5, -0.1, 0.0])];
    let found = pooled(&labeled, &log_shares);
    let sums = [-0.9, -1.0, -3.0];
    let expected = Weights::posterior(&log_shares, &sums, Routing::BAYES);
    for (found, expected) in found[0].iter().zip(expected.as_slice()) {
        assert!((found - expected).abs() < 1e-12);
    }
    for (found, share) in found[1].iter().zip([0.5, 0.3, 0.2]) {
        assert!((found - share).abs() < 1e-12, "a criterion without labels has the population's shares");
    }
}

#[test]
fn no_labels_leave_the_router_as_it_is() {
    let examples = criteria(2, 12);
    let router = random_router(4, 13);
    for rule in [LearningRule::Paper, LearningRule::Bayes] {
        assert_eq!(tune(&router, &examples, &[], &[0.0; 4], rule, 0).unwrap(), router);
    }
}

#[test]
fn the_same_seed_teaches_the_same_router() {
    let examples = criteria(5 * CRITERIA, 14);
    let (router, labeled) = (constant_router(CRITERIA + 1), labels(5, 0));
    for rule in [LearningRule::Paper, LearningRule::Bayes] {
        let tuned = |seed| tune(&router, &examples, &labeled, &[0.0; CRITERIA + 1], rule, seed).unwrap();
        assert_eq!(tuned(0), tuned(0));
        assert_ne!(tuned(0), router);
    }
}
