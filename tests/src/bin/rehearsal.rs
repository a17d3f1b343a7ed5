//! Makes a rehearsal of the real job, and measures the stages on it: `infra/bench/stages`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tests::rehearsal::fleet::{Fleet, Outcome};
use tests::rehearsal::size::FULL_ITEMS;
use tests::rehearsal::stages::Stages;
use tests::rehearsal::{Form, Truth, floors, make};

/// Components of a vector of the 8B.
const DIM_OF_8B: u64 = 4096;

const USAGE: &str = "rehearsal --dir D [--items N] [--zip]     makes D/items, D/images (or D/images.zip) and D/truth.json
rehearsal --dir D --fleet N [--dim 4096]  takes it through Redis and N workers to a verified npz
rehearsal --dir D --stages [--repeat N]   measures check, plan, merge and verify there, each beside its floor";

/// What to do.
enum Task {
    Make,
    Fleet { workers: usize, dim: u64 },
    Stages,
    FloorOfCheck,
}

struct Arguments {
    folder: PathBuf,
    items: u64,
    form: Form,
    repeat: usize,
    task: Task,
}

fn main() -> ExitCode {
    let Some(arguments) = parse() else {
        eprintln!("error: not understood; usage:\n{USAGE}");
        return ExitCode::from(2);
    };
    let done = match arguments.task {
        Task::Make => {
            make(&arguments.folder, arguments.items, arguments.form).map(|truth| println!("{truth:#?}"))
        }
        Task::FloorOfCheck => floors::check(&arguments.folder).map(|seen| println!("{seen:?}")),
        Task::Fleet { workers, dim } => fleet(&arguments.folder, workers, dim),
        Task::Stages => {
            let python = tests::s3::python();
            Stages { folder: arguments.folder.clone(), repeat: arguments.repeat, python }.run()
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", arguments.folder.display());
            ExitCode::FAILURE
        }
    }
}

/// What comes out must be what the generator has counted.
fn fleet(folder: &Path, workers: usize, dim: u64) -> io::Result<()> {
    let truth: Truth = serde_json::from_slice(&std::fs::read(folder.join("truth.json"))?)?;
    let fleet = Fleet { folder: folder.to_owned(), workers, dim, python: tests::s3::python() };
    let expected = Outcome::of(&truth, dim);
    match fleet.run()? {
        Some(outcome) if outcome == expected => println!("as the generator says: {outcome:?}"),
        Some(outcome) => return Err(io::Error::other(format!("{outcome:?} came out, not {expected:?}"))),
        None => return Err(io::Error::other("not compared with what the generator has counted")),
    }
    Ok(())
}

fn parse() -> Option<Arguments> {
    let mut folder = None;
    let (mut items, mut form, mut repeat, mut dim) = (FULL_ITEMS, Form::Folders, 3, DIM_OF_8B);
    let (mut workers, mut task) = (0, Task::Make);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--dir" => folder = Some(PathBuf::from(words.next()?)),
            "--items" => items = words.next()?.parse().ok().filter(|items| *items > 0)?,
            "--repeat" => repeat = words.next()?.parse().ok()?,
            "--zip" => form = Form::Zip,
            "--dim" => dim = words.next()?.parse().ok().filter(|dim| *dim > 0)?,
            "--fleet" => workers = words.next()?.parse().ok().filter(|workers| *workers > 0)?,
            "--stages" => task = Task::Stages,
            "--floor-of-check" => task = Task::FloorOfCheck,
            _ => return None,
        }
    }
    if workers > 0 {
        task = Task::Fleet { workers, dim };
    }
    Some(Arguments { folder: folder?, items, form, repeat, task })
}
