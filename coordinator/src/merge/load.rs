//! The whole part of a shard, every byte checked, and compared with the other parts of the shard.

use std::sync::Arc;

use shared::npz::cosine;
use shared::part::{LEAST_COSINE, PartError, ValidPart, validate_part};

use super::buffers::Buffers;
use super::choose::{Candidate, Choice};
use super::{Disagreement, MergeError, Run};

/// What came of a shard.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The part taken, and the others found damaged, which does no harm.
    Part { part: Box<ValidPart>, damaged: Vec<PartError> },
    /// The part taken is damaged: another must be taken.
    Damaged(PartError),
}

/// Fetches and validates the part taken for a shard, and the others one after the other.
pub(super) async fn load(run: Arc<Run>, choice: Choice, buffers: Buffers) -> Result<Loaded, MergeError> {
    let part = match fetch(&run, choice.position, &choice.taken, &buffers).await? {
        Ok(part) => part,
        Err(error) if error.is_damage() => return Ok(Loaded::Damaged(error)),
        Err(error) => return Err(error.into()),
    };
    let mut damaged = Vec::new();
    let part = Arc::new(part);
    for other in &choice.others {
        match fetch(&run, choice.position, other, &buffers).await? {
            Ok(other) => {
                let (run, part) = (Arc::clone(&run), Arc::clone(&part));
                blocking(move || compare(&run, choice.position, &part, &other)).await??;
            }
            Err(error) if error.is_damage() => damaged.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    let part = Arc::try_unwrap(part).unwrap_or_else(|shared| (*shared).clone());
    Ok(Loaded::Part { part: Box::new(part), damaged })
}

async fn fetch(
    run: &Arc<Run>,
    position: usize,
    candidate: &Candidate,
    buffers: &Buffers,
) -> Result<Result<ValidPart, PartError>, MergeError> {
    let name = candidate.name.part();
    let buffer = run.store.read_into(&run.part_key(&name), buffers.take()).await?;
    let bytes = buffers.lend(buffer);
    let run = Arc::clone(run);
    blocking(move || validate_part(&name, bytes, run.expectation(position))).await
}

/// Runs work that computes for milliseconds where it holds up no other task.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MergeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| MergeError::Thread(error.to_string()))
}

/// Compares the rows that both parts have.
fn compare(run: &Run, position: usize, left: &ValidPart, right: &ValidPart) -> Result<(), MergeError> {
    let first = run.first_index(position);
    let shard = &run.shards()[position];
    for index in first..first + shard.items {
        let (Some(left_row), Some(right_row)) = (left.row_of(index, first), right.row_of(index, first))
        else {
            continue;
        };
        let cosine = cosine(&left.vector(left_row), &right.vector(right_row));
        if cosine < LEAST_COSINE {
            let disagreement = Disagreement {
                what: format!("item {:?} of shard {}", left.id(left_row), shard.id),
                cosine,
                parts: [left.name.part(), right.name.part()],
                devices: [device(left), device(right)],
            };
            return Err(Box::new(disagreement).into());
        }
    }
    Ok(())
}

/// The kind of device that computed a part.
pub(super) fn device(part: &ValidPart) -> String {
    part.metadata.devices.join(", ")
}
