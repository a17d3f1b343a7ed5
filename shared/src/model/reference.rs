//! Reading `--model`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{HASH_DIMENSIONS, ModelError};

/// Schemes that name a store.
const STORE_SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "abfs", "abfss", "file", "memory"];

/// What `--model` names.
///
/// Reading it looks at the disk once: **an existing folder wins**, so that `Qwen/Qwen3-VL-Embedding-8B`
/// means the folder of that name where there is one, and the hub elsewhere. In order:
///
/// 1. an existing folder;
/// 2. `hash:DIM`, the hash embedder, with DIM in [`HASH_DIMENSIONS`];
/// 3. a store URL: `s3://`, `gs://`, `az://`, `file:` or `memory:`;
/// 4. what looks like a path (starts with `/`, `.` or `~`, ends with `/`, holds a `\`, has more or fewer
///    than one `/`, or is an existing file) is an error that says there is no such folder, never a hub id;
/// 5. a hub id `owner/name` with an optional `@revision` (a branch, a tag or a commit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A Hugging Face id.
    Hub(HubId),
    /// A folder of a store, by URL. It holds no credentials.
    Store(String),
    /// The hash embedder of that dimension.
    Hash(u32),
}

/// A repository of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// `owner/name`.
    pub repository: String,
    /// A branch, a tag or a commit; `None` is the branch `main`.
    pub revision: Option<String>,
}

impl FromStr for ModelRef {
    type Err = ModelError;

    fn from_str(value: &str) -> Result<Self, ModelError> {
        parse(value, Path::is_dir, Path::is_file)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Hub(id) => id.fmt(f),
            Self::Store(url) => f.write_str(url),
            Self::Hash(dimension) => write!(f, "hash:{dimension}"),
        }
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

fn parse(
    value: &str,
    is_folder: impl Fn(&Path) -> bool,
    is_file: impl Fn(&Path) -> bool,
) -> Result<ModelRef, ModelError> {
    let bad = |rule: &str| Err(ModelError::BadName { value: shown(value), rule: rule.to_owned() });
    if value.trim().is_empty() {
        return bad("it is empty: pass --model or set FLEET_MODEL");
    }
    let path = Path::new(value);
    if is_folder(path) {
        return Ok(ModelRef::Folder(path.to_owned()));
    }
    if value.starts_with("hash:") {
        return match parse_hash(value) {
            Some(dimension) => Ok(ModelRef::Hash(dimension)),
            None => bad("the hash embedder's dimension is a number from 64 to 65536, as in hash:4096"),
        };
    }
    if is_store_url(value) {
        return parse_store(value);
    }
    if value.contains("://") {
        return bad("unknown scheme; a model's URL is s3://, gs://, az:// or file:");
    }
    if is_file(path) {
        return bad("it is a file; name the folder that holds config.json and the safetensors files");
    }
    if looks_like_a_path(value) {
        return bad("there is no such folder (a hub id has the form owner/name)");
    }
    parse_hub(value).map_or_else(
        || bad("there is no such folder, and a hub id has the form owner/name or owner/name@revision"),
        |id| Ok(ModelRef::Hub(id)),
    )
}

/// The dimension of `hash:DIM`, if that is what `value` is.
pub(super) fn parse_hash(value: &str) -> Option<u32> {
    let digits = value.strip_prefix("hash:")?;
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|dimension| HASH_DIMENSIONS.contains(dimension))
}

/// Whether `value` has the scheme of a store.
pub(super) fn is_store_url(value: &str) -> bool {
    value.split_once(':').is_some_and(|(scheme, rest)| {
        let needs_slashes = !matches!(scheme, "file" | "memory");
        STORE_SCHEMES.contains(&scheme) && (!needs_slashes || rest.starts_with("//"))
    })
}

fn parse_store(value: &str) -> Result<ModelRef, ModelError> {
    let authority = value.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(""));
    // A file's name may hold '@' and '?'; a bucket's URL with either carries a secret or an option.
    let is_remote = !value.starts_with("file:") && !value.starts_with("memory:");
    if is_remote && (authority.contains('@') || value.contains(['?', '#'])) {
        return Err(ModelError::BadName {
            value: shown(value),
            rule: "a model's URL holds no credentials and no options; set them in the environment".to_owned(),
        });
    }
    Ok(ModelRef::Store(value.trim_end_matches('/').to_owned()))
}

