//! How the hub is reached.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::hub::printable;

/// The public hub.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How the hub is reached. Debug shows no token.
#[derive(Clone)]
pub struct HubSettings {
    /// The hub's address (`HF_ENDPOINT`), without a slash at the end.
    pub endpoint: String,
    /// The access token, sent to the endpoint's own host and to no other.
    pub token: Option<String>,
    /// The folder of downloaded models, laid out as the hub's own tools do.
    pub cache: PathBuf,
    /// The pause after a first failed attempt; it doubles up to 20 s.
    pub pause: Duration,
}

impl Default for HubSettings {
    /// The public hub without a token, as with an empty environment but for `HOME`.
    fn default() -> Self {
        Self::from_lookup(|name| if name == "HOME" { std::env::var(name).ok() } else { None })
    }
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &printable(&self.endpoint))
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl HubSettings {
    /// From `HF_ENDPOINT`, `HF_TOKEN` (or the file `HF_TOKEN_PATH`, or `HF_HOME/token`), `HF_HUB_CACHE` and
    /// `HF_HOME`, as the hub's own tools read them.
    pub fn from_environment() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The same from any source of variables.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let user = set("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
        let base = set("XDG_CACHE_HOME").map_or_else(|| user.join(".cache"), PathBuf::from);
        let home = set("HF_HOME").map_or_else(|| base.join("huggingface"), PathBuf::from);
        let read = |path: PathBuf| {
            let token = std::fs::read_to_string(path).ok()?.trim().to_owned();
            Some(token).filter(|token| !token.is_empty())
        };
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let implicit = set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_none();
        Self {
            endpoint: set("HF_ENDPOINT")
                .unwrap_or_else(|| PUBLIC_ENDPOINT.to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: set("HF_TOKEN").or_else(|| implicit.then(|| read(token_file)).flatten()),
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            pause: Duration::from_millis(500),
        }
    }

    /// The pause before attempt `failures + 1`.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        self.pause.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> HubSettings {
        HubSettings::from_lookup(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn the_environment_is_read_as_the_hubs_tools_do() {
        let settings = from(&[("HOME", "/h")]);
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.cache, PathBuf::from("/h/.cache/huggingface/hub"));
        assert_eq!(settings.token, None);
        assert_eq!(from(&[("HF_HOME", "/x")]).cache, PathBuf::from("/x/hub"));
        assert_eq!(from(&[("HF_HOME", "/x"), ("HF_HUB_CACHE", "/y")]).cache, PathBuf::from("/y"));
        assert_eq!(from(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        assert_eq!(from(&[("HF_TOKEN", " secret\n")]).token.as_deref(), Some("secret"));
        assert_eq!(from(&[("HF_TOKEN", "")]).token, None);
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "stored\n").unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(from(&[("HF_HOME", home)]).token.as_deref(), Some("stored"));
        assert_eq!(from(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        let settings = HubSettings { pause: Duration::from_secs(1), ..HubSettings::default() };
        let pauses: Vec<u64> = (1..8).map(|failures| settings.pause_after(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20]);
    }
}
