//! The containers of instances as process groups of this machine, each with a folder of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use super::market::Container;
use super::watcher::Watcher;

/// Waits for a word before it does anything, so that nothing runs that the watcher does not know of yet.
const GATE: &str = r#"read -r _ || exit 1; exec "$@" </dev/null"#;

/// All boxes of a stand-in.
#[derive(Debug)]
pub struct Boxes {
    /// Ends last: it throws away what is left of the folder.
    watcher: Watcher,
    folder: TempDir,
    groups: BTreeMap<u64, u32>,
    keys: BTreeMap<u64, String>,
}

impl Boxes {
    /// None yet; their keys will begin so.
    pub fn new(keys: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let watcher = Watcher::start(keys, folder.path())?;
        Ok(Self { watcher, folder, groups: BTreeMap::new(), keys: BTreeMap::new() })
    }

    /// The disk of an instance: its home, working and temporary folder.
    pub fn home(&self, instance: u64) -> PathBuf {
        self.place(instance).join("home")
    }

    /// The process group of an instance, until it is killed.
    pub fn group(&self, instance: u64) -> Option<u32> {
        self.groups.get(&instance).copied()
    }

    /// What an instance printed, in all its lives.
    pub fn log(&self, instance: u64) -> String {
        fs::read(self.log_file(instance))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The process of the watcher.
    pub fn watcher(&self) -> u32 {
        self.watcher.process()
    }

    /// Starts a container; the caller waits for the child's end.
    pub fn start(&mut self, container: &Container) -> io::Result<Child> {
        self.kill(container.instance);
        let home = self.home(container.instance);
        fs::create_dir_all(home.join("tmp"))?;
        let log = File::options().create(true).append(true).open(self.log_file(container.instance))?;
        let mut command = Command::new("bash");
        command.args(["-c", GATE, "gate"]).args(self.program(container)?);
        command.current_dir(&home).process_group(0).env_clear();
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        command.envs(variables(container, &home));
        let mut child = command.spawn()?;
        self.watcher.add(child.id())?;
        self.groups.insert(container.instance, child.id());
        self.keys.insert(container.instance, container.key.clone());
        match child.stdin.take() {
            Some(mut gate) => gate.write_all(b"go\n")?,
            None => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(child)
    }

    /// The words that are run: the script from a file, or the entry point with its arguments.
    fn program(&self, container: &Container) -> io::Result<Vec<String>> {
        let order = &container.order;
        if order.ends_with_script() && !order.args.is_empty() {
            let entry = if order.onstart.is_empty() { "bash" } else { &order.onstart };
            return Ok(std::iter::once(entry)
                .chain(order.args.iter().map(String::as_str))
                .map(str::to_owned)
                .collect());
        }
        let script = self.place(container.instance).join("onstart");
        fs::write(&script, &order.onstart)?;
        Ok(vec!["bash".to_owned(), script.display().to_string()])
    }

    /// Kills everything in a container, also what has left its group.
    pub fn kill(&mut self, instance: u64) {
        if let Some(group) = self.groups.remove(&instance) {
            if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
                // One whose processes have all ended is no more.
                let _ = kill_process_group(group, Signal::KILL);
            }
            self.watcher.forget(group);
        }
        if let Some(key) = self.keys.get(&instance) {
            kill_strays(&format!("CONTAINER_API_KEY={key}\0"));
        }
    }

    /// Throws the disk of an instance away. What it printed stays.
    pub fn erase(&mut self, instance: u64) {
        self.kill(instance);
        self.keys.remove(&instance);
        // A process that is just dying may still write: the folder goes at the end in any case.
        let _ = fs::remove_dir_all(self.home(instance));
    }

    /// Kills everything in all containers.
    pub fn kill_all(&mut self) {
        let instances: Vec<u64> = self.keys.keys().copied().collect();
        for instance in instances {
            self.kill(instance);
        }
    }

    fn place(&self, instance: u64) -> PathBuf {
        self.folder.path().join(instance.to_string())
    }

    fn log_file(&self, instance: u64) -> PathBuf {
        self.place(instance).join("log")
    }
}

impl Drop for Boxes {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// The whole environment of a container: nothing of the test's own but `PATH`.
fn variables(container: &Container, home: &Path) -> Vec<(String, String)> {
    let home = home.display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let own = [
        ("PATH", path),
        ("TMPDIR", format!("{home}/tmp")),
        ("HOME", home),
        ("CONTAINER_ID", container.instance.to_string()),
        ("CONTAINER_API_KEY", container.key.clone()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let ordered = container.order.variables().cloned();
    own.into_iter().chain(ordered).chain(container.environment.iter().cloned()).collect()
}

/// Kills all processes that were started with this in their environment.
fn kill_strays(variable: &str) {
    // One that forks, or becomes another program, while it is looked for is found the next time.
    for _ in 0..3 {
        for stray in processes_with(variable) {
            // One that has ended meanwhile is what was wanted.
            let _ = kill_process(stray, Signal::KILL);
        }
    }
}

fn processes_with(variable: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let marked = numbers.filter(|number| {
        let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.windows(variable.len()).any(|window| window == variable.as_bytes())
    });
    marked.filter_map(Pid::from_raw).collect()
}
