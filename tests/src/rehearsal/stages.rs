//! Every stage of the coordinator at full size against its floor: the least that any program can do with the
//! same bytes on the same disk, in turns with it, and held to a gate.
//!
//! | stage | floor |
//! |---|---|
//! | `check` | the same JSON parsed into the fields that are used, and a walk over the images ([`super::floors`]) |
//! | `plan` | a tar of items and images in the store's folder, synced |
//! | `merge` | `cat parts/* > file`, synced; and numpy: load, concatenate, savez, synced |
//! | `verify` | `cat file > /dev/null` |

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::fleet::has_numpy;
use super::process::{Run, measure as measure_command};

/// numpy's own way, on the disk in the end as ours is.
const NUMPY: &str = "
import glob, os, sys, numpy
parts = [numpy.load(name, allow_pickle=False) for name in sorted(glob.glob(sys.argv[1] + '/*.npz'))]
joined = {name: numpy.concatenate([part[name] for part in parts])
          for name in ('item_ids', 'embeddings', 'image_counts')}
with open(sys.argv[2], 'wb') as file:
    numpy.savez(file, metadata=parts[0]['metadata'], **joined)
    file.flush()
    os.fsync(file.fileno())
";

/// What a merge may take of memory, in MiB.
const MERGE_MEBIBYTES: f64 = 128.0;

