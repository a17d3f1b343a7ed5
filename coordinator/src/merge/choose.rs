//! Which part of each shard is taken ([`shared::laws::Law::ObjectsAreImmutable`]).
//!
//! `parts/` is listed once. Of each part the end is read, which holds its counts. Of several valid
//! parts of a shard the one with the fewest failed items is taken, then the smallest name.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _};
use shared::digest::Hasher;
use shared::ids::ContentName;
use shared::npz::{Tail, tail_size};
use shared::part::{PartError, PartErrorKind, PartSummary, validate_tail};
use shared::store::layout;

use super::error::MissingShard;
use super::{MergeError, Run};

/// Ends of parts read at the same time.
const TAILS_IN_FLIGHT: usize = 16;

/// A part whose end is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) name: ContentName,
    pub(super) size: u64,
    pub(super) rows: u64,
    pub(super) failed: u64,
    pub(super) id_width: u64,
}

/// The part taken for a shard, and the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// The shard's position in the plan.
    pub(super) position: usize,
    pub(super) taken: Candidate,
    pub(super) others: Vec<Candidate>,
}

/// Parts found damaged: name and how.
pub(super) type Damaged = HashMap<String, String>;

/// All valid ends, grouped by shard and in order of preference.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    by_shard: Vec<(usize, Vec<Candidate>)>,
    pub(super) damaged: Damaged,
}

/// What is merged.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) taken: Vec<Choice>,
    pub(super) missing: Vec<MissingShard>,
}

/// Lists the parts and reads their ends. Foreign files and parts of other runs are refused by name,
/// all of them at once.
pub(super) async fn find_candidates(run: &Run) -> Result<Candidates, MergeError> {
    let mut foreign = Vec::new();
    let listed = list(run, &mut foreign).await?;
    let mut candidates = Candidates::default();
    let mut tails =
        futures::stream::iter(listed)
            .map(|(position, name, size)| async move {
                (position, size, read_tail(run, position, &name, size).await)
            })
            .buffered(TAILS_IN_FLIGHT);
    while let Some((position, size, read)) = tails.next().await {
        match read? {
            Ok(summary) => candidates.add(position, size, &summary),
            Err(error) if error.is_damage() => {
                candidates.damaged.insert(error.name.clone(), error.to_string());
            }
            Err(error)
                if matches!(error.kind, PartErrorKind::OtherRun { .. } | PartErrorKind::Foreign(_)) =>
            {
                foreign.push(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    if foreign.is_empty() {
        candidates.sort();
        return Ok(candidates);
    }
    foreign.sort();
    Err(MergeError::Foreign { parts: foreign })
}

async fn list(run: &Run, foreign: &mut Vec<String>) -> Result<Vec<(usize, String, u64)>, MergeError> {
    let folder = layout::parts_folder(&run.plan.run);
    let mut entries = run.store.list(&folder);
    let mut listed = Vec::new();
    while let Some(entry) = entries.try_next().await? {
        let directly = entry.key == format!("{folder}/{}", entry.name);
        let position = ContentName::parse_part(&entry.name).ok().and_then(|name| run.position(name.shard));
        match position.filter(|_| directly) {
            Some(position) => listed.push((position, entry.name, entry.size)),
            None => foreign.push(format!(
                "{} is no part of a shard of this run; move it away",
                run.store.url_of(&entry.key)
            )),
        }
    }
    listed.sort();
    Ok(listed)
}

/// Reads as much of a part's end as validating it takes: one read for most, more where many items
/// failed.
pub(crate) async fn read_tail(
    run: &Run,
    position: usize,
    name: &str,
    size: u64,
) -> Result<Result<PartSummary, PartError>, MergeError> {
    let expectation = run.expectation(position);
    let mut length = tail_size(run.plan.embedding.dim);
    loop {
        let range = size.saturating_sub(length)..size;
        let bytes = run.store.get_range(&run.part_key(name), range).await?;
        match validate_tail(name, size, &bytes, expectation) {
            Ok(Tail::Complete(summary)) => return Ok(Ok(summary)),
            // The answer is never more than the file, which the next read holds whole.
            Ok(Tail::NeedMore(wanted)) => length = wanted.max(length.saturating_mul(2)),
            Err(error) => return Ok(Err(error)),
        }
    }
}

impl Candidates {
    fn add(&mut self, position: usize, size: u64, summary: &PartSummary) {
        let candidate = Candidate {
            name: summary.name.clone(),
            size,
            rows: summary.metadata.count,
            failed: summary.metadata.failed,
            id_width: summary.id_width,
        };
        match self.by_shard.last_mut() {
            Some((last, group)) if *last == position => group.push(candidate),
            _ => self.by_shard.push((position, vec![candidate])),
        }
    }

    fn sort(&mut self) {
        for (_, group) in &mut self.by_shard {
            group.sort_by(|left, right| (left.failed, &left.name).cmp(&(right.failed, &right.name)));
        }
    }

    /// Takes a part for each shard, leaving out those found damaged.
    pub(super) fn choose(&self, run: &Run) -> Choices {
        let mut choices = Choices::default();
        let mut groups = self.by_shard.iter().peekable();
        for (position, shard) in run.shards().iter().enumerate() {
            let group = groups.next_if(|(of, _)| *of == position).map_or(&[][..], |(_, group)| group);
            let mut sound =
                group.iter().filter(|part| !self.damaged.contains_key(&part.name.part())).cloned();
            match sound.next() {
                Some(taken) => choices.taken.push(Choice { position, taken, others: sound.collect() }),
                None => choices.missing.push(MissingShard {
                    shard: shard.id,
                    first_index: run.first_index(position),
                    items: shard.items,
                    damaged: self.damaged_of(shard.id),
                }),
            }
        }
        choices
    }

    fn damaged_of(&self, shard: shared::ids::ShardId) -> Vec<String> {
        let of_shard = |name: &str| ContentName::parse_part(name).is_ok_and(|name| name.shard == shard);
        let mut damaged: Vec<String> =
            self.damaged.iter().filter(|(name, _)| of_shard(name)).map(|(_, how)| how.clone()).collect();
        damaged.sort();
        damaged
    }
}

impl Choices {
    /// sha256 over the names taken, each followed by a newline, in shard order.
    pub(super) fn parts_sha256(&self) -> String {
        let mut hasher = Hasher::new();
        for choice in &self.taken {
            hasher.update(choice.taken.name.part().as_bytes());
            hasher.update(b"\n");
        }
        hasher.finish_hex()
    }

    pub(super) fn rows(&self) -> u64 {
        self.taken.iter().map(|choice| choice.taken.rows).sum()
    }

    pub(super) fn id_width(&self) -> u64 {
        self.taken.iter().map(|choice| choice.taken.id_width).max().unwrap_or(1)
    }
}
