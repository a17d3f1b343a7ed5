//! Whether the items of rows that equal the vector of an empty item are empty.
//!
//! An item is empty when it names no image and has no text: `null`, since `""` is an empty turn
//! with a vector of its own. The bundle of its shard says so.

use shared::bundle::BundleItem;
use shared::store::{StoreError, layout};

use super::error::VerifyError;
use super::plan::Absent;
use super::report::{Check, Rows, VerifyReport};
use crate::merge::Run;

/// Bytes of a tar header.
const HEADER: u64 = 512;

/// Reports rows of `null` (ascending) whose items are not empty. `first_rows` are the first rows of
/// the shards, with the number of rows at the end; `absent` is the list of failed items from its
/// start.
pub(super) async fn check_empty_items(
    run: &Run,
    null: &[u64],
    first_rows: &[u64],
    mut absent: Absent,
    report: &mut VerifyReport,
) -> Result<(), VerifyError> {
    let mut full = Rows::default();
    let mut unknown = Rows::default();
    let mut rest = null;
    for (position, bounds) in first_rows.windows(2).enumerate() {
        let here = rest.partition_point(|row| *row < bounds[1]);
        let (rows, later) = rest.split_at(here);
        rest = later;
        if rows.is_empty() {
            continue;
        }
        let (first, items) = (run.first_index(position), run.shards()[position].items);
        let (back, failed) = failed_indexes(absent, first, items).await?;
        absent = back;
        match read_items(run, position).await? {
            None => rows.iter().for_each(|row| unknown.push(*row)),
            Some(items) => {
                let embedded: Vec<&BundleItem> =
                    items.iter().filter(|item| failed.binary_search(&item.index).is_err()).collect();
                let empty = |row: u64| {
                    let item = embedded.get((row - bounds[0]) as usize);
                    item.is_some_and(|item| {
                        item.text.is_none() && item.images.is_empty() && item.missing.is_empty()
                    })
                };
                rows.iter().filter(|row| !empty(**row)).for_each(|row| full.push(*row));
            }
        }
    }
    if full.count > 0 {
        report.wrong(
            Check::Null,
            "rows equal the vector of an empty item, and their items are not empty",
            full,
        );
    }
    if unknown.count > 0 {
        let what = "rows equal the vector of an empty item, and the bundles that would tell whether theirs are cannot be read";
        report.wrong(Check::Null, what, unknown);
    }
    Ok(())
}

/// The list's stream blocks, so that it is read where that holds up no other task.
async fn failed_indexes(
    mut absent: Absent,
    first: u64,
    items: u64,
) -> Result<(Absent, Vec<u64>), VerifyError> {
    let read = move || absent.failed_indexes(first, items).map(|indexes| (absent, indexes));
    let joined =
        tokio::task::spawn_blocking(read).await.map_err(|error| VerifyError::Thread(error.to_string()))?;
    joined.map_err(|source| VerifyError::Read { name: "failed.jsonl".to_owned(), source })
}

/// The items of a shard from the head of its bundle; `None` where the bundle is gone or not one.
async fn read_items(run: &Run, position: usize) -> Result<Option<Vec<BundleItem>>, StoreError> {
    let shard = &run.shards()[position];
    let Ok(name) = shard.content_name() else {
        return Ok(None);
    };
    let key = layout::bundle_key(&run.plan.run, &name);
    let size = run.store.size(&key).await?.unwrap_or(0);
    if size <= HEADER {
        return Ok(None);
    }
    let header = run.store.get_range(&key, 0..HEADER).await?;
    let length =
        header.get(124..135).and_then(|octal| u64::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok());
    let Some(length) =
        length.filter(|length| header.starts_with(b"items.jsonl\0") && HEADER + length <= size)
    else {
        return Ok(None);
    };
    if length == 0 {
        return Ok(Some(Vec::new()));
    }
    let text = run.store.get_range(&key, HEADER..HEADER + length).await?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(|line| serde_json::from_slice(line).ok()).collect())
}
