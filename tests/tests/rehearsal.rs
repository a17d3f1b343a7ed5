//! The rehearsal of the real job at a hundredth of its size: what the programs find is what was made.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use serde_json::Value;
use tempfile::TempDir;
use tests::program::Program;
use tests::rehearsal::{Form, Truth, floors, make};

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
        assert_eq!(number("/total/all_found"), truth.marked_found);
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
            let floor = floors::check(folder.path()).unwrap();
            assert_eq!((floor.items, floor.files), (truth.items, truth.image_files));
        }
        item_digests.push(truth.items_sha256);
    }
    assert_eq!(item_digests[0], item_digests[1], "the same items on every run");
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
    assert!(balanced.stderr().contains("predicted cost of a shard"), "{}", balanced.stderr());
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
    // A worker and a merge take shards of any length.
    let out = folder.path().join("e.npz");
    for (program, arguments) in [("status", vec!["--json"]), ("merge", vec!["--out", out.to_str().unwrap()])]
    {
        let command =
            Program::coordinator(folder.path()).args([program, "--store", "store", "--run", &by_cost]);
        let _ = command.args(arguments).output().expect(if program == "merge" { 4 } else { 0 });
    }
}
