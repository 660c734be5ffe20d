use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    micro_reward::cli::run(micro_reward::cli::Cli::parse())
}
