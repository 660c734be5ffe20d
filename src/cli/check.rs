//! `micro-reward check`: loads a bundle as `serve` would and reports every problem.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{Failure, say};
use crate::model::{Bundle, Runtime};
use crate::types::config::{Config, Layers, environment};

/// Check the config and the bundle that `serve` would start with.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The bundle to check; by default, the bundle of the config.
    #[arg(long, value_name = "DIR")]
    bundle: Option<String>,
    /// A config file to check as well.
    #[arg(long)]
    config: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let layers = match &args.config {
        Some(path) => Layers::defaults().file(path),
        None => Layers::defaults(),
    };
    let layers = layers.environment(environment()).flag("--bundle", "model.bundle", args.bundle);
    let model = Config::new(layers).map_err(Failure::refused)?.model;
    let runtime = Runtime::load(&model.onnxruntime_library).map_err(Failure::refused)?;
    let (bundle, _) = Bundle::load(&runtime, &model.bundle, 1).map_err(Failure::refused)?;
    let view = bundle.view();
    let line = format!(
        "{}: {} is fit to serve: revision {}, {} heads",
        model.bundle.display(),
        view.name,
        view.revision,
        view.heads.len()
    );
    say(&mut std::io::stdout(), &line);
    Ok(())
}
