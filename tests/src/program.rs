//! The two binaries, run as a person runs them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The folder of the binaries: this program's own, or the one above where that is a test.
///
/// # Panics
/// When the test does not lie in a target folder.
fn folder() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    if folder.ends_with("deps") { folder.parent().unwrap().to_path_buf() } else { folder.to_path_buf() }
}

/// Where a program of the workspace lies.
///
/// # Panics
/// When it is not built.
pub fn path_of(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(path.exists(), "{} is not built: run `cargo test --workspace`", path.display());
    path
}

/// A program with its settings, in a working folder.
pub struct Program {
    command: Command,
}

impl Program {
    /// `coordinator`.
    pub fn coordinator(working_folder: &Path) -> Self {
        Self::new("coordinator", working_folder)
    }

    /// `worker`.
    pub fn worker(working_folder: &Path) -> Self {
        Self::new("worker", working_folder)
    }

    /// A `worker` whose items may kill it (`tests/src/bin/rigged-worker.rs`).
    pub fn rigged_worker(working_folder: &Path) -> Self {
        Self::new("rigged-worker", working_folder)
    }

    fn new(name: &str, working_folder: &Path) -> Self {
        let mut command = Command::new(path_of(name));
        command.current_dir(working_folder).stdin(Stdio::null());
        for name in ["FLEET_QUEUE", "FLEET_STORE", "FLEET_RUN", "FLEET_MODEL", "FLEET_LOG"] {
            command.env_remove(name);
        }
        Self { command }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds a flag with its value.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs(mut self, variables: &[(String, String)]) -> Self {
        self.command.envs(variables.iter().map(|(name, value)| (name, value)));
        self
    }

    /// The same in a network namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(self.command.get_program());
        command.args(self.command.get_args()).stdin(Stdio::null());
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self { command }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn output(mut self) -> Finished {
        Finished(self.command.output().unwrap())
    }

    /// Starts it in the background with its standard error in `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(self, log: &Path) -> Running {
        Running::of(self.command, log)
    }

    /// The command itself, for those who give it other places to read from and write to.
    pub fn into_command(self) -> Command {
        self.command
    }
}

/// A program that ended.
pub struct Finished(Output);

impl Finished {
    /// Its exit code; -1 where a signal ended it.
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    /// What it printed.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// What it complained of.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// The same, if it ended with this code.
    ///
    /// # Panics
    /// With what it printed, if it did not.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        self
    }
}

/// A program in the background, killed on drop.
pub struct Running(Child);

impl Running {
    /// Starts a command in the background with its standard error in `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// One that was started elsewhere.
    pub fn from_child(child: Child) -> Self {
        Self(child)
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal by name, for instance `TERM` or `STOP`.
    ///
    /// # Panics
    /// When `kill` is missing.
    pub fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end and gives its exit code, -1 where a signal ended it.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> i32 {
        self.0.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits for its end, but not longer than this.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn wait_for(&mut self, longest: Duration) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < longest {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        None
    }

    /// Whether it is still there.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
