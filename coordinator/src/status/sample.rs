//! A status and a run for the tests of views.

use shared::ids::{ContentName, Sha16, ShardId, WorkerId};
use shared::model::ModelRecord;
use shared::plan::{Dtype, EmbeddingSettings, FleetSettings, Plan, PlanCounts, ShardRecord};
use shared::queue::{
    LeaseSnapshot, RunState, ShardCounts, ShardFailure, ShardState, WorkerInfo, WorkerSnapshot,
};
use shared::store::Store;

use super::{Source, Status};
use crate::dollars::Dollars;
use crate::fleet::view::{Cost, GpuCost};
use crate::merge::Run;

/// A run in its middle on three workers: one works, one is silent, one is banned.
pub fn status() -> Status {
    let lease = |shard, worker: &str, expires_in_seconds| LeaseSnapshot {
        shard: ShardId(shard),
        worker: WorkerId(worker.to_owned()),
        attempt: 1,
        expires_in_seconds,
        items_done: 200,
    };
    let failure = |shard, state, message: &str| ShardFailure {
        shard: ShardId(shard),
        state,
        attempts: 4,
        lost_leases: 1,
        message: message.to_owned(),
    };
    Status {
        run: "exam-2025".parse().unwrap(),
        source: Source::Queue,
        model: "Qwen/Qwen3-VL-Embedding-8B".to_owned(),
        dim: 4096,
        state: Some(RunState::Running),
        shards: ShardCounts { pending: 126, leased: 3, delayed: 1, done: 214, dead: 1 },
        items_total: 176_443,
        items_done: 109_551,
        items_failed: 17,
        items_in_flight: 600,
        items_per_second: Some(24.55),
        eta_seconds: Some(2_699.0),
        workers: vec![
            worker("box-a-711-1f00aa01", "NVIDIA GeForce RTX 4090 (8.9)", Some(97), 6.0),
            WorkerSnapshot {
                leases: 1,
                items_in_flight: 200,
                ..worker("box-b-712-1f00aa02", "NVIDIA GeForce RTX 4090 (8.9)", Some(41), 75.0)
            },
            WorkerSnapshot {
                leases: 0,
                items_done: 3,
                items_in_flight: 0,
                host_failures: 3,
                banned: true,
                ..worker("box-\"c\"-713-1f00aa03", "NVIDIA \\ H100", None, 31.0)
            },
        ],
        leases: vec![
            lease(214, "box-a-711-1f00aa01", 54.0),
            lease(215, "box-a-711-1f00aa01", 54.0),
            lease(216, "box-b-712-1f00aa02", -3.0),
        ],
        failures: vec![
            failure(
                31,
                ShardState::Dead,
                "the bundle 000031-0011223344556677.tar is damaged:\nits digest differs",
            ),
            failure(77, ShardState::Delayed, "the store does not answer"),
        ],
        refused_parts: Vec::new(),
        cost: Some(cost()),
        notes: Vec::new(),
    }
}

fn worker(id: &str, device: &str, busy_percent: Option<u8>, last_seen_seconds: f64) -> WorkerSnapshot {
    WorkerSnapshot {
        id: WorkerId(id.to_owned()),
        info: WorkerInfo {
            host: "box".to_owned(),
            device: device.to_owned(),
            version: "0.1.0".to_owned(),
            memory: 24 << 30,
            busy_percent,
            instance: "fleet-exam-2025-0-1f00".to_owned(),
        },
        last_seen_seconds,
        leases: 2,
        items_done: 54_000,
        items_in_flight: 400,
        host_failures: 0,
        banned: false,
    }
}

fn cost() -> Cost {
    Cost {
        so_far: Dollars(1.92),
        at_most: Dollars(2.01),
        billed: None,
        an_hour: Dollars(1.2),
        projected: Some(Dollars(2.82)),
        per_thousand: Some(Dollars(0.0175)),
        budget: Some(Dollars(6.0)),
        by_gpu: vec![GpuCost {
            gpu: "RTX 4090".to_owned(),
            boxes: 3,
            dollars: Dollars(1.92),
            items: 109_551,
            per_thousand: Some(Dollars(0.0175)),
            items_per_second: Some(12.3),
        }],
    }
}

/// A run of so many shards of one item each, in a store in memory, without parts.
pub fn run(shards: u64) -> Run {
    let digest = "0".repeat(64);
    let record = |number| {
        let name = ContentName { shard: ShardId(number), sha: Sha16::of(&number.to_le_bytes()) };
        let ids_sha256 = digest.clone();
        ShardRecord { id: ShardId(number), bundle: name.bundle(), items: 1, bytes: 1, ids_sha256 }
    };
    let plan = Plan {
        version: 1,
        run: "exam-2025".parse().unwrap(),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
        fingerprint: digest.clone(),
        numerics_version: 1,
        model: ModelRecord {
            name: "hash:8".to_owned(),
            revision: None,
            digest: digest.clone(),
            stored: None,
            files: Vec::new(),
        },
        embedding: EmbeddingSettings {
            dtype: Dtype::F32,
            instruction: String::new(),
            min_pixels: 4096,
            max_pixels: 1_843_200,
            max_length: 8192,
            dim: 8,
            text_template: None,
        },
        fleet: FleetSettings { shard_size: 1, lease_seconds: 60.0 },
        counts: PlanCounts { items: shards, shards, ..PlanCounts::default() },
        shards_sha256: digest.clone(),
    };
    Run::new(Store::memory(), plan, (0..shards).map(record).collect()).unwrap()
}
