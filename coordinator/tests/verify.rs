//! Files that are right, and files that are wrong in each of the ways that `verify` knows.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coordinator::merge::{Destination, MergeRequest, OutputType, Run, merge};
use coordinator::verify::{Check, Severity, Source, VerifyReport, verify};
use shared::exit::ExitCode;
use shared::npz::{self, ArrayHeader, Element};
use shared::part::{Metadata, encode_vector};
use shared::store::{Store, layout};
use support::{Device, GOOD, Shape, Synthetic, id, vector};
use tokio_util::sync::CancellationToken;

const SHAPE: Shape = Shape { items: 50, shard_size: 8, dim: 16 };

async fn check(path: &Path, run: Option<Arc<Run>>) -> VerifyReport {
    verify(Source::File(path.to_owned()), run, |_, _| {}).await.unwrap()
}

async fn merged(synthetic: &Synthetic, folder: &Path, change: impl FnOnce(&mut MergeRequest)) -> PathBuf {
    let path = folder.join("F.npz");
    let mut request = MergeRequest::to(Destination::File(path.clone()));
    change(&mut request);
    merge(synthetic.run(), &request, &CancellationToken::new(), &|_| {}).await.unwrap();
    path
}

/// A file made by hand, with the metadata of a run of `synthetic`.
struct Made {
    ids: Vec<String>,
    vectors: Vec<Vec<f32>>,
    counts: Vec<i32>,
    metadata: Metadata,
}

