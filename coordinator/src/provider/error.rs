//! Why a provider did not do what it was asked, and what that means for what to do next.

use std::fmt;

use shared::exit::ExitCode;

use super::InstanceId;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// Somebody else took the offer, or it ended.
    OfferGone,
    /// Too many calls.
    RateLimited,
    /// The day's quota of calls is used up.
    Quota,
    /// The key is wrong or may not do this.
    Denied,
    /// The account has too little money.
    Balance,
    /// The request itself is wrong, which another offer does not change.
    Invalid,
    /// The provider does not know the instance.
    NoInstance,
    /// No answer, or none that can be read: whether the request was carried out is not known.
    Unreachable,
    /// An answer that says it failed, for reasons of its own.
    Failed,
}

/// A failed call. The message holds no key.
#[derive(Debug)]
pub struct ProviderError {
    /// What kind of failure it is.
    pub kind: ProviderErrorKind,
    /// What failed, in the provider's words where it has some.
    pub message: String,
    /// The instance that exists all the same: it must be destroyed.
    pub created: Option<InstanceId>,
    /// The cause, where there is one.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProviderError {
    /// A failure of this kind.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), created: None, source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the request may have been carried out although it failed.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self.kind, ProviderErrorKind::Unreachable | ProviderErrorKind::Failed)
    }

    /// Whether every further creation would fail the same way until a person acts.
    pub fn is_final(&self) -> bool {
        matches!(
            self.kind,
            ProviderErrorKind::Denied | ProviderErrorKind::Balance | ProviderErrorKind::Invalid
        )
    }

    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self.kind {
            ProviderErrorKind::Denied | ProviderErrorKind::Invalid | ProviderErrorKind::NoInstance => {
                ExitCode::Usage
            }
            ProviderErrorKind::Balance => ExitCode::Incomplete,
            ProviderErrorKind::OfferGone
            | ProviderErrorKind::RateLimited
            | ProviderErrorKind::Quota
            | ProviderErrorKind::Unreachable
            | ProviderErrorKind::Failed => ExitCode::Unreachable,
        }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.kind {
            ProviderErrorKind::Denied => f.write_str(
                "; check VAST_API_KEY, or the key in ~/.config/vastai/vast_api_key, and what it may do",
            ),
            ProviderErrorKind::Balance => f.write_str("; add credit to the account"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProviderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
