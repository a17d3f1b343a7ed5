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
        apply(&mut story.fleet, 20, Event::GivenUp { id: id(number) });
    }
    // An offer that was gone costs nothing.
    apply(&mut story.fleet, 10, Event::Intent(intent(4, 0)));
    apply(&mut story.fleet, 20, Event::Refused { id: id(4), why: "gone".into(), ban: false });
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

#[test]
fn boxes_that_come_to_nothing_one_after_the_other_have_a_common_cause() {
    let mut story = Story::new();
    let fail = |story: &mut Story, number: u32| {
        let seconds = i64::from(number) * 10;
        apply(&mut story.fleet, seconds, Event::Intent(intent(number, 0)));
        let why = "its worker failed: no such argument".to_owned();
        apply(&mut story.fleet, seconds + 1, Event::Condemned { id: id(number), why, ban: true });
        apply(&mut story.fleet, seconds + 2, Event::Gone { id: id(number), since: at(seconds + 2) });
    };
    let refused = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Refuse { why } => Some(why),
            _ => None,
        })
    };
    (1..=5).for_each(|number| fail(&mut story, number));
    assert_eq!(refused(story.at(60)), None);
    fail(&mut story, 6);
    let why = refused(story.at(70)).unwrap();
    assert!(why.contains("6 boxes in a row") && why.contains("no such argument"), "{why}");
    // One that worked ends the row.
    apply(&mut story.fleet, 80, Event::Intent(intent(7, 0)));
    apply(&mut story.fleet, 81, Event::Ready { id: id(7), worker: "w".into() });
    assert_eq!(refused(story.at(90)), None);
}

#[test]
fn a_box_must_fit_the_budget_with_its_end() {
    let mut story = Story::new().with_worker(1, 0);
    let need = Need { price: Dollars(0.36), traffic: Dollars(0.10), fetch_seconds: 100.0 };
    let mut may = |budget: f64, rate: Option<f64>, balance: Option<f64>, seconds: i64| {
        story.rules.budget = Some(Dollars(budget));
        story.rules.max_rate = rate.map(Dollars);
        affordable(&story.fleet, &story.rules, balance.map(Dollars), need, at(seconds))
    };
    // Spent at most 0.10 and traffic 0.10; two boxes drained and ended (342 s) 0.0684; fetched and begun (280 s) 0.028;
    // its traffic 0.10: 0.3964.
    assert!(may(0.3965, None, None, 1000).is_ok());
    assert!(may(0.3963, None, None, 1000).unwrap_err().contains("the budget is $0.40"));
    assert!(may(9.0, Some(0.72), None, 1000).is_ok());
    assert!(may(9.0, Some(0.71), None, 1000).unwrap_err().contains("--max-rate"));
    // What is kept and what it needs to begin, 0.1964, above the floor of a dollar.
    assert!(may(9.0, None, Some(1.1965), 1000).is_ok());
    assert!(may(9.0, None, Some(1.1963), 1000).unwrap_err().contains("--balance-floor"));
    // Fetched, begun and drained: 580 s.
    assert!(may(900.0, None, None, 99_419).is_ok());
    assert!(may(900.0, None, None, 99_420).unwrap_err().contains("--max-hours"));
}

#[test]
fn nothing_is_rented_when_the_end_comes() {
    let mut story = Story::new().with_worker(1, 0);
    assert_eq!(rented(&story.at(600)), [1]);
    story.memory.interrupted = true;
    assert!(rented(&story.at(600)).is_empty());
    let mut story = Story::new().with_worker(1, 0);
    story.balance = Some(Dollars(1.0));
    assert!(rented(&story.at(600)).is_empty(), "it drains");
    // Without a box there is nothing to drain, and nothing is rented either.
    let mut story = Story::new();
    story.balance = Some(Dollars(1.0));
    let actions = story.at(600);
    assert!(rented(&actions).is_empty());
    assert!(matches!(&actions[0], Action::End(Ending::Exhausted(why)) if why.contains("--balance-floor")));
    let actions = Story::new().at(99_700);
    assert!(matches!(&actions[0], Action::End(Ending::Exhausted(why)) if why.contains("--max-hours")));
}
