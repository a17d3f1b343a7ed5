//! A stand-in for the Hugging Face hub on loopback: the three kinds of request a client makes, and the
//! ways in which they go wrong.
//!
//! Like the real one it sends large files on to another host (`localhost` instead of `127.0.0.1`) under a
//! signed address, so that a test can see that no token goes there and that no signature is shown.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The commit that every revision of the stand-in stands for.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The secret in the addresses that large files are sent on to.
pub const SIGNATURE: &str = "signature-that-nobody-may-print";

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `HEAD`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The host it was addressed to, with its port.
    pub host: String,
    /// The first byte of its `Range`.
    pub start: Option<u64>,
    /// Its `Authorization`.
    pub authorization: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    folder: PathBuf,
    repository: String,
    requests: Vec<Request>,
    breaks: HashMap<String, usize>,
    instead: HashMap<String, Vec<u8>>,
    busy: usize,
    token: Option<String>,
    gated: bool,
    ignores_ranges: bool,
}

/// A running stand-in; ends when dropped.
#[derive(Debug)]
pub struct StandInHub {
    port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for StandInHub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl StandInHub {
    /// Serves the files of `folder` as the model `repository`.
    pub async fn start(folder: &Path, repository: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state =
            State { folder: folder.to_owned(), repository: repository.to_owned(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A client that went away is no failure of the server.
                    let _ = answer(socket, port, &state).await;
                });
            }
        });
        Ok(Self { port, state, task })
    }

    /// The address for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Forgets what arrived so far.
    pub fn forget_requests(&self) {
        self.lock().requests.clear();
    }

    /// Breaks the next download of a file off after so many bytes.
    pub fn break_once(&self, file: &str, after: usize) {
        self.lock().breaks.insert(file.to_owned(), after);
    }

    /// Serves other bytes than the listing says.
    pub fn serve_instead(&self, file: &str, bytes: Vec<u8>) {
        self.lock().instead.insert(file.to_owned(), bytes);
    }

    /// Answers the next requests with 503.
    pub fn be_busy(&self, requests: usize) {
        self.lock().busy = requests;
    }

    /// Asks for a token from now on.
    pub fn require_token(&self, token: &str) {
        self.lock().token = Some(token.to_owned());
    }

    /// Refuses every file as that of a gated model.
    pub fn gate(&self) {
        self.lock().gated = true;
    }

    /// Answers every request for a range with the whole file.
    pub fn ignore_ranges(&self) {
        self.lock().ignores_ranges = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the stand-in keeps a file in large file storage.
pub fn is_large(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "safetensors") || name == "tokenizer.json"
}

#[derive(Debug, Default)]
struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// Send only so many bytes of the body, then hang up.
    breaks_after: Option<usize>,
}

async fn answer(mut socket: TcpStream, port: u16, state: &Mutex<State>) -> io::Result<()> {
    let request = read_request(&mut socket).await?;
    let answer = respond(&request, port, &mut lock(state));
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n",
        answer.status,
        answer.body.len(),
        answer.headers
    );
    socket.write_all(head.as_bytes()).await?;
    if request.method != "HEAD" {
        let length = answer.breaks_after.unwrap_or(answer.body.len()).min(answer.body.len());
        socket.write_all(&answer.body[..length]).await?;
    }
    socket.shutdown().await
}

async fn read_request(socket: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..count]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let start =
        headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        host: headers.get("host").cloned().unwrap_or_default(),
        start,
        authorization: headers.get("authorization").cloned(),
    })
}

