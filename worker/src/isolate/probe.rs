//! The child's side: loads the model, then works on one range after the other and says what it begins, so
//! that its death can be laid to a step. Vectors are thrown away: the shard is embedded as any other.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use shared::bundle::Bundle;
use shared::queue::ItemRange;

use super::memory;
use super::protocol::{Said, Task};
use crate::batch::batches;
use crate::device::{DeviceChoice, share_memory};
use crate::embedder::{BatchBudget, Embedder};
use crate::load;
use crate::pipeline::settle;

/// A change to the embedder that a program makes, for tests with items that kill.
pub type Wrap = fn(Arc<dyn Embedder>) -> Arc<dyn Embedder>;

/// Works for the process at the other end of standard input until that ends.
pub fn serve(wrap: Wrap) -> anyhow::Result<()> {
    memory::volunteer();
    let mut orders = std::io::stdin().lock().lines();
    let Some(task) = orders.next().transpose()? else { return Ok(()) };
    let task: Task = serde_json::from_str(&task)?;
    let bundle = Bundle::read(std::fs::read(&task.bundle)?.into())?;
    let choice: DeviceChoice = task.device.parse()?;
    let devices: Vec<_> = choice.open_all()?.into_iter().take(1).collect();
    share_memory(&devices, task.gpu_memory)?;
    let device = devices.first().ok_or_else(|| anyhow::anyhow!("no device"))?;
    let embedder = wrap(load::embedder(&task.model.into(), &task.settings, device)?);
    say(Said::Ready)?;
    for range in orders {
        let range: ItemRange = serde_json::from_str(&range?)?;
        try_items(embedder.as_ref(), &bundle, range, BatchBudget(task.budget))?;
        say(Said::Survived)?;
    }
    Ok(())
}

/// Prepares item by item, then embeds in batches as the pipeline does. Errors are not of interest here: a
/// worker that meets them lives and judges them.
fn try_items(
    embedder: &dyn Embedder,
    bundle: &Bundle,
    range: ItemRange,
    budget: BatchBudget,
) -> std::io::Result<()> {
    let (mut items, mut positions) = (Vec::new(), Vec::new());
    for position in range.first..range.end {
        let Some(item) = bundle.items().get(position as usize) else { break };
        say(Said::Begins(ItemRange { first: position, end: position + 1 }))?;
        if let Some(item) = settle(embedder, item, bundle).1 {
            items.push(item);
            positions.push(position);
        }
    }
    for batch in batches(&items, budget) {
        let (first, last) = (positions[batch.start], positions[batch.end - 1]);
        say(Said::Begins(ItemRange { first, end: last + 1 }))?;
        if embedder.embed(&items[batch.clone()]).is_err() {
            // As a worker does that halves a batch: one by one.
            for (item, position) in items[batch.clone()].iter().zip(&positions[batch]) {
                say(Said::Begins(ItemRange { first: *position, end: position + 1 }))?;
                let _ = embedder.embed(std::slice::from_ref(item));
            }
        }
    }
    Ok(())
}

fn say(said: Said) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, &said)?;
    output.write_all(b"\n")?;
    output.flush()
}
