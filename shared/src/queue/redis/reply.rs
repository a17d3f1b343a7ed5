//! Reading the library's answers: nested arrays of texts and whole numbers. A server is a stranger: what is
//! read here stays in ranges that the rest of the program can count with.
//!
//! Public for tests alone.

use std::collections::HashMap;
use std::str::FromStr;

use redis::Value;

use crate::excerpt::excerpt;
use crate::ids::{ContentName, LeaseToken, Sha16, ShardId, WorkerId};

use super::super::transition::microseconds;
use super::super::view::{Stored, StoredLease, StoredWorker};
use super::super::{
    BeatAnswer, BeatReply, ClaimReply, ItemRange, Lease, QueueError, QueueErrorKind, RunState, ServerTime,
    ShardCounts, ShardFailure, ShardState, Snapshot,
};

/// The most items, failures or attempts that an answer may tell of: sums of thousands of them fit 64 bits.
const LARGEST_COUNT: u64 = 1 << 48;

/// The latest moment and the highest token in microseconds: the library's numbers are doubles, whole up to
/// here, which is the year 2255.
const LATEST: u64 = 1 << 53;

/// The longest lease in microseconds, some 35 years: what is added to a clock stays in its range.
const LONGEST_LEASE: u64 = 1 << 50;

/// The most leases that one claim answers with.
const MOST_LEASES: usize = 1 << 12;

/// The fields of one array, read in order.
pub(super) struct Fields {
    operation: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Fields {
    /// The fields of an answer to `operation`.
    pub(super) fn new(operation: &'static str, value: Value) -> Result<Self, QueueError> {
        match value {
            Value::Array(values) => Ok(Self { operation, values: values.into_iter() }),
            other => Err(not_understood(operation, &format!("{} is not a list", kind(&other)))),
        }
    }

    /// Whether all were read.
    pub(super) fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    /// The next field as text.
    pub(super) fn text(&mut self) -> Result<String, QueueError> {
        let value = self.values.next().ok_or_else(|| not_understood(self.operation, "it ends too early"))?;
        text(self.operation, value)
    }

    /// The next field in the form of `T`.
    pub(super) fn parsed<T: FromStr>(&mut self) -> Result<T, QueueError> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| not_understood(self.operation, &format!("{:?} is out of place", excerpt(&text))))
    }

    /// The next field as a list.
    pub(super) fn list(&mut self) -> Result<Fields, QueueError> {
        let value = self.values.next().ok_or_else(|| not_understood(self.operation, "it ends too early"))?;
        Self::new(self.operation, value)
    }

    /// The next field as a list of so many texts with spaces between them, of which only the last may have spaces.
    fn words(&mut self, count: usize) -> Result<Fields, QueueError> {
        let text = self.text()?;
        let words = text.splitn(count, ' ').map(|word| Value::BulkString(word.as_bytes().to_vec()));
        Ok(Self { operation: self.operation, values: words.collect::<Vec<_>>().into_iter() })
    }

    /// The rest as names, each with a value that `read` takes.
    fn by_name<T>(
        mut self,
        read: impl Fn(&mut Self) -> Result<T, QueueError>,
    ) -> Result<HashMap<String, T>, QueueError> {
        let mut values = HashMap::new();
        while !self.is_empty() {
            values.insert(self.text()?, read(&mut self)?);
        }
        Ok(values)
    }

    fn time(&mut self) -> Result<ServerTime, QueueError> {
        self.number(LATEST).map(ServerTime)
    }

    fn count(&mut self) -> Result<u64, QueueError> {
        self.number(LARGEST_COUNT)
    }

    /// A number up to a limit.
    fn number(&mut self, most: u64) -> Result<u64, QueueError> {
        let number = self.parsed()?;
        if number <= most {
            return Ok(number);
        }
        Err(not_understood(self.operation, &format!("{number} is out of range")))
    }

    /// Positions among `items` items in one field, ascending, with commas between them.
    fn positions(&mut self, items: u64) -> Result<Vec<u32>, QueueError> {
        let text = self.text()?;
        let positions = text.split(',').filter(|position| !position.is_empty()).map(str::parse);
        let positions: Result<Vec<u32>, _> = positions.collect();
        let legal = |positions: &Vec<u32>| {
            positions.is_sorted_by(|a, b| a < b)
                && positions.last().is_none_or(|last| u64::from(*last) < items)
        };
        positions
            .ok()
            .filter(legal)
            .ok_or_else(|| not_understood(self.operation, &format!("{:?} are no positions", excerpt(&text))))
    }

    /// A range in two fields, both empty where there is none.
    fn range(&mut self) -> Result<Option<ItemRange>, QueueError> {
        let (first, end) = (self.text()?, self.text()?);
        if first.is_empty() {
            return Ok(None);
        }
        match (first.parse::<u32>(), end.parse::<u32>()) {
            (Ok(first), Ok(end)) if first <= end => Ok(Some(ItemRange { first, end })),
            _ => {
                let (first, end) = (excerpt(&first), excerpt(&end));
                Err(not_understood(self.operation, &format!("{first}..{end} is no range")))
            }
        }
    }
}

