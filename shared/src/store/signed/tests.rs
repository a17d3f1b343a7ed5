//! Signed rights against a stand-in server that counts, breaks off and refuses.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::ids::{RunId, ShardId};
use crate::store::{Put, Store, StoreErrorKind};

const RUN: &str = "r";

/// What the stand-in has and has seen.
#[derive(Default)]
struct State {
    objects: HashMap<String, Bytes>,
    /// Answers with this before anything else, so many times.
    instead: Option<(usize, String)>,
    /// Breaks the next body off after so many bytes.
    break_after: Option<usize>,
    requests: Vec<String>,
}

struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&shared)));
            }
        });
        Self { port, state, _task: AbortOnDropHandle::new(task) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn url(&self, key: &str) -> SignedUrl {
        let query = "X-Amz-Date=20200101T000000Z&X-Amz-Expires=9999999999&X-Amz-Signature=hunter2";
        SignedUrl::new(format!("http://127.0.0.1:{}/b/{key}?{query}", self.port).parse().unwrap())
    }

    fn hold(&self, key: &str, bytes: impl Into<Bytes>) -> SignedObject {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        self.state().objects.insert(format!("/b/{key}"), bytes);
        SignedObject { key: key.to_owned(), bytes: size, url: self.url(key) }
    }

    /// A document under its content's name.
    fn document(&self, document: &impl serde::Serialize) -> SignedObject {
        let bytes = to_json(document).unwrap();
        self.hold(&format!("runs/{RUN}/access/{}.json", Sha16::of(&bytes)), bytes)
    }

    /// The rights to a run of two pages, one bundle each; the store that they open.
    fn grant(&self) -> Store {
        let run: RunId = RUN.parse().unwrap();
        let pages = [0, 1].map(|shard| {
            let bundle = self.hold(&bundle_key(shard), format!("bundle {shard}"));
            let page = AccessPage { version: ACCESS_VERSION, run: run.clone(), bundles: vec![bundle] };
            PageLink { first: ShardId(shard), end: ShardId(shard + 1), page: self.document(&page) }
        });
        let root = AccessRoot {
            version: ACCESS_VERSION,
            run: run.clone(),
            expires_at: "2286-11-20T17:46:39Z".to_owned(),
            plan: self.hold("runs/r/plan.json", "plan"),
            model: vec![self.hold("models/x/config.json", "config")],
            upload: Upload {
                url: format!("http://127.0.0.1:{}/b", self.port).parse().unwrap(),
                key_prefix: "prefix/runs/r/parts/".to_owned(),
                most_bytes: 100,
                fields: BTreeMap::from([("policy".to_owned(), Secret::new("the policy".to_owned()))]),
            },
            pages: pages.to_vec(),
        };
        self.open(self.document(&root).url)
    }

    fn open(&self, url: SignedUrl) -> Store {
        let http = Http::new(Duration::from_secs(10), Duration::from_secs(10))
            .unwrap()
            .with_retries(3, Duration::from_millis(1));
        Store {
            backend: Arc::new(SignedStore::with_http(url, http)),
            prefix: Path::default(),
            url: format!("http://127.0.0.1:{}/b", self.port),
            signed: true,
            scattered: crate::store::parts::Scattered::No,
        }
    }

    fn refuse(&self, times: usize, status: &str, code: &str, message: &str) {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        self.state().instead = Some((times, answer));
    }
}

fn bundle_key(shard: u64) -> String {
    format!("runs/{RUN}/inputs/{shard:06}-{}.tar", Sha16::of(&shard.to_le_bytes()))
}

