//! Merges of synthetic runs: the cases of a fleet that lost machines, and those of a person's folder.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod support;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use coordinator::merge::{
    Destination, FailedLine, ItemStatus, MergeError, MergeReport, MergeRequest, OutputType, merge,
};
use coordinator::verify::{Severity, Source, verify};
use shared::exit::ExitCode;
use shared::npz::{self, NpzReader};
use shared::part::Metadata;
use shared::store::{Store, layout};
use support::{Device, GOOD, Shape, Synthetic, id, vector};
use tokio_util::sync::CancellationToken;

const SHAPE: Shape = Shape { items: 50, shard_size: 8, dim: 16 };

/// What a file holds.
struct Merged {
    ids: Vec<String>,
    vectors: Vec<Vec<f32>>,
    metadata: Metadata,
}

fn read(path: &Path) -> Merged {
    let mut reader = NpzReader::open(std::io::BufReader::new(std::fs::File::open(path).unwrap())).unwrap();
    let mut members = Vec::new();
    while let Some(mut member) = reader.next_member().unwrap() {
        let header = member.header().clone();
        let (mut rows, mut row) = (Vec::new(), vec![0; header.row_bytes() as usize]);
        while member.read_rows(&mut row).unwrap() > 0 {
            rows.push(row.clone());
        }
        member.finish().unwrap();
        members.push((header, rows));
    }
    let text = |row: &Vec<u8>| npz::decode_text(row).unwrap();
    let half = members[1].0.element == npz::Element::F16;
    Merged {
        ids: members[0].1.iter().map(text).collect(),
        vectors: members[1]
            .1
            .iter()
            .map(|row| if half { npz::f16_vector(row) } else { npz::decode_vector(row) })
            .collect(),
        metadata: serde_json::from_str(&text(&members[3].1[0])).unwrap(),
    }
}

async fn merge_to(synthetic: &Synthetic, request: &MergeRequest) -> Result<MergeReport, MergeError> {
    merge(synthetic.run(), request, &CancellationToken::new(), &|_| {}).await
}

fn request(folder: &Path) -> MergeRequest {
    MergeRequest::to(Destination::File(folder.join("F.npz")))
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn failed_lines(synthetic: &Synthetic) -> Vec<FailedLine> {
    let bytes = synthetic.store.get(&layout::failed_key(&synthetic.plan.run)).await.unwrap();
    let mut text = String::new();
    bytes.as_ref().read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_whole_run_becomes_one_file_with_every_row_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(Device { fails: Some(9), ..GOOD }).await;
    let report = merge_to(&synthetic, &request(folder.path())).await.unwrap();
    let merged = read(&folder.path().join("F.npz"));
    let expected: Vec<u64> = (0..50).filter(|index| index % 9 != 0).collect();
    assert_eq!(merged.ids, expected.iter().map(|index| id(*index)).collect::<Vec<_>>());
    assert_eq!(merged.vectors, expected.iter().map(|index| vector(*index, 16, 0.0)).collect::<Vec<_>>());
    assert_eq!((report.rows, report.failed), (44, 6));
    assert_eq!((merged.metadata.count, merged.metadata.failed), (44, 6));
    assert_eq!(merged.metadata.shards, Some(7));
    assert_eq!((report.exit_code(false), report.exit_code(true)), (ExitCode::Done, ExitCode::Incomplete));
    assert_eq!(files(folder.path()), ["F.npz"]);
    let lines = failed_lines(&synthetic).await;
    let count = |status| lines.iter().filter(|line| line.status == status).count() as u64;
    assert_eq!(count(ItemStatus::Failed), 6);
    assert_eq!(count(ItemStatus::Partial), report.partial);
    assert_eq!(count(ItemStatus::TextOnly), report.text_only);
    assert!(lines.is_sorted_by_key(|line| line.index));
    // The same parts give the same bytes.
    let bytes = std::fs::read(folder.path().join("F.npz")).unwrap();
    merge_to(&synthetic, &request(folder.path())).await.unwrap();
    assert_eq!(std::fs::read(folder.path().join("F.npz")).unwrap(), bytes);
}

#[tokio::test]
async fn missing_shards_write_nothing_unless_partial() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    for shard in [0, 1, 3, 4, 6] {
        synthetic.put(&synthetic.part(shard, GOOD)).await;
    }
    let error = merge_to(&synthetic, &request(folder.path())).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Incomplete);
    let message = error.to_string();
    assert!(message.contains("000002 (items 16 to 23)") && message.contains("000005"), "{message}");
    assert!(files(folder.path()).is_empty());
    let partial = MergeRequest { partial: true, ..request(folder.path()) };
    let report = merge_to(&synthetic, &partial).await.unwrap();
    assert_eq!((report.rows, report.missing.len()), (34, 2));
    assert_eq!(report.exit_code(false), ExitCode::Incomplete);
    let lines = failed_lines(&synthetic).await;
    let missing: Vec<(u64, Option<u64>)> = lines
        .iter()
        .filter(|line| line.status == ItemStatus::Missing)
        .map(|line| (line.index, line.items))
        .collect();
    assert_eq!(missing, [(16, Some(8)), (40, Some(8))]);
    assert!(lines.is_sorted_by_key(|line| line.index));
}

