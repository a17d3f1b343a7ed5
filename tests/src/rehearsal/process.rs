//! Programs run to their end, with the time they took and the memory they had.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The pause between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(5);

/// One run of a program.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// From its start to its end.
    pub seconds: f64,
    /// The peak of its resident memory, in bytes.
    pub peak: u64,
}

impl Run {
    /// The peak as people read it.
    pub fn mebibytes(&self) -> f64 {
        self.peak as f64 / f64::from(1 << 20)
    }
}

/// Runs a program to its end. It must succeed; what it complains of is in the error.
pub fn measure(command: &mut Command) -> io::Result<Run> {
    Ok(measure_all(std::slice::from_mut(command))?[0])
}

/// Runs programs side by side, each to its end. All must succeed. The caller's own settings are not theirs.
pub fn measure_all(commands: &mut [Command]) -> io::Result<Vec<Run>> {
    let started = Instant::now();
    let mut children = Children(Vec::new());
    let mut complaints = Vec::new();
    for command in &mut *commands {
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("FLEET_")) {
            command.env_remove(name);
        }
        // A file and no pipe: nobody reads it before the end.
        let complaint = tempfile::tempfile()?;
        let child = command.stdin(Stdio::null()).stderr(complaint.try_clone()?).spawn();
        children.0.push(child.map_err(|error| io::Error::other(format!("{}: {error}", line(command))))?);
        complaints.push(complaint);
    }
    let children = &mut children.0;
    let mut runs = vec![Run { seconds: 0.0, peak: 0 }; children.len()];
    let mut left: Vec<usize> = (0..children.len()).collect();
    while !left.is_empty() {
        for at in std::mem::take(&mut left) {
            // The kernel keeps the peak itself, so that the last look before the end has it.
            runs[at].peak = runs[at].peak.max(peak_of(children[at].id()));
            match children[at].try_wait()? {
                Some(status) if status.success() => runs[at].seconds = started.elapsed().as_secs_f64(),
                Some(status) => {
                    let said = read(&mut complaints[at])?;
                    return Err(io::Error::other(format!(
                        "{} ended with {status}: {said}",
                        line(&commands[at])
                    )));
                }
                None => left.push(at),
            }
        }
        std::thread::sleep(LOOK);
    }
    Ok(runs)
}

/// The peak of a process's resident memory so far, in bytes; 0 where it is gone.
pub fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Programs that end with this.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read(complaint: &mut File) -> io::Result<String> {
    complaint.seek(SeekFrom::Start(0))?;
    io::read_to_string(complaint)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
