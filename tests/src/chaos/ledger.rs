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
    /// Leases that ended with a part.
    pub done: usize,
}

/// The queue's own account, held against the laws as it grows: a shard is leased to one worker at a time, a
/// lease ends by the worker and token that it was given to, or after its time.
#[derive(Debug, Default)]
pub struct Ledger {
    open: Open,
    tokens: BTreeSet<String>,
    last: Option<String>,
    account: Account,
}

impl Ledger {
    /// Reads what is new since the last time. The queue keeps its last thousand events or so: in a long run
    /// this must be called often enough.
    ///
    /// # Panics
    /// With the event that breaks a law.
    pub fn follow(&mut self, server: &RedisServer, run: &str) -> Account {
        for (id, event) in read_events(server, run, self.last.as_deref()) {
            self.take(&event);
            self.last = Some(id);
        }
        self.account
    }

    /// The queue is about to lose its keys: what was leased is not known any more.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    fn take(&mut self, event: &Event) {
        let holder = (event.worker.clone(), event.token.clone());
        match event.name.as_str() {
            "leased" => {
                assert!(self.tokens.insert(event.token.clone()), "a token is given twice: {event:?}");
                let before = self.open.insert(event.shard.clone(), holder);
                assert_eq!(before, None, "leased twice at once: {event:?}");
                self.account.leases += 1;
            }
            "lost" => {
                let late: i64 = event.detail.parse().unwrap();
                assert!(late >= 0, "a lease was taken before its time: {event:?}");
                let stood = self.open.remove(&event.shard);
                assert_eq!(stood, Some(holder), "not the lease that stood: {event:?}");
                self.account.lost += 1;
            }
            "done" | "released" | "failed_retry" | "failed_host" | "failed_out_of_memory" => {
                let stood = self.open.remove(&event.shard);
                assert_eq!(stood, Some(holder), "accepted from a stranger: {event:?}");
                self.account.done += usize::from(event.name == "done");
            }
            // The store has a part: whatever lease there was is cancelled.
            "found" => drop(self.open.remove(&event.shard)),
            _ => {}
        }
    }
}

/// The whole account of a run that lost no keys.
pub fn check_queue(server: &RedisServer, run: &str) -> Account {
    Ledger::default().follow(server, run)
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

/// The events after this one, each with its id.
fn read_events(server: &RedisServer, run: &str, after: Option<&str>) -> Vec<(String, Event)> {
    let from = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let printed = server.cli(&["--json", "XRANGE", &format!("fleet:{{{run}}}:events"), &from, "+"]);
    let entries: Vec<(String, Vec<String>)> = serde_json::from_str(&printed).unwrap();
    entries
        .into_iter()
        .map(|(id, fields)| {
            let field = |name: &str| {
                let pair = fields.chunks(2).find(|pair| pair[0] == name);
                pair.map_or_else(String::new, |pair| pair[1].clone())
            };
            let event = Event {
                name: field("event"),
                shard: field("shard"),
                worker: field("worker"),
                token: field("token"),
                detail: field("detail"),
            };
            (id, event)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, worker: &str, token: &str, detail: &str) -> Event {
        let [name, shard, worker, token, detail] = [name, "1", worker, token, detail].map(str::to_owned);
        Event { name, shard, worker, token, detail }
    }

    #[test]
    fn every_breach_of_the_third_law_is_found() {
        let holds = |events: &[Event]| {
            let mut ledger = Ledger::default();
            let take_all = std::panic::AssertUnwindSafe(|| {
                for event in events {
                    ledger.take(event);
                }
            });
            std::panic::catch_unwind(take_all).is_ok()
        };
        let leased = event("leased", "a", "1", "");
        assert!(holds(&[leased.clone(), event("lost", "a", "1", "7"), event("leased", "b", "2", "")]));
        assert!(holds(&[leased.clone(), event("found", "", "", ""), event("gone", "", "", "")]));
        assert!(!holds(&[leased.clone(), event("leased", "b", "2", "")]), "twice at once");
        assert!(!holds(&[leased.clone(), event("done", "a", "1", ""), leased.clone()]), "a token twice");
        assert!(!holds(&[leased.clone(), event("lost", "a", "1", "-7")]), "before its time");
        assert!(!holds(&[leased.clone(), event("done", "b", "1", "")]), "by a stranger");
        assert!(!holds(&[leased, event("done", "a", "2", "")]), "with another token");
    }

    #[test]
    fn a_step_past_its_fence_is_found() {
        let line =
            |left: i64| format!("DEBUG a step starts shard=000001 first=0 end=4 before_fence={left}\n");
        assert_eq!(check_worker(&(line(20) + &line(0) + "other\n")), 2);
        assert!(std::panic::catch_unwind(|| check_worker(&line(-1))).is_err());
    }
}
