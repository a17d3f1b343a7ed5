//! What the store says of a run: its shards, and for each the part that counts.
//!
//! Of several valid parts of a shard the one with the fewest failed items counts, then the smallest
//! name ([`shared::laws::Law::ObjectsAreImmutable`]).

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use shared::ids::{ContentName, ShardId};
use shared::part::validate_part;
use shared::queue::CompletedPart;
use shared::store::{Listed, layout};

use crate::failure::Failure;
use crate::merge::{Run, read_tail};

/// Parts looked at together.
const PARTS_AT_ONCE: usize = 16;

/// How closely parts are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Name, size and tail.
    Tail,
    /// Every byte.
    Deep,
}

/// A part that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedPart {
    /// Its name in `parts/`.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// The parts of a run.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The part that counts, for each shard that has one.
    pub parts: BTreeMap<ShardId, CompletedPart>,
    /// Everything else in `parts/` that is not a valid part.
    pub refused: Vec<RefusedPart>,
}

impl Record {
    /// Whether a part of this shard was found that does not count.
    pub fn refuses(&self, shard: ShardId) -> bool {
        let of_shard =
            |part: &RefusedPart| ContentName::parse_part(&part.name).is_ok_and(|name| name.shard == shard);
        self.refused.iter().any(of_shard)
    }
}

/// Lists `parts/` once and validates what is there.
pub async fn read_record(run: &Run, depth: Depth) -> Result<Record, Failure> {
    let listed: Vec<Listed> = run.store.list(&layout::parts_folder(&run.plan.run)).try_collect().await?;
    let judged: Vec<_> = stream::iter(listed)
        .map(|object| judge(run, object, depth))
        .buffer_unordered(PARTS_AT_ONCE)
        .try_collect()
        .await?;
    let mut record = Record::default();
    for verdict in judged {
        match verdict {
            Ok(part) => keep_better(&mut record.parts, part),
            Err(refused) => record.refused.push(refused),
        }
    }
    record.refused.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(record)
}

fn keep_better(parts: &mut BTreeMap<ShardId, CompletedPart>, part: CompletedPart) {
    let rank = |part: &CompletedPart| (part.failed, part.name.clone());
    match parts.entry(part.name.shard) {
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(part);
        }
        std::collections::btree_map::Entry::Occupied(mut place) => {
            if rank(&part) < rank(place.get()) {
                place.insert(part);
            }
        }
    }
}

async fn judge(
    run: &Run,
    object: Listed,
    depth: Depth,
) -> Result<Result<CompletedPart, RefusedPart>, Failure> {
    let refuse = |reason: String| Ok(Err(RefusedPart { name: object.name.clone(), reason }));
    let name = match ContentName::parse_part(&object.name) {
        Ok(name) => name,
        Err(error) => return refuse(error.to_string()),
    };
    let Some(position) = run.position(name.shard) else {
        return refuse(format!("the plan has no shard {}", name.shard));
    };
    let valid = match depth {
        Depth::Tail => read_tail(run, position, &object.name, object.size)
            .await
            .map_err(|error| Failure::new(error.exit_code(), error))?
            .map(|summary| summary.metadata),
        Depth::Deep => {
            let bytes = run.store.get(&object.key).await?;
            validate_part(&object.name, bytes, run.expectation(position)).map(|part| part.metadata)
        }
    };
    match valid {
        Ok(metadata) => Ok(Ok(CompletedPart { name, embedded: metadata.count, failed: metadata.failed })),
        Err(error) => refuse(error.to_string()),
    }
}
