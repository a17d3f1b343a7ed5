//! The queue of a fleet: Redis 7 or later, or Valkey, through one library of functions
//! (`fleet.lua`, which documents the keys and their invariants).
//!
//! Each operation is one atomic call (`add`, `reconcile_all`, `requeue_dead`, `forget` and `audit` go
//! in bounded batches of them). Time is the server's alone. A call whose answer was lost is repeated,
//! which changes nothing more. Two answers are then counts of the repetition: `add` and `requeue_dead`
//! may report fewer, and `requeue_done` may say `false` for a shard it made pending a moment before.
//!
//! A coordinator calls [`RedisQueue::check_server`] and [`RedisQueue::load_functions`] first; a worker
//! needs neither, nor the rights to do so.

pub mod acl;
mod failure;
mod link;
mod options;
#[doc(hidden)]
pub mod reply;
mod server;
mod tls;

use async_trait::async_trait;
use redis::{Cmd, Value, cmd};

use crate::ids::{LeaseToken, RunId, ShardId, WorkerId};
use crate::settings::QueueAddress;

use super::admission::{check_part, check_shards, unknown_run};
use super::transition::cap_message;
use super::{
    Beat, BeatReply, Claim, ClaimReply, CompleteReply, CompletedPart, FailKind, FailReply, NewShard, Queue,
    QueueError, QueueSettings, ReleaseReply, RunState, Snapshot, WorkerInfo,
};
use link::Link;
pub use options::{RedisOptions, mask_url};
use reply::{Fields, duration_argument, not_understood, state_name, text};

/// The library as it is loaded into the server.
pub const LIBRARY: &str = include_str!("fleet.lua");

/// Shards in one call of `add` or `reconcile_all`: a few milliseconds of the server's time.
const SHARDS_PER_CALL: usize = 500;

/// The sets that an audit walks through.
const AUDITED_SETS: [&str; 5] = ["shards", "pending", "leased", "delayed", "dead"];

/// One run's queue on a server.
pub struct RedisQueue {
    link: Link,
    run: RunId,
    run_key: String,
}

impl RedisQueue {
    /// A queue at `redis://...` or `rediss://...`. Only the address is checked here: the connection is
    /// made by the first call, and again whenever it is lost.
    pub fn connect(address: &QueueAddress, run: &RunId, options: RedisOptions) -> Result<Self, QueueError> {
        let link = Link::open(address, options)?;
        // The braces make every key of the run fall into one slot of a cluster.
        Ok(Self { link, run: run.clone(), run_key: format!("fleet:{{{run}}}:run") })
    }

    /// Refuses a server that would lose shards: one older than Redis 7, or with a `maxmemory-policy`
    /// other than `noeviction`.
    pub async fn check_server(&self) -> Result<(), QueueError> {
        server::check_server(&self.link).await
    }

    /// Loads the functions, in place of older ones of this version.
    pub async fn load_functions(&self) -> Result<(), QueueError> {
        server::load_functions(&self.link, LIBRARY).await
    }

