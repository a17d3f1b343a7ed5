//! The vendor's own client, PyPI `vastai`, pointed at a stand-in; and what it was seen to send.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::shape::Shape;
use super::stand_in::StandIn;
use crate::s3::python;

/// The version that all of this was seen with.
pub const VERSION: &str = "1.9.1";

/// What that version sends for each command of `tests/tests/vastai.rs`, which holds this list to be true.
const REQUESTS: &str = include_str!("../../data/vastai-requests.json");

/// The client with a home of its own.
#[derive(Debug)]
pub struct Client {
    program: PathBuf,
    home: TempDir,
    url: String,
    key: String,
}

/// What a command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Client {
    /// One for a stand-in, or a visible word that it is missing. It is looked for beside the Python that
    /// `infra/test` prepares.
    ///
    /// # Panics
    /// When there is no temporary folder.
    pub fn new(stand_in: &StandIn) -> Option<Self> {
        let program = Path::new(&python()).with_file_name("vastai");
        let home = tempfile::tempdir().unwrap();
        let client = Self { program, home, url: stand_in.url().to_owned(), key: stand_in.key().to_owned() };
        let version = client.command(&["--version"]).output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        if !version.as_ref().is_ok_and(|version| version == VERSION) {
            let program = client.program.display();
            eprintln!(
                "skipped: {program} is not vastai {VERSION} (EMBED_FLEET_PYTHON names the Python beside it)"
            );
            return None;
        }
        Some(client)
    }

    /// The same with another key.
    #[must_use]
    pub fn with_key(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    /// Runs a command.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command with `--raw` and reads what it prints.
    ///
    /// # Panics
    /// When it fails, or prints anything but JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--raw"]].concat());
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
    }

    /// Nothing of this machine's own settings, nothing written outside its home, and no look for updates.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path());
        command.env("VAST_URL", &self.url).env("VAST_API_KEY", &self.key);
        command.env("VASTAI_NO_UPDATE_CHECK", "1").env("NO_PROXY", "127.0.0.1").env("COLUMNS", "250");
        command
    }
}

/// What the vendor's client sends, each shape once, in order.
///
/// # Panics
/// When the recorded list cannot be read.
pub fn requests() -> Vec<Shape> {
    serde_json::from_str(REQUESTS).unwrap()
}
