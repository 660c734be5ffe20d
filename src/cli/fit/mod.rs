//! `micro-reward fit`: data and an encoder in, a bundle out.

mod bundle;
mod page;
mod questionnaire;
mod summary;
mod table;

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::encode::{encode, in_range, input, read_lexical};
use super::files;
use super::inputs::{Inputs, say_notes};
use super::liked::liked;
use super::numbers::{non_negative, unit};
use super::progress::bar;
use super::ruled::ruled;
use super::staged::Staged;
use super::{Failure, say};
use crate::fit::{
    Block, Dataset, HeadCount, Layout, MixtureBy, Options, PerFile, PromptOptions, Ruler, RulerLesson,
    Sources, Split, learn, n_steps, report,
};
use crate::model::{Bundle, MANIFEST, Runtime, load_encoder};

/// Rows are feedback in any layout of docs/data.md, such as {prompt, chosen, rejected, user?, context?, group?,
/// split?}, or chosen_id and rejected_id with --responses. Every file has the same weight, however large. `split` is
/// "train" (default) or "test".
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A directory whose bundle.toml has [encoder] and [input], with the files they name; any bundle will do.
    #[arg(long, value_name = "DIR")]
    encoder: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Number of heads of every file: a number, one for each file (2,4,1), or "auto", which chooses by the log loss
    /// on users that the heads were not learned from. A mixture by prompt has this many in all; of several numbers,
    /// the one with the least held-out log loss.
    #[arg(long, default_value = "auto", value_parser = head_count)]
    k: HeadCount,
    /// Pairs that share a latent head: all pairs of a user, or none, with the prompt as the only predictor of a
    /// pair's head (the paper).
    #[arg(long, value_enum, default_value = "auto")]
    mixture: MixtureBy,
    /// The columns that heads read.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "response,length")]
    features: Vec<FeatureName>,
    /// Bias to remove from the rewards after learning, by regression on the log length.
    #[arg(long, value_enum)]
    debias: Option<Bias>,
    /// The field that holds the context, which the router reads after the prompt.
    #[arg(long, value_name = "NAME", default_value = "context")]
    context_field: String,
    /// The field that holds the group, a label for the report.
    #[arg(long, value_name = "NAME", default_value = "group")]
    group_field: String,
    /// Number of questions for new users in the bundle, chosen from --candidates; all candidates, if there are fewer.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "candidates", value_parser = clap::value_parser!(u64).range(0..=64))]
    questions: u64,
    /// Candidates for questions: rows of {prompt, a, b}, or of any data.
    #[arg(long, value_name = "FILE")]
    candidates: Option<PathBuf>,
    /// Directory to write the bundle to; may be the encoder's directory.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The bundle's name; by default the directory's.
    #[arg(long)]
    name: Option<String>,
    /// SPDX identifier of the bundle's license.
    #[arg(long, default_value = "Apache-2.0")]
    license: String,
    /// Seed of random numbers; the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Ridge of the heads: `ridge / 2 |w|^2` of every head is subtracted from the log-likelihood; this is strong
    /// where users are few. One number, or one for each file.
    #[arg(long, default_value = "1000", value_parser = per_file)]
    ridge: PerFile<f64>,
    /// By user, if above 0: `deviation_ridge / 2 |w - w_0|^2` draws every head to the single head w_0 of its file
    /// instead of to 0; w_0 itself has the ridge. One number, or one for each file.
    #[arg(long, default_value = "0", value_parser = per_file)]
    deviation_ridge: PerFile<f64>,
    /// Scale of the columns of length and similarity relative to those of embeddings: the larger, the less the ridge
    /// draws them to 0.
    #[arg(long, default_value_t = 4.0, value_parser = non_negative)]
    scalar_scale: f64,
    /// By user: weight of the users' own heads in the router's targets, from 0 (it only tells files apart) to 1.
    #[arg(long, default_value_t = 1.0, value_parser = unit)]
    router_personalization: f64,
    /// By user: starts, of which the likeliest is kept.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    restarts: u32,
    /// Correlation of rewards on held-out pairs above which heads are merged.
    #[arg(long, default_value_t = 0.95, value_parser = non_negative)]
    merge: f64,
    /// By prompt: passes over as many pairs as there are.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// By prompt: pairs per step.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// By prompt: peak learning rate of AdamW, with 5 % warm-up and a cosine.
    #[arg(long, default_value_t = 2e-3, value_parser = non_negative)]
    rate: f64,
    /// By prompt: the paper's regularizer (alpha), which keeps every head alive for every prompt. The paper uses 0.5.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    entropy: f64,
    /// By prompt, sparse local: penalty on the entropy of every prompt's weights.
    #[arg(long, default_value_t = 0.1, value_parser = non_negative)]
    sparse: f64,
    /// By prompt, balanced global: reward for the entropy of the mean weights.
    #[arg(long, default_value_t = 0.5, value_parser = non_negative)]
    balance: f64,
    /// File to write the report to, as self-contained HTML.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The columns that heads can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FeatureName {
    /// The embedding of the response.
    Response,
    /// The embedding of the prompt.
    Prompt,
    /// The elementwise product of the two embeddings.
    Product,
    /// The scalar product of the two: how much the response is about the prompt.
    Similarity,
    /// `ln(1 + characters of the response's tokens that are kept)`.
    Length,
    /// Shares of marks and of kinds of words: 17 numbers that need no encoder.
    Style,
    /// The words of the response by TF-IDF, projected to the columns in which train responses vary most.
    Lexical,
}

