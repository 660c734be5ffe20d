//! `micro-reward replay`: a bundle and recorded choices in, the accuracy of routing for their users out.

mod measure;
mod page;
mod raters;
mod table;

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::inputs::Inputs;
use super::numbers::{learning_rate, non_negative, share, unit};
use super::outputs::Outputs;
use super::{Failure, say};
use crate::fit::Split;
use crate::replay::Order;

/// Rows are those of `fit`, each with a `user`. Train rows give the single head and the best head to compare with,
/// their users the population; without train rows, these are left out.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The bundle to replay.
    #[arg(long, value_name = "DIR", default_value = "models/default")]
    bundle: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Split whose choices are replayed.
    #[arg(long, value_enum, default_value = "test")]
    split: Split,
    /// Order in which choices are asked for.
    #[arg(long, value_enum, default_value = "random")]
    order: Order,
    /// Minimum number of answers to the bundle's questions; users with fewer are left out.
    #[arg(long, value_name = "N", default_value_t = 0)]
    answers: usize,
    /// Number of orders drawn for each user.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Share of each user's choices that is never asked for, and the only one measured on; 0 measures on the choices
    /// not asked for yet. Give the same reserve to orders that are to be compared.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    reserve: f64,
    /// Share of the responses that a user chose among that no label is about; measured on are the choices between two
    /// of them. A gain is then the user's, and not of texts that were labeled before.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share, conflicts_with = "reserve")]
    disjoint: f64,
    /// Numbers of labels after which to measure.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0,1,2,5,10,15,20,40")]
    after: Vec<usize>,
    /// Ratings of the people, whose picks are then measured: rows of {user, prompt, responses or response_ids,
    /// ratings, split?}, each with all ratings of one person. The value is the rating of the response that a rule
    /// ranks first, of those without a label, minus the person's mean.
    #[arg(long, value_name = "FILE")]
    value: Option<PathBuf>,
    /// The field that holds the context: the router reads it, and every context has a ledger of its own.
    #[arg(long, value_name = "NAME", default_value = "context")]
    context_field: String,
    /// The field that holds the group to report by.
    #[arg(long, value_name = "NAME", default_value = "group")]
    group_field: String,
    /// Transfer of evidence from other contexts, from 0 to 1; by default, that of `serve`.
    #[arg(long, value_parser = unit)]
    transfer: Option<f64>,
    /// Hedge's learning rate, above 0, at most 1000; by default, the bundle's.
    #[arg(long, value_parser = learning_rate)]
    learning_rate: Option<f64>,
    /// The ridge of the single head to compare with.
    #[arg(long, default_value_t = 1000.0, value_parser = non_negative)]
    ridge: f64,
    /// Scale of its columns of length and similarity relative to those of embeddings.
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
