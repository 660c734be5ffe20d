use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use micro_reward::types::config::environment;

/// Rows, events and responses are many small allocations on many threads: mimalloc updates ledgers a tenth to a third
/// faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Environment variable that turns off the telemetry of ONNX Runtime. It must be set before the library is loaded;
/// the switch in its API takes effect too late.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

fn main() -> ExitCode {
    if !environment().any(|(name, _)| name == NO_TELEMETRY) {
        // A process can't change its own environment safely, but it can start over in another one; if that fails, it
        // continues. `ps` and `top` name a process after the path that it was started by, so the link is only for a
        // program whose file is gone.
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
