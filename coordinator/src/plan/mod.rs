//! Items and images to bundles, shards and a plan.
//!
//! Two passes. The first reads and matches everything, so that bad input writes nothing, and names the
//! run. The second packs one bundle after the other, a few at a time, and puts them into the store
//! under names that are their content; `shards.jsonl` follows, and `plan.json` last and once. A plan
//! that was interrupted is simply made again: what lies there already is the same.
//!
//! Shards are cut by number or by predicted cost ([`Balance`]). The plan's `shard_size` is the most items of a
//! shard: what everybody who holds a shard in memory counts with.

mod balance;
mod cost;
mod error;
mod pack;

use std::sync::Arc;

use shared::digest::{Hasher, sha256_hex};
use shared::ids::RunId;
use shared::images::{ImageRoots, Match};
use shared::items::ReadItem;
use shared::model::ModelRecord;
use shared::plan::{
    EmbeddingSettings, FleetSettings, NUMERICS_VERSION, PLAN_VERSION, Plan, PlanCounts, ShardRecord,
    fingerprint,
};
use shared::store::{Store, StoreErrorKind, layout};

use crate::check::{Input, scan};
pub use balance::{Balance, Spread};
use balance::{by_cost, by_count};
use cost::cost;
pub use error::PlanningError;
use pack::{Cut, pack};

/// What to plan.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// Items and images.
    pub input: Input,
    /// The run's id; without one it follows from the content.
    pub run: Option<RunId>,
    /// The model.
    pub model: ModelRecord,
    /// What decides a vector.
    pub embedding: EmbeddingSettings,
    /// How the work is cut: `shard_size` is the number of items on average.
    pub fleet: FleetSettings,
    /// What is the same in every shard.
    pub balance: Balance,
}

/// How far planning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanProgress {
    /// Items read in the first pass.
    Read(u64),
    /// Items packed, of all.
    Packed(u64, u64),
}

/// A plan in the store.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Its shards.
    pub shards: Vec<ShardRecord>,
    /// Whether this call made it; otherwise it lay there.
    pub new: bool,
    /// Where shards are cut by cost: how far apart their predicted costs are, and how far they would be if cut by
    /// number.
    pub spreads: Option<[Spread; 2]>,
}

/// What the first pass finds.
struct Surveyed {
    run: RunId,
    counts: PlanCounts,
    digests: Vec<String>,
    /// Items of each shard.
    lengths: Vec<u64>,
    spreads: Option<[Spread; 2]>,
}

/// Plans a run, or finds that it is planned.
pub async fn plan(
    store: &Store,
    request: PlanRequest,
    progress: impl Fn(PlanProgress) + Send + Sync + 'static,
) -> Result<Planned, PlanningError> {
    let progress: Arc<dyn Fn(PlanProgress) + Send + Sync> = Arc::new(progress);
    let request = Arc::new(request);
    let (roots, surveyed) = {
        let (request, progress) = (Arc::clone(&request), Arc::clone(&progress));
        tokio::task::spawn_blocking(move || survey(&request, progress.as_ref()))
            .await
            .map_err(PlanningError::thread)??
    };
    let existing = store.get_if_exists(&layout::plan_key(&surveyed.run)).await?;
    let existing = existing.map(|bytes| Plan::parse(&bytes)).transpose()?;
    // Where a plan lies already, bundles are only compared with it: another plan must write nothing.
    let target = existing.is_none().then(|| (store.clone(), surveyed.run.clone()));
    let cut = Cut { items: surveyed.counts.items, lengths: surveyed.lengths };
    let most_items = cut.lengths.iter().copied().max().unwrap_or(request.fleet.shard_size);
    let packed = pack(target, &request, cut, Arc::new(roots), progress).await?;
    if packed.digests != surveyed.digests {
        let changed =
            surveyed.digests.iter().zip(&packed.digests).position(|(before, after)| before != after);
        let file = request.input.files.get(changed.unwrap_or(0)).cloned().unwrap_or_default();
        return Err(shared::items::InputError::Changed { file }.into());
    }
    let shards = packed.shards;
    let lines = to_lines(&shards)?;
    let plan = Plan {
        version: PLAN_VERSION,
        run: surveyed.run,
        created_at: existing.as_ref().map_or_else(now, |plan| plan.created_at.clone()),
        fingerprint: fingerprint(
            NUMERICS_VERSION,
            &request.model.digest,
            &request.embedding,
            shards.iter().map(|shard| shard.bundle.as_str()),
        ),
        numerics_version: NUMERICS_VERSION,
        model: request.model.clone(),
        embedding: request.embedding.clone(),
        fleet: FleetSettings {
            shard_size: request.fleet.shard_size.max(most_items),
            ..request.fleet.clone()
        },
        counts: PlanCounts {
            shards: shards.len() as u64,
            bundle_bytes: shards.iter().map(|shard| shard.bytes).sum(),
            ..surveyed.counts
        },
        shards_sha256: sha256_hex(&lines),
    };
    let existing = match existing {
        Some(existing) => Some(existing),
        None => write(store, &plan, lines).await?,
    };
    match existing {
        None => Ok(Planned { plan, shards, new: true, spreads: surveyed.spreads }),
        Some(existing) if existing.fingerprint == plan.fingerprint => {
            Ok(Planned { plan: existing, shards, new: false, spreads: surveyed.spreads })
        }
        Some(existing) => Err(PlanningError::other_plan(&existing, &plan)),
    }
}

