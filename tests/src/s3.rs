//! A stand-in for S3 on loopback: moto's server, from the Python that `infra/test` prepares. It ends with the
//! process that started it, whatever became of that.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::http;
use crate::redis::free_port;
use crate::wait::until;

/// A running server.
pub struct S3Server {
    port: u16,
    child: Child,
}

impl S3Server {
    /// Starts one with a bucket named `fleet`, or says visibly that moto is missing.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start() -> Option<Self> {
        let python = python();
        let has_moto =
            Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !has_moto.is_ok_and(|status| status.success()) {
            eprintln!("skipped: {python} has no moto[server] (EMBED_FLEET_PYTHON names another Python)");
            return None;
        }
        let port = free_port();
        let start = "import os, sys, threading, time\n\
                     parent = os.getppid()\n\
                     def follow():\n    while os.getppid() == parent: time.sleep(1)\n    os._exit(0)\n\
                     threading.Thread(target=follow, daemon=True).start()\n\
                     from moto.server import main; main(sys.argv[1:])";
        let child = Command::new(&python)
            .args(["-c", start, "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { port, child };
        until("the S3 server to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        server.make_bucket("fleet");
        Some(server)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The environment that points the programs at it.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.environment_at(self.port)
    }

    /// The same, but through another port.
    pub fn environment_at(&self, port: u16) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn make_bucket(&self, name: &str) {
        let user = "Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request\r\n";
        let answer = http::ask(self.port, &format!("PUT /{name}"), user, &[]);
        assert!(answer.as_ref().is_some_and(|(status, _)| *status == 200), "{answer:?}");
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that has numpy and moto.
pub fn python() -> String {
    std::env::var("EMBED_FLEET_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}
