//! Why a file could not be verified at all.

use shared::exit::ExitCode;
use shared::store::StoreError;

/// Why a file could not be verified. A file that is wrong is no error: it is a report.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such file.
    #[error("{0} does not exist, nor do files of that name with -00000")]
    Missing(String),
    /// The file or the run's list of failed items cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of this process ended early.
    #[error("a thread of the verification ended early: {0}")]
    Thread(String),
}

impl VerifyError {
    /// How the command ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Missing(_) => ExitCode::Input,
            Self::Store(_) => ExitCode::Unreachable,
            Self::Read { source, .. } => {
                let store = source.get_ref().and_then(|inner| inner.downcast_ref::<StoreError>());
                if store.is_some() { ExitCode::Unreachable } else { ExitCode::Unexpected }
            }
            Self::Thread(_) => ExitCode::Unexpected,
        }
    }
}