/// One text or number.
pub(super) fn text(operation: &'static str, value: Value) -> Result<String, QueueError> {
    match value {
        Value::BulkString(bytes) => {
            String::from_utf8(bytes).map_err(|_| not_understood(operation, "a text is not UTF-8"))
        }
        Value::SimpleString(text) => Ok(text),
        Value::Okay => Ok("OK".to_owned()),
        Value::Int(number) => Ok(number.to_string()),
        other => Err(not_understood(operation, &format!("{} is not a text", kind(&other)))),
    }
}

/// What an answer is, without its contents, which may be of any size.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        Value::ServerError(_) => "an error",
        _ => "a value of another protocol",
    }
}

/// An answer of another form than this program knows.
pub(super) fn not_understood(operation: &str, why: &str) -> QueueError {
    let why = excerpt(why);
    let message = format!(
        "the queue's answer to {operation} is not understood ({why}): are all programs of this run of one version?"
    );
    QueueError::new(QueueErrorKind::Protocol, message)
}

/// The answer to `claim`.
pub fn claim_reply(value: Value) -> Result<ClaimReply, QueueError> {
    let mut fields = Fields::new("claim", value)?;
    Ok(match fields.text()?.as_str() {
        "leases" => ClaimReply::Leases(leases(&mut fields)?),
        "wait" => ClaimReply::Wait(fields.time()?),
        "paused" => ClaimReply::Paused,
        "draining" => ClaimReply::Draining,
        "finished" => ClaimReply::Finished,
        "stuck" => ClaimReply::Stuck,
        "banned" => ClaimReply::Banned,
        "unknown_run" => ClaimReply::UnknownRun,
        other => return Err(not_understood("claim", other)),
    })
}

fn leases(fields: &mut Fields) -> Result<Vec<Lease>, QueueError> {
    let lease = std::time::Duration::from_micros(fields.number(LONGEST_LEASE)?);
    let mut leases = Vec::new();
    while !fields.is_empty() {
        if leases.len() == MOST_LEASES {
            return Err(not_understood("claim", "it grants more leases than anybody asks for"));
        }
        let shard: ShardId = fields.parsed()?;
        let sha: Sha16 = fields.parsed()?;
        let items = fields.count()?;
        leases.push(Lease {
            shard,
            bundle: ContentName { shard, sha },
            items,
            token: LeaseToken(fields.number(LATEST)?),
            expires_at: fields.time()?,
            lease,
            attempt: fields.parsed()?,
            isolate: fields.range()?,
            too_large: fields.positions(items)?,
        });
    }
    Ok(leases)
}

/// The answer to `beat` for these shards, in the order asked.
pub fn beat_reply(value: Value, asked: &[ShardId]) -> Result<BeatReply, QueueError> {
    let mut fields = Fields::new("beat", value)?;
    let state = fields.text()?;
    if state == "unknown_run" {
        let shards = asked.iter().map(|shard| (*shard, BeatAnswer::Lost)).collect();
        return Ok(BeatReply { shards, run: None });
    }
    let mut shards = Vec::with_capacity(asked.len());
    for shard in asked {
        let (answer, time) = (fields.text()?, fields.text()?);
        let answer = match (answer.as_str(), time.parse()) {
            ("extended", Ok(time)) if time <= LATEST => BeatAnswer::Extended(ServerTime(time)),
            ("lost", _) => BeatAnswer::Lost,
            ("cancelled", _) => BeatAnswer::Cancelled,
            _ => return Err(not_understood("beat", &answer)),
        };
        shards.push((*shard, answer));
    }
    Ok(BeatReply { shards, run: Some(run_state(&state)?) })
}