/// The list first, the plan last: a plan that exists is whole. Answers with the plan that another
/// planner wrote first, where there is one.
async fn write(store: &Store, plan: &Plan, lines: Vec<u8>) -> Result<Option<Plan>, PlanningError> {
    let key = layout::shards_key(&plan.run);
    store.put_new(&key, lines.into()).await.map_err(|error| {
        if error.kind == StoreErrorKind::Conflict {
            PlanningError::OtherShards { run: plan.run.clone() }
        } else {
            error.into()
        }
    })?;
    let key = layout::plan_key(&plan.run);
    match store.put_new(&key, plan.to_json()?.into()).await {
        Ok(_) => Ok(None),
        Err(error) if error.kind == StoreErrorKind::Conflict => {
            Ok(Some(Plan::parse(&store.get(&key).await?)?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The first pass: everything is read and matched, nothing written.
fn survey(
    request: &PlanRequest,
    progress: &(dyn Fn(PlanProgress) + Send + Sync),
) -> Result<(ImageRoots, Surveyed), PlanningError> {
    let roots = ImageRoots::open(&request.input.images)?;
    let mut counts = PlanCounts::default();
    let mut images = Hasher::new();
    let mut costs = Vec::new();
    let predict = |read: &ReadItem, matches: &[Match]| match request.balance {
        Balance::Count => Ok(None),
        Balance::Cost => cost(&read.item, matches, &roots, &request.embedding).map(Some),
    };
    let digests = scan(&request.input, &roots, predict, |read, matches, cost| {
        count(&mut counts, read, matches);
        costs.extend(cost);
        for found in matches {
            if let Match::Found(image) = found {
                images.update(format!("{} {}\n", roots.size(*image), roots.path(*image)).as_bytes());
            }
        }
        if read.index % 1024 == 0 {
            progress(PlanProgress::Read(read.index));
        }
    })?;
    let even = by_count(counts.items, request.fleet.shard_size);
    let (lengths, spreads) = match request.balance {
        Balance::Count => (even.clone(), None),
        Balance::Cost => {
            let lengths = by_cost(&costs, request.fleet.shard_size);
            let spreads = [Spread::of(&costs, &lengths), Spread::of(&costs, &even)];
            (lengths, Some(spreads))
        }
    };
    let run = if let Some(run) = &request.run {
        run.clone()
    } else {
        let other_cut = (lengths != even).then_some(lengths.as_slice());
        run_id(request, &digests, &images.finish_hex(), other_cut)?
    };
    Ok((roots, Surveyed { run, counts, digests, lengths, spreads }))
}

fn count(counts: &mut PlanCounts, read: &ReadItem, matches: &[Match]) {
    counts.items += 1;
    counts.items_with_images += u64::from(!read.item.images.is_empty());
    counts.images_named += matches.len() as u64;
    counts.images_found += matches.iter().filter(|found| matches!(found, Match::Found(_))).count() as u64;
}

/// The first 12 hex of the sha256 of settings, item files, matched paths with their sizes, and the lengths of
/// shards where they are not all the same.
fn run_id(
    request: &PlanRequest,
    files: &[String],
    images: &str,
    other_cut: Option<&[u64]>,
) -> Result<RunId, PlanningError> {
    let settings = fingerprint(
        NUMERICS_VERSION,
        &request.model.digest,
        &request.embedding,
        files.iter().map(String::as_str).chain([images]),
    );
    let name = |field: &Option<String>| field.as_deref().map_or_else(String::new, |name| format!("={name}"));
    let mapping = &request.input.mapping;
    let fields = [&mapping.id, &mapping.text, &mapping.images].map(name).join("\n");
    let cut = other_cut.map(|lengths| {
        let lengths: Vec<String> = lengths.iter().map(u64::to_string).collect();
        format!("\n{}", lengths.join(" "))
    });
    let text = format!("{settings}\n{}\n{fields}{}", request.fleet.shard_size, cut.unwrap_or_default());
    Ok(sha256_hex(text.as_bytes())[..12].parse()?)
}

fn to_lines(shards: &[ShardRecord]) -> Result<Vec<u8>, PlanningError> {
    let mut lines = Vec::new();
    for shard in shards {
        serde_json::to_writer(&mut lines, shard).map_err(shared::plan::PlanError::Parse)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
