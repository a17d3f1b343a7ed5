//! A rehearsal from its files to a verified npz: a redis-server, a plan, workers with the hash embedder, a merge,
//! and two checks of the result: our own, and numpy's figures against the generator's truth.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::Truth;
use super::process::{Run, measure, measure_all, peak_of};
use crate::redis::RedisServer;

/// What numpy finds in the file, as JSON. Every row is read, and must be a unit vector; rows that
/// differ are told by their first components.
const NUMPY: &str = "
import json, sys, numpy
with numpy.load(sys.argv[1], allow_pickle=False) as file:
    ids, counts, rows = file['item_ids'], file['image_counts'], file['embeddings']
    assert rows.dtype == numpy.dtype('<f4') and ids.dtype.kind == 'U' and counts.dtype == numpy.dtype('<i4')
    steps = [rows[first:first + 4096] for first in range(0, len(rows), 4096)]
    norms = [numpy.linalg.norm(step.astype(numpy.float64), axis=1) for step in steps]
    assert all(abs(norm - 1).max() < 1e-6 for norm in norms)
    vectors = len({row.tobytes() for step in steps for row in step[:, :16]})
    print(json.dumps({'shape': rows.shape, 'ids': len(set(ids.tolist())), 'images': int(counts.sum()),
                      'with_image': int((counts > 0).sum()), 'vectors': vectors,
                      'metadata': json.loads(str(file['metadata'][0]))}))
";

/// What to run.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// A rehearsal's folder. Beside its files `fleet-store` and `fleet.npz` go there, in place of older ones.
    pub folder: PathBuf,
    /// How many worker processes.
    pub workers: usize,
    /// Components of a vector.
    pub dim: u64,
    /// The Python that has numpy.
    pub python: String,
}

/// What came out, beside what should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Rows.
    pub rows: u64,
    /// Components of a row.
    pub dim: u64,
    /// Different ids.
    pub ids: u64,
    /// Different vectors.
    pub vectors: u64,
    /// Rows with an image.
    pub with_image: u64,
    /// Images used.
    pub images: u64,
    /// Rows with only some of their images, by the metadata.
    pub partial: u64,
    /// Rows with none of the images that their items name, by the metadata.
    pub text_only: u64,
    /// Items without a row, by the metadata.
    pub failed: u64,
}

impl Outcome {
    /// What a rehearsal must give.
    pub fn of(truth: &Truth, dim: u64) -> Self {
        Self {
            rows: truth.items,
            dim,
            ids: truth.items,
            vectors: truth.different,
            with_image: truth.marked_found,
            images: truth.images_found,
            partial: truth.marked_partly,
            text_only: truth.marked - truth.marked_found,
            failed: 0,
        }
    }
}

impl Fleet {
    /// Runs all stages and prints a line for each process. `None` where a server or numpy is missing, which it says.
    pub fn run(&self) -> io::Result<Option<Outcome>> {
        let Some(server) = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"])
        else {
            return Ok(None);
        };
        let store = self.folder.join("fleet-store");
        let out = self.folder.join("fleet.npz");
        if store.exists() {
            std::fs::remove_dir_all(&store)?;
        }
        println!("| stage | process | seconds | peak RSS |\n|---|---|---|---|");
        let started = Instant::now();
        show("check", "coordinator", measure(self.coordinator("check").args(self.input()))?);
        let mut plan = self.coordinator("plan");
        plan.args(self.input()).args(["--model", &format!("hash:{}", self.dim), "--queue", &server.url()]);
        show("plan", "coordinator", measure(plan.arg("--store").arg(&store))?);
        self.work(&server, &store)?;
        let mut merge = self.coordinator("merge");
        show("merge", "coordinator", measure(merge.arg("--store").arg(&store).arg("--out").arg(&out))?);
        show("verify", "coordinator", measure(self.coordinator("verify").arg(&out))?);
        let mut verify = self.coordinator("verify");
        let run = run_of(&store)?;
        verify.arg(&out).args(["--run", &run]).arg("--store").arg(&store);
        show("verify --run", "coordinator", measure(&mut verify)?);
        println!("| all | | {:.1} | |", started.elapsed().as_secs_f64());
        self.numpy(&out)
    }

    fn work(&self, server: &RedisServer, store: &Path) -> io::Result<()> {
        let run = run_of(store)?;
        let worker = |_| {
            let mut command = Command::new(crate::program::path_of("worker"));
            command.args(["--queue", &server.url(), "--run", &run, "--device", "cpu"]);
            command.arg("--store").arg(store).stdout(Stdio::null());
            command
        };
        let mut workers: Vec<Command> = (0..self.workers).map(worker).collect();
        for (number, run) in measure_all(&mut workers)?.into_iter().enumerate() {
            show("work", &format!("worker {}", number + 1), run);
        }
        let process = server.process().unwrap_or_default();
        show("work", "redis-server", Run { seconds: f64::NAN, peak: peak_of(process) });
        Ok(())
    }

    fn coordinator(&self, command: &str) -> Command {
        let mut program = Command::new(crate::program::path_of("coordinator"));
        program.arg(command).current_dir(&self.folder).stdout(Stdio::null());
        program
    }

    fn input(&self) -> [&str; 4] {
        let images = if self.folder.join("images.zip").exists() { "images.zip" } else { "images" };
        ["--items", "items/*.json", "--images", images]
    }

    fn numpy(&self, file: &Path) -> io::Result<Option<Outcome>> {
        if !has_numpy(&self.python) {
            println!("skipped: {} has no numpy", self.python);
            return Ok(None);
        }
        let said = Command::new(&self.python).args(["-c", NUMPY]).arg(file).output()?;
        if !said.status.success() {
            let complaint = String::from_utf8_lossy(&said.stderr);
            return Err(io::Error::other(format!("numpy on {}: {complaint}", file.display())));
        }
        let seen: Value = serde_json::from_slice(&said.stdout)?;
        let number = |pointer: &str| seen.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let outcome = Outcome {
            rows: number("/shape/0"),
            dim: number("/shape/1"),
            ids: number("/ids"),
            vectors: number("/vectors"),
            with_image: number("/with_image"),
            images: number("/images"),
            partial: number("/metadata/partial"),
            text_only: number("/metadata/text_only"),
            failed: number("/metadata/failed"),
        };
        let told = (number("/metadata/count"), number("/metadata/with_image"));
        if told == (outcome.rows, outcome.with_image) {
            return Ok(Some(outcome));
        }
        Err(io::Error::other(format!("the metadata tells {told:?} of {outcome:?}")))
    }
}

/// Whether this Python is there and has numpy.
pub fn has_numpy(python: &str) -> bool {
    let asked = Command::new(python).args(["-c", "import numpy"]).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// The only run in a store.
fn run_of(store: &Path) -> io::Result<String> {
    let run = std::fs::read_dir(store.join("runs"))?.next();
    let run = run.ok_or_else(|| io::Error::other("the store has no run"))??;
    Ok(run.file_name().to_string_lossy().into_owned())
}

fn show(stage: &str, process: &str, run: Run) {
    let seconds = if run.seconds.is_nan() { String::new() } else { format!("{:.1}", run.seconds) };
    println!("| {stage} | {process} | {seconds} | {:.0} MiB |", run.mebibytes());
}
