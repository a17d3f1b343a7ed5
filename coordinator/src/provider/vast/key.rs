//! The account's key: read as the vendor's own client does, and never shown.

use std::fmt;
use std::path::PathBuf;

/// The variable that holds it.
pub const KEY_VARIABLE: &str = "VAST_API_KEY";

/// The variable for another server than Vast.ai's.
pub const URL_VARIABLE: &str = "VAST_URL";

/// A key that prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// One that is at hand; `None` for an empty one.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// From `VAST_API_KEY`, else from the files of the vendor's client.
    pub fn from_environment() -> Option<Self> {
        if let Some(key) = std::env::var(KEY_VARIABLE).ok().as_deref().and_then(Self::read) {
            return Some(key);
        }
        files().iter().find_map(|file| Self::read(&std::fs::read_to_string(file).ok()?))
    }

    /// The key itself, for the request's header alone.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

/// `$XDG_CONFIG_HOME/vastai/vast_api_key`, then the older `~/.vast_api_key`.
fn files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| home.as_ref().map(|home| home.join(".config")));
    [config.map(|config| config.join("vastai/vast_api_key")), home.map(|home| home.join(".vast_api_key"))]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::ApiKey;

    #[test]
    fn a_key_is_never_shown() {
        let key = ApiKey::read(" hunter2\n").unwrap();
        assert_eq!(key.expose(), "hunter2");
        assert_eq!(format!("{key:?}"), "ApiKey(***)");
        assert_eq!(ApiKey::read(" \n"), None);
    }
}
