//! A redis-server of a test's own: free port, folder of its own, gone on drop.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::wait::until;

/// A running server.
pub struct RedisServer {
    port: u16,
    child: Option<Child>,
    folder: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one, or says visibly that redis-server is missing.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let port = free_port();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port, child: None, folder: tempfile::tempdir().unwrap(), arguments };
        server.start_again();
        Some(server)
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
        let child = spawn(self.port, self.folder.path(), &self.arguments);
        self.child = Some(child);
        until("redis-server to listen", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Runs a command through redis-cli and gives back what it prints.
    ///
    /// # Panics
    /// When redis-cli is missing.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Child {
    let port = port.to_string();
    Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--maxmemory-policy", "noeviction", "--dir"])
        .arg(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
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