fn looks_like_a_path(value: &str) -> bool {
    let without_revision = value.split('@').next().unwrap_or(value);
    value.starts_with(['/', '.', '~'])
        || value.contains('\\')
        || without_revision.ends_with('/')
        || without_revision.matches('/').count() > 1
}

fn parse_hub(value: &str) -> Option<HubId> {
    let (repository, revision) = match value.split_once('@') {
        Some((repository, revision)) => (repository, Some(revision)),
        None => (value, None),
    };
    let (owner, name) = repository.split_once('/')?;
    let legal = |part: &str| {
        let starts_well = part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        starts_well && part.len() <= 96 && part.chars().all(legal) && !part.contains("..")
    };
    let is_revision = |revision: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+');
        !revision.is_empty()
            && revision.len() <= 200
            && revision.chars().all(legal)
            && !revision.contains("..")
    };
    if !legal(owner) || !legal(name) || !revision.is_none_or(is_revision) {
        return None;
    }
    Some(HubId { repository: repository.to_owned(), revision: revision.map(str::to_owned) })
}

/// The value as it may be printed: without what a URL may hide before `@` and after `?`.
fn shown(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let rest = rest.rsplit_once('@').map_or(rest, |(_, after)| after);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_empty_disk(value: &str) -> Result<ModelRef, ModelError> {
        parse(value, |_| false, |_| false)
    }

    fn hub(repository: &str, revision: Option<&str>) -> ModelRef {
        ModelRef::Hub(HubId { repository: repository.into(), revision: revision.map(Into::into) })
    }

    #[test]
    fn every_form_is_read() {
        let table = [
            ("hash:64", ModelRef::Hash(64)),
            ("hash:65536", ModelRef::Hash(65_536)),
            ("Qwen/Qwen3-VL-Embedding-8B", hub("Qwen/Qwen3-VL-Embedding-8B", None)),
            ("a/b@main", hub("a/b", Some("main"))),
            ("a/b@refs/pr/1", hub("a/b", Some("refs/pr/1"))),
            ("s3://bucket/m/", ModelRef::Store("s3://bucket/m".into())),
            ("gs://bucket/m", ModelRef::Store("gs://bucket/m".into())),
            ("az://container/m", ModelRef::Store("az://container/m".into())),
            ("file:///srv/m@2", ModelRef::Store("file:///srv/m@2".into())),
            ("memory:", ModelRef::Store("memory:".into())),
        ];
        for (value, expected) in table {
            assert_eq!(on_empty_disk(value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn an_existing_folder_wins() {
        for value in ["a/b", "hash:64", "s3://x/y", "plain"] {
            assert_eq!(parse(value, |_| true, |_| false).unwrap(), ModelRef::Folder(value.into()));
        }
    }

    #[test]
    fn what_looks_like_a_path_is_never_a_hub_id() {
        for value in ["/models/x", "./a/b", "../b", "~/m", "a/b/c", "a/b/", "C:\\models", "."] {
            let error = on_empty_disk(value).unwrap_err().to_string();
            assert!(error.contains("no such folder") && error.contains(&format!("{value:?}")), "{error}");
        }
        let error = parse("a/b", |_| false, |_| true).unwrap_err().to_string();
        assert!(error.contains("is a file"), "{error}");
    }

    #[test]
    fn wrong_names_are_refused() {
        for value in [
            "",
            " ",
            "hash:",
            "hash:63",
            "hash:65537",
            "hash:064",
            "hash:x",
            "plain",
            "a/b@",
            "a/b c",
            "한/글",
            "a/..b",
        ] {
            assert!(on_empty_disk(value).is_err(), "{value}");
        }
        assert!(on_empty_disk("ftp://x/y").unwrap_err().to_string().contains("unknown scheme"));
    }

    #[test]
    fn secrets_in_urls_are_refused_and_not_shown() {
        for value in [
            "s3://key:hunter2@bucket/m",
            "s3://bucket/m?token=hunter2",
            "https://user:hunter2@hub/m?x=hunter2",
        ] {
            let error = on_empty_disk(value).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
