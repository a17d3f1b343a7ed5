//! A fleet as a person sees it: one row a box, and what all of it costs.

pub mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use shared::ids::RunId;
use shared::queue::{Snapshot, WorkerSnapshot};

use super::label::{BoxId, Label};
use super::money::{self, seconds_between};
use super::state::{End, Fleet, Rental};
use crate::dollars::Dollars;
use crate::provider::InstanceId;

/// One box.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoxView {
    /// Its label.
    pub label: String,
    /// Its own part of that.
    pub id: BoxId,
    /// The place it fills.
    pub slot: u32,
    /// What the market calls it.
    pub instance: Option<InstanceId>,
    /// Its GPU.
    pub gpu: String,
    /// How many of them.
    pub gpus: u32,
    /// Where it stands.
    pub place: String,
    /// `ordered`, a status of the market, `working`, `ending`, `gone` or `refused`.
    pub phase: String,
    /// What an hour costs while it runs.
    pub price: Dollars,
    /// What it has cost by now, by the launcher's own account.
    pub cost: Dollars,
    /// Seconds since it was ordered, to its end.
    pub age_seconds: f64,
    /// Its worker.
    pub worker: Option<String>,
    /// Items it has embedded.
    pub items: u64,
    /// Items a second since its worker was heard first.
    pub items_per_second: Option<f64>,
    /// What 1,000 items cost on it.
    pub per_thousand: Option<Dollars>,
    /// Why it ends or was not rented.
    pub why: Option<String>,
}

/// What boxes of one kind cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuCost {
    /// The GPU.
    pub gpu: String,
    /// Boxes there were.
    pub boxes: u64,
    /// What they cost.
    pub dollars: Dollars,
    /// Items they embedded.
    pub items: u64,
    /// What 1,000 items cost on them.
    pub per_thousand: Option<Dollars>,
    /// Items a second of one GPU, while its worker was there.
    pub items_per_second: Option<f64>,
}

/// What a fleet costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// By the launcher's own account: the market's list, its prices, and the traffic that was to be expected.
    pub so_far: Dollars,
    /// What no bill exceeds by now.
    pub at_most: Dollars,
    /// What the market billed, once the fleet has ended.
    pub billed: Option<Dollars>,
    /// An hour of all boxes.
    pub an_hour: Dollars,
    /// At the end of the run, at today's rate.
    pub projected: Option<Dollars>,
    /// What 1,000 items cost so far.
    pub per_thousand: Option<Dollars>,
    /// The most for the run.
    pub budget: Option<Dollars>,
    /// By GPU.
    pub by_gpu: Vec<GpuCost>,
}

/// A fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetView {
    /// The run.
    pub run: RunId,
    /// Whose it is: host and nonce of the launcher; `None` when it has ended.
    pub launcher: Option<String>,
    /// Why it ended.
    pub ended: Option<String>,
    /// Why workers were told to exit.
    pub draining: Option<String>,
    /// Its boxes: those that may exist first.
    pub boxes: Vec<BoxView>,
    /// What it costs.
    pub cost: Cost,
}

/// What a fleet is seen with.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The queue, where it answers.
    pub snapshot: Option<&'a Snapshot>,
    /// Items by box, from an earlier look, where there was one.
    pub items: Option<&'a BTreeMap<String, u64>>,
    /// Now.
    pub now: Timestamp,
}

/// The fleet as seen.
pub fn view(fleet: &Fleet, seen: Seen<'_>) -> FleetView {
    let mut boxes: Vec<BoxView> = fleet.boxes.values().map(|of| box_view(of, seen)).collect();
    let rank = |of: &BoxView| (matches!(of.phase.as_str(), "gone" | "refused"), of.slot, of.instance);
    boxes.sort_by_key(rank);
    FleetView {
        run: seen.run.clone(),
        launcher: fleet.opened.as_ref().filter(|_| fleet.closed.is_none()).map(|(by, _)| by.clone()),
        ended: fleet.closed.as_ref().map(|(_, closed)| closed.why.clone()),
        draining: fleet.drained.as_ref().map(|(_, why)| why.clone()),
        cost: cost(fleet, &boxes, seen),
        boxes,
    }
}

fn label(run: &RunId, of: &Rental) -> String {
    Label { run: run.clone(), slot: of.intent.slot, id: of.intent.id.clone() }.to_string()
}

fn workers<'a>(seen: Seen<'a>, label: &'a str) -> impl Iterator<Item = &'a WorkerSnapshot> {
    let all = seen.snapshot.map_or(&[][..], |snapshot| &snapshot.workers);
    all.iter().filter(move |worker| worker.info.instance == label)
}

