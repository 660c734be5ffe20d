//! `micro-reward replay`: a bundle and recorded choices in, what routing would have given their people out.

mod measure;
mod page;
mod table;

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::inputs::Inputs;
use super::numbers::{non_negative, share, unit};
use super::outputs::Outputs;
use super::{Failure, say};
use crate::fit::Split;
use crate::replay::Order;

/// Rows are those of `fit`, each with a `user`. Train rows give the single head and the best head to compare with, their people
/// the population; without them, these are left out.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The bundle to replay.
    #[arg(long, value_name = "DIR", default_value = "models/default")]
    bundle: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Whose choices are replayed.
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Which choice is asked for next.
    #[arg(long, value_enum, default_value = "random")]
    order: Order,
    /// Only people who have answered this many of the bundle's questions.
    #[arg(long, value_name = "N", default_value_t = 0)]
    answers: usize,
    /// How many orders are drawn for each person.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The share of each person's choices that is never asked for and measured on alone; 0 measures on what has not been
    /// asked for yet. Give the same reserve to orders that are to be compared.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    reserve: f64,
    /// After how many labels to measure.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0,1,2,5,10,15,20,40")]
    after: Vec<usize>,
    /// The field that holds the context: the router reads it, and every context has a ledger of its own.
    #[arg(long, value_name = "NAME", default_value = "context")]
    context_field: String,
    /// The field that holds the group to report by.
    #[arg(long, value_name = "NAME", default_value = "group")]
    group_field: String,
    /// How much evidence from other contexts counts, from 0 to 1; without it, as `serve` has it.
    #[arg(long, value_parser = unit)]
    transfer: Option<f64>,
    /// The ridge of the single head to compare with.
    #[arg(long, default_value_t = 1000.0, value_parser = non_negative)]
    ridge: f64,
    /// How much larger its columns of length and similarity are than those of embeddings.
    #[arg(long, default_value_t = 4.0, value_parser = non_negative)]
    scalar_scale: f64,
    #[command(flatten)]
    outputs: Outputs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    args.outputs.check()?;
    let measured = measure::measure(args)?;
    for line in table::lines(&measured) {
        say(&mut std::io::stdout(), &line);
    }
    args.outputs.write(&measured.figures, || page::page(args, &measured))?;
    Ok(())
}
