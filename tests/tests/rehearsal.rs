//! The rehearsal of the real job at a hundredth of its size: what the programs find is what was made.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tests::program::Program;
use tests::redis::RedisServer;
use tests::rehearsal::fleet::{Fleet, Outcome};
use tests::rehearsal::{Form, Truth, floors, make};
use tests::s3::S3Server;

const ITEMS: u64 = 1764;

fn rehearsal(form: Form) -> (TempDir, Truth) {
    let folder = TempDir::new().unwrap();
    let truth = make(folder.path(), ITEMS, form).unwrap();
    (folder, truth)
}

fn with_input(program: Program, form: Form) -> Program {
    let images = if form == Form::Zip { "images.zip" } else { "images" };
    program.args(["--items", "items/*.json", "--images", images])
}

#[test]
fn check_finds_what_was_made_in_folders_and_in_a_zip() {
    let mut item_digests = Vec::new();
    for form in [Form::Folders, Form::Zip] {
        let (folder, truth) = rehearsal(form);
        let program = with_input(Program::coordinator(folder.path()).args(["check", "--json"]), form);
        let report: Value = serde_json::from_str(&program.output().expect(0).stdout()).unwrap();
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap();
        assert_eq!(number("/files"), truth.item_files);
        assert_eq!(number("/total/items"), truth.items);
        assert_eq!(number("/total/marked"), truth.marked);
        assert_eq!(number("/total/marked_found"), truth.marked_found);
        assert_eq!(number("/total/all_found"), truth.marked_found - truth.marked_partly);
        assert_eq!(number("/total/images_named"), truth.images_named);
        assert_eq!(number("/total/images_found"), truth.images_found);
        assert_eq!(number("/total/image_bytes"), truth.image_bytes_found);
        assert_eq!(number("/images_in_roots"), truth.image_files);
        assert_eq!(number("/images_unused"), truth.image_files_unused);
        let missing = report["missing"].as_array().unwrap().len() as u64;
        assert_eq!(missing, truth.images_named - truth.images_found);
        let kept: Truth =
            serde_json::from_slice(&std::fs::read(folder.path().join("truth.json")).unwrap()).unwrap();
        assert_eq!(kept, truth);
        if form == Form::Folders {
            assert_eq!(on_disk(folder.path()), truth);
        }
        let floor = floors::check(folder.path()).unwrap();
        assert_eq!((floor.items, floor.files), (truth.items, truth.image_files));
        item_digests.push(truth.items_sha256);
    }
    assert_eq!(item_digests[0], item_digests[1], "the same items on every run");
}

/// The truth with what `find` would count in place of what was counted while it was written.
fn on_disk(folder: &Path) -> Truth {
    let kept: Truth = serde_json::from_slice(&std::fs::read(folder.join("truth.json")).unwrap()).unwrap();
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let size = |file: &PathBuf| file.metadata().unwrap().len();
    let tops = entries(&folder.join("images"));
    let day_folders = tops.iter().filter(|top| top.file_name().unwrap().len() == 8).count() as u64;
    let (mut files, mut waiting) = (Vec::new(), tops.clone());
    while let Some(path) = waiting.pop() {
        if path.is_dir() { waiting.extend(entries(&path)) } else { files.push(path) }
    }
    let items = entries(&folder.join("items"));
    Truth {
        item_files: items.len() as u64,
        item_bytes: items.iter().map(size).sum(),
        image_files: files.len() as u64,
        image_bytes: files.iter().map(size).sum(),
        png_files: files.iter().filter(|file| std::fs::read(file).unwrap().starts_with(b"\x89PNG")).count()
            as u64,
        day_folders,
        year_trees: tops.len() as u64 - day_folders,
        ..kept
    }
}

#[test]
fn a_folder_that_holds_a_rehearsal_is_not_written_over() {
    let (folder, _) = rehearsal(Form::Zip);
    let refused = make(folder.path(), 10, Form::Folders).unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused}");
}

