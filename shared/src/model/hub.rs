//! The Hugging Face hub: pinning a revision, listing files, addresses.
//!
//! Plain HTTP requests and not the crate `hf-hub`: its listing drops the SHA-256 of large files (the
//! hub's field is `lfs.oid`, the crate reads `lfs.sha256`), its downloads start again from zero, and its log
//! lines show signed addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, LINK, RANGE};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use super::{HubId, HubProblem, HubSettings, ModelError};

/// Attempts without a new byte before a request is given up.
pub(super) const ATTEMPTS: u32 = 6;

/// Listings longer than this are of no model.
const MOST_FILES: usize = 20_000;

/// A file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubFile {
    pub(super) size: u64,
    /// The hub's own SHA-256, which it has for files in large file storage.
    pub(super) sha256: Option<String>,
}

/// A connection to the hub.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    client: reqwest::Client,
    settings: HubSettings,
}

impl Hub {
    pub(super) fn new(settings: &HubSettings) -> Result<Self, ModelError> {
        let bad = |why: &str| ModelError::Hub {
            url: printable(&settings.endpoint),
            problem: HubProblem::BadEndpoint(why.to_owned()),
        };
        let endpoint = Url::parse(&settings.endpoint).map_err(|error| bad(&error.to_string()))?;
        if !matches!(endpoint.scheme(), "http" | "https") {
            return Err(bad("it is not an http or https address"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() || endpoint.query().is_some() {
            return Err(bad("it holds credentials or options; set HF_TOKEN instead"));
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("embed-fleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(Duration::from_mins(1))
            .build()
            .map_err(|error| failed(&settings.endpoint, error))?;
        Ok(Self { client, settings: settings.clone() })
    }

    /// The commit that a revision stands for at this moment.
    pub(super) async fn pin(&self, id: &HubId) -> Result<String, ModelError> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
        }
        let revision = id.revision.as_deref().unwrap_or("main");
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let encoded = revision.replace('/', "%2F").replace('+', "%2B");
        let url = format!("{}/api/models/{}/revision/{encoded}", self.settings.endpoint, id.repository);
        let info: Info = parse(&url, &self.get_bytes(&url, 16 << 20).await?)?;
        if !is_commit(&info.sha) {
            return Err(malformed(&url, "the revision's sha is not a commit"));
        }
        Ok(info.sha)
    }

    /// The files in the root of a repository at a commit.
    pub(super) async fn list(
        &self,
        repository: &str,
        commit: &str,
    ) -> Result<BTreeMap<String, HubFile>, ModelError> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "type")]
            kind: String,
            path: String,
            #[serde(default)]
            size: u64,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            #[serde(alias = "sha256")]
            oid: String,
            size: Option<u64>,
        }
        let mut files = BTreeMap::new();
        let mut next = Some(format!("{}/api/models/{repository}/tree/{commit}", self.settings.endpoint));
        while let Some(url) = next {
            let (page, link) = self.get_page(&url).await?;
            let entries: Vec<Entry> = parse(&url, &page)?;
            for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
                if entry.lfs.as_ref().is_some_and(|lfs| !is_sha256(&lfs.oid)) {
                    return Err(malformed(&url, &format!("the sha256 of {} is none", entry.path)));
                }
                let size = entry.lfs.as_ref().and_then(|lfs| lfs.size).unwrap_or(entry.size);
                files.insert(entry.path, HubFile { size, sha256: entry.lfs.map(|lfs| lfs.oid) });
            }
            if files.len() > MOST_FILES {
                return Err(malformed(&url, "the listing has too many files"));
            }
            next = link;
        }
        Ok(files)
    }

    /// A file's address.
    pub(super) fn url_of(&self, repository: &str, commit: &str, name: &str) -> String {
        format!("{}/{repository}/resolve/{commit}/{name}", self.settings.endpoint)
    }

    /// A whole small file, with new attempts after passing failures.
    pub(super) async fn get_bytes(&self, url: &str, limit: u64) -> Result<Bytes, ModelError> {
        self.again(|| async {
            let mut response = self.send(url, None).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, error))? {
                body.extend_from_slice(&chunk);
                if body.len() as u64 > limit {
                    return Err(malformed(url, &format!("it is larger than {limit} bytes")));
                }
            }
            Ok(Bytes::from(body))
        })
        .await
    }

    /// A file's bytes from `start` on. The flag says whether the answer does start there; a server may
    /// ignore the range and begin at zero.
    pub(super) async fn get_from(&self, url: &str, start: u64) -> Result<(Response, bool), ModelError> {
        let response = self.send(url, (start > 0).then_some(start)).await?;
        let begins = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let begins_there = begins.is_some_and(|range| range.starts_with(&format!("bytes {start}-")));
        let resumes = start == 0 || (response.status() == StatusCode::PARTIAL_CONTENT && begins_there);
        Ok((response, resumes))
    }

    async fn get_page(&self, url: &str) -> Result<(Bytes, Option<String>), ModelError> {
        self.again(|| async {
            let response = self.send(url, None).await?;
            let link = response.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(next_page);
            let link = link.map(|link| self.same_host(url, &link)).transpose()?;
            Ok((response.bytes().await.map_err(|error| failed(url, error))?, link))
        })
        .await
    }

    /// A page's address, which must be the hub's own: the token goes there.
    fn same_host(&self, url: &str, link: &str) -> Result<String, ModelError> {
        let joined =
            Url::parse(url).and_then(|base| base.join(link)).map_err(|_| malformed(url, "its next page"))?;
        let endpoint = Url::parse(&self.settings.endpoint).map_err(|_| malformed(url, "its next page"))?;
        if joined.origin() == endpoint.origin() {
            Ok(joined.to_string())
        } else {
            Err(malformed(url, "its next page lies on another host"))
        }
    }

    async fn send(&self, url: &str, start: Option<u64>) -> Result<Response, ModelError> {
        let mut request = self.client.get(url);
        // The client drops this header when it is sent on to another host.
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token);
        }
        if let Some(start) = start {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = request.send().await.map_err(|error| failed(url, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let gated = response.headers().get("x-error-code").is_some_and(|code| code == "GatedRepo");
        let problem = match response.status().as_u16() {
            401 | 403 if gated => HubProblem::Gated,
            401 => HubProblem::Unauthorized { with_token: self.settings.token.is_some() },
            403 => HubProblem::Forbidden,
            404 => HubProblem::NotFound,
            status => HubProblem::Status(status),
        };
        Err(ModelError::Hub { url: printable(url), problem })
    }

    async fn again<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, ModelError>
    where
        F: Future<Output = Result<T, ModelError>>,
    {
        let mut failures = 0;
        loop {
            match attempt().await {
                Err(error) if error.is_transient() && failures + 1 < ATTEMPTS => {
                    failures += 1;
                    tracing::debug!("{error}; attempt {failures} of {ATTEMPTS} failed");
                    tokio::time::sleep(self.settings.pause_after(failures)).await;
                }
                other => return other,
            }
        }
    }
}

/// Whether `revision` is a full commit.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && is_lower_hex(revision)
}

