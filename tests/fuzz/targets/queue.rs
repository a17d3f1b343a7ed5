//! What a Redis server answers, from the bytes of its protocol on.
//!
//! Input: a byte that chooses the operation and the form, then an answer: the bytes of the protocol, or a line
//! for each text with `[` and `]` around lists. Holds: leases that are read are ones
//! that a worker can count with; the sums of a snapshot do not overflow; a message is no longer than a person
//! reads.
#![no_main]

use redis::Value;
use shared::ids::ShardId;
use shared::queue::redis::reply::{beat_reply, claim_reply, snapshot};
use shared::queue::{ClaimReply, QueueError};

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let Some((choice, answer)) = data.split_first() else { return };
    let value = match choice & LINES {
        0 => redis::parse_redis_value(answer).ok(),
        _ => Some(of_lines(answer)),
    };
    let Some(value) = value else { return };
    match choice % LINES % 3 {
        0 => claim(value),
        1 => beat(value),
        _ => match snapshot(value) {
            Ok(snapshot) => {
                let _ = snapshot.map(|snapshot| serde_json::to_string(&snapshot).expect("it can be shown"));
            }
            Err(error) => check_message(&error),
        },
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz::mutate::numbers(data, size, max_size, seed)
});

/// The bit of the first byte that says that lines follow.
const LINES: u8 = 0x40;

fn of_lines(lines: &[u8]) -> Value {
    let mut open = vec![Vec::new()];
    for line in lines.split(|byte| *byte == b'\n') {
        match line {
            b"[" => open.push(Vec::new()),
            b"]" if open.len() > 1 => {
                let list = open.pop().unwrap_or_default();
                open.last_mut().expect("the outermost list").push(Value::Array(list));
            }
            text => open.last_mut().expect("the outermost list").push(Value::BulkString(text.to_vec())),
        }
    }
    Value::Array(open.swap_remove(0))
}

fn claim(value: Value) {
    match claim_reply(value) {
        Ok(ClaimReply::Leases(leases)) => {
            for lease in leases {
                assert_eq!(lease.bundle.shard, lease.shard);
                assert!(lease.too_large.is_sorted());
                assert!(lease.too_large.iter().all(|position| u64::from(*position) < lease.items));
                assert!(lease.isolate.is_none_or(|range| range.first <= range.end));
                assert!(std::time::Instant::now().checked_add(lease.lease).is_some());
            }
        }
        Ok(_) => {}
        Err(error) => check_message(&error),
    }
}

fn beat(value: Value) {
    let asked = [ShardId(1), ShardId(2)];
    match beat_reply(value, &asked) {
        Ok(reply) => assert!(reply.shards.iter().map(|(shard, _)| *shard).eq(asked)),
        Err(error) => check_message(&error),
    }
}

fn check_message(error: &QueueError) {
    assert!(error.to_string().len() < 2000);
}

fn seeds() -> Vec<Vec<u8>> {
    let claim = ["leases", "60000000", "000001", "0123456789abcdef", "5", "7", "9", "1", "1", "4", "0,4"];
    let beat = ["running", "extended", "1700000000000000", "lost", ""];
    let run = ["running", "17", "16", "100", "50", "2", "3", "1", "2", "3", "4", "5"];
    let lists: [&[&str]; 4] = [
        &["w", "17", "host", "gpu", "0.1.0", "24", "97", "fleet-r-0-x", "50", "1"],
        &["000001", "w", "1", "20", "3"],
        &["000002", "dead", "4", "0", "why"],
        &["000003", "delayed", "1", "0", ""],
    ];
    let nested = |rows: &[&[&str]]| array(&rows.iter().map(|row| texts(row)).collect::<Vec<_>>());
    let snapshot = array(&[
        texts(&run),
        texts(&["0", "4", "1", "5"]),
        nested(&lists[..1]),
        nested(&lists[1..2]),
        nested(&lists[2..]),
    ]);
    let read = |answer: &[u8]| redis::parse_redis_value(answer).expect("an answer");
    assert!(matches!(claim_reply(read(&texts(&claim))), Ok(ClaimReply::Leases(leases)) if leases.len() == 1));
    beat_reply(read(&texts(&beat)), &[ShardId(1), ShardId(2)]).expect("an answer to two shards");
    assert_eq!(self::snapshot(read(&snapshot)).expect("a snapshot").expect("a run").failures.len(), 2);
    let answers = [
        (0, texts(&claim)),
        (0, texts(&["wait", "17"])),
        (0, texts(&["unknown_run"])),
        (1, texts(&beat)),
        (2, snapshot),
    ];
    let mut seeds: Vec<Vec<u8>> =
        answers.iter().map(|(choice, answer)| [&[*choice], answer.as_slice()].concat()).collect();
    for (choice, answer) in answers {
        let mut lines = Vec::new();
        write_lines(&read(&answer), &mut lines);
        assert_eq!(of_lines(lines.join("\n").as_bytes()), read(&answer));
        seeds.push([&[choice | LINES], lines.join("\n").as_bytes()].concat());
    }
    seeds
}

/// The lines of a list.
fn write_lines(list: &Value, lines: &mut Vec<String>) {
    let Value::Array(values) = list else { panic!("an answer is a list") };
    for value in values {
        match value {
            Value::BulkString(text) => lines.push(String::from_utf8_lossy(text).into_owned()),
            list => {
                lines.push("[".to_owned());
                write_lines(list, lines);
                lines.push("]".to_owned());
            }
        }
    }
}

fn texts(texts: &[&str]) -> Vec<u8> {
    array(&texts.iter().map(|text| format!("${}\r\n{text}\r\n", text.len()).into_bytes()).collect::<Vec<_>>())
}

fn array(fields: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", fields.len()).as_bytes(), &fields.concat()].concat()
}
