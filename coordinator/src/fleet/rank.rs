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

/// A box that fetches for longer is not worth its money.
const LONGEST_FETCH: f64 = 45.0 * 60.0;

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
    let free = offers.iter().filter(|offer| !not.contains(&offer.machine));
    let judged = free.map(|offer| judge(offer, plan, speeds, work));
    let mut ranked: Vec<Ranked> = judged.filter(|ranked| ranked.fetch_seconds <= LONGEST_FETCH).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::OfferId;
    use shared::plan::{Dtype, EmbeddingSettings, FleetSettings, PlanCounts};

    fn plan() -> Plan {
        let file =
            shared::model::ModelFile { name: "a".into(), size: 16_300_000_000, sha256: "00".repeat(32) };
        Plan {
            version: 1,
            run: "r".parse().unwrap(),
            created_at: String::new(),
            fingerprint: String::new(),
            numerics_version: 1,
            model: shared::model::ModelRecord {
                name: "Qwen/Qwen3-VL-Embedding-8B".into(),
                revision: Some("c".into()),
                digest: String::new(),
                stored: None,
                files: vec![file],
            },
            embedding: EmbeddingSettings {
                dtype: Dtype::Bf16,
                instruction: String::new(),
                min_pixels: 4096,
                max_pixels: 1_843_200,
                max_length: 8192,
                dim: 4096,
                text_template: None,
            },
            fleet: FleetSettings { shard_size: 512, lease_seconds: 60.0 },
            counts: PlanCounts { items: 176_443, bundle_bytes: 2_000_000_000, ..PlanCounts::default() },
            shards_sha256: String::new(),
        }
    }

    fn offer(machine: u64, gpu: &str, price: f64, megabits: f64) -> Offer {
        Offer {
            id: OfferId(machine * 10),
            machine: MachineId(machine),
            gpu: gpu.into(),
            gpus: 1,
            gpu_memory: 24 << 30,
            price: Dollars(price),
            disk_price: Dollars::ZERO,
            download_price: Dollars(0.002),
            upload_price: Dollars(0.002),
            download_speed: megabits,
            reliability: 0.99,
            place: "KR".into(),
        }
    }

    fn work(items: u64) -> Work {
        Work { items, boxes: 4, start_seconds: 180.0 }
    }

    fn machines(offers: &[Offer], items: u64) -> Vec<u64> {
        let speeds = Speeds::read(std::path::Path::new("no such file")).unwrap();
        let ranked = rank(offers, &plan(), &speeds, work(items), &BTreeSet::new());
        ranked.iter().map(|ranked| ranked.offer.machine.0).collect()
    }

    #[test]
    fn the_cheapest_by_the_item_is_not_the_cheapest_by_the_hour() {
        let offers = [offer(1, "RTX 3090", 0.20, 800.0), offer(2, "RTX 4090", 0.35, 800.0)];
        // A 4090 is 2.3 times as fast and costs 1.75 times as much.
        assert_eq!(machines(&offers, 176_443), [2, 1]);
    }

    #[test]
    fn a_slow_line_costs_money_and_a_very_slow_one_is_not_taken() {
        let offers = [
            offer(1, "RTX 4090", 0.35, 100.0),
            offer(2, "RTX 4090", 0.40, 1000.0),
            offer(3, "RTX 4090", 0.10, 20.0),
        ];
        // 17.9 GB at 60 % of 100 Mbit/s: 40 minutes at full price.
        assert_eq!(machines(&offers, 50_000), [2, 1]);
    }

    #[test]
    fn one_box_of_a_machine_and_none_that_failed() {
        let offers = [offer(1, "RTX 4090", 0.35, 800.0), offer(2, "RTX 4090", 0.36, 800.0), {
            let mut second = offer(1, "RTX 4090", 0.37, 800.0);
            second.id = OfferId(99);
            second
        }];
        assert_eq!(machines(&offers, 176_443), [1, 2]);
        let speeds = Speeds::read(std::path::Path::new("no such file")).unwrap();
        let banned = BTreeSet::from([MachineId(1)]);
        let ranked = rank(&offers, &plan(), &speeds, work(176_443), &banned);
        assert_eq!(ranked.iter().map(|ranked| ranked.offer.machine.0).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn the_forecast_counts_fetching() {
        let speeds = Speeds::read(std::path::Path::new("no such file")).unwrap();
        let offers: Vec<Offer> = (1..=4).map(|machine| offer(machine, "RTX 4090", 0.36, 800.0)).collect();
        let ranked = rank(&offers, &plan(), &speeds, work(176_443), &BTreeSet::new());
        let (seconds, bill) = forecast(&ranked, work(176_443)).unwrap();
        let speed = ranked[0].items_per_second;
        let expected = ranked[0].fetch_seconds + 180.0 + 176_443.0 / (4.0 * speed);
        assert!((seconds - expected).abs() < 1e-6, "{seconds} is not {expected}");
        let rent = 4.0 * 0.36 * seconds / 3600.0;
        assert!(bill.0 > rent && bill.0 < rent + 0.5, "{bill}");
        assert_eq!(forecast(&[], work(1)), None);
    }
}
