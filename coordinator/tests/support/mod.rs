//! A synthetic run in a store: plan, shards and parts of made-up unit vectors.

#![allow(dead_code, reason = "each test binary uses its own share")]

pub mod uploads;

use std::sync::Arc;

use bytes::Bytes;
use coordinator::merge::Run;
use shared::ids::{ContentName, Sha16, ShardId};
use shared::model::ModelRecord;
use shared::part::{Origin, PartBuilder, ReasonKind, WrittenPart};
use shared::plan::{Dtype, EmbeddingSettings, FleetSettings, Plan, PlanCounts, ShardRecord};
use shared::store::{Store, layout};

/// What is made up.
#[derive(Clone, Copy)]
pub struct Shape {
    pub items: u64,
    pub shard_size: u64,
    pub dim: u32,
}

/// A run without parts yet.
pub struct Synthetic {
    pub store: Store,
    pub plan: Plan,
    pub shards: Vec<ShardRecord>,
    shape: Shape,
}

/// How to compute a part.
#[derive(Clone, Copy)]
pub struct Device {
    pub name: &'static str,
    /// Added to every vector's direction.
    pub tilt: f32,
    /// Items that fail: those whose index is divisible by it.
    pub fails: Option<u64>,
    /// The tilt of the vector of an empty item.
    pub null_tilt: f32,
}

pub const GOOD: Device = Device { name: "CPU (AVX2)", tilt: 0.0, fails: None, null_tilt: 0.0 };

/// An id with a Korean letter and a width that depends on the index.
pub fn id(index: u64) -> String {
    format!("문제-{index}")
}

/// A unit vector of pseudo-random direction.
pub fn vector(seed: u64, dim: u32, tilt: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut values: Vec<f32> = (0..dim)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    values[0] += tilt * 10.0;
    let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    values.iter().map(|value| (f64::from(*value) / norm) as f32).collect()
}

impl Synthetic {
    pub fn new(store: Store, shape: Shape) -> Self {
        let mut shards = Vec::new();
        let mut first = 0;
        while first < shape.items {
            let items = shape.shard_size.min(shape.items - first);
            let ids: String = (first..first + items).map(|index| id(index) + "\n").collect();
            let shard = ShardId(shards.len() as u64);
            let bundle = ContentName { shard, sha: Sha16::of(ids.as_bytes()) }.bundle();
            shards.push(ShardRecord {
                id: shard,
                bundle,
                items,
                bytes: 1,
                ids_sha256: shared::digest::sha256_hex(ids.as_bytes()),
            });
            first += items;
        }
        Self { store, plan: plan(shape, shards.len() as u64), shards, shape }
    }

    pub fn run(&self) -> Arc<Run> {
        Arc::new(Run::new(self.store.clone(), self.plan.clone(), self.shards.clone()).unwrap())
    }

    pub fn first_index(&self, shard: u64) -> u64 {
        shard * self.shape.shard_size
    }

    /// The part of a shard: item 1 of each shard is partial, item 2 text only, the others alternate
    /// between two images and none.
    pub fn part(&self, shard: u64, device: Device) -> WrittenPart {
        let record = &self.shards[shard as usize];
        let first = self.first_index(shard);
        let ids = (first..first + record.items).map(id).collect();
        let mut builder = PartBuilder::new(&self.plan, record.id, first, ids);
        for index in (first..first + record.items).rev() {
            if device.fails.is_some_and(|every| index % every == 0) {
                builder.fail(index, ReasonKind::NothingToEmbed, "nothing usable").unwrap();
                continue;
            }
            let position = index - first;
            let images = match position {
                1 => 1,
                2 => 0,
                _ => (index % 2 * 2) as u32,
            };
            if position == 1 || position == 2 {
                builder.drop_image(index, ReasonKind::Missing, "no entry matches a.png").unwrap();
            }
            builder.row(index, &vector(index, self.plan.embedding.dim, device.tilt), images).unwrap();
        }
        let origin = Origin {
            device: device.name.to_owned(),
            batch_tokens: 4096,
            batch_reduced: false,
            null_embedding: vector(u64::MAX, self.plan.embedding.dim, device.null_tilt),
        };
        builder.finish(origin).unwrap()
    }

    pub async fn put(&self, part: &WrittenPart) {
        self.put_as(&part.name.part(), part.bytes.clone()).await;
    }

    pub async fn put_as(&self, name: &str, bytes: Vec<u8>) {
        let key = format!("{}/{name}", layout::parts_folder(&self.plan.run));
        self.store.put_new(&key, Bytes::from(bytes)).await.unwrap();
    }

    /// The plan and its list of shards, for a program that reads them.
    pub async fn put_plan(&self) {
        let lines: String =
            self.shards.iter().map(|shard| serde_json::to_string(shard).unwrap() + "\n").collect();
        let shards_sha256 = shared::digest::sha256_hex(lines.as_bytes());
        let plan = Plan { shards_sha256, ..self.plan.clone() };
        self.store.put_new(&layout::shards_key(&plan.run), lines.into()).await.unwrap();
        self.store.put_new(&layout::plan_key(&plan.run), plan.to_json().unwrap().into()).await.unwrap();
    }

    pub async fn put_all(&self, device: Device) {
        for shard in 0..self.shards.len() as u64 {
            self.put(&self.part(shard, device)).await;
        }
    }
}

fn plan(shape: Shape, shards: u64) -> Plan {
    Plan {
        version: 1,
        run: "synthetic".parse().unwrap(),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        fingerprint: "f".repeat(64),
        numerics_version: 1,
        model: ModelRecord {
            name: format!("hash:{}", shape.dim),
            revision: None,
            digest: "d".repeat(64),
            stored: None,
            files: Vec::new(),
        },
        embedding: EmbeddingSettings {
            dtype: Dtype::F32,
            instruction: "Represent the user's input.".to_owned(),
            min_pixels: 4096,
            max_pixels: 1_843_200,
            max_length: 8192,
            dim: shape.dim,
            text_template: None,
        },
        fleet: FleetSettings { shard_size: shape.shard_size, lease_seconds: 60.0 },
        counts: PlanCounts { items: shape.items, shards, ..PlanCounts::default() },
        shards_sha256: "0".repeat(64),
    }
}
