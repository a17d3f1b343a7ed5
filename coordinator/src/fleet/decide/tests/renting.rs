//! When boxes are rented, and when not.

use super::*;

#[test]
fn a_place_without_a_box_gets_one() {
    assert_eq!(rented(&Story::new().at(1)), [0, 1]);
    let mut story = Story::new().with_box(2, &[(10, InstanceStatus::Loading)]);
    assert_eq!(rented(&story.at(20)), [0]);
}

#[test]
fn no_more_boxes_than_open_shards() {
    let mut story = Story::new();
    story.snapshot().shards = ShardCounts { pending: 1, done: 9, ..ShardCounts::default() };
    assert_eq!(rented(&story.at(1)), [0]);
}

#[test]
fn boxes_that_all_fail_are_not_replaced_without_end() {
    let mut story = Story::new();
    story.rules.launches_an_hour = 4;
    for number in 1..=3 {
        apply(&mut story.fleet, 10, Event::Intent(intent(number, 0)));
        apply(&mut story.fleet, 20, Event::Refused { id: id(number), why: "bad".into(), ban: true });
    }
    let actions = story.at(30);
    assert_eq!(rented(&actions), [0], "one of four is left");
    assert!(said(&actions)[0].contains("within an hour"), "{actions:?}");
    assert_eq!(rented(&story.at(3700)), [0, 1], "an hour later they do not count any more");
}

#[test]
fn a_box_that_would_be_ready_after_the_end_is_not_rented() {
    let mut story = Story::new().with_worker(1, 10);
    story.snapshot().items_done = 99_000;
    story.snapshot().items_per_second = 10.0;
    // 100 s are left; fetching and starting takes 280.
    let actions = story.at(500);
    assert!(rented(&actions).is_empty());
    assert!(said(&actions)[0].contains("would not be ready sooner"), "{actions:?}");
    story.snapshot().items_per_second = 1.0;
    assert_eq!(rented(&story.at(500)), [1]);
    // Nobody works any more: whatever is left needs a box.
    let mut story = Story::new();
    story.snapshot().items_done = 99_999;
    story.snapshot().items_per_second = 10.0;
    assert_eq!(rented(&story.at(500)), [0, 1]);
}

#[test]
fn what_a_person_must_mend_stops_the_renting() {
    let mut story = Story::new().with_worker(1, 10);
    story.memory.refused = Some("the key is wrong".into());
    let actions = story.at(20);
    assert!(rented(&actions).is_empty());
    assert!(said(&actions)[0].contains("the key is wrong"));
    // With no box left there is nothing to wait for.
    let mut story = Story::new();
    story.memory.refused = Some("the key is wrong".into());
    assert!(story.at(20).contains(&Action::End(Ending::Exhausted("the key is wrong".into()))));
}

fn offer(price: f64) -> crate::provider::Offer {
    crate::provider::Offer {
        id: crate::provider::OfferId(9),
        machine: MachineId(9),
        gpu: "RTX 4090".into(),
        gpus: 1,
        gpu_memory: 24 << 30,
        price: Dollars(price),
        disk_price: Dollars::ZERO,
        download_price: Dollars::ZERO,
        upload_price: Dollars::ZERO,
        download_speed: 1000.0,
        reliability: 0.99,
        place: "KR".into(),
    }
}

#[test]
fn a_box_must_fit_the_budget_with_its_end() {
    let mut story = Story::new().with_worker(1, 0);
    let mut may = |budget: f64, rate: Option<f64>| {
        story.rules.budget = Some(Dollars(budget));
        story.rules.max_rate = rate.map(Dollars);
        affordable(&story.fleet, &story.rules, &offer(0.36), Dollars(0.10), 100.0, at(1000))
    };
    // Spent at most 0.10 and traffic 0.10; two boxes drained and ended (342 s) 0.0684; fetched and begun (280 s) 0.028;
    // its traffic 0.10: 0.3964.
    assert!(may(0.3965, None).is_ok());
    assert!(may(0.3963, None).unwrap_err().contains("the budget is $0.40"));
    assert!(may(9.0, Some(0.72)).is_ok());
    assert!(may(9.0, Some(0.71)).unwrap_err().contains("--max-rate"));
}
