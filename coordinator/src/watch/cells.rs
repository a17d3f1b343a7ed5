//! The shards of a run as a few hundred cells: one a shard in a small run, a range of shards each in a large one.
//!
//! Leases, and shards that failed, are the queue's word of this moment. Which shards are done is known from the names in
//! `parts/` ([`super::done`]); all others are pending, or among the failed ones that the queue only counts
//! ([`super::unnamed_failures`]).

use serde::ser::{Serialize, SerializeTuple as _, Serializer};
use shared::queue::ShardState;

use crate::merge::Run;
use crate::status::Status;

/// The most cells.
pub const MOST_CELLS: usize = 400;

/// A range of shards: how many of them stand in each state; the rest is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// With a part.
    pub done: u32,
    /// Held by a worker.
    pub leased: u32,
    /// Waiting for a backoff.
    pub delayed: u32,
    /// Given up.
    pub dead: u32,
}

/// As `[done, leased, delayed, dead]`: there are hundreds of them in every message.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(4)?;
        for count in [self.done, self.leased, self.delayed, self.dead] {
            tuple.serialize_element(&count)?;
        }
        tuple.end()
    }
}

/// The shards of a run in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Cells {
    /// Shards of the run.
    pub shards: usize,
    /// Shards in each cell but perhaps the last.
    pub per_cell: usize,
    /// The cells.
    pub cells: Vec<Cell>,
}

/// What a shard is counted as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Done,
    Leased,
    Delayed,
    Dead,
}

/// The shards of a run: `done` says of each position whether a part was listed for it. The queue knows better of
/// shards that it holds to be leased, delayed or dead.
pub fn cells(run: &Run, done: &[bool], status: &Status) -> Cells {
    let shards = run.shards().len();
    let per_cell = shards.div_ceil(MOST_CELLS).max(1);
    let mut cells = vec![Cell::default(); shards.div_ceil(per_cell)];
    let all_done = status.shards.done == shards as u64;
    let mut marks: Vec<Option<Mark>> = (0..shards)
        .map(|position| (all_done || done.get(position) == Some(&true)).then_some(Mark::Done))
        .collect();
    let failures = status.failures.iter().filter_map(|failure| match failure.state {
        ShardState::Dead => Some((failure.shard, Mark::Dead)),
        ShardState::Delayed => Some((failure.shard, Mark::Delayed)),
        ShardState::Pending | ShardState::Leased | ShardState::Done => None,
    });
    let leases = status.leases.iter().map(|lease| (lease.shard, Mark::Leased));
    for (shard, mark) in leases.chain(failures) {
        if let Some(position) = run.position(shard) {
            marks[position] = Some(mark);
        }
    }
    for (position, mark) in marks.into_iter().enumerate() {
        let cell = &mut cells[position / per_cell];
        match mark {
            Some(Mark::Done) => cell.done += 1,
            Some(Mark::Leased) => cell.leased += 1,
            Some(Mark::Delayed) => cell.delayed += 1,
            Some(Mark::Dead) => cell.dead += 1,
            None => {}
        }
    }
    Cells { shards, per_cell, cells }
}

#[cfg(test)]
mod tests {
    use shared::ids::ShardId;
    use shared::queue::ShardCounts;

    use super::*;
    use crate::status::sample;

    #[test]
    fn the_queue_knows_better_than_the_listing() {
        let run = sample::run(4);
        let mut status = sample::status();
        status.shards = ShardCounts { done: 1, leased: 1, pending: 1, dead: 1, delayed: 0 };
        status.leases.truncate(1);
        status.leases[0].shard = ShardId(1);
        status.failures.truncate(1);
        (status.failures[0].shard, status.failures[0].state) = (ShardId(3), ShardState::Dead);
        let seen = cells(&run, &[true, true, false, false], &status);
        let cell = |done, leased, delayed, dead| Cell { done, leased, delayed, dead };
        assert_eq!(seen.cells, [cell(1, 0, 0, 0), cell(0, 1, 0, 0), cell(0, 0, 0, 0), cell(0, 0, 0, 1)]);
        assert_eq!(serde_json::to_string(&seen.cells[1]).unwrap(), "[0,1,0,0]");
    }

    #[test]
    fn many_shards_share_cells() {
        let run = sample::run(1_003);
        let status = Status { leases: Vec::new(), failures: Vec::new(), ..sample::status() };
        let seen = cells(&run, &vec![true; 1_003], &status);
        assert_eq!((seen.per_cell, seen.cells.len()), (3, 335));
        assert_eq!(seen.cells.iter().map(|cell| cell.done).sum::<u32>(), 1_003);
        assert_eq!(seen.cells.last().unwrap().done, 1, "the last cell is what is left");
    }

    #[test]
    fn a_finished_run_needs_no_listing() {
        let run = sample::run(3);
        let mut status = Status { leases: Vec::new(), failures: Vec::new(), ..sample::status() };
        status.shards = ShardCounts { done: 3, ..ShardCounts::default() };
        assert!(cells(&run, &[], &status).cells.iter().all(|cell| cell.done == 1));
    }
}
