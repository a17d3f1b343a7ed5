//! A store without credentials: its URL is a signed one of a document that `coordinator plan
//! --signed-urls` wrote, and that document is the whole of a worker's rights.
//!
//! It reads the plan, the bundles and the model of one run through signed URLs, and adds parts by a POST
//! form under a signed policy. It cannot list, read anything else, delete, or write outside `parts/`. A POST
//! knows no condition: a part uploaded twice replaces itself with the same bytes, since its name is its
//! content ([`crate::laws::Law::ObjectsAreImmutable`]).

mod document;
mod http;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::sync::OnceCell;

use crate::ids::{ContentName, Sha16};

pub use document::{
    ACCESS_VERSION, AccessPage, AccessRoot, DocumentError, PageLink, SHARDS_PER_PAGE, Secret, SignedObject,
    SignedUrl, Upload, to_json,
};
pub use refusal::{Refusal, refusal_in};

use http::Http;

/// The largest root: 200,000 shards make 200 pages, and a link takes a few kilobytes.
const MOST_ROOT_BYTES: u64 = 16 << 20;

/// Pages kept in memory: a worker claims shards of the same neighbourhood.
const PAGES_KEPT: usize = 4;

/// The store of one worker.
pub(super) struct SignedStore {
    place: SignedUrl,
    http: Http,
    root: OnceCell<AccessRoot>,
    /// The pages asked for last, by the position of their link.
    pages: Mutex<VecDeque<(usize, Arc<AccessPage>)>>,
}

impl SignedStore {
    /// Nothing is sent yet: the root is read by the first operation.
    pub(super) fn new(
        place: SignedUrl,
        request_timeout: Duration,
        read_timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self::with_http(place, Http::new(request_timeout, read_timeout)?))
    }

    fn with_http(place: SignedUrl, http: Http) -> Self {
        Self { place, http, root: OnceCell::new(), pages: Mutex::default() }
    }

    async fn root(&self) -> Result<&AccessRoot, Refusal> {
        self.root.get_or_try_init(async || self.read_root().await).await
    }

    async fn read_root(&self) -> Result<AccessRoot, Refusal> {
        let bytes = self.http.get_small(&self.place, MOST_ROOT_BYTES).await?;
        checked(&self.place, &bytes)
    }

    /// The object that may be read under this key.
    async fn find(&self, key: &str) -> Result<SignedObject, Refusal> {
        let root = self.root().await?;
        let out_of_reach = || Refusal::OutOfReach { run: root.run.to_string(), key: key.to_owned() };
        if root.plan.key == key {
            return Ok(root.plan.clone());
        }
        if let Some(file) = root.model.iter().find(|file| file.key == key) {
            return Ok(file.clone());
        }
        let name = key.rsplit('/').next().and_then(|name| ContentName::parse_bundle(name).ok());
        let shard = name.ok_or_else(out_of_reach)?.shard;
        let position = root.pages.partition_point(|link| link.end <= shard);
        let link = root.pages.get(position).filter(|link| link.first <= shard).ok_or_else(out_of_reach)?;
        let page = self.page(position, link).await?;
        let bundle = page.bundles.get((shard.0 - link.first.0) as usize);
        bundle.filter(|bundle| bundle.key == key).cloned().ok_or_else(out_of_reach)
    }

    async fn page(&self, position: usize, link: &PageLink) -> Result<Arc<AccessPage>, Refusal> {
        if let Some(page) = self.kept(position) {
            return Ok(page);
        }
        let bytes = self.http.get(&link.page.url, link.page.bytes.min(MOST_ROOT_BYTES)).await?;
        let page: Arc<AccessPage> = Arc::new(checked(&link.page.url, &bytes)?);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() == PAGES_KEPT {
            pages.pop_front();
        }
        pages.push_back((position, Arc::clone(&page)));
        Ok(page)
    }

    fn kept(&self, position: usize) -> Option<Arc<AccessPage>> {
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.iter().find(|(known, _)| *known == position).map(|(_, page)| Arc::clone(page))
    }

    async fn upload(&self, key: &str, body: Bytes) -> Result<(), Refusal> {
        let root = self.root().await?;
        let folder = format!("{}/", crate::store::layout::parts_folder(&root.run));
        let Some(name) = key.strip_prefix(&folder).filter(|name| !name.is_empty()) else {
            return Err(Refusal::NotAllowed("writing outside parts/"));
        };
        let (bytes, most) = (body.len() as u64, root.upload.most_bytes);
        if bytes > most {
            return Err(Refusal::TooLarge { bytes, most });
        }
        self.http.post(&root.upload, &format!("{}{name}", root.upload.key_prefix), body).await
    }
}

/// A document whose content is what its name says.
fn checked<T: serde::de::DeserializeOwned>(url: &SignedUrl, bytes: &Bytes) -> Result<T, Refusal> {
    let name = url.expose().path().rsplit('/').next().unwrap_or_default();
    if name.strip_suffix(".json") != Some(Sha16::of(bytes).as_str()) {
        return Err(Refusal::Damaged(url.to_string()));
    }
    document::parse(bytes).map_err(|source| Refusal::Document { place: url.to_string(), source })
}

/// The bytes asked for, of an object of this size.
fn range_of(asked: Option<&GetRange>, bytes: u64) -> Range<u64> {
    match asked {
        None => 0..bytes,
        Some(GetRange::Bounded(range)) => range.start.min(bytes)..range.end.min(bytes),
        Some(GetRange::Offset(start)) => *start.min(&bytes)..bytes,
        Some(GetRange::Suffix(length)) => bytes.saturating_sub(*length)..bytes,
    }
}

fn not_allowed(what: &'static str, location: &Path) -> object_store::Error {
    Refusal::NotAllowed(what).at(location)
}

#[async_trait]
impl ObjectStore for SignedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.upload(location.as_ref(), payload.into()).await.map_err(|refusal| refusal.at(location))?;
        Ok(PutResult { e_tag: None, version: None, extensions: object_store::Extensions::default() })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(not_allowed("uploads in several requests", location))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let failed = |refusal: Refusal| refusal.at(location);
        let object = self.find(location.as_ref()).await.map_err(failed)?;
        let range = range_of(options.range.as_ref(), object.bytes);
        let body = if options.head {
            futures::stream::empty().boxed()
        } else {
            let location = location.clone();
            let chunks = self.http.stream(&object.url, range.clone()).await.map_err(failed)?;
            chunks.map_err(move |refusal| refusal.at(&location)).boxed()
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(body),
            meta: ObjectMeta {
                location: location.clone(),
                // Nobody asks, and the documents do not say.
                #[expect(
                    clippy::default_trait_access,
                    reason = "its type is of a crate that nothing else here needs"
                )]
                last_modified: Default::default(),
                size: object.bytes,
                e_tag: None,
                version: None,
            },
            range,
            attributes: object_store::Attributes::default(),
            extensions: object_store::Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        locations.map(|location| Err(not_allowed("deleting", &location?))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let error = not_allowed("listing", &prefix.cloned().unwrap_or_default());
        futures::stream::once(async { Err(error) }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        Err(not_allowed("listing", &prefix.cloned().unwrap_or_default()))
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(not_allowed("copying", from))
    }
}

impl fmt::Display for SignedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedStore({})", self.place)
    }
}

impl fmt::Debug for SignedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