async fn answer(mut socket: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // Forms of these tests end with their last boundary, everything else with the head.
    while !(request.ends_with(b"--\r\n") || request.starts_with(b"GET") && request.ends_with(b"\r\n\r\n")) {
        match socket.read(&mut buffer).await {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let answer = respond(&request, &mut state.lock().unwrap());
    let _ = socket.write_all(&answer).await;
    let _ = socket.shutdown().await;
}

fn respond(request: &str, state: &mut State) -> Vec<u8> {
    state.requests.push(request.to_owned());
    if let Some((times, answer)) = &mut state.instead
        && *times > 0
    {
        *times -= 1;
        return answer.clone().into_bytes();
    }
    if request.starts_with("POST") {
        return b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    }
    let path = request.split([' ', '?']).nth(1).unwrap_or_default();
    let Some(object) = state.objects.get(path) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    };
    let range =
        request.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let (status, body) = match range.as_deref().and_then(|range| range.split_once('-')) {
        Some((first, last)) => {
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let total = object.len();
            let last = last.min(total - 1);
            (
                format!("206 Partial\r\nContent-Range: bytes {first}-{last}/{total}"),
                object.slice(first..=last),
            )
        }
        None => ("200 OK".to_owned(), object.clone()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let sent = state.break_after.take().unwrap_or(body.len()).min(body.len());
    [head.as_bytes(), &body[..sent]].concat()
}

/// The whole text of an error with its causes, which must not show a signature.
fn shown(error: &crate::store::StoreError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    assert!(!format!("{text} {error:?}").contains("hunter2"), "{text}");
    text
}

#[tokio::test]
async fn plan_bundles_and_model_are_read() {
    let server = Server::start().await;
    let store = server.grant();
    assert_eq!(store.get("runs/r/plan.json").await.unwrap(), "plan");
    assert_eq!(store.get(&bundle_key(0)).await.unwrap(), "bundle 0");
    assert_eq!(store.get(&bundle_key(1)).await.unwrap(), "bundle 1");
    assert_eq!(store.get_range("models/x/config.json", 1..4).await.unwrap(), "onf");
    assert_eq!(store.tail("models/x/config.json", 2).await.unwrap(), (Bytes::from_static(b"ig"), 6));
    // The root and each page once.
    let documents = server.state().requests.iter().filter(|request| request.contains("/access/")).count();
    let _ = store.get(&bundle_key(0)).await.unwrap();
    let after = server.state().requests.iter().filter(|request| request.contains("/access/")).count();
    assert_eq!((documents, after), (3, 3));
}

#[tokio::test]
async fn parts_are_added_by_the_form_and_nothing_else() {
    let server = Server::start().await;
    let store = server.grant();
    let part = "runs/r/parts/000000-0123456789abcdef.npz";
    assert_eq!(store.put_new(part, Bytes::from_static(b"the part")).await.unwrap(), Put::Created);
    let form = server.state().requests.last().unwrap().clone();
    let at = |word: &str| form.find(word).unwrap_or_else(|| panic!("{word} in {form}"));
    assert!(form.starts_with("POST /b HTTP/1.1"), "{form}");
    assert!(at("prefix/runs/r/parts/000000-0123456789abcdef.npz") < at("the part"));
    assert!(at("the policy") < at("the part"), "the file comes last");
    for key in ["runs/r/plan.json", "runs/other/parts/x.npz", "runs/r/parts/"] {
        let error = store.put_new(key, Bytes::from_static(b"x")).await.unwrap_err();
        assert!(shown(&error).contains("do not allow writing outside parts/"), "{key}: {}", shown(&error));
    }
    let error = store.put_new(part, vec![0; 101].into()).await.unwrap_err();
    assert!(shown(&error).contains("larger than the 100"), "{}", shown(&error));
}

#[tokio::test]
async fn everything_else_is_refused_in_words() {
    let server = Server::start().await;
    let store = server.grant();
    let listed: Result<Vec<_>, _> = store.list("runs").try_collect().await;
    assert!(shown(&listed.unwrap_err()).contains("do not allow listing"));
    assert!(shown(&store.folders("runs").await.unwrap_err()).contains("do not allow listing"));
    for key in [
        "runs/other/plan.json",
        "runs/r/shards.jsonl",
        &bundle_key(2),
        "runs/r/inputs/000000-0123456789abcdef.tar",
    ] {
        let error = store.get(key).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Denied, "{key}");
        assert!(shown(&error).contains("rights are those of run r"), "{}", shown(&error));
    }
}

#[tokio::test]
async fn what_passes_is_repeated_and_a_broken_body_goes_on() {
    let server = Server::start().await;
    let store = server.grant();
    server.refuse(2, "503 Slow Down", "SlowDown", "later");
    assert_eq!(store.get("runs/r/plan.json").await.unwrap(), "plan");
    server.state().break_after = Some(3);
    assert_eq!(store.get(&bundle_key(0)).await.unwrap(), "bundle 0");
    // The page broke off, as the first body after that; now the bundle itself.
    server.state().break_after = Some(3);
    assert_eq!(store.get(&bundle_key(0)).await.unwrap(), "bundle 0");
    let resumed = server.state().requests.last().unwrap().to_lowercase();
    assert!(resumed.contains("range: bytes=3-7"), "{resumed}");
    server.refuse(9, "503 Slow Down", "SlowDown", "later");
    let error = store.get("runs/r/plan.json").await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable);
    assert!(shown(&error).contains("503 SlowDown: later"), "{}", shown(&error));
}

#[tokio::test]
async fn the_end_of_the_rights_is_said_with_what_to_do() {
    let server = Server::start().await;
    for (status, code, message) in [
        ("403 Forbidden", "AccessDenied", "Request has expired"),
        ("403 Forbidden", "AccessDenied", "Invalid according to Policy: Policy expired."),
        ("400 Bad Request", "ExpiredToken", "The provided token has expired."),
    ] {
        let store = server.grant();
        server.refuse(1, status, code, message);
        let error = store.get("runs/r/plan.json").await.unwrap_err();
        assert!(shown(&error).contains("run `coordinator plan --signed-urls 7d` again"), "{}", shown(&error));
    }
    let store = server.grant();
    server.refuse(1, "403 Forbidden", "SignatureDoesNotMatch", "no");
    let error = store.get("runs/r/plan.json").await.unwrap_err();
    assert!(shown(&error).contains("403 SignatureDoesNotMatch: no"), "{}", shown(&error));
}

#[tokio::test]
async fn a_store_without_post_policies_is_told_apart() {
    let server = Server::start().await;
    let store = server.grant();
    store.get("runs/r/plan.json").await.unwrap();
    server.refuse(1, "501 Not Implemented", "NotImplemented", "no forms here");
    let part = "runs/r/parts/000000-0123456789abcdef.npz";
    let error = store.put_new(part, Bytes::from_static(b"x")).await.unwrap_err();
    assert!(shown(&error).contains("POST policy"), "{}", shown(&error));
}

#[tokio::test]
async fn damaged_documents_are_named() {
    let server = Server::start().await;
    let key = "runs/r/access/0123456789abcdef.json";
    let store = server.open(server.hold(key, "{}").url);
    let error = store.get("runs/r/plan.json").await.unwrap_err();
    assert!(shown(&error).contains("0123456789abcdef.json is damaged"), "{}", shown(&error));
    let other = r#"{"version": 7}"#;
    let key = format!("runs/r/access/{}.json", Sha16::of(other.as_bytes()));
    let store = server.open(server.hold(&key, other).url);
    let error = store.get("runs/r/plan.json").await.unwrap_err();
    assert!(shown(&error).contains("version 7"), "{}", shown(&error));
}
