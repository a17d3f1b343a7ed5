//! What may go wrong in a soak, and how it is brought about.

use std::fmt;
use std::time::Duration;

use super::Fleet;
use crate::chaos::fault::{Fault, Rule, http_error};
use crate::chaos::world::LEASE;

/// A fault of a soak.
pub struct SoakFault {
    /// What happens.
    pub name: &'static str,
    /// Brings it about.
    pub inject: fn(&mut Fleet),
}

/// How often a fault was injected, and how long work took to go on.
pub struct Tally {
    name: &'static str,
    injected: u64,
    slowest: Duration,
}

impl Tally {
    /// Of a fault not injected yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, injected: 0, slowest: Duration::ZERO }
    }

    /// It was injected, and work went on after so long.
    pub fn note(&mut self, recovery: Duration) {
        self.injected += 1;
        self.slowest = self.slowest.max(recovery);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} | {:.1} s |", self.name, self.injected, self.slowest.as_secs_f64())
    }
}

/// All of them.
pub const FAULTS: &[SoakFault] = &[
    SoakFault { name: "a worker is killed -9 and another started", inject: kill_worker },
    SoakFault { name: "a worker sleeps past its lease", inject: stop_worker },
    SoakFault { name: "every connection to the queue breaks", inject: |fleet| fleet.world.queue.cut() },
    SoakFault {
        name: "every connection to the queue falls silent",
        inject: |fleet| fleet.world.queue.silence(),
    },
    SoakFault {
        name: "the reply to a claim is lost",
        inject: |fleet| at_queue(fleet, "claim", Fault::LoseReply),
    },
    SoakFault {
        name: "the reply to a completion is lost",
        inject: |fleet| at_queue(fleet, "complete", Fault::LoseReply),
    },
    SoakFault {
        name: "a completion is cut before it arrives",
        inject: |fleet| at_queue(fleet, "complete", Fault::CutBefore),
    },
    SoakFault {
        name: "a beat is late by more than a lease",
        inject: |fleet| at_queue(fleet, "beat", Fault::Delay(LEASE + LEASE / 2)),
    },
    SoakFault {
        name: "a connection to the queue is half closed",
        inject: |fleet| at_queue(fleet, "", Fault::HalfClose),
    },
    SoakFault { name: "Redis is killed -9 and started", inject: kill_redis },
    SoakFault { name: "FLUSHALL, and a resume", inject: flush },
    SoakFault { name: "the functions are deleted, and a resume", inject: delete_functions },
    SoakFault { name: "two resumes at once", inject: resume_twice },
    SoakFault { name: "pause, and a resume", inject: pause },
    SoakFault {
        name: "the store answers 500 to three uploads",
        inject: |fleet| {
            at_store(fleet, "PUT ", "/parts/", Fault::Answer(http_error("500 Internal Server Error")));
        },
    },
    SoakFault {
        name: "the store answers 503 to three downloads",
        inject: |fleet| at_store(fleet, "GET ", "/inputs/", Fault::Answer(http_error("503 Slow Down"))),
    },
    SoakFault {
        name: "three uploads land and answer an error",
        inject: |fleet| {
            let error = http_error("500 Internal Server Error");
            at_store(fleet, "PUT ", "/parts/", Fault::ReplaceReply(error));
        },
    },
    SoakFault {
        name: "three downloads end early",
        inject: |fleet| at_store(fleet, "GET ", "/inputs/", Fault::TruncateReply(700)),
    },
    SoakFault {
        name: "the store is slow",
        inject: |fleet| at_store(fleet, " /fleet/", "/runs/", Fault::Delay(Duration::from_millis(1500))),
    },
    SoakFault {
        name: "every connection to the store breaks",
        inject: |fleet| fleet.world.store_proxy().cut(),
    },
];

fn at_queue(fleet: &mut Fleet, call: &str, fault: Fault) {
    fleet.world.queue.add(Rule::new(&[&format!("fleet_v4_{call}")], fault));
}

fn at_store(fleet: &mut Fleet, method: &str, path: &str, fault: Fault) {
    fleet.world.store_proxy().add(Rule::new(&[method, path], fault).times(3));
}

fn kill_worker(fleet: &mut Fleet) {
    let at = fleet.world.between(0, fleet.mortal.len() as u64 - 1) as usize;
    fleet.mortal[at].process.kill();
    fleet.mortal[at] = fleet.worker();
}

fn stop_worker(fleet: &mut Fleet) {
    let all = fleet.mortal.len() + fleet.steady.len();
    let at = fleet.world.between(0, all as u64 - 1) as usize;
    let asleep = fleet.mortal.iter().chain(&fleet.steady).nth(at);
    let Some(asleep) = asleep else { return };
    asleep.process.signal("STOP");
    std::thread::sleep(LEASE + LEASE / 2);
    asleep.process.signal("CONT");
}

fn kill_redis(fleet: &mut Fleet) {
    let mut redis = fleet.world.redis.borrow_mut();
    redis.stop();
    redis.start_again();
}

fn flush(fleet: &mut Fleet) {
    fleet.close_account();
    assert_eq!(fleet.world.redis.borrow().cli(&["FLUSHALL"]), "OK");
    let _ = fleet.world.resume();
}

fn delete_functions(fleet: &mut Fleet) {
    assert_eq!(fleet.world.redis.borrow().cli(&["FUNCTION", "DELETE", "fleet_v4"]), "OK");
    let _ = fleet.world.resume();
}

fn resume_twice(fleet: &mut Fleet) {
    let log = fleet.world.folder.path().join("resume.log");
    let mut other = fleet.world.coordinator("resume").start(&log);
    let _ = fleet.world.resume();
    assert_eq!(other.wait(), 0, "{}", std::fs::read_to_string(log).unwrap_or_default());
}

fn pause(fleet: &mut Fleet) {
    let _ = fleet.world.coordinator("pause").output().expect(0);
    let _ = fleet.world.resume();
}
