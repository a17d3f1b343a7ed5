//! A TCP proxy on loopback that fails on demand. One chunk that a client sends is taken for a request: both
//! the Redis client and an HTTP client send small requests in one piece.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::fault::{Fault, Rule};

/// Forwards to one port of this machine until it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    struck: AtomicU64,
    /// Connections up to this number carry nothing any more.
    silenced: AtomicU64,
    accepted: AtomicU64,
    closed: AtomicBool,
    /// Both sockets of each connection that stands.
    open: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

/// What is to become of the reply that comes next on a connection.
#[derive(Default)]
struct NextReply(Mutex<Option<Fault>>);

impl Proxy {
    /// Forwards to `upstream`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept_all(&listener, upstream, &accepting));
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds a fault.
    pub fn add(&self, rule: Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// Takes all faults back.
    pub fn mend(&self) {
        lock(&self.shared.rules).clear();
    }

    /// How many requests were struck by a fault.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::SeqCst)
    }

    /// Lets all connections that stand now carry nothing any more.
    pub fn silence(&self) {
        self.shared.silenced.store(self.shared.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Breaks all connections that stand now.
    pub fn cut(&self) {
        for stream in lock(&self.shared.open).values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept_all(listener: &TcpListener, upstream: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        // Nobody listens there now: the client finds its connection broken.
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(connection) = Connection::new(number, client, server, shared) {
            connection.start();
        }
    }
}

/// Two sockets and what happens between them.
struct Connection {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    next_reply: Arc<NextReply>,
    shared: Arc<Shared>,
}

impl Connection {
    fn new(number: u64, client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> Option<Self> {
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        lock(&shared.open).insert(number, [client.try_clone().ok()?, server.try_clone().ok()?]);
        Some(Self { number, client, server, next_reply: Arc::default(), shared: Arc::clone(shared) })
    }

    fn start(self) {
        let Some(other) = self.try_clone() else { return };
        thread::spawn(move || self.carry_requests());
        thread::spawn(move || other.carry_replies());
    }

    fn try_clone(&self) -> Option<Self> {
        Some(Self {
            number: self.number,
            client: self.client.try_clone().ok()?,
            server: self.server.try_clone().ok()?,
            next_reply: Arc::clone(&self.next_reply),
            shared: Arc::clone(&self.shared),
        })
    }

    fn is_silent(&self) -> bool {
        self.number <= self.shared.silenced.load(Ordering::SeqCst)
    }

    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
        lock(&self.shared.open).remove(&self.number);
    }

    fn carry_requests(mut self) {
        let mut silent = false;
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = self.client.read(&mut buffer) {
            let request = &buffer[..length];
            if silent || self.is_silent() {
                continue;
            }
            let fault = lock(&self.shared.rules)
                .iter_mut()
                .find_map(|rule| rule.strikes(request).then(|| rule.fault.clone()));
            if fault.is_some() {
                self.shared.struck.fetch_add(1, Ordering::SeqCst);
            }
            match fault {
                None => {}
                Some(Fault::Delay(time)) => thread::sleep(time),
                Some(Fault::CutBefore) => break,
                Some(Fault::CutAfter) => {
                    let _ = self.server.write_all(request);
                    break;
                }
                Some(Fault::Silence) => {
                    silent = true;
                    *lock(&self.next_reply.0) = Some(Fault::Silence);
                    continue;
                }
                Some(Fault::DoBefore(deed)) => {
                    deed();
                    break;
                }
                Some(Fault::Answer(reply)) => {
                    let _ = self.client.write_all(&reply);
                    let _ = self.client.shutdown(Shutdown::Write);
                    // The rest of the request is read, or its sender sees a broken connection, not the reply.
                    while let Ok(1..) = self.client.read(&mut buffer) {}
                    break;
                }
                // The rest is done to the reply.
                Some(fault) => *lock(&self.next_reply.0) = Some(fault),
            }
            if self.server.write_all(request).is_err() {
                break;
            }
        }
        self.cut();
    }

    fn carry_replies(mut self) {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(length @ 1..) = self.server.read(&mut buffer) {
            let reply = &buffer[..length];
            if self.is_silent() {
                continue;
            }
            let mut next_reply = lock(&self.next_reply.0);
            if matches!(*next_reply, Some(Fault::Silence)) {
                continue;
            }
            let fault = next_reply.take();
            drop(next_reply);
            match fault {
                Some(Fault::LoseReply) => break,
                Some(Fault::HalfClose) => {
                    let _ = self.client.shutdown(Shutdown::Write);
                    // What the client still sends arrives; what the server answers does not.
                    while let Ok(1..) = self.server.read(&mut buffer) {}
                    break;
                }
                Some(Fault::ReplaceReply(other)) => {
                    let _ = self.client.write_all(&other);
                    break;
                }
                Some(Fault::TruncateReply(bytes)) => {
                    let _ = self.client.write_all(&reply[..bytes.min(length)]);
                    break;
                }
                Some(Fault::DoAfter(deed)) => {
                    deed();
                    break;
                }
                _ => {}
            }
            if self.client.write_all(reply).is_err() {
                break;
            }
        }
        self.cut();
    }
}
