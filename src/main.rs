use std::process::ExitCode;

use clap::Parser;

/// Rows, events and answers are many small allocations on many threads; docs of `benches/state.rs` say what it gives.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    micro_reward::cli::run(micro_reward::cli::Cli::parse())
}
