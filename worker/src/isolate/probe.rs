//! The child's side: loads the model, then works on one range after the other and says what it begins, so
//! that its death can be laid to a step. Vectors are thrown away: the shard is embedded as any other.

use std::io::{BufRead as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

use shared::bundle::Bundle;
use shared::queue::ItemRange;

use super::memory;
use super::protocol::{Said, Task};
use crate::batch::batches;
use crate::device::{DeviceChoice, share_memory};
use crate::embedder::{BatchBudget, EmbedError, Embedder, PreparedItem};
use crate::load;
use crate::pipeline::settle;

/// A change to the embedder that a program makes, for tests with items that kill.
pub type Wrap = fn(Arc<dyn Embedder>) -> Arc<dyn Embedder>;

/// Works for the process at the other end of standard input, and ends with it.
pub fn serve(wrap: Wrap) -> anyhow::Result<()> {
    memory::volunteer();
    let orders = orders();
    let Ok(task) = orders.recv() else { return Ok(()) };
    let task: Task = serde_json::from_str(&task)?;
    let bundle = Bundle::read(std::fs::read(&task.bundle)?.into())?;
    let choice: DeviceChoice = task.device.parse()?;
    let devices: Vec<_> = choice.open_all()?.into_iter().take(1).collect();
    share_memory(&devices, task.gpu_memory)?;
    let device = devices.first().ok_or_else(|| anyhow::anyhow!("no device"))?;
    let embedder = wrap(load::embedder(&task.model.into(), &task.settings, device)?);
    // Where this kills, no item is to blame for what follows.
    load::null_vector(embedder.as_ref())?;
    say(&Said::Ready)?;
    for range in orders {
        let range: ItemRange = serde_json::from_str(&range)?;
        let tried = try_items(embedder.as_ref(), &bundle, range, BatchBudget(task.budget))?;
        say(&match tried {
            Ok(()) => Said::Survived,
            Err(failure) => Said::Failed(failure),
        })?;
    }
    Ok(())
}

/// The lines of standard input. At its end the worker is gone, and this process with it, whatever it is busy
/// with: it would keep a device from whoever comes next.
fn orders() -> mpsc::Receiver<String> {
    let (send, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    orders
}

/// Prepares item by item, then embeds in batches as the pipeline does. Errors and panics of items are not of
/// interest here: a worker that meets them lives and judges them. A device that failed can tell nothing.
fn try_items(
    embedder: &dyn Embedder,
    bundle: &Bundle,
    range: ItemRange,
    budget: BatchBudget,
) -> std::io::Result<Result<(), String>> {
    let (mut items, mut positions) = (Vec::new(), Vec::new());
    for position in range.first..range.end {
        let Some(item) = bundle.items().get(position as usize) else { break };
        say(&Said::Begins(ItemRange { first: position, end: position + 1 }))?;
        let settled = catch_unwind(AssertUnwindSafe(|| settle(embedder, item, bundle).1));
        if let Ok(Some(item)) = settled {
            items.push(item);
            positions.push(position);
        }
    }
    for batch in batches(&items, budget) {
        let (first, last) = (positions[batch.start], positions[batch.end - 1]);
        say(&Said::Begins(ItemRange { first, end: last + 1 }))?;
        match embed(embedder, &items[batch.clone()]) {
            Embedded::Through => {}
            Embedded::Failed(failure) => return Ok(Err(failure)),
            Embedded::NotAsOne => {
                for (item, position) in items[batch.clone()].iter().zip(&positions[batch]) {
                    say(&Said::Begins(ItemRange { first: *position, end: position + 1 }))?;
                    if let Embedded::Failed(failure) = embed(embedder, std::slice::from_ref(item)) {
                        return Ok(Err(failure));
                    }
                }
            }
        }
    }
    Ok(Ok(()))
}

/// What became of a batch.
enum Embedded {
    Through,
    /// Smaller ones may do.
    NotAsOne,
    Failed(String),
}

fn embed(embedder: &dyn Embedder, batch: &[PreparedItem]) -> Embedded {
    match catch_unwind(AssertUnwindSafe(|| embedder.embed(batch))) {
        Ok(Ok(_)) => Embedded::Through,
        Ok(Err(EmbedError::Device(failure))) => Embedded::Failed(failure),
        Ok(Err(_)) | Err(_) => Embedded::NotAsOne,
    }
}

fn say(said: &Said) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(b"\n")?;
    serde_json::to_writer(&mut output, said)?;
    output.write_all(b"\n")?;
    output.flush()
}