/// The name of a run's state in the library.
pub(super) fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Draining => "draining",
    }
}

fn run_state(name: &str) -> Result<RunState, QueueError> {
    let states = [RunState::Running, RunState::Paused, RunState::Draining];
    let known = states.into_iter().find(|state| state_name(*state) == name);
    known.ok_or_else(|| not_understood("the run's state", name))
}

/// The answer to `snapshot` as it is shown; `None` where the run is not known.
pub fn snapshot(value: Value) -> Result<Option<Snapshot>, QueueError> {
    Ok(stored(value)?.map(Stored::snapshot))
}

/// The answer to `snapshot`; `None` where the run is not known.
pub(super) fn stored(value: Value) -> Result<Option<Stored>, QueueError> {
    let mut answer = Fields::new("snapshot", value)?;
    if answer.is_empty() {
        return Ok(None);
    }
    let mut fields = answer.list()?;
    let state = run_state(&fields.text()?)?;
    let mut stored = Stored {
        state,
        now: fields.time()?,
        made_at: fields.time()?,
        items_total: fields.count()?,
        items_done: fields.count()?,
        items_failed: fields.count()?,
        host_failures_to_ban: fields.parsed()?,
        shards: ShardCounts {
            pending: fields.count()?,
            leased: fields.count()?,
            delayed: fields.count()?,
            done: fields.count()?,
            dead: fields.count()?,
        },
        buckets: Vec::new(),
        workers: Vec::new(),
        leases: Vec::new(),
        failures: Vec::new(),
    };
    let mut minutes = answer.list()?;
    while !minutes.is_empty() {
        stored.buckets.push((minutes.count()?, minutes.count()?));
    }
    let mut workers = answer.list()?;
    while !workers.is_empty() {
        stored.workers.push(stored_worker(&mut workers)?);
    }
    let items = answer.list()?.by_name(Fields::count)?;
    let failures = answer.list()?.by_name(Fields::parsed)?;
    for worker in &mut stored.workers {
        worker.items_done = items.get(&worker.id.0).copied().unwrap_or(0);
        worker.host_failures = failures.get(&worker.id.0).copied().unwrap_or(0);
    }
    let mut leases = answer.list()?;
    while !leases.is_empty() {
        stored.leases.push(stored_lease(&mut leases)?);
    }
    let mut failures = answer.list()?;
    while !failures.is_empty() {
        stored.failures.push(failure(&mut failures.list()?)?);
    }
    Ok(Some(stored))
}

/// The next entry of `workers`. One that says of itself what is not understood is shown without it: it must
/// not hide the others.
fn stored_worker(fields: &mut Fields) -> Result<StoredWorker, QueueError> {
    let id = WorkerId(fields.text()?);
    let mut said = fields.words(2)?;
    let last_seen = said.time()?;
    let info = serde_json::from_str(&said.text()?).unwrap_or_default();
    Ok(StoredWorker { id, last_seen, info, items_done: 0, host_failures: 0 })
}

/// The next entry of `leases`.
fn stored_lease(fields: &mut Fields) -> Result<StoredLease, QueueError> {
    let shard = fields.parsed()?;
    let mut shown = fields.words(4)?;
    Ok(StoredLease {
        shard,
        attempt: shown.parsed()?,
        expires_at: shown.time()?,
        items_done: shown.count()?,
        worker: WorkerId(shown.text()?),
    })
}

fn failure(fields: &mut Fields) -> Result<ShardFailure, QueueError> {
    let shard = fields.parsed()?;
    let state = match fields.text()?.as_str() {
        "dead" => ShardState::Dead,
        "delayed" => ShardState::Delayed,
        other => return Err(not_understood("snapshot", other)),
    };
    let (attempts, lost_leases) = (fields.parsed()?, fields.parsed()?);
    Ok(ShardFailure { shard, state, attempts, lost_leases, message: fields.text()? })
}