    /// Puts every shard that stands in no set, or in a wrong one, where its own record says, and
    /// returns how many there were. Only a person's hand or a broken backup makes any.
    pub async fn audit(&self) -> Result<u64, QueueError> {
        let mut repaired = 0;
        for set in AUDITED_SETS {
            let mut cursor = "0".to_owned();
            loop {
                let mut command = self.function("audit");
                command.arg(set).arg(&cursor);
                let mut fields = Fields::new("audit", self.link.call("audit", &command).await?)?;
                cursor = fields.text()?;
                repaired += fields.parsed::<u64>()?;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok(repaired)
    }

    /// A call of a function of the library, without its arguments yet.
    fn function(&self, name: &str) -> Cmd {
        let mut command = cmd("FCALL");
        command.arg(format!("fleet_v4_{name}")).arg(1).arg(&self.run_key);
        command
    }

    async fn call_for_text(&self, operation: &'static str, command: &Cmd) -> Result<String, QueueError> {
        text(operation, self.link.call(operation, command).await?)
    }

    async fn call_for_number(&self, operation: &'static str, command: &Cmd) -> Result<i64, QueueError> {
        match self.link.call(operation, command).await? {
            Value::Int(number) => Ok(number),
            other => Err(not_understood(operation, &format!("{other:?} is not a number"))),
        }
    }

    /// Tells workers a new state; `false` where the run is not known.
    async fn set_state(&self, operation: &'static str, state: RunState) -> Result<bool, QueueError> {
        let mut command = self.function("set_state");
        command.arg(state_name(state));
        Ok(self.call_for_text(operation, &command).await? == "ok")
    }

    async fn set_state_of_known(&self, operation: &'static str, state: RunState) -> Result<(), QueueError> {
        if self.set_state(operation, state).await? {
            Ok(())
        } else {
            Err(unknown_run(operation, &format!("run {}", self.run)))
        }
    }

    fn add_command(&self, settings: &QueueSettings, shards: &[NewShard], is_last: bool) -> Cmd {
        let mut command = self.function("add");
        command
            .arg(duration_argument(settings.lease))
            .arg(settings.max_attempts)
            .arg(settings.max_lost_leases)
            .arg(duration_argument(settings.first_backoff))
            .arg(duration_argument(settings.longest_backoff))
            .arg(settings.host_failures_to_ban)
            .arg(if is_last { "last" } else { "more" });
        for shard in shards {
            command.arg(shard.id.to_string()).arg(shard.bundle.sha.as_str()).arg(shard.items);
            add_part_or_empty(&mut command, shard.part.as_ref());
        }
        command
    }
}

fn add_worker(command: &mut Cmd, worker: &WorkerId, info: &WorkerInfo) {
    command.arg(&worker.0).arg(serde_json::to_string(info).expect("texts and numbers are JSON"));
}

fn add_part_or_empty(command: &mut Cmd, part: Option<&CompletedPart>) {
    match part {
        Some(part) => add_part(command, part),
        None => drop(command.arg("").arg("").arg("")),
    }
}

fn add_part(command: &mut Cmd, part: &CompletedPart) {
    command.arg(part.name.sha.as_str()).arg(part.embedded).arg(part.failed);
}

#[async_trait]
impl Queue for RedisQueue {
    async fn add(&self, settings: &QueueSettings, shards: &[NewShard]) -> Result<u64, QueueError> {
        check_shards(shards)?;
        let batches = shards.len().div_ceil(SHARDS_PER_CALL).max(1);
        let mut new = 0;
        for batch in 0..batches {
            let first = batch * SHARDS_PER_CALL;
            let end = (first + SHARDS_PER_CALL).min(shards.len());
            let command = self.add_command(settings, &shards[first..end], batch + 1 == batches);
            let mut added = self.call_for_number("add", &command).await?;
            if added < 0 {
                // Somebody's `forget` was cut short; what it left must not mix with this run.
                self.forget().await?;
                added = self.call_for_number("add", &command).await?;
            }
            new += u64::try_from(added).map_err(|_| not_understood("add", "the run is being forgotten"))?;
        }
        Ok(new)
    }

    async fn claim(&self, claim: &Claim) -> Result<ClaimReply, QueueError> {
        let mut command = self.function("claim");
        add_worker(&mut command, &claim.worker, &claim.info);
        command.arg(claim.info.memory).arg(&claim.nonce.0).arg(claim.max);
        reply::claim_reply(self.link.call("claim", &command).await?)
    }

    async fn beat(&self, beat: &Beat) -> Result<BeatReply, QueueError> {
        let mut command = self.function("beat");
        add_worker(&mut command, &beat.worker, &beat.info);
        for held in &beat.shards {
            command.arg(held.shard.to_string()).arg(held.token.0).arg(held.items_done);
            match held.in_flight {
                Some(range) => command.arg(range.first).arg(range.end),
                None => command.arg("").arg(""),
            };
        }
        let shards: Vec<ShardId> = beat.shards.iter().map(|held| held.shard).collect();
        reply::beat_reply(self.link.call("beat", &command).await?, &shards)
    }

    async fn complete(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
        part: &CompletedPart,
    ) -> Result<CompleteReply, QueueError> {
        check_part(shard, part)?;
        let mut command = self.function("complete");
        command.arg(&worker.0).arg(shard.to_string()).arg(token.0);
        add_part(&mut command, part);
        match self.call_for_text("complete", &command).await?.as_str() {
            "ok" => Ok(CompleteReply::Ok),
            "duplicate" => Ok(CompleteReply::Duplicate),
            "lost" => Ok(CompleteReply::Lost),
            other => Err(not_understood("complete", other)),
        }
    }

    async fn fail(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
        kind: FailKind,
        message: &str,
    ) -> Result<FailReply, QueueError> {
        let mut command = self.function("fail");
        command.arg(&worker.0).arg(shard.to_string()).arg(token.0);
        match kind {
            FailKind::Retry => command.arg("retry").arg(cap_message(message)),
            FailKind::Host => command.arg("host").arg(cap_message(message)),
            FailKind::OutOfMemory { item, memory } => {
                command.arg("out_of_memory").arg(cap_message(message)).arg(item).arg(memory)
            }
        };
        match self.call_for_text("fail", &command).await?.as_str() {
            "retry" => Ok(FailReply::Retry),
            "dead" => Ok(FailReply::Dead),
            "lost" => Ok(FailReply::Lost),
            other => Err(not_understood("fail", other)),
        }
    }

    async fn release(
        &self,
        worker: &WorkerId,
        shard: ShardId,
        token: LeaseToken,
    ) -> Result<ReleaseReply, QueueError> {
        let mut command = self.function("release");
        command.arg(&worker.0).arg(shard.to_string()).arg(token.0);
        match self.call_for_text("release", &command).await?.as_str() {
            "ok" => Ok(ReleaseReply::Ok),
            "lost" => Ok(ReleaseReply::Lost),
            other => Err(not_understood("release", other)),
        }
    }

    async fn reconcile(&self, shard: ShardId, part: Option<&CompletedPart>) -> Result<(), QueueError> {
        self.reconcile_all(&[(shard, part.cloned())]).await
    }

    async fn reconcile_all(&self, shards: &[(ShardId, Option<CompletedPart>)]) -> Result<(), QueueError> {
        for (shard, part) in shards {
            if let Some(part) = part {
                check_part(*shard, part)?;
            }
        }
        for batch in shards.chunks(SHARDS_PER_CALL) {
            let mut command = self.function("reconcile");
            for (shard, part) in batch {
                command.arg(shard.to_string());
                add_part_or_empty(&mut command, part.as_ref());
            }
            self.call_for_text("reconcile", &command).await?;
        }
        Ok(())
    }

    async fn pause(&self) -> Result<(), QueueError> {
        self.set_state_of_known("pause", RunState::Paused).await
    }

    async fn unpause(&self) -> Result<(), QueueError> {
        // A run that is not known has no pause to end.
        self.set_state("unpause", RunState::Running).await.map(drop)
    }

    async fn drain(&self) -> Result<(), QueueError> {
        self.set_state_of_known("drain", RunState::Draining).await
    }

    async fn requeue_dead(&self) -> Result<u64, QueueError> {
        let mut total = 0;
        loop {
            let answer = self.link.call("requeue_dead", &self.function("requeue_dead")).await?;
            let mut fields = Fields::new("requeue_dead", answer)?;
            let (requeued, left): (u64, u64) = (fields.parsed()?, fields.parsed()?);
            total += requeued;
            if left == 0 {
                return Ok(total);
            }
        }
    }

    async fn requeue_done(&self, shard: ShardId) -> Result<bool, QueueError> {
        let mut command = self.function("requeue_done");
        command.arg(shard.to_string());
        Ok(self.call_for_number("requeue_done", &command).await? == 1)
    }

    async fn forget(&self) -> Result<(), QueueError> {
        while self.call_for_number("forget", &self.function("forget")).await? > 0 {}
        Ok(())
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>, QueueError> {
        let answer = self.link.call("snapshot", &self.function("snapshot")).await?;
        Ok(reply::stored(answer)?.map(super::view::Stored::snapshot))
    }
}
