//! Items of several files, parsed on all cores and taken in order.
//!
//! One thread reads, hashes and cuts, the others parse. Memory: a few batches a core ([`crate::laws::Law::MemoryIsBounded`]).

use std::path::PathBuf;

use super::error::InputError;
use super::mapping::FieldMapping;
use super::read::{Cutter, ReadItem, Spot, read_item};
use crate::cores::{cores, in_turns};

/// Bytes of items in a batch; a larger item is a batch by itself.
const BATCH: usize = 1 << 18;

/// Items on their way to be parsed.
#[derive(Default)]
struct Batch {
    first_index: u64,
    bytes: Vec<u8>,
    /// Where each item stands, and where its bytes end.
    items: Vec<(Spot, usize)>,
    /// Why there is no batch after this one, where that is no end.
    error: Option<InputError>,
}

/// Items that were parsed, and why there are no more of them.
struct Parsed<T> {
    items: Vec<T>,
    error: Option<InputError>,
}

/// Reads all items. `prepare` is called on any thread, in any order; `take` on this one and in input order,
/// and ends the reading by `false`. Answers with the SHA-256 of each file that was read to its end. The first
/// mistake in input order is the error, once all items before it were taken.
pub fn read_items<T: Send>(
    files: &[PathBuf],
    mapping: &FieldMapping,
    prepare: impl Fn(ReadItem) -> T + Sync,
    mut take: impl FnMut(T) -> bool,
) -> Result<Vec<String>, InputError> {
    let mut mistake = None;
    let digests = in_turns(
        cores(),
        |give| cut(files, give),
        |batch| parse_batch(batch, files, mapping, &prepare),
        |parsed| {
            let goes_on = parsed.items.into_iter().all(&mut take);
            mistake = parsed.error.filter(|_| goes_on);
            goes_on && mistake.is_none()
        },
    );
    mistake.map_or(Ok(digests), Err)
}

/// Gives one batch after the other, until the end, an error, or nobody takes them.
fn cut(files: &[PathBuf], give: &mut dyn FnMut(Batch) -> bool) -> Vec<String> {
    let mut cutter = Cutter::new(files);
    let mut first_index = 0;
    loop {
        let batch = next_batch(&mut cutter, first_index);
        first_index += batch.items.len() as u64;
        let is_last = batch.items.is_empty() || batch.error.is_some();
        if !give(batch) || is_last {
            return cutter.into_digests();
        }
    }
}

fn next_batch(cutter: &mut Cutter<'_>, first_index: u64) -> Batch {
    let mut batch = Batch { first_index, ..Batch::default() };
    while batch.bytes.len() < BATCH {
        match cutter.next_into(&mut batch.bytes) {
            Ok(Some(spot)) => batch.items.push((spot, batch.bytes.len())),
            Ok(None) => break,
            Err(error) => {
                batch.error = Some(error);
                break;
            }
        }
    }
    batch
}

fn parse_batch<T>(
    batch: Batch,
    files: &[PathBuf],
    mapping: &FieldMapping,
    prepare: &impl Fn(ReadItem) -> T,
) -> Parsed<T> {
    let mut items = Vec::with_capacity(batch.items.len());
    let mut start = 0;
    for (index, (spot, end)) in (batch.first_index..).zip(batch.items) {
        match read_item(&batch.bytes[start..end], spot, index, files, mapping) {
            Ok(item) => items.push(prepare(item)),
            Err(error) => return Parsed { items, error: Some(error) },
        }
        start = end;
    }
    Parsed { items, error: batch.error }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::items::ItemReader;

    /// Three files of many batches, the last of them ending as told.
    fn files(folder: &std::path::Path, end: &str) -> Vec<PathBuf> {
        let mut index = 0;
        ["a.json", "b.json", "c.json"]
            .map(|name| {
                let mut text = "[".to_owned();
                for _ in 0..3000 {
                    let filler = "글자 ".repeat(index as usize % 90);
                    let _ = writeln!(text, "{{\"id\": {index}, \"text\": \"{filler}\"}},");
                    index += 1;
                }
                text += if name == "c.json" { end } else { "{\"id\": \"last of " };
                if name != "c.json" {
                    text += &format!("{name}\"}}]");
                }
                let path = folder.join(name);
                std::fs::write(&path, text).unwrap();
                path
            })
            .to_vec()
    }

    fn sequential(files: &[PathBuf]) -> (Vec<ReadItem>, Result<Vec<String>, String>) {
        let mapping = FieldMapping::default();
        let mut reader = ItemReader::new(files, &mapping);
        let mut items = Vec::new();
        loop {
            match reader.next_item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return (items, Ok(reader.digests().to_vec())),
                Err(error) => return (items, Err(error.to_string())),
            }
        }
    }

    #[test]
    fn items_errors_and_digests_are_those_of_one_thread() {
        let folder = tempfile::tempdir().unwrap();
        for end in ["{\"id\": 0}]", "{\"id\": {}}]", "{\"id\": 1} {", "", "{\"id\": 7}] x"] {
            let files = files(folder.path(), end);
            let mut items = Vec::new();
            let read = read_items(
                &files,
                &FieldMapping::default(),
                |item| item,
                |item| {
                    items.push(item);
                    true
                },
            );
            assert_eq!((items, read.map_err(|error| error.to_string())), sequential(&files), "{end}");
        }
    }

    #[test]
    fn whoever_has_enough_is_given_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), "{\"id\": 0}]");
        let mut taken = 0;
        let read = read_items(
            &files,
            &FieldMapping::default(),
            |item| item.index,
            |index| {
                assert_eq!(index, taken);
                taken += 1;
                taken < 10
            },
        );
        assert_eq!((taken, read.is_ok()), (10, true));
    }
}
