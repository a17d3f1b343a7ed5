//! Plays scenarios side by side and tells how they ended. Most of their time is waiting, so more are played
//! at once than there are cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tests::chaos::world::Missing;

/// A fault, and what must hold after it.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name: what happens.
    pub name: &'static str,
    /// Plays it by a seed; panics where something does not hold.
    pub play: fn(u64) -> Result<(), Missing>,
}

/// Which scenarios, and how.
pub struct Choice {
    word: String,
    seed: u64,
    jobs: usize,
    list: bool,
}

/// How a scenario ended.
enum End {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Choice {
    /// Reads the command line.
    pub fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let number =
            |text: Option<String>| text.and_then(|text| text.parse().ok()).ok_or("a number is missing");
        let seed = std::env::var("FLEET_CHAOS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let mut choice = Self { word: String::new(), seed, jobs: 5, list: false };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seed" => choice.seed = number(arguments.next())?,
                "--jobs" => choice.jobs = number(arguments.next())?.max(1) as usize,
                "--list" => choice.list = true,
                // What `cargo test` passes on to every test program.
                "--nocapture" | "--no-capture" | "--quiet" | "-q" => {}
                _ if argument.starts_with('-') => return Err(format!("unknown argument {argument}")),
                _ => choice.word = argument,
            }
        }
        Ok(choice)
    }
}

/// Plays all that are chosen.
pub fn run(all: Vec<Scenario>, choice: &Choice) -> ExitCode {
    let filtered = all.len();
    let chosen: Vec<Scenario> =
        all.into_iter().filter(|scenario| scenario.name.contains(&choice.word)).collect();
    if choice.list {
        for scenario in &chosen {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} scenarios with seed {}", chosen.len(), choice.seed);
    let started = Instant::now();
    let (next, ends) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // The panics of scenarios are told with their names.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..choice.jobs {
            scope.spawn(|| {
                while let Some(scenario) = chosen.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let (end, took) = play(*scenario, choice.seed);
                    tell(scenario.name, &end, took);
                    ends.lock().unwrap_or_else(PoisonError::into_inner).push((scenario.name, end));
                }
            });
        }
    });
    let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut counts = [0, 0, 0];
    for (name, end) in &ends {
        match end {
            End::Passed => counts[0] += 1,
            End::Failed(message) => {
                counts[1] += 1;
                println!("\n---- {name} ----\n{message}");
            }
            End::Skipped(_) => counts[2] += 1,
        }
    }
    let [passed, failed, skipped] = counts;
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; {} filtered out; \
         finished in {:.2}s (seed {})\n",
        if failed == 0 { "ok" } else { "FAILED" },
        filtered - ends.len(),
        started.elapsed().as_secs_f64(),
        choice.seed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(scenario: Scenario, seed: u64) -> (End, Duration) {
    let started = Instant::now();
    let end = match catch_unwind(AssertUnwindSafe(|| (scenario.play)(seed))) {
        Ok(Ok(())) => End::Passed,
        Ok(Err(Missing(what))) => End::Skipped(what),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            End::Failed(text.unwrap_or_else(|| "no message".to_owned()))
        }
    };
    (end, started.elapsed())
}

fn tell(name: &str, end: &End, took: Duration) {
    let how = match end {
        End::Passed => "ok".to_owned(),
        End::Skipped(what) => format!("skipped: {what}"),
        End::Failed(_) => "FAILED".to_owned(),
    };
    println!("test {name} ... {how} ({:.1} s)", took.as_secs_f64());
}
