//! The commands. Each reads flags, calls one engine or the app, and prints the result.

mod check;
mod encode;
mod files;
mod fit;
mod inputs;
mod liked;
mod numbers;
mod outputs;
mod progress;
mod rebuild;
mod replay;
mod ruled;
mod scored;
mod serve;
mod staged;
mod tune_router;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::logging;

/// EX_USAGE of sysexits.h: the config, the bundle or the data is refused.
const EXIT_REFUSED: u8 = 64;

/// A reward server with a routed mixture of heads, personalized online.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a bundle over HTTP: score, rank, compare, and learn from feedback.
    Serve(serve::Args),
    /// Learn reward heads and a router from preference pairs, and write a bundle.
    Fit(fit::Args),
    /// Teach a bundle's router criteria in words, from few labeled pairs.
    TuneRouter(tune_router::Args),
    /// Run recorded choices through the router: accuracy after n labels, compared with other rules.
    Replay(replay::Args),
    /// Rebuild the ledgers for another bundle from the raw events of a data directory.
    Rebuild(rebuild::Args),
    /// Report every problem of a bundle or a config.
    Check(check::Args),
}

/// Runs the command; the exit code is 0, 1 for a failure, 64 for a config, bundle or data that is refused. Flags that
/// can't be parsed exit with clap's own 2.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Fit(args) => fit::run(&args),
        Command::TuneRouter(args) => tune_router::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Rebuild(args) => rebuild::run(&args),
        Command::Check(args) => check::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code, is_logged }) => {
            match is_logged {
                true => logging::refused(code, &message),
                false => say(&mut std::io::stderr(), &format!("micro-reward: {message}")),
            }
            ExitCode::from(code)
        }
    }
}

/// The failure of a command: a message and an exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
    /// True if standard error is a log in JSON, which log collectors must be able to parse to its last line.
    is_logged: bool,
}

impl Failure {
    fn refused(error: impl std::fmt::Display) -> Self {
        Self { message: error.to_string(), code: EXIT_REFUSED, is_logged: false }
    }

    fn failed(error: impl std::fmt::Display) -> Self {
        Self { message: error.to_string(), code: 1, is_logged: false }
    }
}

/// Writes a line; errors are ignored, since a closed pipe is the reader's choice.
fn say(out: &mut impl std::io::Write, line: &str) {
    let _ = writeln!(out, "{line}");
}