/// Whether `text` is a SHA-256 in lower-case hex.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A failed request, told without the address it was sent on to: that one may be signed.
pub(super) fn failed(url: &str, error: reqwest::Error) -> ModelError {
    let error = error.without_url();
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        let text = inner.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = inner.source();
    }
    ModelError::Hub { url: printable(url), problem: HubProblem::Unreachable(why) }
}

fn malformed(url: &str, what: &str) -> ModelError {
    ModelError::Hub { url: printable(url), problem: HubProblem::Malformed(what.to_owned()) }
}

fn parse<'a, T: Deserialize<'a>>(url: &str, body: &'a [u8]) -> Result<T, ModelError> {
    serde_json::from_slice(body).map_err(|error| malformed(url, &error.to_string()))
}

/// The address of the next page in a `Link` header (RFC 8288).
fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then(|| address.to_owned())
    })
}

/// The address without user, password, options and fragment.
pub(super) fn printable(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return "the hub".to_owned();
    };
    // Both fail only for addresses that cannot have them.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_query(None);
    parsed.set_fragment(None);
    parsed.to_string()
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
    fn no_secret_is_shown() {
        let settings = from(&[("HF_TOKEN", "hunter2"), ("HF_ENDPOINT", "https://user:hunter2@mirror")]);
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        let error = Hub::new(&settings).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        assert_eq!(printable("https://a:hunter2@b/c?X-Signature=hunter2"), "https://b/c");
    }

    #[test]
    fn next_pages_are_found() {
        assert_eq!(
            next_page("<https://h/x?cursor=1>; rel=\"next\"").as_deref(),
            Some("https://h/x?cursor=1")
        );
        assert_eq!(
            next_page("<https://h/a>; rel=\"prev\", <https://h/b>; rel=\"next\"").as_deref(),
            Some("https://h/b")
        );
        assert_eq!(next_page("<https://h/a>; rel=\"prev\""), None);
    }

    #[test]
    fn a_next_page_on_another_host_is_refused() {
        let hub = Hub::new(&from(&[("HF_ENDPOINT", "https://hub")])).unwrap();
        assert!(hub.same_host("https://hub/api/x", "/api/x?cursor=1").is_ok());
        assert!(hub.same_host("https://hub/api/x", "https://thief/api/x").is_err());
        assert!(hub.same_host("https://hub/api/x", "http://hub/api/x").is_err());
    }
}
