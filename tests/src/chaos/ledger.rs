//! The account of a run: what the queue says happened, from its stream of events, and what the workers say
//! they started, from their logs; both held against the third law.

use std::collections::{BTreeMap, BTreeSet};

use crate::redis::RedisServer;

/// A line of the queue's account.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    name: String,
    shard: String,
    worker: String,
    token: String,
    detail: String,
}

/// The lease that stands on a shard: worker and token.
type Open = BTreeMap<String, (String, String)>;

/// What was found in order, for a table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Account {
    /// Leases given.
    pub leases: usize,
    /// Leases that expired.
    pub lost: usize,
    /// Steps that workers started.
    pub steps: usize,
}

/// Holds the queue's own account against the laws: a shard is leased to one worker at a time, a lease ends
/// by the worker and token that it was given to, or after its time.
///
/// # Panics
/// With the event that breaks a law.
pub fn check_queue(server: &RedisServer, run: &str) -> Account {
    let events = read_events(server, run);
    let mut open = Open::new();
    let mut tokens = BTreeSet::new();
    let mut account = Account::default();
    for event in &events {
        let holder = (event.worker.clone(), event.token.clone());
        match event.name.as_str() {
            "leased" => {
                assert!(tokens.insert(event.token.clone()), "a token is given twice: {event:?}");
                let before = open.insert(event.shard.clone(), holder);
                assert_eq!(before, None, "leased twice at once: {event:?}");
                account.leases += 1;
            }
            "lost" => {
                let late: i64 = event.detail.parse().unwrap();
                assert!(late >= 0, "a lease was taken before its time: {event:?}");
                assert_eq!(open.remove(&event.shard), Some(holder), "not the lease that stood: {event:?}");
                account.lost += 1;
            }
            "done" | "released" | "failed_retry" | "failed_host" | "failed_out_of_memory" => {
                assert_eq!(open.remove(&event.shard), Some(holder), "accepted from a stranger: {event:?}");
            }
            // The store has a part: whatever lease there was is cancelled.
            "found" => drop(open.remove(&event.shard)),
            _ => {}
        }
    }
    account
}

/// Holds a worker's log against the law that nothing starts past a fence, and counts what was started.
///
/// # Panics
/// With the line that breaks it.
pub fn check_worker(log: &str) -> usize {
    let steps = log.lines().filter(|line| line.contains("a step starts"));
    steps
        .inspect(|line| {
            let before_fence = line.split("before_fence=").nth(1).and_then(|rest| {
                rest.split(|c: char| c != '-' && !c.is_ascii_digit()).next()?.parse::<i64>().ok()
            });
            assert!(before_fence.is_some_and(|left| left >= 0), "started past its fence: {line}");
        })
        .count()
}

fn read_events(server: &RedisServer, run: &str) -> Vec<Event> {
    let printed = server.cli(&["--json", "XRANGE", &format!("fleet:{{{run}}}:events"), "-", "+"]);
    let entries: Vec<(String, Vec<String>)> = serde_json::from_str(&printed).unwrap();
    entries
        .into_iter()
        .map(|(_, fields)| {
            let field = |name: &str| {
                let pair = fields.chunks(2).find(|pair| pair[0] == name);
                pair.map_or_else(String::new, |pair| pair[1].clone())
            };
            Event {
                name: field("event"),
                shard: field("shard"),
                worker: field("worker"),
                token: field("token"),
                detail: field("detail"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_past_its_fence_is_found() {
        let line =
            |left: i64| format!("DEBUG a step starts shard=000001 first=0 end=4 before_fence={left}\n");
        assert_eq!(check_worker(&(line(20) + &line(0) + "other\n")), 2);
        assert!(std::panic::catch_unwind(|| check_worker(&line(-1))).is_err());
    }
}
