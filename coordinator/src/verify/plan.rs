//! Ids, order and counts against the plan.
//!
//! The plan knows the digest of each shard's ids. The file holds the ids of its rows; those of failed
//! items are in `failed.jsonl`, which `merge` writes with the file. Both run along the shards
//! together, in memory of one line.

use std::io::{self, BufRead, BufReader, Read};
use std::iter::Peekable;

use shared::digest::Hasher;

use super::report::{Check, Rows, Severity, VerifyReport};
use crate::merge::{FailedLine, ItemStatus, Run};

/// The most bytes of a line of `failed.jsonl`: an item with hundreds of dropped images.
const MAX_LINE: u64 = 16 << 20;

/// The lines of `failed.jsonl` that speak of items without a row.
pub(super) struct Absent {
    lines: Peekable<Lines>,
}

struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
}

impl Iterator for Lines {
    type Item = io::Result<FailedLine>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut self.line) {
                Err(error) => return Some(Err(error)),
                Ok(0) => return None,
                Ok(_) => {}
            }
            let parsed: Result<FailedLine, _> = serde_json::from_slice(&self.line);
            match parsed {
                Ok(line) if matches!(line.status, ItemStatus::Partial | ItemStatus::TextOnly) => {}
                Ok(line) => return Some(Ok(line)),
                Err(error) => {
                    return Some(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("failed.jsonl: {error}"),
                    )));
                }
            }
        }
    }
}

impl Absent {
    /// Reads the lines of a stream; of none where there is no list.
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { lines: Lines { reader: BufReader::new(reader), line: Vec::new() }.peekable() }
    }

    /// The line that speaks of `index`. Lines before it speak of no item of the plan and are passed.
    fn take(&mut self, index: u64) -> io::Result<Option<FailedLine>> {
        loop {
            let due = self.lines.next_if(|line| line.as_ref().map_or(true, |line| line.index <= index));
            match due {
                None => return Ok(None),
                Some(line) => {
                    let line = line?;
                    if line.index == index {
                        return Ok(Some(line));
                    }
                }
            }
        }
    }

    /// The failed items of a shard, all shards before it having been asked for.
    pub(super) fn failed_indexes(&mut self, first: u64, items: u64) -> io::Result<Vec<u64>> {
        let mut indexes = Vec::new();
        for index in first..first.saturating_add(items) {
            if self.take(index)?.is_some() {
                indexes.push(index);
            }
        }
        Ok(indexes)
    }
}

/// Takes the ids of the rows in order and compares them shard by shard.
pub(super) struct PlanCheck<'a> {
    run: &'a Run,
    absent: Absent,
    position: usize,
    index: u64,
    row: u64,
    hasher: Hasher,
    different: Rows,
    shards_different: Vec<String>,
    missing: Vec<String>,
    failed: u64,
    extra: Rows,
    /// The first row of each shard.
    first_rows: Vec<u64>,
}

impl<'a> PlanCheck<'a> {
    pub(super) fn new(run: &'a Run, absent: Absent) -> Self {
        Self {
            run,
            absent,
            position: 0,
            index: 0,
            row: 0,
            hasher: Hasher::new(),
            different: Rows::default(),
            shards_different: Vec::new(),
            missing: Vec::new(),
            failed: 0,
            extra: Rows::default(),
            first_rows: vec![0],
        }
    }

    /// The id of the next row.
    pub(super) fn id(&mut self, id: &str) -> io::Result<()> {
        self.pass_absent()?;
        if self.position == self.run.shards().len() {
            self.extra.push(self.row);
            self.row += 1;
            return Ok(());
        }
        self.hash(id);
        self.index += 1;
        self.row += 1;
        self.end_shard_if_full();
        Ok(())
    }

    /// Reports what was found. Returns the first row of each shard.
    pub(super) fn finish(mut self, failed: u64, report: &mut VerifyReport) -> io::Result<Vec<u64>> {
        self.pass_absent()?;
        if !self.shards_different.is_empty() {
            let shards = shortened(&self.shards_different);
            report.wrong(
                Check::Plan,
                format!("ids are not those of the plan, in its order, in shards {shards}"),
                self.different,
            );
        }
        if self.extra.count > 0 {
            report.wrong(Check::Plan, "there are more rows than the plan has items", self.extra);
        }
        if self.position < self.run.shards().len() {
            let items = self.run.plan.counts.items - self.index;
            let what =
                format!("the last {items} items of the plan have neither a row nor a reason in failed.jsonl");
            report.wrong(Check::Plan, what, Rows::default());
        }
        if self.failed != failed {
            let what = format!(
                "failed.jsonl lists {} failed items, the metadata counts {failed}; merge again, which writes both",
                self.failed
            );
            report.wrong(Check::Plan, what, Rows::default());
        }
        if !self.missing.is_empty() {
            let what = format!(
                "{} of {} shards are missing, as merge --partial left them: {}",
                self.missing.len(),
                self.run.shards().len(),
                shortened(&self.missing)
            );
            report.add(Severity::Incomplete, Check::Plan, what, Rows::default());
        }
        Ok(self.first_rows)
    }

    /// Passes the items that have no row.
    fn pass_absent(&mut self) -> io::Result<()> {
        while let Some(shard) = self.run.shards().get(self.position) {
            if shard.items == 0 {
                self.end_shard_if_full();
                continue;
            }
            let Some(line) = self.absent.take(self.index)? else {
                break;
            };
            let first = self.run.first_index(self.position);
            if line.status == ItemStatus::Missing && self.index == first {
                self.missing.push(shard.id.to_string());
                self.index = first + shard.items;
                self.next_shard();
                continue;
            }
            self.failed += 1;
            self.hash(line.id.as_deref().unwrap_or_default());
            self.index += 1;
            self.end_shard_if_full();
        }
        Ok(())
    }

    fn hash(&mut self, id: &str) {
        self.hasher.update(id.as_bytes());
        self.hasher.update(b"\n");
    }

    fn end_shard_if_full(&mut self) {
        let Some(shard) = self.run.shards().get(self.position) else {
            return;
        };
        if self.index < self.run.first_index(self.position) + shard.items {
            return;
        }
        let digest = std::mem::take(&mut self.hasher).finish_hex();
        if digest != shard.ids_sha256 {
            self.shards_different.push(shard.id.to_string());
            let first = self.first_rows.last().copied().unwrap_or_default();
            if self.row > first {
                self.different.push_range(first, self.row - 1);
            }
        }
        self.next_shard();
    }

    fn next_shard(&mut self) {
        self.position += 1;
        self.first_rows.push(self.row);
    }
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 20 { format!("{shown} and {} more", names.len() - 20) } else { shown }
}
