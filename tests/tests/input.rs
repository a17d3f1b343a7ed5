//! Bad input: exit code 3, a message that names the place, nothing written. And items that are not
//! complete: what becomes of them, and what the exit code says.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;
use tests::npz;
use tests::program::{Finished, Program};
use tests::sample::folder;

fn plan(working: &Path, files: &[(&str, &str)]) -> Finished {
    for (name, text) in files {
        std::fs::write(working.join(name), text).unwrap();
    }
    std::fs::create_dir_all(working.join("images")).unwrap();
    Program::coordinator(working)
        .args(["plan", "--items"])
        .args(files.iter().map(|(name, _)| *name))
        .args(["--images", "images", "--model", "hash:64", "--store", "store"])
        .output()
}

/// Files with their texts, and what the message must say.
type BadInput = (&'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn bad_input_names_its_place_and_writes_nothing() {
    let cases: [BadInput; 8] = [
        (
            &[("a1.json", r#"[{"id": 1}, {"id": 2}]"#), ("a2.json", "[\n{\"id\": \"2\"}]")],
            &["a2.json:2:1", "a1.json:1:13", "\"2\""],
        ),
        (&[("a.json", "[{\"id\": 1},\n {\"id\": 2")], &["a.json:2:2", "truncated"]),
        (&[("a.json", r#"[{"id": 1, "images": ["../x.png"]}]"#)], &["a.json:1:2", "images", "../x.png"]),
        (&[("a.json", r#"[{"id": 1, "images": "/x.png"}]"#)], &["images", "absolute"]),
        (&[("a.json", r#"[{"id": 1.5}]"#)], &["a.json:1:2", "\"id\""]),
        (&[("a.json", r#"{"text": "x"}"#)], &["item_id", "missing"]),
        (&[("a.json", "[]")], &["no items", "a.json"]),
        (&[("a.json", "hello")], &["a.json:1:1"]),
    ];
    for (files, words) in cases {
        let working = tempfile::tempdir().unwrap();
        let finished = plan(working.path(), files).expect(3);
        for word in words {
            assert!(finished.stderr().contains(word), "{word} in {}", finished.stderr());
        }
        assert!(!working.path().join("store/runs").exists(), "{files:?} wrote something");
    }
}

#[test]
fn another_plan_under_the_same_name_is_refused() {
    let working = tempfile::tempdir().unwrap();
    let command = |shard_size: &str| {
        Program::coordinator(working.path())
            .args(["plan", "--items", "a.json", "--model", "hash:64", "--store", "store", "--run", "mine"])
            .flag("--shard-size", shard_size)
    };
    std::fs::write(working.path().join("a.json"), r#"[{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]"#)
        .unwrap();
    let _ = command("2").output().expect(0);
    let count = || std::fs::read_dir(working.path().join("store/runs/mine/inputs")).unwrap().count();
    assert_eq!(count(), 1);
    let refused = command("1").output().expect(3);
    let differs = "the most items of a shard was 2 and is 1";
    assert!(refused.stderr().contains(differs), "{}", refused.stderr());
    assert_eq!(count(), 1, "the other plan wrote nothing");
    let _ = command("2").output().expect(0);
}

#[test]
fn incomplete_items_follow_the_policy_and_the_exit_code_the_contract() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let images = working.path().join("images");
    std::fs::create_dir_all(&images).unwrap();
    let inputs = shared.join("reference/inputs");
    let jpeg = std::fs::read(inputs.join("jpeg420_240x180.jpg")).unwrap();
    std::fs::write(images.join("whole.jpg"), &jpeg).unwrap();
    std::fs::write(images.join("cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    std::fs::write(images.join("broken.png"), b"not a picture").unwrap();
    let items = r#"[
        {"id": "cut", "text": "글", "images": ["cut.jpg"]},
        {"id": "part", "text": "글", "images": ["whole.jpg", "broken.png"]},
        {"id": "nothing", "text": "", "images": ["broken.png"]},
        {"id": "empty", "text": ""},
        {"id": "null"}
    ]"#;
    std::fs::write(working.path().join("items.json"), items).unwrap();
    let run = |strict: &[&str]| {
        Program::coordinator(working.path())
            .args(["run", "--items", "items.json", "--images", "images", "--out", "e.npz", "--device", "cpu"])
            .flag("--model", shared.join("reference/model"))
            .args(strict)
            .output()
    };
    let finished = run(&[]).expect(0);
    let arrays = npz::read(&working.path().join("e.npz"));
    assert_eq!(arrays.ids, ["cut", "part", "empty", "null"]);
    assert_eq!(arrays.image_counts, [0, 1, 0, 0]);
    let metadata: Value = serde_json::from_str(&arrays.metadata).unwrap();
    let count = |field: &str| metadata[field].as_u64().unwrap();
    assert_eq!((count("count"), count("failed"), count("partial"), count("text_only")), (4, 1, 1, 1));
    assert!(finished.stdout().contains("cut.jpg is truncated"), "{}", finished.stdout());
    let runs =
        std::fs::read_dir(working.path().join("embed-fleet-store/runs")).unwrap().next().unwrap().unwrap();
    let failed = std::fs::read_to_string(runs.path().join("failed.jsonl")).unwrap();
    let lines: Vec<Value> = failed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let statuses: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["id"].as_str().unwrap(), line["status"].as_str().unwrap())).collect();
    assert_eq!(statuses, [("cut", "text_only"), ("part", "partial"), ("nothing", "failed")]);
    let _ = run(&["--strict"]).expect(4);
}

#[test]
fn a_model_that_lacks_a_file_names_it() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let model = working.path().join("model");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::write(working.path().join("a.json"), r#"[{"id": 1, "text": "a"}]"#).unwrap();
    for name in ["config.json", "model.safetensors", "preprocessor_config.json", "chat_template.jinja"] {
        std::os::unix::fs::symlink(shared.join("reference/model").join(name), model.join(name)).unwrap();
    }
    let finished = Program::coordinator(working.path())
        .args(["run", "--items", "a.json", "--model", "model", "--out", "e.npz", "--device", "cpu"])
        .output()
        .expect(3);
    assert!(finished.stderr().contains("tokenizer.json"), "{}", finished.stderr());

    // A tensor of another shape: the configuration asks for a wider MLP than there is.
    let config = std::fs::read_to_string(shared.join("reference/model/config.json")).unwrap();
    std::os::unix::fs::symlink(shared.join("reference/model/tokenizer.json"), model.join("tokenizer.json"))
        .unwrap();
    std::fs::remove_file(model.join("config.json")).unwrap();
    let wider = config.replace("\"intermediate_size\": 160", "\"intermediate_size\": 161");
    assert_ne!(wider, config);
    std::fs::write(model.join("config.json"), wider).unwrap();
    let finished = Program::coordinator(working.path())
        .args(["run", "--items", "a.json", "--model", "model", "--out", "e.npz", "--device", "cpu"])
        .output()
        .expect(3);
    assert!(finished.stderr().contains("mlp.gate_proj.weight"), "{}", finished.stderr());
    assert!(!working.path().join("embed-fleet-store").exists(), "nothing is written");
}

#[test]
fn usage_mistakes_end_with_two() {
    let working = tempfile::tempdir().unwrap();
    let code = |program: Program| program.output().code();
    assert_eq!(code(Program::coordinator(working.path()).args(["status"])), 2, "no store");
    assert_eq!(code(Program::coordinator(working.path()).args(["nonsense"])), 2);
    let worker = Program::worker(working.path()).args(["--queue", "memory:", "--store", "s", "--run", "r"]);
    let finished = worker.output().expect(2);
    assert!(finished.stderr().contains("memory:"), "{}", finished.stderr());
}

#[test]
fn check_counts_and_names_what_is_missing() {
    let Some(shared) = folder() else { return };
    let working = tempfile::tempdir().unwrap();
    let command = || {
        let program = Program::coordinator(working.path())
            .args(["check", "--items"])
            .args(tests::sample::items(&shared));
        program.flag("--images", shared.join("sample/images")).args(["--by", "subject"])
    };
    let text = command().output().expect(0).stdout();
    assert!(text.contains("missing images: 5") && text.contains("q7_0.jpg"), "{text}");
    let report: Value =
        serde_json::from_str(&command().args(["--json"]).output().expect(0).stdout()).unwrap();
    assert_eq!(report["total"]["items"], 240);
    assert_eq!(report["missing"].as_array().unwrap().len(), 5);
    let by: u64 = report["by"]["subject"]
        .as_object()
        .unwrap()
        .values()
        .map(|counts| counts["items"].as_u64().unwrap())
        .sum();
    assert_eq!(by, 240);
    assert_eq!(std::fs::read_dir(working.path()).unwrap().count(), 0, "check writes nothing");
}
