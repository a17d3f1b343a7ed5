//! Exit codes: part of the contract that people's scripts rely on.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Done. Failed items alone are a warning, unless `--strict`.
    Done = 0,
    /// Something unexpected.
    Unexpected = 1,
    /// The command line or a setting is wrong.
    Usage = 2,
    /// Input data or a model cannot be read, or a plan differs from the one in the store.
    Input = 3,
    /// Shards are missing or dead.
    Incomplete = 4,
    /// Verification failed, or parts of another run or fingerprint were found.
    Verification = 5,
    /// The queue or the store cannot be reached.
    Unreachable = 6,
    /// Ended by Ctrl-C.
    Interrupted = 130,
    /// Ended by SIGTERM.
    Terminated = 143,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
