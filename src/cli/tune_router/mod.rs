//! `micro-reward tune-router`: stage 2. A bundle and pairs with criteria in, a bundle whose router reads criteria out.

mod bundle;
mod measure;
mod page;
mod table;

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::inputs::Inputs;
use super::numbers::non_negative;
use super::outputs::Outputs;
use super::staged::Staged;
use super::{Failure, say};
use crate::fit::LearningRule;

/// Rows are those of `fit`, each with a criterion. Labels are drawn from the train split, accuracies are those of the
/// test split, averaged over criteria. All budgets are measured under both rules; without test rows, none is.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The bundle whose router is tuned; its router must be one that `fit` or `tune-router` wrote.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// The field that holds the criterion: the router reads it after the prompt, as a request's `context`.
    #[arg(long, value_name = "NAME", default_value = "criterion")]
    criterion_field: String,
    /// Labeled pairs per criterion; the largest makes the bundle.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "5,10,20,50", value_parser = clap::value_parser!(u32).range(1..))]
    budget: Vec<u32>,
    /// Rule that turns labels into the targets of the bundle's router.
    #[arg(long, value_enum, default_value = "bayes")]
    rule: LearningRule,
    /// Number of draws of labels that are measured; the first makes the bundle.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Directory to write the bundle to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The ridge of the heads that are fitted to all labels of a criterion, to compare with.
    #[arg(long, default_value_t = 100.0, value_parser = non_negative)]
    ridge: f64,
    /// Scale of their columns of length and similarity relative to those of embeddings.
    #[arg(long, default_value_t = 4.0, value_parser = non_negative)]
    scalar_scale: f64,
    #[command(flatten)]
    outputs: Outputs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.outputs.check()?;
    let staged = Staged::new(&args.out)?;
    let measured = measure::measure(args)?;
    for line in table::lines(&measured.figures) {
        say(&mut std::io::stdout(), &line);
    }
    let revision = bundle::write(args, &staged, &measured.router)?;
    staged.publish()?;
    args.outputs.write(&measured.figures, || page::page(args, &measured, &revision))?;
    say(&mut std::io::stdout(), &format!("{}: revision {revision}", args.out.display()));
    Ok(())
}
