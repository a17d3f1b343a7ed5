//! Reading the library's answers: nested arrays of texts and whole numbers.

use std::str::FromStr;

use redis::Value;

use crate::ids::{ContentName, LeaseToken, Sha16, ShardId, WorkerId};

use super::super::transition::microseconds;
use super::super::view::{Stored, StoredLease, StoredWorker};
use super::super::{
    BeatAnswer, BeatReply, ClaimReply, ItemRange, Lease, QueueError, QueueErrorKind, RunState, ServerTime,
    ShardCounts, ShardFailure, ShardState, WorkerInfo,
};

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
            other => Err(not_understood(operation, &format!("{other:?} is not a list"))),
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
        text.parse().map_err(|_| not_understood(self.operation, &format!("{text:?} is out of place")))
    }

    /// The next field in the form of `T`, or nothing where it is empty.
    fn optional<T: FromStr>(&mut self) -> Result<Option<T>, QueueError> {
        let text = self.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = text.parse();
        parsed.map(Some).map_err(|_| not_understood(self.operation, &format!("{text:?} is out of place")))
    }

    /// The next field as a list.
    pub(super) fn list(&mut self) -> Result<Fields, QueueError> {
        let value = self.values.next().ok_or_else(|| not_understood(self.operation, "it ends too early"))?;
        Self::new(self.operation, value)
    }

    fn time(&mut self) -> Result<ServerTime, QueueError> {
        self.parsed().map(ServerTime)
    }

    /// Positions of items in one field, with commas between them.
    fn positions(&mut self) -> Result<Vec<u32>, QueueError> {
        let text = self.text()?;
        let positions = text.split(',').filter(|position| !position.is_empty()).map(str::parse);
        let positions: Result<_, _> = positions.collect();
        positions.map_err(|_| not_understood(self.operation, &format!("{text:?} are no positions")))
    }

    /// A range in two fields, both empty where there is none.
    fn range(&mut self) -> Result<Option<ItemRange>, QueueError> {
        let (first, end) = (self.text()?, self.text()?);
        if first.is_empty() {
            return Ok(None);
        }
        match (first.parse(), end.parse()) {
            (Ok(first), Ok(end)) => Ok(Some(ItemRange { first, end })),
            _ => Err(not_understood(self.operation, &format!("{first}..{end} is no range"))),
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
        other => Err(not_understood(operation, &format!("{other:?} is not a text"))),
    }
}

/// An answer of another form than this program knows.
pub(super) fn not_understood(operation: &str, why: &str) -> QueueError {
    let message = format!(
        "the queue's answer to {operation} is not understood ({why}): are all programs of this run of one version?"
    );
    QueueError::new(QueueErrorKind::Protocol, message)
}

/// The answer to `claim`.
pub(super) fn claim_reply(value: Value) -> Result<ClaimReply, QueueError> {
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
    let lease = std::time::Duration::from_micros(fields.parsed()?);
    let mut leases = Vec::new();
    while !fields.is_empty() {
        let shard: ShardId = fields.parsed()?;
        leases.push(Lease {
            shard,
            bundle: ContentName { shard, sha: fields.parsed::<Sha16>()? },
            items: fields.parsed()?,
            token: LeaseToken(fields.parsed()?),
            expires_at: fields.time()?,
            lease,
            attempt: fields.parsed()?,
            isolate: fields.range()?,
            too_large: fields.positions()?,
        });
    }
    Ok(leases)
}

/// The answer to `beat` for these shards, in the order asked.
pub(super) fn beat_reply(value: Value, asked: &[ShardId]) -> Result<BeatReply, QueueError> {
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
            ("extended", Ok(time)) => BeatAnswer::Extended(ServerTime(time)),
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
        items_total: fields.parsed()?,
        items_done: fields.parsed()?,
        items_failed: fields.parsed()?,
        host_failures_to_ban: fields.parsed()?,
        shards: ShardCounts {
            pending: fields.parsed()?,
            leased: fields.parsed()?,
            delayed: fields.parsed()?,
            done: fields.parsed()?,
            dead: fields.parsed()?,
        },
        buckets: Vec::new(),
        workers: Vec::new(),
        leases: Vec::new(),
        failures: Vec::new(),
    };
    let mut minutes = answer.list()?;
    while !minutes.is_empty() {
        stored.buckets.push((minutes.parsed()?, minutes.parsed()?));
    }
    let mut workers = answer.list()?;
    while !workers.is_empty() {
        stored.workers.push(stored_worker(&mut workers.list()?)?);
    }
    let mut leases = answer.list()?;
    while !leases.is_empty() {
        stored.leases.push(stored_lease(&mut leases.list()?)?);
    }
    let mut failures = answer.list()?;
    while !failures.is_empty() {
        stored.failures.push(failure(&mut failures.list()?)?);
    }
    Ok(Some(stored))
}

fn stored_worker(fields: &mut Fields) -> Result<StoredWorker, QueueError> {
    Ok(StoredWorker {
        id: WorkerId(fields.text()?),
        last_seen: fields.time()?,
        info: WorkerInfo {
            host: fields.text()?,
            device: fields.text()?,
            version: fields.text()?,
            memory: fields.parsed()?,
            busy_percent: fields.optional()?,
        },
        items_done: fields.parsed()?,
        host_failures: fields.parsed()?,
    })
}

fn stored_lease(fields: &mut Fields) -> Result<StoredLease, QueueError> {
    Ok(StoredLease {
        shard: fields.parsed()?,
        worker: WorkerId(fields.text()?),
        attempt: fields.parsed()?,
        expires_at: fields.time()?,
        items_done: fields.parsed()?,
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