#[tokio::test]
async fn of_two_parts_the_one_with_fewest_failures_is_taken_and_both_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(Device { fails: Some(5), ..GOOD }).await;
    synthetic.put(&synthetic.part(1, Device { tilt: 1e-6, ..GOOD })).await;
    let report = merge_to(&synthetic, &request(folder.path())).await.unwrap();
    assert_eq!(report.failed, 8, "items 10 and 15 are in the better part of shard 1");
    synthetic.put(&synthetic.part(2, Device { name: "GPU that lies (8.9)", tilt: 1.0, ..GOOD })).await;
    let error = merge_to(&synthetic, &request(folder.path())).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Verification);
    let message = error.to_string();
    assert!(
        message.contains("GPU that lies") && message.contains("CPU (AVX2)") && message.contains("000002"),
        "{message}"
    );
}

#[tokio::test]
async fn devices_that_disagree_on_the_empty_item_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), Shape { items: 16, ..SHAPE });
    synthetic.put(&synthetic.part(0, GOOD)).await;
    synthetic.put(&synthetic.part(1, Device { name: "other", null_tilt: 1.0, ..GOOD })).await;
    let error = merge_to(&synthetic, &request(folder.path())).await.unwrap_err();
    assert!(matches!(&error, MergeError::Disagree(found) if found.devices[1] == "other"), "{error}");
    assert!(error.to_string().contains("empty item"), "{error}");
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn foreign_files_and_other_fingerprints_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    synthetic.put_as("notes.txt", b"hello".to_vec()).await;
    let mut other = Synthetic::new(synthetic.store.clone(), SHAPE);
    other.plan.fingerprint = "e".repeat(64);
    let part = other.part(3, GOOD);
    synthetic.put(&part).await;
    let error = merge_to(&synthetic, &request(folder.path())).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Verification);
    let message = error.to_string();
    assert!(message.contains("notes.txt") && message.contains(&part.name.part()), "{message}");
    assert!(message.contains("fingerprint"), "{message}");
    assert!(files(folder.path()).is_empty());
}

#[tokio::test]
async fn a_damaged_part_counts_as_missing_and_another_stands_in() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    for shard in [0, 1, 2, 5, 6] {
        synthetic.put(&synthetic.part(shard, GOOD)).await;
    }
    let (cut, flipped) = (synthetic.part(3, GOOD), synthetic.part(4, GOOD));
    synthetic.put_as(&cut.name.part(), cut.bytes[..cut.bytes.len() - 10].to_vec()).await;
    // The end is whole, so that only the pass over all bytes finds it.
    let mut bytes = flipped.bytes.clone();
    bytes[300] ^= 1;
    synthetic.put_as(&flipped.name.part(), bytes).await;
    synthetic.put_as("000000-0123456789abcdef.npz", Vec::new()).await;
    let error = merge_to(&synthetic, &request(folder.path())).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Incomplete);
    assert!(error.to_string().contains(&cut.name.part()), "{error}");
    assert!(files(folder.path()).is_empty());
    // Another device's parts of the same shards, with a failed item more each.
    let other = Device { name: "other", fails: Some(8), ..GOOD };
    synthetic.put(&synthetic.part(3, other)).await;
    synthetic.put(&synthetic.part(4, other)).await;
    let report = merge_to(&synthetic, &request(folder.path())).await.unwrap();
    assert_eq!((report.rows, report.failed, report.damaged.len()), (48, 2, 3));
    let merged = read(&folder.path().join("F.npz"));
    assert_eq!(merged.metadata.devices, ["CPU (AVX2)", "other"]);
}

