//! A server on loopback that is both the store of the program and the part of Vast.ai that a box speaks to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method and path with its query.
    pub what: String,
    /// The first byte of its `Range`.
    pub start: Option<usize>,
    /// Its `Authorization`.
    pub authorization: Option<String>,
}

/// What becomes of a request that is not answered as it should be.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// 503.
    Busy,
    /// The connection ends without an answer.
    HangUp,
    /// The body ends after so many bytes.
    BreakAfter(usize),
}

#[derive(Debug, Default)]
struct State {
    file: Vec<u8>,
    requests: Vec<Request>,
    trouble: Vec<Trouble>,
    secrets: Vec<String>,
    shown: Vec<String>,
}

/// The server; it lives as long as the process.
#[derive(Clone)]
pub struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves `file` under every path, takes every DELETE, and looks for `secrets` in the arguments of all
    /// processes while a request is answered.
    pub fn start(file: Vec<u8>, secrets: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let secrets = secrets.iter().map(ToString::to_string).collect();
        let server = Self { port, state: Arc::new(Mutex::new(State { file, secrets, ..State::default() })) };
        let shared = server.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = shared.clone();
                // A client that went away is no failure of the server.
                std::thread::spawn(move || server.answer(connection));
            }
        });
        server
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next requests meet this, one each.
    pub fn trouble(&self, coming: &[Trouble]) {
        self.lock().trouble.extend_from_slice(coming);
    }

    /// Serves other bytes from now on.
    pub fn serve(&self, file: Vec<u8>) {
        self.lock().file = file;
    }

    /// Requests of this method so far.
    pub fn requests(&self, method: &str) -> Vec<Request> {
        let state = self.lock();
        state.requests.iter().filter(|request| request.what.starts_with(method)).cloned().collect()
    }

    /// Arguments of processes that held a secret.
    pub fn shown(&self) -> Vec<String> {
        self.lock().shown.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(&self, mut connection: TcpStream) -> Option<()> {
        let request = read(&mut connection)?;
        let mut state = self.lock();
        let found = arguments_with(&state.secrets);
        state.shown.extend(found);
        state.requests.push(request.clone());
        let trouble = if state.trouble.is_empty() { None } else { Some(state.trouble.remove(0)) };
        let (head, body) = respond(&request, &state.file);
        drop(state);
        match trouble {
            None => connection.write_all(&[head.as_bytes(), body.as_slice()].concat()).ok(),
            Some(Trouble::HangUp) => None,
            Some(Trouble::Busy) => {
                let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                connection.write_all(busy.as_bytes()).ok()
            }
            Some(Trouble::BreakAfter(count)) => {
                connection.write_all(&[head.as_bytes(), &body[..count]].concat()).ok()
            }
        }
    }
}

fn read(connection: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match connection.read(&mut buffer) {
            Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    let start =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    let what = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
    Some(Request { what, start, authorization: header("authorization") })
}

fn respond(request: &Request, file: &[u8]) -> (String, Vec<u8>) {
    let (status, range, body) = match request.start {
        _ if request.what.starts_with("DELETE") => ("200 OK", String::new(), b"{\"success\": true}".to_vec()),
        None => ("200 OK", String::new(), file.to_vec()),
        Some(start) if start >= file.len() => {
            ("416 Range Not Satisfiable", format!("Content-Range: bytes */{}\r\n", file.len()), Vec::new())
        }
        Some(start) => (
            "206 Partial Content",
            format!("Content-Range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len()),
            file[start..].to_vec(),
        ),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{range}\r\n");
    (head, body)
}

/// The arguments of every process of this machine that hold one of these.
fn arguments_with(secrets: &[String]) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| secrets.iter().any(|secret| line.contains(secret)))
        .collect()
}