/// A duration as the library takes it.
pub(super) fn duration_argument(duration: std::time::Duration) -> String {
    // Doubles are exact up to 2^53 microseconds, which are 285 years.
    microseconds(duration).min(1 << 53).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::super::WorkerInfo;
    use super::*;

    fn list(fields: &[&str]) -> Vec<Value> {
        fields.iter().map(|field| Value::BulkString(field.as_bytes().to_vec())).collect()
    }

    /// A lease of 5 items: field 10 has the positions, 8 and 9 the range.
    fn claim(changes: &[(usize, &str)]) -> Result<ClaimReply, QueueError> {
        let mut fields =
            ["leases", "60000000", "000001", "0123456789abcdef", "5", "7", "9", "1", "", "", ""].to_vec();
        for (at, text) in changes {
            fields[*at] = text;
        }
        claim_reply(Value::Array(list(&fields)))
    }

    #[test]
    fn a_lease_that_cannot_be_is_refused() {
        assert!(claim(&[]).is_ok());
        assert!(claim(&[(8, "1"), (9, "4"), (10, "0,4")]).is_ok());
        let huge = u64::MAX.to_string();
        for changes in [
            [(1, huge.as_str())].as_slice(),
            &[(4, huge.as_str())],
            &[(5, huge.as_str())],
            &[(6, huge.as_str())],
            &[(8, "4"), (9, "1")],
            &[(10, "5")],
            &[(10, "3,1")],
            &[(10, "1,1")],
            &[(3, "0123456789ABCDEF")],
        ] {
            let error = claim(changes).unwrap_err().to_string();
            assert!(error.contains("claim is not understood"), "{changes:?}: {error}");
        }
    }

    #[test]
    fn a_message_does_not_repeat_an_answer_of_megabytes() {
        let long = "x".repeat(1 << 20);
        for value in [
            Value::Array(list(&[&long])),
            Value::SimpleString(long.clone()),
            Value::Array(vec![Value::Array(list(&[long.as_str(); 4]))]),
            Value::Array(list(&["leases", &long])),
        ] {
            assert!(claim_reply(value).unwrap_err().to_string().len() < 1000);
        }
    }

    #[test]
    fn a_worker_that_says_nonsense_hides_no_other() {
        let run = list(&["running", "9", "1", "0", "0", "0", "3", "0", "0", "0", "0", "0"]);
        let said = r#"5 {"host": "a box", "device": "CPU", "version": "1"}"#;
        let lists = [
            run,
            vec![],
            list(&["a b", said, "c", "7 {"]),
            list(&["a b", "12", "nobody", "3"]),
            list(&["c", "2"]),
            list(&["000001", "2 8 4 a b"]),
            vec![],
        ];
        let snapshot = snapshot(Value::Array(lists.map(Value::Array).to_vec())).unwrap().unwrap();
        let [c, a] = snapshot.workers.as_slice() else { panic!("{snapshot:?}") };
        assert_eq!((c.id.0.as_str(), c.info == WorkerInfo::default(), c.host_failures), ("c", true, 2));
        assert_eq!((a.info.host.as_str(), a.items_done, a.items_in_flight, a.leases), ("a box", 12, 4, 1));
    }

    #[test]
    fn sums_over_a_snapshot_do_not_overflow() {
        let most = LARGEST_COUNT.to_string();
        let run = ["running", "1", "1", &most, &most, &most, "3", &most, &most, &most, &most, &most];
        let answer = |items: &str| {
            let lease = format!("1 1 {items} w");
            let leases = Value::Array(list(&["000001", &lease, "000002", &lease]));
            let minutes = Value::Array(list(&["0", &most, "1", &most]));
            let (none, run) = (Value::Array(vec![]), Value::Array(list(&run)));
            snapshot(Value::Array(vec![run, minutes, none.clone(), none.clone(), none.clone(), leases, none]))
        };
        assert_eq!(answer(&most).unwrap().unwrap().items_in_flight, 2 * LARGEST_COUNT);
        assert!(answer(&u64::MAX.to_string()).is_err());
    }
}
