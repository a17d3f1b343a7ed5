//! `coordinator`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::cli::main().into()
}