#[test]
fn shards_of_the_same_cost_are_another_run_with_the_same_items() {
    let (folder, truth) = rehearsal(Form::Folders);
    let plan = |balance: &str| {
        let program = Program::coordinator(folder.path())
            .args(["plan", "--model", "hash:64", "--store", "store", "--shard-size", "64"])
            .args(["--balance", balance]);
        with_input(program, Form::Folders).output().expect(0)
    };
    let by_count = plan("count").stdout().trim().to_owned();
    let balanced = plan("cost");
    let by_cost = balanced.stdout().trim().to_owned();
    // "predicted cost of a shard: ..., most 1.05 of the mean; cut by number it would be ..., most 1.6 of the mean"
    let told = balanced.stderr();
    let line = told.lines().find(|line| line.starts_with("predicted cost of a shard")).unwrap_or(&told);
    let most: Vec<f64> =
        line.split("most ").skip(1).map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(most[0] < 1.1 && most[1] > 1.2, "{line}");
    assert_ne!(by_cost, by_count);
    assert_eq!(plan("cost").stdout().trim(), by_cost, "the same cut again");
    let lengths = |run: &str| {
        let lines = std::fs::read_to_string(folder.path().join("store/runs").join(run).join("shards.jsonl"));
        let items = |line: &str| serde_json::from_str::<Value>(line).unwrap()["items"].as_u64().unwrap();
        lines.unwrap().lines().map(items).collect::<Vec<u64>>()
    };
    let (even, cut) = (lengths(&by_count), lengths(&by_cost));
    assert_eq!((even.len(), even.iter().sum::<u64>()), (28, truth.items));
    assert_eq!((cut.len(), cut.iter().sum::<u64>()), (28, truth.items));
    assert!(cut.iter().any(|items| *items > 64), "{cut:?}");
    // Workers, a merge and a verification take shards of any length.
    let Some(server) = RedisServer::start() else { return };
    let command = |program: Program| {
        let program = program.env("FLEET_STORE", folder.path().join("store")).env("FLEET_RUN", &by_cost);
        program.env("FLEET_QUEUE", server.url())
    };
    let _ = command(Program::coordinator(folder.path()).args(["resume"])).output().expect(0);
    let _ = command(Program::worker(folder.path()).args(["--device", "cpu"])).output().expect(0);
    let merge = ["merge", "--out", "e.npz"];
    let _ = command(Program::coordinator(folder.path()).args(merge)).output().expect(0);
    let verify = ["verify", "e.npz", "--run", &by_cost, "--json"];
    let verified = command(Program::coordinator(folder.path()).args(verify)).output().expect(0);
    let report: Value = serde_json::from_str(&verified.stdout()).unwrap();
    assert_eq!(report["rows"], truth.items, "{report}");
}

#[test]
fn a_merge_to_s3_is_the_file_and_a_failed_one_leaves_nothing_behind() {
    let Some(server) = S3Server::start() else { return };
    let (folder, truth) = rehearsal(Form::Folders);
    let program = Program::coordinator(folder.path()).args([
        "run",
        "--model",
        "hash:2048",
        "--store",
        "store",
        "--shard-size",
        "128",
        "--out",
        "e.npz",
    ]);
    let _ = with_input(program, Form::Folders).output().expect(0);
    // 14 MB: three parts of an upload.
    let out = "s3://fleet/out/e.npz";
    let merge = || {
        Program::coordinator(folder.path())
            .args(["merge", "--store", "store", "--out", out])
            .envs(&server.environment())
            .output()
    };
    let _ = merge().expect(0);
    let get = |target: &str| tests::http::ask(server.port(), &format!("GET {target}"), "", &[]).unwrap();
    let file = std::fs::read(folder.path().join("e.npz")).unwrap();
    assert!(get("/fleet/out/e.npz") == (200, file), "the object is the file of {} items", truth.items);
    let verified = Program::coordinator(folder.path()).args(["verify", out]).envs(&server.environment());
    let _ = verified.output().expect(0);
    // The last part is damaged where only a pass over all bytes finds it.
    let run = std::fs::read_dir(folder.path().join("store/runs")).unwrap().next().unwrap().unwrap().path();
    let mut parts: Vec<_> =
        std::fs::read_dir(run.join("parts")).unwrap().map(|part| part.unwrap().path()).collect();
    parts.sort();
    let last = parts.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(last, bytes).unwrap();
    let _ = tests::http::ask(server.port(), "DELETE /fleet/out/e.npz", "", &[]);
    let failed = merge().expect(4);
    assert!(failed.stderr().contains("damaged"), "{}", failed.stderr());
    assert_eq!(get("/fleet/out/e.npz").0, 404);
    let uploads = String::from_utf8(get("/fleet?uploads").1).unwrap();
    assert!(uploads.contains("ListMultipartUploadsResult") && !uploads.contains("<UploadId>"), "{uploads}");
}

#[test]
fn a_fleet_of_processes_gives_the_rows_that_were_made() {
    let (folder, truth) = rehearsal(Form::Zip);
    let python = tests::s3::python();
    let fleet = Fleet { folder: folder.path().to_owned(), workers: 3, dim: 64, python };
    let Some(outcome) = fleet.run().unwrap() else { return };
    assert_eq!(outcome, Outcome::of(&truth, 64));
}
