//! A process that outlives this one by a moment, to kill what it leaves behind: whatever becomes of a test,
//! no box survives it.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Keeps the groups it is told of; once its input ends it kills them, and all processes that carry the key
/// which is the first line it reads, and throws the folder away that is its argument.
const PROGRAM: &str = r#"
read -r keys
groups=' '
while read -r word group; do
  if [ "$word" = add ]; then groups="$groups$group "; else groups="${groups/ $group / }"; fi
done
for group in $groups; do kill -KILL -- "-$group" 2>/dev/null; done
for _ in 1 2 3; do
  for file in $(grep -lsa "CONTAINER_API_KEY=$keys" /proc/[0-9]*/environ); do
    process=${file#/proc/}
    kill -KILL "${process%/environ}" 2>/dev/null
  done
done
rm -rf -- "$1"
"#;

/// The watching process.
#[derive(Debug)]
pub struct Watcher {
    process: Child,
    orders: Option<ChildStdin>,
}

impl Watcher {
    /// Watches over boxes whose keys begin so, and over the folder they lie in.
    pub fn start(keys: &str, folder: &std::path::Path) -> io::Result<Self> {
        let mut process = Command::new("bash")
            .args(["-c", PROGRAM, "watcher"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C is for the test.
            .process_group(0)
            .spawn()?;
        let orders = process.stdin.take();
        let mut watcher = Self { process, orders };
        watcher.tell(keys)?;
        Ok(watcher)
    }

    /// A group that must not survive.
    pub fn add(&mut self, group: u32) -> io::Result<()> {
        self.tell(&format!("add {group}"))
    }

    /// A group that is gone: its number may be somebody else's soon.
    pub fn forget(&mut self, group: u32) {
        // One that has ended has nothing to forget.
        let _ = self.tell(&format!("forget {group}"));
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(orders, "{line}")?;
        orders.flush()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.process.wait();
    }
}
