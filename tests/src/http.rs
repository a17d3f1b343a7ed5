//! Plain HTTP to a server on loopback, as somebody would speak it who has none of our programs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Sends a request (`GET /path`) with these header lines and this body; the status and the body of the
/// answer, or `None` without one.
pub fn ask(port: u16, what: &str, headers: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let length = body.len();
    // The older version: its answers come in one piece.
    let head = format!(
        "{what} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    connection.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

/// A server that refuses every request with 403, for as long as the process lives; its port.
///
/// # Panics
/// When loopback has no free port.
pub fn refusing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || refuse(connection));
        }
    });
    port
}

fn refuse(mut connection: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match connection.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let length = body.len();
    let answer =
        format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = connection.write_all(answer.as_bytes());
}
