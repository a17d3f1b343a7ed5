//! A small plan, its shard, a bundle and a part.

use bytes::Bytes;
use shared::bundle::{BundleBuilder, BundleImage, BundleItem};
use shared::digest::sha256_hex;
use shared::ids::{ContentName, Sha16, ShardId};
use shared::model::ModelRecord;
use shared::part::{Origin, PartBuilder, ReasonKind, WrittenPart};
use shared::plan::{Dtype, EmbeddingSettings, FleetSettings, Plan, PlanCounts, ShardRecord};

/// Index of the shard's first item.
pub const FIRST: u64 = 24;
/// The shard's ids.
pub const IDS: [&str; 4] = ["a", "문제-2", "🎓", "item four"];

/// A plan of seven shards of four items.
pub fn plan() -> Plan {
    Plan {
        version: 1,
        run: "r".parse().expect("a run id"),
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        fingerprint: "f".repeat(64),
        numerics_version: 1,
        model: ModelRecord::hash(64),
        embedding: EmbeddingSettings {
            dtype: Dtype::F32,
            instruction: "i".to_owned(),
            min_pixels: 4096,
            max_pixels: 1_843_200,
            max_length: 8192,
            dim: 4,
            text_template: Some("{question}\\n{choices}".to_owned()),
        },
        fleet: FleetSettings { shard_size: 4, lease_seconds: 60.0 },
        counts: PlanCounts { items: 28, shards: 7, ..PlanCounts::default() },
        shards_sha256: sha256_hex(&shards()),
    }
}

/// `shards.jsonl` of the plan.
pub fn shards() -> Vec<u8> {
    let lines = (0..7).map(|number| {
        let mut line = serde_json::to_string(&record(number)).expect("a record can be written");
        line.push('\n');
        line
    });
    lines.collect::<String>().into_bytes()
}

/// A shard of the plan.
pub fn record(number: u64) -> ShardRecord {
    let name = ContentName { shard: ShardId(number), sha: Sha16::of(b"bundle") };
    let ids = IDS.join("\n") + "\n";
    ShardRecord {
        id: name.shard,
        bundle: name.bundle(),
        items: IDS.len() as u64,
        bytes: 1024,
        ids_sha256: sha256_hex(ids.as_bytes()),
    }
}

/// A part of shard 6: one item failed, one partial, one text only.
pub fn part(plan: &Plan) -> WrittenPart {
    let mut builder = PartBuilder::new(plan, ShardId(6), FIRST, IDS.map(str::to_owned).to_vec());
    let vector = [0.6, 0.8, 0.0, 0.0];
    for (item, images) in [(0, 0), (1, 1), (3, 0)] {
        builder.row(FIRST + item, &vector, images).expect("a row of the shard");
    }
    for item in [1, 3] {
        builder
            .drop_image(FIRST + item, ReasonKind::Ratio, "b.png is 1 x 900")
            .expect("an item of the shard");
    }
    builder.fail(FIRST + 2, ReasonKind::NothingToEmbed, "no text").expect("an item of the shard");
    let origin = Origin {
        device: "CPU".to_owned(),
        batch_tokens: 9,
        batch_reduced: false,
        null_embedding: vec![0.0, 1.0, 0.0, 0.0],
    };
    builder.finish(origin).expect("every item is accounted for")
}

/// Bundles: with and without images, text and missing paths; empty.
pub fn bundles() -> Vec<Vec<u8>> {
    let build = |items: u64, images: u64| {
        let mut builder = BundleBuilder::new();
        let entries: Vec<String> =
            (0..images).map(|number| builder.add_image(Bytes::from(vec![number as u8; 20]))).collect();
        for index in FIRST..FIRST + items {
            let images = entries.iter().map(|entry| BundleImage::new(entry.clone(), "a/b.png".to_owned()));
            builder.add_item(BundleItem {
                index,
                id: format!("문항 {index}"),
                text: (index % 2 == 0).then(|| "text".to_owned()),
                images: images.collect(),
                missing: vec!["c.png".to_owned(); (index % 3) as usize],
            });
        }
        builder.finish().expect("a bundle in memory").0
    };
    vec![build(0, 0), build(1, 0), build(3, 2), build(1, 1)]
}
