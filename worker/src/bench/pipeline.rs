//! Items from bundles with real picture files through to written parts: everything a worker does but
//! the network.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use shared::bundle::{BundleBuilder, BundleImage, BundleItem};
use shared::ids::{ContentName, RunId, Sha16, ShardId, WorkerId};
use shared::model::ModelRecord;
use shared::plan::{
    EmbeddingSettings, FleetSettings, NUMERICS_VERSION, PLAN_VERSION, Plan, PlanCounts, fingerprint,
};
use shared::queue::memory::MemoryQueue;
use shared::queue::{Clock, NewShard, Queue as _, QueueSettings, WorkerInfo};
use shared::store::{Store, layout};
use tokio_util::sync::CancellationToken;

use super::mix::ItemSize;
use super::pictures;
use crate::embedder::{BatchBudget, Embedder, PreparedItem};
use crate::pipeline::busy::BusyMeter;
use crate::pipeline::{Worker, WorkerEnd, WorkerSettings};

/// Items of a shard.
const SHARD_SIZE: usize = 512;

/// A run in a store of its own, ready to be worked on.
pub struct Scene {
    store: Store,
    plan: Arc<Plan>,
    shards: Vec<NewShard>,
    items: Vec<BundleItem>,
    images: Vec<Vec<Bytes>>,
}

/// What a run through the pipeline gave.
#[derive(Debug, Clone, Copy)]
pub struct PipelineFigures {
    /// Items a second, from the first claim to the last part.
    pub items_per_second: f64,
    /// The share of the time from the first batch on that the device worked.
    pub busy: f64,
}

impl Scene {
    /// Writes bundles of items of the sizes asked for, `passes` times over, into a folder. The text is as
    /// long as `tokens_of` says it must be.
    pub async fn new(
        folder: &Path,
        sizes: &[ItemSize],
        passes: usize,
        settings: &EmbeddingSettings,
        tokens_of: impl Fn(&str) -> usize,
    ) -> anyhow::Result<Self> {
        let store = Store::open_or_create(&folder.display().to_string())?;
        let run: RunId = "bench".parse()?;
        let mut random = SmallRng::seed_from_u64(2);
        let (mut items, mut images) = (Vec::new(), Vec::new());
        for (index, size) in sizes.iter().cycle().take(sizes.len() * passes).enumerate() {
            let files = size
                .image_grids
                .iter()
                .map(|[_, height, width]| pictures::file(*height, *width, &mut random));
            images.push(files.map(|file| file.map(Bytes::from)).collect::<Result<Vec<_>, _>>()?);
            items.push(BundleItem {
                index: index as u64,
                id: format!("item {index}"),
                text: Some(text(size.text_tokens, index, &tokens_of)),
                images: Vec::new(),
                missing: Vec::new(),
            });
        }
        let mut shards = Vec::new();
        let mut bundle_bytes = 0;
        let all = items.chunks_mut(SHARD_SIZE).zip(images.chunks(SHARD_SIZE));
        for (number, (items, images)) in all.enumerate() {
            let mut bundle = BundleBuilder::new();
            for (item, files) in items.iter_mut().zip(images) {
                for file in files {
                    let entry = bundle.add_image(file.clone());
                    item.images.push(BundleImage { path: entry.clone(), entry });
                }
                bundle.add_item(item.clone());
            }
            let count = bundle.items();
            let (bytes, _) = bundle.finish()?;
            let shard = ShardId(number as u64);
            let name = ContentName { shard, sha: Sha16::of(&bytes) };
            bundle_bytes += bytes.len() as u64;
            store.put_new(&layout::bundle_key(&run, &name), bytes.into()).await?;
            shards.push(NewShard { id: shard, bundle: name, items: count, part: None });
        }
        let model = ModelRecord::hash(settings.dim);
        let names: Vec<String> = shards.iter().map(|shard| shard.bundle.bundle()).collect();
        let plan = Plan {
            version: PLAN_VERSION,
            run,
            created_at: "2000-01-01T00:00:00Z".to_owned(),
            fingerprint: fingerprint(
                NUMERICS_VERSION,
                &model.digest,
                settings,
                names.iter().map(String::as_str),
            ),
            numerics_version: NUMERICS_VERSION,
            model,
            embedding: settings.clone(),
            fleet: FleetSettings { shard_size: SHARD_SIZE as u64, lease_seconds: 60.0 },
            counts: PlanCounts {
                items: items.len() as u64,
                shards: shards.len() as u64,
                items_with_images: images.iter().filter(|images| !images.is_empty()).count() as u64,
                images_named: images.iter().map(Vec::len).sum::<usize>() as u64,
                images_found: images.iter().map(Vec::len).sum::<usize>() as u64,
                bundle_bytes,
            },
            shards_sha256: String::new(),
        };
        Ok(Self { store, plan: Arc::new(plan), shards, items, images })
    }