/// A bias that can be removed from the rewards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Bias {
    /// The length of the response.
    Length,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    files::check_place("--html", args.html.as_ref())?;
    let staged = Staged::new(&args.out)?;
    let fields = args.inputs.fields(&args.context_field, &args.group_field);
    let Inputs { data, responses, .. } = &args.inputs;
    let sources = Sources { data, responses, candidates: args.candidates.as_ref(), ratings: None };
    let mut dataset = Dataset::read_all(sources, &fields).map_err(Failure::refused)?;
    say_notes(&dataset);
    args.inputs.hold_out(&mut dataset)?;
    let train = dataset.split(Split::Train, &args.inputs.data).map_err(Failure::refused)?;
    if let Some(file) =
        (0..args.inputs.data.len()).find(|&file| train.iter().all(|&idx| dataset.pairs[idx].file != file))
    {
        return Err(Failure::refused(format!(
            "--data: found no row of the train split in {}, expected some in every file",
            args.inputs.data[file].display()
        )));
    }
    if args.mixture == MixtureBy::User {
        refuse_nobody(&dataset, &train)?;
    }
    refuse_lists(args)?;
    questionnaire::check(args, &dataset)?;
    summary::refuse_nothing(&dataset, &train)?;
    let mut notes = dataset.notes.clone();
    for line in summary::lines(args.mixture, &dataset, &train) {
        say(&mut std::io::stdout(), &line);
        notes.push(line);
    }
    let runtime = Runtime::load(&args.inputs.onnxruntime_library).map_err(Failure::refused)?;
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut encoder = load_encoder(&runtime, &args.encoder, n_threads).map_err(Failure::refused)?;
    let layout = layout(args, encoder.n_embedding)?;
    let encoded = encode(&dataset, &[], layout, &mut encoder, &args.inputs.cache, &bar("encoding"))?;
    if let Some(line) = encoded.cut {
        say(&mut std::io::stdout(), &line);
        notes.push(line);
    }
    let mut examples = encoded.examples;
    let lexical = read_lexical(&mut examples, &train, args.seed)?;
    if lexical.is_none() && examples.layout.blocks.contains(&Block::Lexical) {
        return Err(Failure::refused("--features lexical: found no two train responses that share a word"));
    }
    let input = input(encoder.input.template, &examples, &train)?;
    let mut examples = in_range(examples, &input);
    examples.average_over(&train).map_err(Failure::failed)?;

    let options = options(args);
    let bar = bar("learning");
    bar.set_length(n_steps(&examples, &train, &options) as u64);
    let learned = learn(&examples, &train, &options, &|| bar.inc(1)).map_err(Failure::failed)?;
    bar.finish_and_clear();
    let of_file = |file: usize| {
        train.iter().copied().filter(|&idx| dataset.pairs[idx].file == file).collect::<Vec<_>>()
    };
    let mut rulers = Vec::new();
    for file in 0..args.inputs.data.len() {
        let (pairs, ridge) = (&of_file(file), args.ridge.of(file));
        let how = RulerLesson { pairs, ridge, scalar_scale: args.scalar_scale };
        rulers.push(ruled(&mut examples, how, Ruler::rewards)?);
    }
    let report = report(&dataset, &examples, &learned, &rulers).map_err(Failure::failed)?;
    let questions = questionnaire::choose(args, &dataset, &examples, &learned)?;
    let fitted = bundle::Fitted {
        questions: &questions,
        learned: &learned,
        layout: &examples.layout,
        report: &report,
        n_pairs: train.len(),
        notes: &notes,
        lexical: lexical.as_ref().filter(|_| examples.layout.blocks.contains(&Block::Lexical)),
    };
    let revision = bundle::write(args, &staged, &dataset, encoder.section, input, &fitted)?;
    Bundle::load(&runtime, staged.path(), 1).map_err(Failure::failed)?;
    if let Some(path) = &args.html {
        let heads: Vec<String> = bundle::names(&dataset, &learned);
        let rewards = examples.rewards(&learned.heads).map_err(Failure::failed)?;
        let z = |row: usize, k: usize| {
            (rewards[[row, k]] - learned.calibration[k].mean) / learned.calibration[k].std
        };
        let liked = liked(&dataset, &examples, &train, &heads, z)?;
        let page = page::page(args, &dataset, (&learned, &report), &heads, liked, &revision);
        files::write(path, page.html())?;
    }
    staged.publish()?;
    for line in table::lines(&dataset, &learned, &report) {
        say(&mut std::io::stdout(), &line);
    }
    say(&mut std::io::stdout(), &format!("{}: revision {revision}", args.out.join(MANIFEST).display()));
    Ok(())
}

