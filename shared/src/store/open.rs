//! From a URL to a backend.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use super::parts::Scattered;
use super::signed::{SignedStore, SignedUrl};
use super::{Store, StoreError, StoreErrorKind};

/// One request may take this long; bundles and parts are tens of megabytes on slow links.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Nothing may be heard for this long, the sending of a part included: a connection that lost its peer in
/// silence is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// The variable that lets a connection go without TLS to another machine.
const ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";

/// What to do about a local folder that does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingFolder {
    Refuse,
    Create,
}

/// Where a URL points.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Folder(PathBuf),
    S3(Url),
    Gcs(Url),
    Azure(Url),
    Signed(SignedUrl),
    Memory,
}

pub(super) fn open(url: &str, missing: MissingFolder) -> Result<Store, StoreError> {
    match locate(url)? {
        Location::Memory => Ok(Store::memory()),
        Location::Folder(folder) => open_folder(&folder, missing),
        Location::Signed(url) => open_signed(url),
        Location::S3(url) => {
            let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retries());
            let builder = timeouts("AWS").fold(builder, |builder, (key, time)| {
                builder.with_config(AmazonS3ConfigKey::Client(key), time)
            });
            remote(&url, builder.build())
        }
        Location::Gcs(url) => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retries());
            let builder = timeouts("GOOGLE").fold(builder, |builder, (key, time)| {
                builder.with_config(GoogleConfigKey::Client(key), time)
            });
            remote(&url, builder.build())
        }
        Location::Azure(url) => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retries());
            let builder = timeouts("AZURE")
                .fold(builder, |builder, (key, time)| builder.with_config(AzureConfigKey::Client(key), time));
            remote(&url, builder.build())
        }
    }
}

/// How a request is repeated. The library's own ten tries are over within three seconds, which is too short for a
/// store that is restarted.
pub(super) fn retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(300),
        max_backoff: Duration::from_secs(10),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries: 20, retry_timeout: Duration::from_secs(180) }
}

/// The times that the environment does not set (`AWS_TIMEOUT`, `AWS_READ_TIMEOUT`), as a backend reads them.
fn timeouts(prefix: &'static str) -> impl Iterator<Item = (ClientConfigKey, String)> {
    [
        ("TIMEOUT", ClientConfigKey::Timeout, REQUEST_TIMEOUT),
        ("READ_TIMEOUT", ClientConfigKey::ReadTimeout, READ_TIMEOUT),
    ]
    .into_iter()
    .filter(move |(name, ..)| std::env::var_os(format!("{prefix}_{name}")).is_none())
    .map(|(_, key, time)| (key, format!("{} seconds", time.as_secs())))
}

/// Reads the URL alone: no network, no environment.
fn locate(url: &str) -> Result<Location, StoreError> {
    if url.trim().is_empty() {
        return Err(StoreError::bad_url(
            "the store's URL is empty: pass --store or set FLEET_STORE".to_owned(),
        ));
    }
    let Ok(parsed) = Url::parse(url) else {
        // Not shown: a URL that cannot be read may hold a secret in the wrong place.
        return if url.contains("://") {
            Err(StoreError::bad_url(
                "the store's URL cannot be read; it has the form s3://bucket/folder, without credentials"
                    .to_owned(),
            ))
        } else {
            Ok(Location::Folder(PathBuf::from(url)))
        };
    };
    // "C:" and the like, and names with a colon, are paths.
    if !url.contains("://") && !matches!(parsed.scheme(), "memory" | "file") {
        return Ok(Location::Folder(PathBuf::from(url)));
    }
    let shown = printable(&parsed);
    if matches!(parsed.scheme(), "https" | "http") {
        return locate_signed(parsed);
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(StoreError::bad_url(format!(
            "{shown}: a store's URL takes no options; set them in the environment (AWS_ENDPOINT_URL, AWS_REGION, ...)"
        )));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(StoreError::bad_url(format!(
            "{shown}: credentials do not belong into a store's URL; set them in the environment"
        )));
    }
    match parsed.scheme() {
        "memory" => Ok(Location::Memory),
        "file" => {
            let folder = url.strip_prefix("file://").or_else(|| url.strip_prefix("file:")).unwrap_or(url);
            Ok(Location::Folder(PathBuf::from(folder)))
        }
        scheme @ ("s3" | "s3a" | "gs" | "az" | "abfs" | "abfss") => {
            if parsed.host_str().is_none_or(str::is_empty) {
                return Err(StoreError::bad_url(format!("{shown}: the bucket or container is missing")));
            }
            Ok(match scheme {
                "s3" | "s3a" => Location::S3(parsed),
                "gs" => Location::Gcs(parsed),
                _ => Location::Azure(parsed),
            })
        }
        scheme => Err(StoreError::bad_url(format!(
            "{shown}: unknown scheme {scheme:?}; a store is a path, file:, s3://, gs:// or az://"
        ))),
    }
}

/// The URL of an S3 store; `None` for another store.
pub(super) fn s3_url(url: &str) -> Result<Option<Url>, StoreError> {
    Ok(match locate(url)? {
        Location::S3(url) => Some(url),
        _ => None,
    })
}

fn locate_signed(parsed: Url) -> Result<Location, StoreError> {
    let shown = printable(&parsed);
    let url = SignedUrl::new(parsed);
    if !url.is_signed() || signed_base(url.expose()).is_none() {
        return Err(StoreError::bad_url(format!(
            "{shown}: a store with an https address is the signed URL that `coordinator plan --signed-urls` writes into \
             RUN.worker.env; name any other store as s3://, gs:// or az://"
        )));
    }
    Ok(Location::Signed(url))
}

