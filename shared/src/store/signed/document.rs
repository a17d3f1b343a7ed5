//! What a worker without credentials holds: the root document of its rights, and pages of signed URLs.
//!
//! ```text
//! runs/<run>/access/<sha16>.json    the root: plan, model, uploads, and the pages by range of shards
//! runs/<run>/access/<sha16>.json    a page: the signed URLs of at most 1,000 bundles
//! ```
//! Both are immutable and named by their content. Their URLs are secrets: they print without their
//! signatures.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ids::{RunId, ShardId};

/// The version of both documents.
pub const ACCESS_VERSION: u32 = 1;

/// Bundles of one page.
pub const SHARDS_PER_PAGE: usize = 1000;

/// A text that only the two ends of a connection may see.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for a request or a private file alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A URL whose query is the right to read what it names. It prints without it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedUrl(Url);

impl SignedUrl {
    /// Takes a URL for a signed one.
    pub fn new(url: Url) -> Self {
        Self(url)
    }

    /// The URL with its signature, for a request or a private file alone.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.0.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    /// Whether it has a signature of the fourth version at all.
    pub fn is_signed(&self) -> bool {
        self.parameter("X-Amz-Signature").is_some()
    }
}

impl fmt::Display for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::settings::mask_url(self.0.as_str()))
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedUrl({self})")
    }
}

/// One object that may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedObject {
    /// Its key, relative to the store.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Where it is read.
    pub url: SignedUrl,
}

/// The right to upload by HTTP POST: a form with these fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// Where the form goes.
    pub url: Url,
    /// What the key of every upload starts with, in the bucket.
    pub key_prefix: String,
    /// The largest upload in bytes.
    pub most_bytes: u64,
    /// The form's other fields: the signed policy and what it asks for.
    pub fields: BTreeMap<String, Secret>,
}

/// Where a page lies and which shards it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageLink {
    /// The first shard.
    pub first: ShardId,
    /// One past the last shard.
    pub end: ShardId,
    /// The page.
    pub page: SignedObject,
}

/// The root: everything that a worker of one run may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRoot {
    /// [`ACCESS_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// When all of it ends, RFC 3339 in UTC.
    pub expires_at: String,
    /// `plan.json`.
    pub plan: SignedObject,
    /// The model's files, where the model lies in a store, under the keys `models/<digest16>/<name>`.
    pub model: Vec<SignedObject>,
    /// Uploads of parts.
    pub upload: Upload,
    /// The pages, ordered by shard, without gaps.
    pub pages: Vec<PageLink>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessPage {
    /// [`ACCESS_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The bundles of the page's shards, in order.
    pub bundles: Vec<SignedObject>,
}

/// A document of rights that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is none.
    #[error("this is no document of a worker's rights")]
    Parse(#[source] serde_json::Error),
    /// It is of another version.
    #[error(
        "these rights have version {found}, this program knows version {ACCESS_VERSION}: use the release that made them"
    )]
    Version {
        /// The version found.
        found: u64,
    },
}

/// Reads a root or a page: the version first, since the fields of another one are not ours to judge.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(DocumentError::Parse)?;
    if version != u64::from(ACCESS_VERSION) {
        return Err(DocumentError::Version { found: version });
    }
    serde_json::from_slice(bytes).map_err(DocumentError::Parse)
}

/// The bytes of a root or a page.
pub fn to_json<T: Serialize>(document: &T) -> Result<Bytes, DocumentError> {
    serde_json::to_vec(document).map(Bytes::from).map_err(DocumentError::Parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_never_shown() {
        let url = "https://h/b/k?X-Amz-Signature=hunter2&X-Amz-Security-Token=hunter2";
        let url = SignedUrl::new(url.parse().unwrap());
        let fields = BTreeMap::from([("policy".to_owned(), Secret::new("hunter2".to_owned()))]);
        let upload = Upload {
            url: "https://h/b".parse().unwrap(),
            key_prefix: "p/".to_owned(),
            most_bytes: 1,
            fields,
        };
        let object = SignedObject { key: "k".to_owned(), bytes: 1, url: url.clone() };
        let shown = format!("{url} {object:?} {upload:?}");
        assert!(shown.contains("https://h/b/k") && !shown.contains("hunter2"), "{shown}");
        assert!(url.is_signed() && !SignedUrl::new("https://h/b".parse().unwrap()).is_signed());
        let again: SignedObject = serde_json::from_slice(&to_json(&object).unwrap()).unwrap();
        assert_eq!(again, object);
    }

    #[test]
    fn other_versions_and_fields_are_refused() {
        let error = parse::<AccessPage>(br#"{"version": 2, "anything": 1}"#).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
        let error = parse::<AccessPage>(br#"{"version": 1, "run": "r", "bundles": [], "more": 1}"#);
        assert!(matches!(error, Err(DocumentError::Parse(_))));
        assert!(parse::<AccessPage>(br#"{"version": 1, "run": "r", "bundles": []}"#).is_ok());
    }
}
