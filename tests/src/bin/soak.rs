//! A long run under random faults: `infra/soak --minutes N --seed S`.

// A test program: an unwrap is an assertion.
#![allow(clippy::unwrap_used)]

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let (mut minutes, mut seed) = (2.0, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next();
        let read = match (name.as_str(), &value) {
            ("--minutes", Some(value)) => value.parse().map(|value| minutes = value).is_ok(),
            ("--seed", Some(value)) => value.parse().map(|value| seed = value).is_ok(),
            _ => false,
        };
        if !read {
            eprintln!("error: soak [--minutes N] [--seed S]; not understood: {name}");
            return ExitCode::from(2);
        }
    }
    tests::soak::run(Duration::from_secs_f64(f64::max(minutes, 0.2) * 60.0), seed)
}
