//! A redis-server of a test's own: free port, folder of its own, gone on drop.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::wait::until;

/// A running server.
pub struct RedisServer {
    port: u16,
    child: Option<Child>,
    folder: TempDir,
    namespace: Option<(String, &'static str)>,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one, or says visibly that redis-server is missing.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start() -> Option<Self> {
        Self::start_as(None, &[])
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        Self::start_as(None, arguments)
    }

    /// The same with every write on disk before it is answered.
    pub fn start_persistent() -> Option<Self> {
        Self::start_as(None, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// The same in a network namespace, on an address of it.
    pub fn start_in(namespace: &str, address: &'static str) -> Option<Self> {
        Self::start_as(Some((namespace.to_owned(), address)), &[])
    }

    fn start_as(namespace: Option<(String, &'static str)>, arguments: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port, child: None, folder, namespace, arguments };
        server.start_again();
        Some(server)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The URL of its first database.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Kills it with -9 and starts it again on the same port, empty: nothing is persisted.
    pub fn restart_empty(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Kills it with -9.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it on its port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let port = self.port.to_string();
        let address = self.namespace.as_ref().map_or("127.0.0.1", |(_, address)| address);
        let child = self
            .command("redis-server")
            .args(["--port", &port, "--bind", address, "--protected-mode", "no", "--save", ""])
            .args(["--appendonly", "no", "--maxmemory-policy", "noeviction", "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("redis-server to listen", || {
            // It may ask for a password; in a namespace only a program there can knock.
            let listens = match &self.namespace {
                None => TcpStream::connect(("127.0.0.1", self.port)).is_ok(),
                Some(_) => self.cli(&["PING"]) == "PONG",
            };
            listens.then_some(())
        });
    }

    /// Runs a command through redis-cli and gives back what it prints.
    ///
    /// # Panics
    /// When redis-cli is missing.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let address = self.namespace.as_ref().map_or("127.0.0.1", |(_, address)| address);
        let mut command = self.command("redis-cli");
        let output = command.args(["-h", address, "-p", &port]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn command(&self, program: &str) -> Command {
        let Some((namespace, _)) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port nobody listens on now, and that no other test of this process was given: a server takes a
/// moment to bind its own.
///
/// # Panics
/// When loopback has none.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if given.insert(port) {
            return port;
        }
    }
}
