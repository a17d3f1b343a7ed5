//! What redis-server says of itself, and what it is compared with.

use std::time::Duration;

use serde_json::Value;

use super::samples::Samples;
use crate::redis::RedisServer;

/// Calls that took the server longer than this, in microseconds, stand in its slow log.
const SLOW: &str = "1000";
/// Entries that its slow log keeps.
const KEPT: &str = "100000";
/// How the names of the library's functions begin.
const LIBRARY: &str = "fleet_v4_";

/// Bytes that its data take.
pub fn used_memory(server: &RedisServer) -> u64 {
    info(server, "memory", "used_memory") as u64
}

/// How many keys it holds.
pub fn keys(server: &RedisServer) -> u64 {
    server.cli(&["DBSIZE"]).parse().unwrap()
}

/// Seconds of processor time that it has used.
pub fn processor_seconds(server: &RedisServer) -> f64 {
    info(server, "cpu", "used_cpu_user") + info(server, "cpu", "used_cpu_sys")
}

/// Seconds of processor time that this program has used, to the hundredth.
pub fn own_processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Ticks in user mode and in the kernel; Linux counts 100 a second on every machine.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Connections that are open, that of the question apart.
pub fn connections(server: &RedisServer) -> u64 {
    info(server, "clients", "connected_clients") as u64 - 1
}

fn info(server: &RedisServer, section: &str, name: &str) -> f64 {
    let answer = server.cli(&["INFO", section]);
    let value = answer.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    value.unwrap().parse().unwrap()
}

/// Calls of one phase that took the server itself longer than a millisecond.
#[derive(Debug, Default)]
pub struct SlowCalls {
    /// Those of `snapshot`.
    pub snapshots: Samples,
    /// Those of `add`.
    pub adds: Samples,
    /// All others of the library: claims, beats, completions.
    pub others: Samples,
    /// The slowest of the others, and how long it took.
    pub slowest_other: Option<(String, Duration)>,
}

/// Starts its slow log anew.
pub fn start_slow_log(server: &RedisServer) {
    server.cli(&["CONFIG", "SET", "slowlog-log-slower-than", SLOW, "slowlog-max-len", KEPT]);
    server.cli(&["SLOWLOG", "RESET"]);
}

/// Reads its slow log.
pub fn slow_calls(server: &RedisServer) -> SlowCalls {
    sort_slow_log(&server.cli(&["--json", "SLOWLOG", "GET", "-1"]))
}

/// `log` is a JSON array of entries: id, time, microseconds, arguments.
fn sort_slow_log(log: &str) -> SlowCalls {
    let entries: Vec<Value> = serde_json::from_str(log).unwrap();
    let mut calls = SlowCalls::default();
    for entry in &entries {
        let took = Duration::from_micros(entry[2].as_u64().unwrap());
        let Some(name) = entry[3][1].as_str().and_then(|name| name.strip_prefix(LIBRARY)) else { continue };
        match name {
            "snapshot" => calls.snapshots.note(took),
            "add" => calls.adds.note(took),
            _ => {
                calls.others.note(took);
                if calls.slowest_other.as_ref().is_none_or(|(_, slowest)| took > *slowest) {
                    calls.slowest_other = Some((name.to_owned(), took));
                }
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_log_is_sorted_by_function() {
        let log = r#"[
            [4, 1, 2500, ["FCALL", "fleet_v4_snapshot", "1", "fleet:{r}:run"], "127.0.0.1:1", ""],
            [3, 1, 1500, ["FCALL", "fleet_v4_claim", "1", "fleet:{r}:run"], "127.0.0.1:1", ""],
            [2, 1, 1700, ["FCALL", "fleet_v4_beat", "1", "fleet:{r}:run"], "127.0.0.1:1", ""],
            [1, 1, 9000, ["FCALL", "fleet_v4_add", "1", "fleet:{r}:run"], "127.0.0.1:1", ""],
            [0, 1, 8000, ["INFO", "memory"], "127.0.0.1:1", ""]
        ]"#;
        let calls = sort_slow_log(log);
        assert_eq!((calls.snapshots.count(), calls.snapshots.percentile(50.0)), (1, 2.5));
        assert_eq!((calls.adds.count(), calls.others.count()), (1, 2));
        assert_eq!(calls.slowest_other, Some(("beat".to_owned(), Duration::from_micros(1700))));
    }
}
