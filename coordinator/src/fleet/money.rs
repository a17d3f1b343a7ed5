//! What boxes cost: an estimate that follows what was seen, and a bound that no bill exceeds.
//!
//! The market bills by the second: the whole price while a box runs (or its machine is out of sight), the disk's
//! alone while it is made, loads or is stopped, and traffic by the gigabyte.

use jiff::Timestamp;

use super::state::{End, Fleet, Rental};
use crate::dollars::Dollars;
use crate::provider::InstanceStatus;

/// Seconds from one moment to another, never negative.
pub fn seconds_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64().max(0.0)
}

/// What a box has cost by now, as its statuses were seen.
pub fn estimate(of: &Rental, now: Timestamp) -> Dollars {
    let end = match of.end {
        Some(End::Refused | End::GivenUp) => return Dollars::ZERO,
        Some(End::Gone(at)) => at,
        None => now,
    };
    let first = of.history.first().map_or(end, |since| since.at);
    let mut sum = of.intent.disk_price.an_hour_for(seconds_between(of.ordered_at, first));
    for (position, since) in of.history.iter().enumerate() {
        let until = of.history.get(position + 1).map_or(end, |next| next.at);
        let price = if since.status.is_paid_in_full() { since.price } else { of.intent.disk_price };
        sum += price.an_hour_for(seconds_between(since.at, until));
    }
    // What comes in comes when a box first runs.
    let ran = of.history.iter().any(|since| since.status == InstanceStatus::Running);
    if ran { sum + of.intent.traffic } else { sum }
}

/// What a box can have cost by now at most, whatever it did unseen: its dearest price from the order to its end, and
/// its traffic.
pub fn bound(of: &Rental, now: Timestamp) -> Dollars {
    let end = match of.end {
        Some(End::Refused) => return Dollars::ZERO,
        // It may have been there for as long as it was waited for.
        Some(End::GivenUp) => return of.intent.traffic,
        Some(End::Gone(at)) => at,
        None => now,
    };
    of.highest_price().an_hour_for(seconds_between(of.ordered_at, end)) + of.intent.traffic
}

/// The estimate of all boxes.
pub fn spent(fleet: &Fleet, now: Timestamp) -> Dollars {
    fleet.boxes.values().map(|of| estimate(of, now)).sum()
}

/// The bound of all boxes.
pub fn spent_at_most(fleet: &Fleet, now: Timestamp) -> Dollars {
    fleet.boxes.values().map(|of| bound(of, now)).sum()
}

/// What an hour costs now at most: every box that may exist runs.
pub fn rate(fleet: &Fleet) -> Dollars {
    fleet.live().map(Rental::highest_price).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fleet::event::{Entry, Event, Intent};
    use crate::fleet::label::BoxId;
    use crate::provider::{InstanceId, MachineId, OfferId};

    /// So many seconds into the test.
    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    pub fn id(number: u32) -> BoxId {
        format!("{number:012x}").parse().unwrap()
    }

    /// An RTX 4090 at 36 cents an hour, disk at 3.6, traffic for ten cents.
    pub fn intent(number: u32, slot: u32) -> Intent {
        Intent {
            id: id(number),
            slot,
            offer: OfferId(u64::from(number)),
            machine: MachineId(1000 + u64::from(number)),
            gpu: "RTX 4090".into(),
            gpus: 1,
            place: "KR".into(),
            price: Dollars(0.36),
            disk_price: Dollars(0.036),
            traffic: Dollars(0.10),
            bid: None,
            fetch_seconds: 100.0,
            until: at(100_000),
            queue_user: None,
        }
    }

    pub fn apply(fleet: &mut Fleet, seconds: i64, event: Event) {
        fleet.apply(&Entry { version: 1, at: at(seconds), by: "test:1".into(), event });
    }

    pub fn status(seconds: i64, number: u32, status: InstanceStatus) -> Event {
        Event::Status { id: id(number), since: at(seconds), status, price: None }
    }

    fn near(amount: Dollars, expected: f64) {
        assert!((amount.0 - expected).abs() < 1e-9, "{amount:?} is not {expected}");
    }

    #[test]
    fn a_box_costs_its_price_only_while_it_runs() {
        let mut fleet = Fleet::default();
        apply(&mut fleet, 0, Event::Intent(intent(1, 0)));
        near(spent(&fleet, at(100)), 0.001);
        near(spent_at_most(&fleet, at(100)), 0.01 + 0.10);
        apply(&mut fleet, 0, Event::Created { id: id(1), instance: InstanceId(7) });
        apply(&mut fleet, 100, status(100, 1, InstanceStatus::Loading));
        apply(&mut fleet, 200, status(200, 1, InstanceStatus::Running));
        apply(&mut fleet, 1200, status(1200, 1, InstanceStatus::Preempted));
        // 200 s of disk, 1000 s of running, 100 s of disk, traffic.
        near(spent(&fleet, at(1300)), 0.002 + 0.10 + 0.001 + 0.10);
        near(spent_at_most(&fleet, at(1300)), 0.13 + 0.10);
        apply(&mut fleet, 1400, Event::Gone { id: id(1), since: at(1400) });
        near(spent(&fleet, at(9000)), 0.002 + 0.10 + 0.002 + 0.10);
        near(spent_at_most(&fleet, at(9000)), 0.14 + 0.10);
        near(rate(&fleet), 0.0);
    }

    #[test]
    fn a_box_that_never_was_costs_nothing() {
        let mut fleet = Fleet::default();
        apply(&mut fleet, 0, Event::Intent(intent(1, 0)));
        apply(&mut fleet, 90, Event::Refused { id: id(1), why: "gone".into(), ban: true });
        near(spent(&fleet, at(9000)), 0.0);
        assert!(fleet.banned.contains(&MachineId(1001)));
    }

    #[test]
    fn a_bid_costs_the_disk_on_top_and_a_price_that_fell_does_not_shrink_the_bound() {
        let mut fleet = Fleet::default();
        apply(&mut fleet, 0, Event::Intent(Intent { bid: Some(Dollars(0.36)), ..intent(1, 0) }));
        near(rate(&fleet), 0.36 + 0.036);
        apply(&mut fleet, 10, Event::Bid { id: id(1), bid: Dollars(0.72) });
        near(rate(&fleet), 0.72 + 0.036);
        let cheaper = Event::Status {
            id: id(1),
            since: at(20),
            status: InstanceStatus::Running,
            price: Some(Dollars(0.10)),
        };
        apply(&mut fleet, 20, cheaper);
        near(spent_at_most(&fleet, at(3600)), 0.756 + 0.10);
    }

    #[test]
    fn a_price_that_the_host_raised_counts_from_then_on() {
        let mut fleet = Fleet::default();
        apply(&mut fleet, 0, Event::Intent(intent(1, 0)));
        apply(&mut fleet, 0, status(0, 1, InstanceStatus::Running));
        let dearer = Event::Status {
            id: id(1),
            since: at(1000),
            status: InstanceStatus::Running,
            price: Some(Dollars(0.72)),
        };
        apply(&mut fleet, 1000, dearer);
        near(spent(&fleet, at(2000)), 0.10 + 0.20 + 0.10);
        near(rate(&fleet), 0.72);
    }
}
