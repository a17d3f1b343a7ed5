//! The chaos suite: real processes, real servers, and a named scenario for every fault that we know of. After
//! each, every id is there once, the arrays are those of an undisturbed run, the counters are the plan's, and
//! the account of the queue and the workers breaks no law.
//!
//! `cargo test -p tests --test chaos -- [WORD] [--seed S] [--jobs N] [--list]` plays the scenarios whose names
//! hold the word. The seed (1, or `FLEET_CHAOS_SEED`) chooses when a fault strikes and whom.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

mod clocks;
mod coordinators;
mod disks;
mod network;
mod parts;
mod queue_connection;
mod queue_server;
mod rest;
mod runner;
mod store;
mod truth;
mod workers;

use std::process::ExitCode;

use runner::{Choice, Scenario, run};

/// A scenario for each function, by its name.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        &[$($crate::runner::Scenario { name: stringify!($name), play: $name }),*]
    };
}
pub(crate) use scenarios;

fn main() -> ExitCode {
    let choice = match Choice::from_arguments(std::env::args().skip(1)) {
        Ok(choice) => choice,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let groups: [&'static [Scenario]; 10] = [
        network::SCENARIOS,
        truth::SCENARIOS,
        workers::SCENARIOS,
        coordinators::SCENARIOS,
        queue_server::SCENARIOS,
        queue_connection::SCENARIOS,
        rest::SCENARIOS,
        store::SCENARIOS,
        parts::SCENARIOS,
        clocks::SCENARIOS,
    ];
    let all = groups.into_iter().chain([disks::SCENARIOS]).flatten().copied().collect();
    run(all, &choice)
}
