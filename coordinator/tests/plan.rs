//! What a second plan of the same run is told.

#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;

use coordinator::check::Input;
use coordinator::plan::{Balance, PlanRequest, plan};
use shared::exit::ExitCode;
use shared::items::FieldMapping;
use shared::model::ModelRecord;
use shared::plan::{Dtype, FleetSettings};
use shared::settings::EmbeddingChoices;
use shared::store::Store;

/// Forty items, the first ten of them long, and each with an image that is none.
fn request(folder: &Path, balance: Balance) -> PlanRequest {
    let images = folder.join("images");
    std::fs::create_dir_all(&images).unwrap();
    let mut items = String::new();
    for item in 0..40 {
        let text = "가나다 ".repeat(if item < 10 { 400 } else { 1 });
        items += &format!("{{\"id\": {item}, \"text\": \"{text}\", \"images\": [\"{item}.png\"]}}\n");
        std::fs::write(images.join(format!("{item}.png")), item.to_string()).unwrap();
    }
    std::fs::write(folder.join("items.jsonl"), items).unwrap();
    PlanRequest {
        input: Input::new(vec![folder.join("items.jsonl")], FieldMapping::default(), vec![images]),
        run: Some("exam".parse().unwrap()),
        model: ModelRecord::hash(64),
        embedding: EmbeddingChoices::default().resolve(Dtype::F32, 64).unwrap(),
        fleet: FleetSettings { shard_size: 8, lease_seconds: 60.0 },
        balance,
    }
}

#[tokio::test]
async fn a_plan_with_another_cut_is_told_what_differs_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::memory();
    assert!(plan(&store, request(folder.path(), Balance::Count), |_| {}).await.unwrap().new);
    let error = plan(&store, request(folder.path(), Balance::Cost), |_| {}).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Input);
    let message = error.to_string();
    assert!(message.contains("the most items of a shard was 8 and is"), "{message}");
    assert!(message.contains("where the shards are cut (--shard-size, --balance)"), "{message}");
    assert!(!message.contains("the number of items"), "{message}");
}
