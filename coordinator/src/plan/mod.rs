//! Items and images to bundles, shards and a plan.
//!
//! Two passes. The first reads and matches everything, so that bad input writes nothing, and names the
//! run. The second packs one bundle after the other, a few at a time, and puts them into the store
//! under names that are their content; `shards.jsonl` follows, and `plan.json` last and once. A plan
//! that was interrupted is simply made again: what lies there already is the same.

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
pub use error::PlanningError;
use pack::pack;

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
    /// How the work is cut.
    pub fleet: FleetSettings,
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
}

/// What the first pass finds.
struct Surveyed {
    run: RunId,
    counts: PlanCounts,
    digests: Vec<String>,
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
    let packed = pack(target, &request, surveyed.counts.items, Arc::new(roots), progress).await?;
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
        fleet: request.fleet.clone(),
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
        None => Ok(Planned { plan, shards, new: true }),
        Some(existing) if existing.fingerprint == plan.fingerprint => {
            Ok(Planned { plan: existing, shards, new: false })
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
    let digests = scan(&request.input, &roots, |read, matches| {
        count(&mut counts, read, matches);
        for found in matches {
            if let Match::Found(image) = found {
                images.update(format!("{} {}\n", roots.size(*image), roots.path(*image)).as_bytes());
            }
        }
        if read.index % 1024 == 0 {
            progress(PlanProgress::Read(read.index));
        }
    })?;
    let run = match &request.run {
        Some(run) => run.clone(),
        None => run_id(request, &digests, &images.finish_hex())?,
    };
    Ok((roots, Surveyed { run, counts, digests }))
}

fn count(counts: &mut PlanCounts, read: &ReadItem, matches: &[Match]) {
    counts.items += 1;
    counts.items_with_images += u64::from(!read.item.images.is_empty());
    counts.images_named += matches.len() as u64;
    counts.images_found += matches.iter().filter(|found| matches!(found, Match::Found(_))).count() as u64;
}

/// The first 12 hex of the sha256 of settings, item files, and matched paths with their sizes.
fn run_id(request: &PlanRequest, files: &[String], images: &str) -> Result<RunId, PlanningError> {
    let settings = fingerprint(
        NUMERICS_VERSION,
        &request.model.digest,
        &request.embedding,
        files.iter().map(String::as_str).chain([images]),
    );
    let name = |field: &Option<String>| field.as_deref().map_or_else(String::new, |name| format!("={name}"));
    let mapping = &request.input.mapping;
    let fields = [&mapping.id, &mapping.text, &mapping.images].map(name).join("\n");
    let text = format!("{settings}\n{}\n{fields}", request.fleet.shard_size);
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
