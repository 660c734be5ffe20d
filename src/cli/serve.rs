//! `micro-reward serve`: starts the server and waits for the signal to stop.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use clap::Args as ClapArgs;

use super::Failure;
use crate::server::{App, signals};
use crate::telemetry::logging;
use crate::types::SystemClock;
use crate::types::config::{Config, Layers, environment};

/// Flags override the environment, which overrides the file.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A TOML file that overlays the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The bundle to serve.
    #[arg(long, value_name = "DIR")]
    bundle: Option<String>,
    /// Address that serves traffic, such as 0.0.0.0:8080.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address that serves probes and metrics.
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// Store of the ledgers: embedded, valkey or memory.
    #[arg(long, value_name = "ENGINE")]
    state: Option<String>,
    /// The directory of the embedded engine, and of the outbox of valkey.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

impl Args {
    fn into_layers(self) -> Layers {
        let layers = match &self.config {
            Some(path) => Layers::defaults().file(path),
            None => Layers::defaults(),
        };
        layers
            .environment(environment())
            .flag("--bundle", "model.bundle", self.bundle)
            .flag("--listen", "server.listen", self.listen)
            .flag("--admin-listen", "server.admin_listen", self.admin_listen)
            .flag("--state", "state.engine", self.state)
            .flag("--data-dir", "state.data_dir", self.data_dir)
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let layers = args.into_layers();
    // A faulty config still sets the format of the log, unless that is its fault.
    let is_logged = layers.want_json_log();
    serve(layers).map_err(|failure| Failure { is_logged, ..failure })
}

fn serve(layers: Layers) -> Result<(), Failure> {
    let config = Config::new(layers).map_err(Failure::refused)?;
    logging::start(&config.log.filter, config.log.json);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(async {
        let mut stop = pin!(signals::requested().map_err(Failure::failed)?);
        let mut hangups = signals::hangups().map_err(Failure::failed)?;
        tracing::debug!(bundle = %config.model.bundle.display(), "starting");
        let mut start = pin!(App::start(config, Arc::new(SystemClock)));
        let app = tokio::select! {
            app = &mut start => app.map_err(Failure::refused)?,
            signal = &mut stop => {
                tracing::info!(signal, "stopping as soon as it has started");
                // An exit while ONNX Runtime is being loaded would tear it down in the middle of its start.
                start.await.map_err(Failure::refused)?.stop().await;
                return Ok(());
            }
        };
        let signal = loop {
            tokio::select! {
                signal = &mut stop => break signal,
                _ = hangups.recv() => app.reload(),
            }
        };
        tracing::info!(signal, "stopping");
        app.stop().await;
        Ok(())
    })?;
    // A connection or a model thread that outlived the drain must not keep the process alive.
    runtime.shutdown_background();
    Ok(())
}