fn options(args: &Args) -> Options {
    Options {
        mixture: args.mixture,
        n_heads: args.k.clone(),
        ridge: args.ridge.clone(),
        restarts: args.restarts as usize,
        router_personalization: args.router_personalization,
        deviation_ridge: args.deviation_ridge.clone(),
        scalar_scale: args.scalar_scale,
        merge_above: args.merge,
        is_length_free: args.debias.is_some(),
        prompt: PromptOptions {
            epochs: args.epochs as usize,
            batch: args.batch as usize,
            rate: args.rate,
            entropy: args.entropy,
            sparse: args.sparse,
            balance: args.balance,
        },
        seed: args.seed,
    }
}

fn layout(args: &Args, n_embedding: usize) -> Result<Layout, Failure> {
    let block = |feature: &FeatureName| match feature {
        FeatureName::Response => Block::Response,
        FeatureName::Prompt => Block::Prompt,
        FeatureName::Product => Block::Product,
        FeatureName::Similarity => Block::Similarity,
        FeatureName::Length => Block::LogLength,
        FeatureName::Style => Block::Style,
        FeatureName::Lexical => Block::Lexical,
    };
    let blocks: Vec<Block> = args.features.iter().map(block).collect();
    if let Some(twice) = (1..blocks.len()).find(|&idx| blocks[..idx].contains(&blocks[idx])) {
        return Err(Failure::refused(format!("--features: found {:?} twice", blocks[twice])));
    }
    if args.debias.is_some() && !blocks.contains(&Block::LogLength) {
        return Err(Failure::refused(
            "--debias length: found no length among the features to take it out by",
        ));
    }
    Ok(Layout { blocks, n_embedding, n_lexical: 0 })
}

/// Refuses a list that has neither one value for all files nor one for each.
fn refuse_lists(args: &Args) -> Result<(), Failure> {
    let n_k = match &args.k {
        HeadCount::Given(counts) if args.mixture != MixtureBy::Prompt => counts.0.len(),
        _ => 1,
    };
    let lists =
        [("--k", n_k), ("--ridge", args.ridge.0.len()), ("--deviation-ridge", args.deviation_ridge.0.len())];
    let n_files = args.inputs.data.len();
    match lists.into_iter().find(|(_, n)| *n != 1 && *n != n_files) {
        None => Ok(()),
        Some((flag, n)) => Err(Failure::refused(format!(
            "{flag}: found {n} values for {n_files} files, expected one, or one for each"
        ))),
    }
}

/// Refuses train rows without a user, which a mixture of users needs.
fn refuse_nobody(dataset: &Dataset, train: &[usize]) -> Result<(), Failure> {
    match train.iter().find(|&&idx| dataset.pairs[idx].user.is_none()) {
        None => Ok(()),
        Some(&idx) => Err(Failure::refused(format!(
            "--mixture user: found a train row without `user` in {}, expected one in every train row",
            dataset.files[dataset.pairs[idx].file]
        ))),
    }
}

fn head_count(text: &str) -> Result<HeadCount, String> {
    if text == "auto" {
        return Ok(HeadCount::Auto);
    }
    let count = |text: &str| match text.trim().parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err(format!("found \"{text}\", expected \"auto\" or whole numbers from 1 to 64")),
    };
    Ok(HeadCount::Given(PerFile(text.split(',').map(count).collect::<Result<_, _>>()?)))
}

fn per_file(text: &str) -> Result<PerFile<f64>, String> {
    Ok(PerFile(text.split(',').map(non_negative).collect::<Result<_, _>>()?))
}
