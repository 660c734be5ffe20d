use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use micro_reward::types::config::environment;

/// Rows, events and answers are many small allocations on many threads: ledgers are updated a tenth to a third faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// ONNX Runtime reports to its makers unless this is set before it is loaded; the switch in its API comes too late.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

fn main() -> ExitCode {
    if !environment().any(|(name, _)| name == NO_TELEMETRY) {
        // A process can't change its own environment safely, but it can start over in another one. If it can't even do
        // that, it goes on.
        // `ps` and `top` name a process after the path that it was started by, so the link is for a program whose file has gone.
        let link = PathBuf::from("/proc/self/exe");
        for path in std::env::current_exe().into_iter().chain([link]) {
            let mut args = std::env::args_os();
            let mut again = Command::new(path);
            again.arg0(args.next().unwrap_or_default()).args(args).env(NO_TELEMETRY, "1");
            let _ = again.exec();
        }
    }
    micro_reward::cli::run(micro_reward::cli::Cli::parse())
}