/// Seconds from a box's first word to its end or to now.
fn working_seconds(of: &Rental, now: Timestamp) -> Option<f64> {
    let (ready_at, _) = of.ready.as_ref()?;
    let end = match (of.end, &of.condemned) {
        (_, Some(condemned)) => condemned.at,
        (Some(End::Gone(at)), None) => at,
        _ => now,
    };
    Some(seconds_between(*ready_at, end)).filter(|seconds| *seconds > 0.0)
}

fn box_view(of: &Rental, seen: Seen<'_>) -> BoxView {
    let label = label(seen.run, of);
    let told: u64 = workers(seen, &label).map(|worker| worker.items_done + worker.items_in_flight).sum();
    let known = seen.items.and_then(|items| items.get(&label)).copied().unwrap_or_default();
    let items = told.max(known);
    let cost = money::estimate(of, seen.now);
    let phase = match (of.end, &of.condemned, &of.ready, of.instance) {
        (Some(End::Refused | End::GivenUp), ..) => "refused",
        (Some(End::Gone(_)), ..) => "gone",
        (None, Some(_), ..) => "ending",
        (None, None, _, None) => "ordered",
        (None, None, Some(_), _) if of.status() == crate::provider::InstanceStatus::Running => "working",
        _ => of.status().name(),
    };
    let end = if let Some(End::Gone(at)) = of.end { at } else { seen.now };
    BoxView {
        id: of.intent.id.clone(),
        slot: of.intent.slot,
        instance: of.instance,
        gpu: of.intent.gpu.clone(),
        gpus: of.intent.gpus,
        place: of.intent.place.clone(),
        phase: phase.to_owned(),
        price: of.price(),
        cost,
        age_seconds: seconds_between(of.ordered_at, end),
        worker: of.ready.as_ref().map(|(_, worker)| worker.clone()),
        items,
        items_per_second: working_seconds(of, seen.now).map(|seconds| items as f64 / seconds),
        per_thousand: per_thousand(cost, items),
        why: of.condemned.as_ref().map(|condemned| condemned.why.clone()).or_else(|| of.refusal.clone()),
        label,
    }
}

fn per_thousand(cost: Dollars, items: u64) -> Option<Dollars> {
    (items > 0).then(|| cost * (1000.0 / items as f64))
}

fn cost(fleet: &Fleet, boxes: &[BoxView], seen: Seen<'_>) -> Cost {
    let so_far = money::spent(fleet, seen.now);
    let an_hour = money::rate(fleet);
    let billed = fleet.closed.as_ref().and_then(|(_, closed)| closed.billed);
    let total = billed.unwrap_or(so_far);
    let items: u64 = boxes.iter().map(|of| of.items).sum();
    let projected = seen.snapshot.and_then(|snapshot| {
        let settled = snapshot.items_done + snapshot.items_failed + snapshot.items_in_flight;
        let left = snapshot.items_total.saturating_sub(settled) as f64;
        let live = fleet.live().next().is_some();
        (live && snapshot.items_per_second > 0.0)
            .then(|| so_far + an_hour.an_hour_for(left / snapshot.items_per_second))
    });
    Cost {
        so_far,
        at_most: money::spent_at_most(fleet, seen.now),
        billed,
        an_hour,
        projected,
        per_thousand: per_thousand(total, items),
        budget: fleet.opened.as_ref().and_then(|(_, opened)| opened.budget),
        by_gpu: by_gpu(fleet, boxes, seen.now),
    }
}

fn by_gpu(fleet: &Fleet, boxes: &[BoxView], now: Timestamp) -> Vec<GpuCost> {
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    // Boxes whose items nobody knows any more say nothing of a speed.
    let known = |of: &&Rental| boxes.iter().any(|shown| shown.id == of.intent.id && shown.items > 0);
    for of in fleet.boxes.values().filter(known) {
        let gpus = f64::from(of.intent.gpus);
        *seconds.entry(&of.intent.gpu).or_default() += working_seconds(of, now).unwrap_or(0.0) * gpus;
    }
    let mut kinds: BTreeMap<&str, GpuCost> = BTreeMap::new();
    for of in boxes.iter().filter(|of| of.phase != "refused") {
        let kind = kinds.entry(&of.gpu).or_insert_with(|| GpuCost {
            gpu: of.gpu.clone(),
            boxes: 0,
            dollars: Dollars::ZERO,
            items: 0,
            per_thousand: None,
            items_per_second: None,
        });
        kind.boxes += 1;
        kind.dollars += of.cost;
        kind.items += of.items;
    }
    for (gpu, kind) in &mut kinds {
        kind.per_thousand = per_thousand(kind.dollars, kind.items);
        let worked = seconds.get(gpu).copied().unwrap_or(0.0);
        kind.items_per_second = (worked > 0.0 && kind.items > 0).then(|| kind.items as f64 / worked);
    }
    kinds.into_values().collect()
}