#[tokio::test]
async fn half_precision_compression_and_several_files_hold_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(Device { fails: Some(9), ..GOOD }).await;
    let whole = merge_to(&synthetic, &request(folder.path())).await.unwrap();
    let plain = read(&folder.path().join("F.npz"));
    let half = MergeRequest { output: OutputType::F16, ..request(folder.path()) };
    merge_to(&synthetic, &half).await.unwrap();
    let rounded = read(&folder.path().join("F.npz"));
    for (left, right) in plain.vectors.iter().flatten().zip(rounded.vectors.iter().flatten()) {
        assert!((left - right).abs() <= left.abs() / 1024.0);
    }
    let compress = MergeRequest { compress: true, ..request(folder.path()) };
    let report = merge_to(&synthetic, &compress).await.unwrap();
    assert!(report.bytes < whole.bytes);
    assert_eq!(read(&folder.path().join("F.npz")).vectors, plain.vectors);
    std::fs::remove_file(folder.path().join("F.npz")).unwrap();
    for compress in [false, true] {
        let several = MergeRequest { rows_per_file: Some(13), compress, ..request(folder.path()) };
        let report = merge_to(&synthetic, &several).await.unwrap();
        assert_eq!((report.rows, report.files.len()), (44, 4));
        let names = ["F-00000.npz", "F-00001.npz", "F-00002.npz", "F-00003.npz"];
        assert_eq!(files(folder.path()), names);
        let volumes: Vec<Merged> = names.iter().map(|name| read(&folder.path().join(name))).collect();
        assert_eq!(volumes.iter().flat_map(|volume| volume.ids.clone()).collect::<Vec<_>>(), plain.ids);
        assert_eq!(
            volumes.iter().flat_map(|volume| volume.vectors.clone()).collect::<Vec<_>>(),
            plain.vectors
        );
        let sum =
            |field: fn(&Metadata) -> u64| volumes.iter().map(|volume| field(&volume.metadata)).sum::<u64>();
        assert_eq!(sum(|metadata| metadata.failed), report.failed);
        assert_eq!(sum(|metadata| metadata.partial), report.partial);
        assert_eq!(sum(|metadata| metadata.text_only), report.text_only);
        assert_eq!(volumes[3].metadata.volume.unwrap().first_row, 39);
    }
}

#[tokio::test]
async fn a_merge_goes_to_a_store_and_replaces_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::open(folder.path().to_str().unwrap()).unwrap(), SHAPE);
    synthetic.put_all(GOOD).await;
    let destination = Destination::Object { store: synthetic.store.clone(), key: "out/F.npz".to_owned() };
    for _ in 0..2 {
        let report = merge_to(&synthetic, &MergeRequest::to(destination.clone())).await.unwrap();
        assert!(report.files[0].ends_with("out/F.npz"));
        assert_eq!(read(&folder.path().join("out/F.npz")).ids.len(), 50);
    }
}