/// What a stage is held to.
#[derive(Debug, Clone, Copy)]
struct Gate {
    stage: &'static str,
    /// So many times its floor's time at most.
    ratio: f64,
    /// So many MiB at most.
    memory: Option<f64>,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Stages {
    /// A rehearsal's folder. Beside its files the store, the merged file and the floors' files go there.
    pub folder: PathBuf,
    /// How often each stage and each floor runs.
    pub repeat: usize,
    /// The Python that has numpy.
    pub python: String,
}

impl Stages {
    /// Measures all stages and prints a line for each. Fails where one misses its gate.
    pub fn run(&self) -> io::Result<()> {
        println!("| stage | floor | ours | ratio (gate) | peak RSS: floor, ours |\n|---|---|---|---|---|");
        let mut kept = vec![self.check()?, self.plan()?];
        let parts = self.parts()?;
        kept.extend(self.merge(&parts)?);
        kept.push(self.verify()?);
        if kept.contains(&false) { Err(io::Error::other("a gate is missed")) } else { Ok(()) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn input(&self) -> Vec<String> {
        let images = if self.folder.join("images.zip").exists() { "images.zip" } else { "images" };
        let items = self.path("items/*.json");
        vec!["--items".to_owned(), items, "--images".to_owned(), self.path(images)]
    }

    fn check(&self) -> io::Result<bool> {
        let floor = vec!["--dir".to_owned(), self.path(""), "--floor-of-check".to_owned()];
        let ours = [vec!["check".to_owned()], self.input()].concat();
        self.compare(
            Gate { stage: "check", ratio: 2.0, memory: None },
            || measure(std::env::current_exe()?.as_path(), &floor),
            || measure(&coordinator()?, &ours),
        )
    }

    fn plan(&self) -> io::Result<bool> {
        let (store, tar) = (self.path("store-of-plan"), self.path("floor.tar"));
        let script = format!("cd '{}' && tar -cf '{tar}' items images* && sync '{tar}'", self.path(""));
        let model = ["--model", "hash:4096", "--store", &store].map(str::to_owned);
        let ours = [vec!["plan".to_owned()], self.input(), model.to_vec()].concat();
        self.compare(
            Gate { stage: "plan", ratio: 2.0, memory: None },
            || shell(&script, &[&tar]),
            || {
                let run = measure(&coordinator()?, &ours)?;
                std::fs::remove_dir_all(&store)?;
                Ok(run)
            },
        )
    }

    /// Parts of the whole, by `coordinator run` with the hash embedder. Returns their folder.
    fn parts(&self) -> io::Result<PathBuf> {
        let (store, out) = (self.path("store"), self.path("e.npz"));
        let rest =
            ["--model", "hash:4096", "--store", &store, "--out", &out, "--workers", "2"].map(str::to_owned);
        measure(&coordinator()?, &[vec!["run".to_owned()], self.input(), rest.to_vec()].concat())?;
        let run = std::fs::read_dir(self.folder.join("store/runs"))?.next();
        let run = run.ok_or_else(|| io::Error::other("the store has no run"))??;
        Ok(run.path().join("parts"))
    }

    fn merge(&self, parts: &Path) -> io::Result<Vec<bool>> {
        let (parts, joined) = (parts.display().to_string(), self.path("floor.bin"));
        let script = format!("cat '{parts}'/* > '{joined}' && sync '{joined}'");
        let out = self.path("e.npz");
        let arguments = ["merge", "--store", &self.path("store"), "--out", &out].map(str::to_owned);
        let merge = || {
            // To free an older file of gigabytes would take seconds, which the floors do not spend either.
            std::fs::remove_file(&out)?;
            measure(&coordinator()?, &arguments)
        };
        let gate = Gate { stage: "merge", ratio: 1.5, memory: Some(MERGE_MEBIBYTES) };
        let mut kept = vec![self.compare(gate, || shell(&script, &[&joined]), merge)?];
        let other = self.path("numpy.npz");
        let theirs = ["-c", NUMPY, &parts, &other].map(str::to_owned);
        if !has_numpy(&self.python) {
            println!("skipped: {} has no numpy", self.python);
            return Ok(kept);
        }
        let numpy = || {
            let run = measure(Path::new(&self.python), &theirs)?;
            std::fs::remove_file(&other)?;
            Ok(run)
        };
        let gate = Gate { stage: "merge to numpy's", ratio: 0.5, memory: Some(MERGE_MEBIBYTES) };
        kept.push(self.compare(gate, numpy, merge)?);
        Ok(kept)
    }

    fn verify(&self) -> io::Result<bool> {
        let file = self.path("e.npz");
        let script = format!("cat '{file}' > /dev/null");
        let arguments = ["verify".to_owned(), file];
        let gate = Gate { stage: "verify", ratio: 3.0, memory: None };
        self.compare(gate, || shell(&script, &[]), || measure(&coordinator()?, &arguments))
    }

    /// Runs both in turns, prints medians, and tells whether the gate is kept.
    fn compare(
        &self,
        gate: Gate,
        floor: impl Fn() -> io::Result<Run>,
        ours: impl Fn() -> io::Result<Run>,
    ) -> io::Result<bool> {
        let (mut floors, mut runs) = (Vec::new(), Vec::new());
        for _ in 0..self.repeat.max(1) {
            floors.push(floor()?);
            runs.push(ours()?);
        }
        let (floor, seconds) = (median(&floors), median(&runs));
        let (ratio, memory) = (seconds / floor, peak(&runs));
        let Gate { stage, ratio: most, memory: most_memory } = gate;
        let kept = ratio <= most && most_memory.is_none_or(|most| memory <= most);
        println!(
            "| {stage} | {floor:.2} s | {seconds:.2} s | {ratio:.2} ({most}){} | {:.0} MiB, {memory:.0} MiB{} |",
            if kept { "" } else { " MISSED" },
            peak(&floors),
            most_memory.map(|most| format!(" ({most})")).unwrap_or_default(),
        );
        Ok(kept)
    }
}

/// The highest of the peaks of some runs, in MiB.
fn peak(runs: &[Run]) -> f64 {
    runs.iter().map(Run::mebibytes).fold(0.0, f64::max)
}

fn median(runs: &[Run]) -> f64 {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    if seconds.len() % 2 == 1 { seconds[middle] } else { f64::midpoint(seconds[middle - 1], seconds[middle]) }
}

/// The coordinator beside this program.
fn coordinator() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("coordinator"))
}

/// Runs a line of shell, and removes afterwards what it wrote.
fn shell(script: &str, written: &[&str]) -> io::Result<Run> {
    let run = measure(Path::new("sh"), &["-c".to_owned(), script.to_owned()])?;
    written.iter().try_for_each(std::fs::remove_file)?;
    Ok(run)
}

/// Runs a program to its end, without its standard output, on a disk that has no work left from what was before.
fn measure(program: &Path, arguments: &[String]) -> io::Result<Run> {
    measure_command(&mut Command::new("sync"))?;
    measure_command(Command::new(program).args(arguments).stdout(Stdio::null()))
}