    /// Bundles written.
    pub fn bundles(&self) -> usize {
        self.shards.len()
    }

    /// The items as the pipeline prepares them.
    pub fn prepare(&self, embedder: &dyn Embedder) -> anyhow::Result<Vec<PreparedItem>> {
        use rayon::prelude::*;
        let prepare = |(item, files): (&BundleItem, &Vec<Bytes>)| {
            let images = files.iter().map(|file| embedder.prepare_image(file)).collect::<Result<_, _>>()?;
            Ok(embedder.prepare_item(item.text.as_deref(), images)?)
        };
        self.items.par_iter().zip(&self.images).map(prepare).collect()
    }

    /// Works on the run with a worker of its own until it is finished.
    pub async fn work(
        &self,
        embedders: Vec<Arc<dyn Embedder>>,
        budget: BatchBudget,
    ) -> anyhow::Result<PipelineFigures> {
        let queue = Arc::new(MemoryQueue::new(Clock::system()));
        queue.add(&QueueSettings::default(), &self.shards).await?;
        let null = Arc::clone(&embedders[0]);
        let null_vector =
            tokio::task::spawn_blocking(move || crate::load::null_vector(null.as_ref())).await??;
        let busy = Arc::new(BusyMeter::new(embedders.len()));
        let worker = Worker {
            id: WorkerId::fresh("bench"),
            info: WorkerInfo {
                host: "bench".to_owned(),
                device: embedders[0].device(),
                ..WorkerInfo::default()
            },
            queue,
            store: self.store.clone(),
            plan: Arc::clone(&self.plan),
            embedders,
            null_vector,
            busy: Arc::clone(&busy),
            settings: WorkerSettings { budget, ..WorkerSettings::default() },
            stop: CancellationToken::new(),
            isolation: None,
        };
        let started = Instant::now();
        let end = worker.run().await?;
        let seconds = started.elapsed().as_secs_f64();
        anyhow::ensure!(end == WorkerEnd::Finished, "the worker ended early: {end:?}");
        Ok(PipelineFigures {
            items_per_second: self.items.len() as f64 / seconds,
            busy: busy.share().unwrap_or_default(),
        })
    }
}

/// Words of exam items.
const WORDS: [&str; 12] = [
    "다음",
    " 글을",
    " 읽고",
    " 물음에",
    " 답하시오.",
    " 함수",
    " x² + 3x",
    " 보기에서",
    " 옳은",
    " 것을",
    " 고르시오.",
    "\n①",
];

/// Text that `tokens_of` finds about `tokens` long, the frame of a prompt (30 tokens) included.
fn text(tokens: usize, index: usize, tokens_of: impl Fn(&str) -> usize) -> String {
    let mut text = format!("{index}");
    let mut left = tokens.saturating_sub(30 + tokens_of(&text));
    for word in WORDS.iter().cycle().skip(index) {
        let needed = tokens_of(word);
        if needed > left {
            break;
        }
        left -= needed.max(1);
        text.push_str(word);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedder::hash::HashEmbedder;
    use crate::image::PixelLimits;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_item_of_the_mix_goes_through_twice() {
        let sizes = [
            ItemSize { text_tokens: 90, image_grids: Vec::new() },
            ItemSize { text_tokens: 60, image_grids: vec![[1, 10, 12]] },
        ];
        let choices = shared::settings::EmbeddingChoices::default();
        let settings = choices.resolve(shared::plan::Dtype::F32, 64).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let scene =
            Scene::new(folder.path(), &sizes, 2, &settings, |text| text.chars().count()).await.unwrap();
        let limits = PixelLimits { min_pixels: settings.min_pixels, max_pixels: settings.max_pixels };
        let embedder = HashEmbedder::new(std::num::NonZeroUsize::new(64).unwrap(), limits, 8192);
        let items = scene.prepare(&embedder).unwrap();
        let grids: Vec<_> = items
            .iter()
            .map(|item| item.images.first().map(|image| (image.grid_height, image.grid_width)))
            .collect();
        assert_eq!(grids, [None, Some((10, 12)), None, Some((10, 12))]);
        let figures = scene.work(vec![Arc::new(embedder)], BatchBudget::CPU).await.unwrap();
        assert!(figures.items_per_second > 0.0);
        assert!(folder.path().join("runs/bench/parts").read_dir().unwrap().count() == 1);
    }
}