/// Rows of 16 KB, enough for several parts of an upload.
const LARGE: Shape = Shape { items: 1100, shard_size: 100, dim: 4096 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_sent_in_parts_has_the_bytes_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), LARGE);
    synthetic.put_all(Device { fails: Some(9), ..GOOD }).await;
    let object = Destination::Object { store: synthetic.store.clone(), key: "out/F.npz".to_owned() };
    let forms: [fn(&mut MergeRequest); 4] = [
        |_| {},
        |request| request.output = OutputType::F16,
        |request| request.compress = true,
        |request| request.rows_per_file = Some(500),
    ];
    for form in forms {
        let mut to_file = request(folder.path());
        form(&mut to_file);
        let mut to_object = MergeRequest::to(object.clone());
        form(&mut to_object);
        let (file, sent) =
            (merge_to(&synthetic, &to_file).await.unwrap(), merge_to(&synthetic, &to_object).await.unwrap());
        assert_eq!((file.bytes, file.files.len()), (sent.bytes, sent.files.len()));
        for (file, sent) in file.files.iter().zip(&sent.files) {
            let key = sent.strip_prefix("memory:/").unwrap();
            assert!(synthetic.store.get(key).await.unwrap() == std::fs::read(file).unwrap(), "{sent}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_does_not_appear_when_its_merge_fails_half_way() {
    let synthetic = Synthetic::new(Store::memory(), LARGE);
    synthetic.put_all(GOOD).await;
    let name = synthetic.part(10, GOOD).name.part();
    let key = format!("{}/{name}", layout::parts_folder(&synthetic.plan.run));
    let mut bytes = synthetic.store.get(&key).await.unwrap().to_vec();
    // The end is whole, so that only the pass over all bytes finds it, when most of the object is sent.
    bytes[300_000] ^= 1;
    synthetic.store.replace(&key, bytes.into()).await.unwrap();
    let object = Destination::Object { store: synthetic.store.clone(), key: "F.npz".to_owned() };
    let error = merge_to(&synthetic, &MergeRequest::to(object)).await.unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    assert_eq!(synthetic.store.size("F.npz").await.unwrap(), None);
}

/// Runs the program that README shows for reading a file lazily, on a merged file.
#[tokio::test]
async fn the_lazy_reader_of_the_readme_reads_what_was_merged() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    let path = folder.path().join("embeddings.npz");
    merge_to(&synthetic, &MergeRequest::to(Destination::File(path))).await.unwrap();
    let readme = include_str!("../../README.md");
    let block = readme.split("```python\n").find(|block| block.contains("def mapped")).unwrap();
    let program = block.split("```").next().unwrap().to_owned()
        + "whole = numpy.load('embeddings.npz', allow_pickle=False)\n\
           assert isinstance(vectors, numpy.memmap) and vectors.shape == (50, 16)\n\
           assert (vectors[7:11] == whole['embeddings'][7:11]).all()\n\
           assert mapped('embeddings.npz', 'item_ids')[49] == whole['item_ids'][49]\n\
           print('read lazily')\n";
    let python = std::env::var("EMBED_FLEET_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = std::process::Command::new(&python).args(["-c", &program]).current_dir(folder.path()).output();
    let Ok(output) = run else {
        println!("skipped: {python} is missing");
        return;
    };
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if error.contains("No module named 'numpy'") {
        println!("skipped: {python} has no numpy");
        return;
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "read lazily\n", "{error}");
}

#[tokio::test]
async fn progress_reaches_the_last_row() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    let last = Arc::new(std::sync::Mutex::new((0, 0, 0)));
    let seen = Arc::clone(&last);
    merge(synthetic.run(), &request(folder.path()), &CancellationToken::new(), &move |progress| {
        *seen.lock().unwrap() = (progress.shards_done, progress.shards, progress.rows);
    })
    .await
    .unwrap();
    assert_eq!(*last.lock().unwrap(), (7, 7, 50));
}

#[tokio::test]
async fn an_out_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), SHAPE);
    synthetic.put_all(GOOD).await;
    let error = merge_to(&synthetic, &request(&folder.path().join("nowhere"))).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_is_stopped_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::memory(), LARGE);
    synthetic.put_all(GOOD).await;
    let object = Destination::Object { store: synthetic.store.clone(), key: "F.npz".to_owned() };
    let rows_per_file = Some(300);
    for (last, compress) in [(1, false), (4, false), (11, false), (4, true), (11, true)] {
        for destination in [request(folder.path()).destination, object.clone()] {
            let request = MergeRequest { compress, rows_per_file, ..MergeRequest::to(destination) };
            let stop = CancellationToken::new();
            let stopped = merge(synthetic.run(), &request, &stop, &|now| {
                if now.shards_done == last {
                    let stop = stop.clone();
                    // Soon: the writer is with a thread of its own by then.
                    tokio::spawn(async move { stop.cancel() });
                }
            })
            .await;
            assert!(matches!(stopped, Err(MergeError::Stopped)), "{last} {compress}");
            assert_eq!(stopped.unwrap_err().exit_code(), ExitCode::Interrupted);
            assert!(files(folder.path()).is_empty(), "{last} {compress}: {:?}", files(folder.path()));
            assert_eq!(synthetic.store.size("F-00000.npz").await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn what_an_earlier_merge_left_under_the_same_name_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = Synthetic::new(Store::open(folder.path().to_str().unwrap()).unwrap(), SHAPE);
    synthetic.put_all(GOOD).await;
    let object = Destination::Object { store: synthetic.store.clone(), key: "out/F.npz".to_owned() };
    let local = Destination::File(folder.path().join("F.npz"));
    for destination in [local, object] {
        let earlier = async |rows_per_file| {
            let request = MergeRequest { rows_per_file, ..MergeRequest::to(destination.clone()) };
            let report = merge_to(&synthetic, &request).await.unwrap();
            let name = |file: String| file.rsplit('/').next().unwrap().to_owned();
            report.earlier.into_iter().map(name).collect::<Vec<_>>()
        };
        assert!(earlier(Some(13)).await.is_empty());
        assert_eq!(earlier(Some(17)).await, ["F-00003.npz"]);
        let volumes = ["F-00000.npz", "F-00001.npz", "F-00002.npz", "F-00003.npz"];
        assert_eq!(earlier(None).await, volumes);
        assert_eq!(earlier(Some(25)).await, ["F.npz", "F-00002.npz", "F-00003.npz"]);
    }
    let source = Source::File(folder.path().join("F.npz"));
    let report = verify(source, None, |_, _| {}).await.unwrap();
    let told = &report.findings.iter().find(|finding| finding.severity == Severity::Note).unwrap().message;
    assert!(report.is_right() && told.contains("F-00000.npz lies beside it"), "{report}");
}
