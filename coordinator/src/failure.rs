//! How a command fails: an error for a person and the exit code for a script.

use shared::exit::ExitCode;
use shared::queue::QueueError;
use shared::settings::SettingsError;
use shared::store::StoreError;

use crate::fleet::journal::JournalError;
use crate::provider::ProviderError;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// What a script sees.
    pub code: ExitCode,
    /// What a person reads.
    pub error: anyhow::Error,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }

    /// The command line or a setting is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, anyhow::Error::msg(message.into()))
    }

    /// The same failure, said in the words of what was attempted.
    #[must_use]
    pub fn context(self, what: impl Into<String>) -> Self {
        Self { code: self.code, error: self.error.context(what.into()) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::new(ExitCode::Usage, error)
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::new(error.exit_code(), error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(ExitCode::Unexpected, error)
    }
}
