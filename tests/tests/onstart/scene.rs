//! A box: a home folder, a few programs in front of the path, and the script in a process group of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tests::wait::until;

use crate::server::Server;

/// The script as the coordinator sends it.
pub const SCRIPT: &str = include_str!("../../../infra/vast/onstart");

/// The key that a box is given to destroy itself.
pub const KEY: &str = "container-key-that-nobody-may-print";

/// The secret in the address of the program.
pub const SIGNATURE: &str = "signature-that-nobody-may-print";

/// Pauses pass at once and are written down; only the long one after an accepted DELETE lasts.
const SLEEP: &str = r#"#!/bin/sh
echo "$1" >>"$HOME/pauses"
case $1 in infinity | ???) exec REAL infinity ;; esac
exec REAL 0.02
"#;

/// A worker that writes down how it was called and with what, and ends as `codes` says, line by line.
const WORKER: &str = r#"#!/usr/bin/env bash
echo "$*" >>"$HOME/calls"
env >"$HOME/environment"
[ "$1" = --check ] && { echo "checked"; exit "$(cat "$HOME/check" 2>/dev/null || echo 0)"; }
call=$(grep -vc -e --check "$HOME/calls")
code=$(sed -n "${call}p" "$HOME/codes")
[ "$code" = hang ] && exec sleep infinity
[ "$code" = term ] && { trap 'echo "leases are given back"; exit 143' TERM; sleep infinity & wait; }
[ "${code#ready-}" = "$code" ] || echo "INFO ready worker=box run=r"
code=${code#ready-}
echo "error: call $call ends with $code" >&2
exit "$code"
"#;

/// A box and the server it speaks to.
pub struct Scene {
    folder: TempDir,
    /// What it fetches from and reports to.
    pub server: Server,
    script: String,
    settings: Vec<(String, String)>,
    path: String,
}

impl Scene {
    /// A box whose worker ends with these codes, one after the other.
    pub fn new(codes: &[&str]) -> Self {
        let scene = Self::with_program(WORKER.as_bytes());
        std::fs::write(scene.home().join("codes"), codes.join("\n") + "\n").unwrap();
        scene
    }

    /// A box that fetches this program.
    pub fn with_program(program: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(gzip(folder.path(), program), &[KEY, SIGNATURE]);
        let path = std::env::var("PATH").unwrap();
        let mut scene = Self { folder, server, script: SCRIPT.to_owned(), settings: Vec::new(), path };
        std::fs::create_dir(scene.home()).unwrap();
        // Nothing is installed by a test.
        scene.command("apt-get", "#!/bin/sh\necho \"$*\" >>\"$HOME/installed\"\n");
        scene.command("sleep", &SLEEP.replace("REAL", &found("sleep")));
        let url = scene.server.url();
        for (name, value) in [
            ("FLEET_INSTANCE", "fleet-run-0-x".to_owned()),
            ("FLEET_WORKER_URL", format!("{url}/worker.gz?X-Signature={SIGNATURE}&x=1")),
            ("FLEET_WORKER_SHA256", shared::digest::sha256_hex(program)),
            ("FLEET_WORKER_ARGS", "--device cpu --batch-tokens 64".to_owned()),
            ("FLEET_UNTIL", seconds_from_now(3600)),
            ("FLEET_LINGER", "7".to_owned()),
            ("FLEET_VAST_URL", url),
            ("CONTAINER_ID", "4711".to_owned()),
            ("CONTAINER_API_KEY", KEY.to_owned()),
        ] {
            scene.set(name, &value);
        }
        scene
    }

    /// The box's home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Leaves a variable out.
    pub fn unset(&mut self, name: &str) {
        self.settings.retain(|(set, _)| set != name);
    }

    /// Puts a program in front of the path.
    pub fn command(&self, name: &str, script: &str) {
        let folder = self.folder.path().join("programs");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts the fake worker in front of the path, as an image does that has one.
    pub fn worker_on_path(&self) {
        self.command("worker", WORKER);
    }

    /// Takes a program off the path; where it lies.
    pub fn hide(&mut self, name: &str) -> String {
        let hidden = found(name);
        let folder = self.folder.path().join("others");
        std::fs::create_dir(&folder).unwrap();
        for from in self.path.split(':') {
            for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
                if entry.file_name() != name {
                    // The first of a name counts, as on the path.
                    let _ = std::os::unix::fs::symlink(entry.path(), folder.join(entry.file_name()));
                }
            }
        }
        self.path = folder.display().to_string();
        hidden
    }

    /// Changes a number that no setting reaches.
    pub fn change(&mut self, old: &str, new: &str) {
        assert_eq!(self.script.matches(old).count(), 1, "{old}");
        self.script = self.script.replace(old, new);
    }

    /// Starts the box.
    pub fn start(&self) -> RentedBox {
        let log = self.log();
        let output = std::fs::File::create(&log).unwrap();
        let path = format!("{}/programs:{}", self.folder.path().display(), self.path);
        let child = Command::new("bash")
            .args(["-c", &self.script])
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap();
        RentedBox { child, log }
    }

    /// Runs the box until a DELETE was accepted; its log.
    pub fn run(&self) -> String {
        let running = self.start();
        until("the box to be destroyed", || self.pauses().iter().any(|pause| pause == "305").then_some(()));
        running.log()
    }

    /// The pauses that the box made, in seconds, without those of its watchdog.
    pub fn pauses(&self) -> Vec<String> {
        self.lines("pauses").into_iter().filter(|pause| pause != "1" && pause != "infinity").collect()
    }

    /// The lines of a file in its home folder.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.home().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// # Panics
    /// Where a secret stands in the log, in the arguments of a process, or in the worker's environment.
    pub fn assert_nothing_shown(&self, log: &str) {
        let environment = self.lines("environment").join("\n");
        for secret in [KEY, SIGNATURE] {
            assert!(!log.contains(secret) && !environment.contains(secret), "{log}\n{environment}");
        }
        assert_eq!(self.server.shown(), Vec::<String>::new());
    }
}

/// A box that runs; with everything it started it ends on drop, as a stopped one does.
pub struct RentedBox {
    child: Child,
    log: PathBuf,
}

impl RentedBox {
    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it says this; what it has said then.
    pub fn wait_for(&self, words: &str) -> String {
        until(words, || Some(self.log()).filter(|log| log.contains(words)))
    }

    /// Ends the script alone by SIGTERM; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), None);
        status.code()
    }
}

impl Drop for RentedBox {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// The lines for the launcher, without their prefix.
pub fn said(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.strip_prefix("embed-fleet box: ")).collect()
}

/// A moment as `FLEET_UNTIL` names it.
pub fn seconds_from_now(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    now.checked_add_signed(seconds).unwrap().to_string()
}

/// Packs bytes as a release does.
pub fn gzip(folder: &Path, bytes: &[u8]) -> Vec<u8> {
    let path = folder.join("packed");
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new("gzip").arg("-c").arg(&path).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn found(program: &str) -> String {
    let output = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