impl Made {
    fn new(synthetic: &Synthetic) -> Self {
        let items = synthetic.plan.counts.items;
        Self {
            ids: (0..items).map(id).collect(),
            vectors: (0..items).map(|index| vector(index, SHAPE.dim, 0.0)).collect(),
            counts: vec![1; items as usize],
            metadata: Metadata {
                count: items,
                with_image: items,
                null_embedding: encode_vector(&vector(u64::MAX, SHAPE.dim, 0.0)),
                devices: vec!["CPU".into()],
                batch_tokens: vec![1],
                parts_sha256: Some("0".repeat(64)),
                shards: Some(synthetic.plan.counts.shards),
                ..Metadata::of_plan(&synthetic.plan)
            },
        }
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let width = self.ids.iter().map(|id| npz::text_width(id)).max().unwrap();
        let rows = self.ids.len() as u64;
        let mut ids = ArrayHeader::vector(Element::Text { width }, rows).to_bytes();
        self.ids.iter().for_each(|id| npz::encode_text(id, width, &mut ids));
        let mut vectors = ArrayHeader::matrix(Element::F32, rows, SHAPE.dim.into()).to_bytes();
        vectors.extend(self.vectors.iter().flatten().flat_map(|value| value.to_le_bytes()));
        let mut counts = ArrayHeader::vector(Element::I32, rows).to_bytes();
        counts.extend(self.counts.iter().flat_map(|value| value.to_le_bytes()));
        let text = serde_json::to_string(&self.metadata).unwrap();
        let width = npz::text_width(&text);
        let mut last = ArrayHeader::vector(Element::Text { width }, 1).to_bytes();
        npz::encode_text(&text, width, &mut last);
        let path = folder.join("made.npz");
        let bytes = npz::write_stored(&[
            (npz::ITEM_IDS, &[&ids]),
            (npz::EMBEDDINGS, &[&vectors]),
            (npz::IMAGE_COUNTS, &[&counts]),
            (npz::METADATA, &[&last]),
        ]);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// The one wrong finding.
fn wrong(report: &VerifyReport) -> (Check, String, Vec<[u64; 2]>) {
    let wrong: Vec<_> =
        report.findings.iter().filter(|finding| finding.severity == Severity::Wrong).collect();
    assert_eq!(wrong.len(), 1, "{report}");
    assert_eq!(report.exit_code(), ExitCode::Verification);
    (wrong[0].check, wrong[0].message.clone(), wrong[0].rows.ranges.clone())
}

#[tokio::test]
async fn what_merge_writes_is_right_in_every_form() {
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(Device { fails: Some(9), ..GOOD }).await;
    let forms: [fn(&mut MergeRequest); 5] = [
        |_| {},
        |request| request.output = OutputType::F16,
        |request| request.compress = true,
        |request| request.rows_per_file = Some(13),
        |request| {
            (request.rows_per_file, request.compress, request.output) = (Some(7), true, OutputType::F16);
        },
    ];
    for form in forms {
        let folder = tempfile::tempdir().unwrap();
        let path = merged(&synthetic, folder.path(), form).await;
        for run in [None, Some(synthetic.run())] {
            let report = check(&path, run).await;
            assert_eq!((report.findings.len(), report.rows, report.failed), (0, 44, 6), "{report}");
            assert_eq!(report.exit_code(), ExitCode::Done);
        }
        numpy_agrees(folder.path());
    }
}

/// numpy reads every file of a folder, and finds unit rows and as many of everything.
fn numpy_agrees(folder: &Path) {
    let script = "
import sys, glob, json, numpy
rows = 0
for name in sorted(glob.glob(sys.argv[1] + '/*.npz')):
    with numpy.load(name, allow_pickle=False) as f:
        ids, vectors, counts = f['item_ids'], f['embeddings'], f['image_counts']
        metadata = json.loads(str(f['metadata'][0]))
        assert f.files == ['item_ids', 'embeddings', 'image_counts', 'metadata'], f.files
        assert len(ids) == len(vectors) == len(counts) == metadata['count']
        assert abs(numpy.linalg.norm(vectors.astype('f8'), axis=1) - 1).max() < 2e-3
        assert ids[0].startswith('문제-'), ids[0]
        rows += len(ids)
print('rows', rows)
";
    let Ok(output) = std::process::Command::new("python3").arg("-c").arg(script).arg(folder).output() else {
        println!("skipped: python3 is missing");
        return;
    };
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if error.contains("No module named 'numpy'") {
        println!("skipped: numpy is missing");
        return;
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "rows 44", "{error}");
}

/// What is done to a file, and the finding: what was looked at, a word of the message, its rows.
type Case = (fn(&mut Made), Check, &'static str, Vec<[u64; 2]>);

#[tokio::test]
async fn each_wrong_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    let made = Made::new(&synthetic);
    assert_eq!(check(&made.write(folder.path()), Some(synthetic.run())).await.findings, []);
    let cases: [Case; 8] = [
        (|made| made.ids[9] = made.ids[4].clone(), Check::Ids, "rows 4 = 9", vec![[4, 4], [9, 9]]),
        (|made| made.ids[3].clear(), Check::Ids, "empty", vec![[3, 3]]),
        (|made| made.vectors[7][2] = f32::NAN, Check::Norm, "finite", vec![[7, 7]]),
        (|made| made.vectors[8][2] += 0.1, Check::Norm, "norm 1", vec![[8, 8]]),
        (|made| made.counts[5] = -1, Check::ImageCounts, "below 0", vec![[5, 5]]),
        (|made| made.vectors[6] = vector(u64::MAX, SHAPE.dim, 0.0), Check::Null, "have images", vec![[6, 6]]),
        (|made| made.metadata.count += 1, Check::Metadata, "count 51", vec![]),
        (|made| made.metadata.null_embedding = "AA==".into(), Check::Metadata, "null_embedding", vec![]),
    ];
    for (change, check_of, word, rows) in cases {
        let mut made = Made::new(&synthetic);
        change(&mut made);
        made.metadata.with_image = made.counts.iter().filter(|count| **count > 0).count() as u64;
        let report = check(&made.write(folder.path()), None).await;
        let (found, message, found_rows) = wrong(&report);
        assert_eq!((found, found_rows), (check_of, rows), "{report}");
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn identical_rows_are_reported_and_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Made::new(&Synthetic::new(Store::memory(), SHAPE));
    made.vectors[20] = made.vectors[10].clone();
    let report = check(&made.write(folder.path()), None).await;
    assert_eq!((report.findings.len(), report.exit_code()), (1, ExitCode::Done));
    assert_eq!(
        (report.findings[0].check, &report.findings[0].rows.ranges),
        (Check::Identical, &vec![[10, 10], [20, 20]])
    );
}

#[tokio::test]
async fn ids_in_another_order_are_wrong_against_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    let mut made = Made::new(&synthetic);
    made.ids.swap(17, 18);
    let path = made.write(folder.path());
    assert!(check(&path, None).await.is_right());
    let (found, message, rows) = wrong(&check(&path, Some(synthetic.run())).await);
    assert_eq!((found, rows), (Check::Plan, vec![[16, 23]]));
    assert!(message.contains("000002"), "{message}");
    // Rows that the plan does not know, and items that are nowhere.
    let mut made = Made::new(&synthetic);
    made.ids.truncate(45);
    made.vectors.truncate(45);
    made.counts.truncate(45);
    (made.metadata.count, made.metadata.with_image) = (45, 45);
    let (found, message, _) = wrong(&check(&made.write(folder.path()), Some(synthetic.run())).await);
    assert!(found == Check::Plan && message.contains("5 items"), "{message}");
    let mut other = Synthetic::new(Store::memory(), SHAPE);
    other.plan.fingerprint = "e".repeat(64);
    let (found, message, _) =
        wrong(&check(&Made::new(&synthetic).write(folder.path()), Some(other.run())).await);
    assert!(found == Check::Plan && message.contains("fingerprint"), "{message}");
}

#[tokio::test]
async fn a_partial_merge_is_incomplete_and_not_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    for shard in [0, 2, 3, 5] {
        synthetic.put(&synthetic.part(shard, Device { fails: Some(4), ..GOOD })).await;
    }
    let path = merged(&synthetic, folder.path(), |request| request.partial = true).await;
    let report = check(&path, Some(synthetic.run())).await;
    assert_eq!((report.exit_code(), report.findings.len()), (ExitCode::Incomplete, 1), "{report}");
    assert!(report.findings[0].message.contains("000001, 000004, 000006"), "{report}");
    assert_eq!(check(&path, None).await.exit_code(), ExitCode::Done);
}

/// The head of a bundle: a tar whose first entry is `items.jsonl`.
async fn put_bundle(synthetic: &Synthetic, shard: u64, empty: &[u64]) {
    let record = &synthetic.shards[shard as usize];
    let first = synthetic.first_index(shard);
    let mut lines = String::new();
    for index in first..first + record.items {
        let text = (!empty.contains(&index)).then_some("x");
        lines.push_str(&serde_json::json!({ "index": index, "id": id(index), "text": text, "images": [], "missing": [] }).to_string());
        lines.push('\n');
    }
    let mut tar = vec![0; 512];
    tar[..11].copy_from_slice(b"items.jsonl");
    tar[124..135].copy_from_slice(format!("{:011o}", lines.len()).as_bytes());
    tar.extend_from_slice(lines.as_bytes());
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    let key = layout::bundle_key(&synthetic.plan.run, &record.content_name().unwrap());
    synthetic.store.put_new(&key, tar.into()).await.unwrap();
}

#[tokio::test]
async fn rows_of_empty_items_are_noted_and_others_like_them_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    put_bundle(&synthetic, 1, &[10]).await;
    let mut made = Made::new(&synthetic);
    for row in [10, 11] {
        made.vectors[row] = vector(u64::MAX, SHAPE.dim, 0.0);
        made.counts[row] = 0;
    }
    made.metadata.with_image = 48;
    let path = made.write(folder.path());
    let report = check(&path, None).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{report}");
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.check == Check::Null && finding.rows.ranges == [[10, 11]])
    );
    let (found, _, rows) = wrong(&check(&path, Some(synthetic.run())).await);
    assert_eq!((found, rows), (Check::Null, vec![[11, 11]]));
}

