//! Which offers to take: the cheapest by the item, not by the hour.

use std::collections::BTreeSet;

use shared::plan::Plan;

use super::speeds::Speeds;
use crate::dollars::Dollars;
use crate::provider::{MachineId, Offer};

/// Bytes of a CUDA runtime image as it is pulled, and of a packed worker.
const IMAGE_BYTES: f64 = 1.6e9;

/// How much of a line's speed a download gets.
const LINE_SHARE: f64 = 0.6;

/// An offer with what it would bring.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The offer.
    pub offer: Offer,
    /// Items a second of the whole box.
    pub items_per_second: f64,
    /// Seconds to fetch image, worker and model.
    pub fetch_seconds: f64,
    /// What its traffic costs.
    pub traffic: Dollars,
    /// What 1,000 items cost on it, fetching and traffic included.
    pub per_thousand: Dollars,
}

/// The work that is left, for so many boxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Items that are left.
    pub items: u64,
    /// Boxes that share them.
    pub boxes: u32,
    /// Seconds from the end of fetching to the first item.
    pub start_seconds: f64,
}

/// Offers of machines that may be rented, the cheapest by the item first.
pub fn rank(
    offers: &[Offer],
    plan: &Plan,
    speeds: &Speeds,
    work: Work,
    not: &BTreeSet<MachineId>,
) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = offers
        .iter()
        .filter(|offer| !not.contains(&offer.machine))
        .map(|offer| judge(offer, plan, speeds, work))
        .collect();
    let key = |ranked: &Ranked| (ranked.per_thousand.0, ranked.offer.id);
    ranked.sort_by(|left, right| key(left).partial_cmp(&key(right)).unwrap_or(std::cmp::Ordering::Equal));
    // One box of a machine: what fells one would fell the other.
    let mut seen = BTreeSet::new();
    ranked.retain(|ranked| seen.insert(ranked.offer.machine));
    ranked
}

fn judge(offer: &Offer, plan: &Plan, speeds: &Speeds, work: Work) -> Ranked {
    let items = (work.items as f64 / f64::from(work.boxes.max(1))).max(1.0);
    let share = items / (plan.counts.items as f64).max(1.0);
    let items_per_second = speeds.of(&plan.model, &offer.gpu) * f64::from(offer.gpus);
    let fetched = IMAGE_BYTES + plan.model.bytes() as f64;
    let down = fetched + plan.counts.bundle_bytes as f64 * share;
    let up = items * f64::from(plan.embedding.dim) * 4.0;
    let traffic = offer.download_price * (down / 1e9) + offer.upload_price * (up / 1e9);
    // A provider that names no speed fetches nothing.
    let line = offer.download_speed * 1e6 / 8.0 * LINE_SHARE;
    let fetch_seconds = if line > 0.0 { fetched / line } else { 0.0 };
    let seconds = fetch_seconds + work.start_seconds + items / items_per_second;
    let dollars = offer.price.an_hour_for(seconds) + traffic;
    let per_thousand = dollars * (1000.0 / items);
    Ranked { offer: offer.clone(), items_per_second, fetch_seconds, traffic, per_thousand }
}

/// Seconds until these boxes have embedded the items, and what that costs.
pub fn forecast(chosen: &[Ranked], work: Work) -> Option<(f64, Dollars)> {
    let speed: f64 = chosen.iter().map(|ranked| ranked.items_per_second).sum();
    if speed <= 0.0 {
        return None;
    }
    // Each begins when it has fetched: items done until then by none.
    let lost: f64 = chosen
        .iter()
        .map(|ranked| ranked.items_per_second * (ranked.fetch_seconds + work.start_seconds))
        .sum();
    let seconds = (work.items as f64 + lost) / speed;
    let bill = chosen.iter().map(|ranked| ranked.offer.price.an_hour_for(seconds) + ranked.traffic).sum();
    Some((seconds, bill))
}
