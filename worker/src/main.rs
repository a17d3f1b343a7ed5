//! `worker`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    worker::cli::main().into()
}