#[tokio::test]
async fn broken_bytes_are_wrong_and_a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    let path = merged(&synthetic, folder.path(), |_| {}).await;
    let bytes = std::fs::read(&path).unwrap();
    let directory = npz::Directory::from_tail(&bytes, bytes.len() as u64).unwrap();
    let headers: Vec<_> = directory.entries.iter().map(|entry| entry.offset..entry.offset + 30).collect();
    for at in (0..bytes.len()).step_by(41) {
        let mut broken = bytes.clone();
        broken[at] ^= 0x40;
        std::fs::write(&path, &broken).unwrap();
        let report = check(&path, Some(synthetic.run())).await;
        // Versions, times and attributes in the zip's headers mean nothing.
        let in_header =
            at as u64 >= directory.offset || headers.iter().any(|header| header.contains(&(at as u64)));
        assert!(in_header || report.exit_code() == ExitCode::Verification, "byte {at}: {report}");
    }
    for length in (0..bytes.len()).step_by(97) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let report = check(&path, None).await;
        assert!(report.findings.iter().any(|finding| finding.check == Check::Readable), "{length}: {report}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = verify(Source::File(path), None, |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("F.npz"), "{error}");
}

#[tokio::test]
async fn files_of_several_are_checked_together() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    let path = merged(&synthetic, folder.path(), |request| {
        request.rows_per_file = Some(20);
    })
    .await;
    let report = check(&folder.path().join("F-00001.npz"), Some(synthetic.run())).await;
    assert_eq!((report.exit_code(), report.rows), (ExitCode::Done, 20), "{report}");
    assert!(report.findings[0].message.contains("file 1 of 3"), "{report}");
    std::fs::copy(folder.path().join("F-00000.npz"), folder.path().join("F-00003.npz")).unwrap();
    let report = check(&path, Some(synthetic.run())).await;
    assert_eq!(report.exit_code(), ExitCode::Verification, "{report}");
    std::fs::remove_file(folder.path().join("F-00003.npz")).unwrap();
    std::fs::remove_file(folder.path().join("F-00002.npz")).unwrap();
    assert_eq!(check(&path, None).await.exit_code(), ExitCode::Verification);
}

#[tokio::test]
async fn a_file_in_a_store_is_verified_there() {
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    let (store, key) = (synthetic.store.clone(), "out/F.npz".to_owned());
    let request = MergeRequest::to(Destination::Object { store: store.clone(), key: key.clone() });
    merge(synthetic.run(), &request, &CancellationToken::new(), &|_| {}).await.unwrap();
    let report = verify(Source::Object { store, key }, Some(synthetic.run()), |_, _| {}).await.unwrap();
    assert_eq!((report.findings.len(), report.rows), (0, 50), "{report}");
    assert!(serde_json::to_string(&report).unwrap().contains("\"rows\":50"));
}
