//! `micro-reward fit`: data and an encoder in, a bundle out.

mod bundle;
mod examples;

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, say};
use crate::fit::{Dataset, Options, Preference, Regularisers, Split, calibrate, report, train};
use crate::model::{Bundle, MANIFEST, Runtime, load_encoder};

/// One train row in ten, by user where there are users, calibrates the temperatures and is not learned from.
const HELD_OUT: u64 = 10;

/// Rows are JSON objects: {prompt, chosen, rejected, user?, context?, group?, split?}, or chosen_id and
/// rejected_id with --responses. `split` is "train" (default) or "test".
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A directory whose bundle.toml has [encoder] and [input], with the files they name; any bundle will do.
    #[arg(long, value_name = "DIR")]
    encoder: PathBuf,
    /// Preference pairs as JSON lines, plain or .gz. Every file weighs the same, however large.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// {id, text} rows for data that names responses by id.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    responses: Vec<PathBuf>,
    /// How many heads.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    k: u64,
    /// Where the bundle is written; may be the encoder's directory.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The bundle's name; by default the directory's.
    #[arg(long)]
    name: Option<String>,
    /// SPDX identifier of the bundle's licence.
    #[arg(long, default_value = "Apache-2.0")]
    licence: String,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Passes over as many pairs as there are.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Pairs per step.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Peak learning rate of AdamW, with 5 % warm-up and a cosine.
    #[arg(long, default_value_t = 2e-3, value_parser = non_negative)]
    rate: f64,
    /// The paper's regulariser (alpha): keeps every head alive for every prompt. The paper uses 0.5.
    #[arg(long, default_value_t = 0.0, value_parser = non_negative)]
    entropy: f64,
    /// Sparse local: punishes entropy of every prompt's weights.
    #[arg(long, default_value_t = 0.1, value_parser = non_negative)]
    sparse: f64,
    /// Balanced global: rewards entropy of the mean weights.
    #[arg(long, default_value_t = 0.5, value_parser = non_negative)]
    balance: f64,
    /// Shrinks the heads.
    #[arg(long, default_value_t = 0.1, value_parser = non_negative)]
    l2: f64,
    /// Where embeddings are kept between runs.
    #[arg(long, value_name = "DIR", default_value = ".cache/embeddings")]
    cache: PathBuf,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE", default_value = "vendor/onnxruntime/libonnxruntime.so")]
    onnxruntime_library: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let dataset = Dataset::read(&args.data, &args.responses).map_err(Failure::refused)?;
    let runtime = Runtime::load(&args.onnxruntime_library).map_err(Failure::refused)?;
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut encoder = load_encoder(&runtime, &args.encoder, n_threads).map_err(Failure::refused)?;
    let examples = examples::encode(&dataset, &mut encoder, &args.cache, &bar("encoding"))?;

    let (learned, held_out) = partition(&dataset.pairs, args.seed);
    let options = |n_heads| Options {
        n_heads,
        epochs: args.epochs as usize,
        batch: args.batch as usize,
        rate: args.rate,
        regularisers: Regularisers {
            entropy: args.entropy,
            sparse: args.sparse,
            balance: args.balance,
            l2: args.l2,
        },
        seed: args.seed,
    };
    let learn = |what: &'static str, n_heads| {
        let bar = bar(what);
        let parameters = train(&examples, &learned, options(n_heads), |step, of, loss| {
            bar.set_length(of as u64);
            bar.set_position(step as u64);
            bar.set_message(format!("loss {loss:.4}"));
        });
        bar.finish();
        parameters
    };
    let single = learn("a single head", 1);
    let mixture = learn("heads and router", args.k as usize);
    let calibration = calibrate(&examples, &mixture, &learned, &held_out);
    let betas: Vec<f64> = calibration.iter().map(|head| head.beta).collect();
    let report = report(&dataset, &examples, &mixture, &betas, &single);
    let rows = bundle::Rows { learned: learned.len(), held_out: held_out.len() };
    let fitted = bundle::Fitted { heads: &mixture, calibration: &calibration, report: &report, rows };
    let revision = bundle::write(args, encoder.section, encoder.input, &fitted)?;
    Bundle::load(&runtime, &args.out, 1).map_err(Failure::failed)?;
    for line in bundle::table(&report) {
        say(&mut std::io::stdout(), &line);
    }
    say(&mut std::io::stdout(), &format!("{}: revision {revision}", args.out.join(MANIFEST).display()));
    Ok(())
}

/// The indices of train rows to learn from and to calibrate on. A user's rows stay together where there are
/// enough users; where there are too few rows to hold any out, temperatures stay 1.
fn partition(rows: &[Preference], seed: u64) -> (Vec<usize>, Vec<usize>) {
    let train: Vec<usize> = (0..rows.len()).filter(|&idx| rows[idx].split == Split::Train).collect();
    let users: HashSet<_> = train.iter().filter_map(|&idx| rows[idx].user.as_ref()).collect();
    let is_by_user = users.len() as u64 >= 2 * HELD_OUT;
    let (learned, held_out): (Vec<usize>, Vec<usize>) = train.iter().partition(|&&idx| {
        let user = rows[idx].user.clone().filter(|_| is_by_user);
        let key = user.unwrap_or_else(|| idx.to_string());
        let digest = blake3::hash(format!("{seed}/{key}").as_bytes());
        u64::from(digest.as_bytes()[0]) % HELD_OUT != 0
    });
    if learned.is_empty() { (train, Vec::new()) } else { (learned, held_out) }
}

fn non_negative(text: &str) -> Result<f64, String> {
    let number = text.parse().map_err(|_| format!("found \"{text}\", expected a number"))?;
    if (0.0..f64::INFINITY).contains(&number) {
        Ok(number)
    } else {
        Err(format!("found {text}, expected a number >= 0"))
    }
}

fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta} {msg}");
    let bar = ProgressBar::new(0).with_prefix(what);
    // A template that does not parse leaves the default style.
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
