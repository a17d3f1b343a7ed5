//! The two pipes to the browser: messages are JSON, each followed by a zero byte.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::program::Running;

/// What is said to a browser and what it answers.
pub struct Channel {
    to: File,
    from: BufReader<File>,
    next: u64,
    complaints: Vec<String>,
}

/// Starts the browser with this folder for all it writes. It asks for no name but this machine's.
///
/// # Panics
/// When it does not start.
pub fn start(name: &str, folder: &Path) -> (Running, Channel) {
    let pipe = |name: &str| folder.join(name);
    for name in ["to", "from"] {
        assert!(Command::new("mkfifo").arg(pipe(name)).status().unwrap().success());
    }
    // The browser reads from descriptor 3 and writes to 4; a shell gives it both.
    let script = "to=$1 from=$2; shift 2; exec \"$@\" 3<\"$to\" 4>\"$from\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(pipe("to")).arg(pipe("from")).arg(name);
    command.args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"]);
    command.args([
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]);
    command.args(["--disable-component-update", "--disable-dev-shm-usage", "--force-color-profile=srgb"]);
    command.args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--lang=en-GB"]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command.env("HOME", folder).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    let process = Running::of(command, &folder.join("log"));
    // Opening a pipe waits for the other end; in this order the shell does the same.
    let to = OpenOptions::new().write(true).open(pipe("to")).unwrap();
    let from = BufReader::new(File::open(pipe("from")).unwrap());
    (process, Channel { to, from, next: 0, complaints: Vec::new() })
}

impl Channel {
    /// Calls a method and waits for its answer; what else comes meanwhile is looked through for complaints.
    ///
    /// # Panics
    /// When the browser is gone or refuses.
    pub fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let message = self.read();
            if message["id"] == self.next {
                assert!(message.get("error").is_none(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.complaints.extend(complaint(&message));
        }
    }

    /// What pages complained of.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser is gone");
        serde_json::from_slice(&bytes).unwrap()
    }
}

fn complaint(message: &Value) -> Option<String> {
    let parameters = &message["params"];
    match message["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            Some(format!("{}: {}", parameters["entry"]["url"], parameters["entry"]["text"]))
        }
        _ => None,
    }
}
