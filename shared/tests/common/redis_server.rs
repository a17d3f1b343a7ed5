//! A `redis-server` of one test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shared::queue::redis::{RedisOptions, RedisQueue};
use shared::settings::{QueueAddress, QueueUrl};
use tempfile::TempDir;

/// A running server with an empty folder of its own.
pub struct RedisServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one with these further arguments; `None`, and a line that says so, where there is no
    /// `redis-server`.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if found.is_err() {
            println!("skipped: no redis-server on this machine");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        // Another process may take a free port first: then the server ends, and another port is tried.
        for _ in 0..10 {
            let port = free_port();
            let mut child = spawn(port, &arguments, &folder);
            if wait_until_ready(&mut child, port) {
                return Some(Self { child, port, arguments, folder });
            }
        }
        panic!("redis-server does not start with {arguments:?}");
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A queue on it.
    pub fn queue(&self, run: &str) -> RedisQueue {
        queue_at(&self.url(), run)
    }

    /// A queue on it with the functions loaded.
    pub async fn loaded_queue(&self, run: &str) -> RedisQueue {
        let queue = self.queue(run);
        queue.load_functions().await.expect("the functions load");
        queue
    }

    /// A plain connection for what a test does behind the queue's back.
    pub fn raw(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    /// Kills the server as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Starts it again on the same port and folder.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            self.child = spawn(self.port, &self.arguments, &self.folder);
            if wait_until_ready(&mut self.child, self.port) {
                return;
            }
        }
        panic!("redis-server does not start again on port {}", self.port);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A queue at a URL, with waits short enough for tests.
pub fn queue_at(url: &str, run: &str) -> RedisQueue {
    let options = RedisOptions {
        response_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_millis(500),
        give_up_after: Duration::from_secs(20),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
    };
    RedisQueue::connect(&address_of(url), &run.parse().expect("a run id"), options).expect("a queue")
}

/// A URL without TLS settings.
pub fn address_of(url: &str) -> QueueAddress {
    QueueUrl::from(url.to_owned()).into()
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn spawn(port: u16, arguments: &[String], folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder.path())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server starts")
}

/// Whether the server answers; `false` where it has ended instead.
fn wait_until_ready(child: &mut Child, port: u16) -> bool {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if child.try_wait().expect("its state").is_some() {
            return false;
        }
        let connection = client.get_connection_with_timeout(Duration::from_millis(200));
        let answered = connection.and_then(|mut open| redis::cmd("PING").query::<String>(&mut open));
        match answered {
            Ok(_) => return true,
            // It asks for a password, so it is there.
            Err(error) if error.code() == Some("NOAUTH") => return true,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}