/// The store that a signed URL of `runs/<run>/access/<sha16>.json` leads to, printable.
fn signed_base(url: &Url) -> Option<String> {
    let mut words = url.path().rsplitn(5, '/');
    let (name, access, _run, runs) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let prefix = words.next()?;
    if runs != super::layout::RUNS || access != super::layout::ACCESS || name.strip_suffix(".json").is_none()
    {
        return None;
    }
    let mut base = url.clone();
    base.set_path(prefix);
    Some(printable(&base).trim_end_matches('/').to_owned())
}

fn open_signed(url: SignedUrl) -> Result<Store, StoreError> {
    let base = signed_base(url.expose()).unwrap_or_default();
    let allowed = std::env::var(ALLOW_HTTP).is_ok_and(|value| matches!(value.as_str(), "true" | "1"));
    if url.expose().scheme() == "http" && !is_loopback(url.expose()) && !allowed {
        return Err(StoreError::bad_url(format!(
            "{base}: over http everybody on the way can take these rights: use https, or set {ALLOW_HTTP}=true"
        )));
    }
    let backend = SignedStore::new(url, REQUEST_TIMEOUT, READ_TIMEOUT).map_err(|error| StoreError {
        kind: StoreErrorKind::BadUrl,
        message: format!("cannot open {base}"),
        source: Some(Box::new(error.without_url())),
    })?;
    let (backend, prefix, scattered) = (Arc::new(backend), Path::default(), Scattered::No);
    Ok(Store { backend, prefix, url: base, signed: true, scattered })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn open_folder(folder: &FilePath, missing: MissingFolder) -> Result<Store, StoreError> {
    let url = folder.display().to_string();
    let failed = |error| StoreError::backend("open", url.clone(), error);
    if folder.is_dir() {
        let backend = LocalFileSystem::new_with_prefix(folder).map_err(failed)?.with_fsync(true);
        return Ok(in_folder(backend, Path::default(), url));
    }
    if missing == MissingFolder::Refuse || folder.exists() {
        return Err(StoreError {
            kind: StoreErrorKind::NotFound,
            message: format!("the store {} is not a folder that exists; check --store", folder.display()),
            source: None,
        });
    }
    // The first object makes the folder: a command that finds its input bad leaves nothing behind.
    let absolute = std::path::absolute(folder).map_err(|error| StoreError::local_file(folder, error))?;
    let prefix = Path::from_absolute_path(absolute)
        .map_err(|error| StoreError::bad_url(format!("{url}: the path is not legal: {error}")))?;
    Ok(in_folder(LocalFileSystem::new().with_fsync(true), prefix, url))
}

fn in_folder(files: LocalFileSystem, prefix: Path, url: String) -> Store {
    let files = Arc::new(files);
    Store { backend: files.clone(), prefix, url, signed: false, scattered: Scattered::Files(files) }
}

fn remote<T: ObjectStore + MultipartStore>(
    url: &Url,
    built: object_store::Result<T>,
) -> Result<Store, StoreError> {
    let shown = printable(url);
    let prefix = Path::from_url_path(url.path())
        .map_err(|error| StoreError::bad_url(format!("{shown}: the path is not legal: {error}")))?;
    let backend = built.map_err(|error| StoreError {
        kind: StoreErrorKind::BadUrl,
        message: format!("cannot open {shown}; check the URL and the store's settings in the environment"),
        source: Some(Box::new(error)),
    })?;
    let backend = Arc::new(backend);
    Ok(Store {
        scattered: Scattered::Parts(backend.clone()),
        backend,
        prefix,
        url: shown.trim_end_matches('/').to_owned(),
        signed: false,
    })
}

/// The URL without user, password, options and fragment.
pub(super) fn printable(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_by_url() {
        let folder = |path: &str| Location::Folder(PathBuf::from(path));
        assert_eq!(locate("./store").unwrap(), folder("./store"));
        assert_eq!(locate("/a/b").unwrap(), folder("/a/b"));
        assert_eq!(locate("a:b").unwrap(), folder("a:b"));
        assert_eq!(locate("file:///a/b").unwrap(), folder("/a/b"));
        assert_eq!(locate("file:rel/b").unwrap(), folder("rel/b"));
        assert_eq!(locate("memory:").unwrap(), Location::Memory);
        assert!(matches!(locate("s3://bucket/a/b").unwrap(), Location::S3(_)));
        assert!(matches!(locate("gs://bucket").unwrap(), Location::Gcs(_)));
        let rights = "https://h/b/p/runs/r/access/0123456789abcdef.json?X-Amz-Signature=x";
        assert!(matches!(locate(rights).unwrap(), Location::Signed(_)));
        assert_eq!(open(rights, MissingFolder::Refuse).unwrap().url(), "https://h/b/p");
        let unsafe_rights = rights.replace("https", "http");
        assert!(open(&unsafe_rights, MissingFolder::Refuse).unwrap_err().message.contains("AWS_ALLOW_HTTP"));
        assert!(matches!(locate("az://container/x").unwrap(), Location::Azure(_)));
    }

    #[test]
    fn wrong_urls_are_refused_and_show_no_secret() {
        for url in [
            "",
            "s3://key:hunter2/x@bucket",
            "s3://my bucket",
            "ftp://x/y",
            "s3://bucket?region=x",
            "s3://key:hunter2@bucket/a",
            "s3://",
            "https://h/b/runs/r/access/x.json?X-Amz-Signatures=hunter2",
            "https://h/b/runs/r/plan.json?X-Amz-Signature=hunter2",
        ] {
            let error = locate(url).unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::BadUrl, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