fn respond(request: &Request, port: u16, state: &mut State) -> Answer {
    state.requests.push(request.clone());
    if state.busy > 0 {
        state.busy -= 1;
        return Answer { status: "503 Service Unavailable", ..Answer::default() };
    }
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    if let Some(name) = path.strip_prefix("/cdn/") {
        return if request.path.ends_with(SIGNATURE) { file(name, request, state) } else { not_found() };
    }
    let expected = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if expected.is_some() && expected != request.authorization {
        return Answer { status: "401 Unauthorized", ..Answer::default() };
    }
    let api = format!("/api/models/{}/", state.repository);
    if let Some(rest) = path.strip_prefix(&api) {
        return match rest.split_once('/') {
            Some(("revision", "main" | "refs%2Fpr%2F1" | COMMIT)) => {
                json(format!(r#"{{"id": "x", "sha": "{COMMIT}"}}"#))
            }
            Some(("tree", COMMIT)) => tree(request, state),
            _ => not_found(),
        };
    }
    match path.strip_prefix(&format!("/{}/resolve/{COMMIT}/", state.repository)) {
        Some(_) if state.gated => Answer {
            status: "403 Forbidden",
            headers: "X-Error-Code: GatedRepo\r\n".to_owned(),
            ..Answer::default()
        },
        Some(name) if is_large(name) => Answer {
            status: "302 Found",
            headers: format!("Location: http://localhost:{port}/cdn/{name}?X-Signature={SIGNATURE}\r\n"),
            ..Answer::default()
        },
        Some(name) => file(name, request, state),
        None => not_found(),
    }
}

fn not_found() -> Answer {
    Answer { status: "404 Not Found", ..Answer::default() }
}

fn json(body: String) -> Answer {
    Answer {
        status: "200 OK",
        headers: "Content-Type: application/json\r\n".to_owned(),
        body: body.into_bytes(),
        ..Answer::default()
    }
}

/// The listing, in two pages as the hub does with long ones.
fn tree(request: &Request, state: &State) -> Answer {
    let mut names: Vec<String> = std::fs::read_dir(&state.folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let (first, second) = names.split_at(names.len() / 2);
    let is_second = request.path.ends_with("?cursor=2");
    let entries =
        (if is_second { second } else { first }).iter().filter_map(|name| entry(&state.folder, name));
    let directory = r#"{"type": "directory", "oid": "d", "size": 0, "path": "assets"}"#.to_owned();
    let body = std::iter::once(directory).chain(entries).collect::<Vec<_>>().join(",");
    let mut answer = json(format!("[{body}]"));
    if !is_second {
        let _ = write!(
            answer.headers,
            "Link: <http://{}{}?cursor=2>; rel=\"next\"\r\n",
            request.host, request.path
        );
    }
    answer
}

fn entry(folder: &Path, name: &str) -> Option<String> {
    let bytes = std::fs::read(folder.join(name)).ok()?;
    let size = bytes.len();
    let lfs = if is_large(name) {
        let sha256 = shared::digest::sha256_hex(&bytes);
        format!(r#", "lfs": {{"oid": "{sha256}", "size": {size}, "pointerSize": 135}}"#)
    } else {
        String::new()
    };
    Some(format!(r#"{{"type": "file", "oid": "git", "size": {size}, "path": "{name}"{lfs}}}"#))
}

fn file(name: &str, request: &Request, state: &mut State) -> Answer {
    let instead = state.instead.get(name).cloned();
    let Some(bytes) = instead.or_else(|| std::fs::read(state.folder.join(name)).ok()) else {
        return not_found();
    };
    let breaks_after = if request.method == "HEAD" { None } else { state.breaks.remove(name) };
    let start = request.start.filter(|_| !state.ignores_ranges).map(|start| start as usize);
    match start {
        Some(start) if start >= bytes.len() => {
            Answer { status: "416 Range Not Satisfiable", ..Answer::default() }
        }
        Some(start) => Answer {
            status: "206 Partial Content",
            headers: format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len()),
            body: bytes[start..].to_vec(),
            breaks_after,
        },
        None => Answer {
            status: "200 OK",
            headers: "Accept-Ranges: bytes\r\n".to_owned(),
            body: bytes,
            breaks_after,
        },
    }
}
