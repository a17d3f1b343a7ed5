//! Deadlines, workers, bids: what becomes of one box.

use super::*;

#[test]
fn a_box_that_does_not_begin_to_load_is_given_up_after_three_minutes() {
    let mut story = Story::new().with_box(1, &[(2, InstanceStatus::Created)]);
    assert_eq!(condemned(&story.at(182)), None);
    let actions = story.at(183);
    let (why, ban) = condemned(&actions).unwrap();
    assert!(why.contains("does not begin to load") && ban, "{why}");
}

#[test]
fn a_box_that_loads_has_twenty_minutes_from_its_last_progress() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Loading)]);
    let say = |story: &mut Story, seconds, message: &str| {
        story.instances.as_mut().unwrap()[0].message = message.to_owned();
        condemned(&story.at(seconds)).is_some()
    };
    assert!(!say(&mut story, 11, "pulling layer 1"));
    assert!(!say(&mut story, 1200, "pulling layer 1"));
    assert!(!say(&mut story, 1205, "pulling layer 2"), "it moved");
    assert!(!say(&mut story, 2405, "pulling layer 2"));
    assert!(say(&mut story, 2406, "pulling layer 2"), "no progress for 20 minutes");
    // Progress without end is none either.
    assert!(!say(&mut story, 3609, "pulling layer 3"));
    assert!(say(&mut story, 3611, "pulling layer 4"), "an hour is enough");
}

#[test]
fn an_image_that_cannot_be_had_is_not_waited_for() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Loading)]);
    story.instances.as_mut().unwrap()[0].message = "Error: pull access denied for x".to_owned();
    let actions = story.at(12);
    let (why, ban) = condemned(&actions).unwrap();
    assert!(why.contains("image") && !ban, "{why}");
    assert!(
        actions.iter().any(|action| matches!(action, Action::Refuse { .. })),
        "nor would another box have it"
    );
}

#[test]
fn ready_is_the_worker_in_the_queue_and_nothing_else() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    assert!(story.about_boxes_at(30).is_empty());
    // Fetching takes 100 s: the deadline is five minutes and twice that.
    assert_eq!(condemned(&story.at(510)), None);
    let actions = story.at(511);
    let (why, ban) = condemned(&actions).unwrap();
    assert!(why.contains("not heard") && ban, "{why}");
    let worker = story.worker(1, 2.0);
    story.snapshot().workers.push(worker);
    assert_eq!(story.about_boxes_at(511), [Action::Ready { id: id(1), worker: "w1".into() }]);
}

#[test]
fn while_a_worker_is_not_heard_its_log_is_read_for_the_reason() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    let read = [Action::ReadLog { id: id(1), instance: InstanceId(1) }];
    assert!(story.about_boxes_at(69).is_empty());
    assert_eq!(story.about_boxes_at(71), read);
    story.memory.log_read_at.insert(id(1), at(71));
    assert!(story.about_boxes_at(130).is_empty());
    assert_eq!(story.about_boxes_at(132), read);
    story.memory.failures.insert(id(1), "(check): no kernel image".into());
    let actions = story.at(133);
    let (why, ban) = condemned(&actions).unwrap();
    assert!(why.contains("no kernel image") && ban, "{why}");
}

#[test]
fn a_worker_that_falls_silent_loses_its_box() {
    let mut story = Story::new().with_worker(1, 10);
    story.snapshot().workers[0].last_seen_seconds = 599.0;
    assert_eq!(condemned(&story.at(2000)), None);
    story.snapshot().workers[0].last_seen_seconds = 601.0;
    assert!(condemned(&story.at(2000)).unwrap().0.contains("silent"));
    // The queue forgot it: counted from when it was heard first.
    story.snapshot().workers.clear();
    assert!(condemned(&story.at(700)).unwrap().0.contains("silent"));
}

#[test]
fn a_worker_that_the_queue_banned_takes_its_machine_along() {
    let mut story = Story::new().with_worker(1, 10);
    story.snapshot().workers[0].banned = true;
    story.snapshot().workers[0].host_failures = 3;
    let actions = story.at(20);
    let (why, ban) = condemned(&actions).unwrap();
    assert!(why.contains("3 failures") && ban, "{why}");
}

#[test]
fn all_workers_silent_at_once_is_not_the_boxes_fault() {
    let mut story = Story::new().with_worker(1, 10).with_worker(2, 10);
    for worker in &mut story.snapshot().workers {
        worker.last_seen_seconds = 1799.0;
    }
    assert_eq!(condemned(&story.at(3000)), None);
    // But not for ever.
    for worker in &mut story.snapshot().workers {
        worker.last_seen_seconds = 1801.0;
    }
    let ends = story.at(3000).iter().filter(|action| matches!(action, Action::Condemn { .. })).count();
    assert_eq!(ends, 2);
}

#[test]
fn nobody_is_silent_who_could_not_be_heard() {
    let mut story = Story::new().with_worker(1, 10).with_worker(2, 10);
    story.since_the_start = false;
    // The queue was away, is rebuilt, and one worker was quicker to come back than the other.
    story.queue = QueueSight::NoRun;
    story.at(5000);
    story.queue = QueueSight::Known(snapshot());
    let worker = story.worker(1, 2.0);
    story.snapshot().workers.push(worker);
    assert_eq!(condemned(&story.at(5010)), None);
    assert_eq!(condemned(&story.at(5600)), None);
    assert!(condemned(&story.at(5611)).unwrap().0.contains("silent"));
}

#[test]
fn a_box_has_its_time_to_be_heard_after_the_queue_is_back() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    story.since_the_start = false;
    story.at(400);
    story.queue = QueueSight::Unknown("away".into());
    assert_eq!(condemned(&story.at(1000)), None);
    story.queue = QueueSight::Known(snapshot());
    assert_eq!(condemned(&story.at(1010)), None);
    assert!(condemned(&story.at(1511)).unwrap().0.contains("not heard"));
}

#[test]
fn users_of_the_queue_are_looked_through_now_and_then_and_when_it_comes_back() {
    let mut story = Story::new().with_worker(1, 10);
    let password_sha256 = "ab".repeat(32).try_into().unwrap();
    let user = crate::fleet::event::QueueUser { name: "worker-r-0-000000000001".into(), password_sha256 };
    story.fleet.boxes.get_mut(&id(1)).unwrap().intent.queue_user = Some(user);
    assert!(story.about_boxes_at(20).contains(&Action::CheckUsers));
    story.memory.users_checked_at = Some(at(20));
    assert!(!story.about_boxes_at(50).contains(&Action::CheckUsers));
    assert!(story.about_boxes_at(51).contains(&Action::CheckUsers));
    story.memory.users_checked_at = Some(at(51));
    story.since_the_start = false;
    story.queue = QueueSight::Unknown("away".into());
    story.at(52);
    story.queue = QueueSight::Known(snapshot());
    assert!(story.about_boxes_at(53).contains(&Action::CheckUsers), "it may have started empty");
}

#[test]
fn a_box_on_demand_that_was_stopped_is_replaced() {
    let mut story =
        Story::new().with_box(1, &[(10, InstanceStatus::Running), (50, InstanceStatus::Preempted)]);
    let actions = story.at(60);
    assert_eq!(condemned(&actions), Some(("it was stopped, and not by us", false)));
}

#[test]
fn an_outbid_box_is_bid_for_up_to_the_most_and_then_left() {
    let mut story =
        Story::new().with_box(1, &[(10, InstanceStatus::Running), (50, InstanceStatus::Preempted)]);
    story.rules.max_bid = Some(Dollars(0.60));
    story.fleet.boxes.get_mut(&id(1)).unwrap().intent.bid = Some(Dollars(0.36));
    story.instances.as_mut().unwrap()[0].min_bid = Some(Dollars(0.40));
    let actions = story.about_boxes_at(60);
    let [Action::Rebid { bid, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert!((bid.0 - 0.42).abs() < 1e-9);
    apply(&mut story.fleet, 61, Event::Bid { id: id(1), bid: *bid });
    // Another price is no other status.
    apply(&mut story.fleet, 65, status(65, 1, InstanceStatus::Preempted));
    assert!(story.about_boxes_at(70).is_empty(), "it is given time to resume");
    assert!(condemned(&story.at(362)).unwrap().0.contains("does not resume"));
    // It ran again, and is outbid once more, beyond the most.
    apply(&mut story.fleet, 100, status(100, 1, InstanceStatus::Running));
    apply(&mut story.fleet, 200, status(200, 1, InstanceStatus::Preempted));
    story.instances.as_mut().unwrap()[0].min_bid = Some(Dollars(0.59));
    let actions = story.at(210);
    let (why, ban) = condemned(&actions).unwrap();
    assert!(why.contains("outbid") && !ban, "{why}");
}

#[test]
fn a_machine_out_of_sight_has_five_minutes() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running), (50, InstanceStatus::Offline)]);
    assert_eq!(condemned(&story.at(350)), None);
    assert!(condemned(&story.at(351)).unwrap().0.contains("out of sight"));
}

#[test]
fn a_container_that_ended_is_replaced_unless_it_comes_up_again() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Exited)]);
    assert_eq!(condemned(&story.at(40)), None);
    assert!(condemned(&story.at(41)).unwrap().0.contains("container ended"));
}

#[test]
fn a_price_that_a_host_raises_above_the_most_ends_its_box() {
    let mut story = Story::new().with_worker(1, 10);
    story.rules.max_price = Some(Dollars(0.40));
    let raise = |story: &mut Story, seconds, price| {
        let status = InstanceStatus::Running;
        apply(
            &mut story.fleet,
            seconds,
            Event::Status { id: id(1), since: at(seconds), status, price: Some(price) },
        );
    };
    raise(&mut story, 20, Dollars(0.40));
    assert_eq!(condemned(&story.at(30)), None);
    raise(&mut story, 40, Dollars(0.41));
    assert!(condemned(&story.at(50)).unwrap().0.contains("raised the price"));
    // The cap of all boxes is kept at each look too.
    let mut story = Story::new().with_worker(1, 10).with_worker(2, 10);
    story.rules.max_rate = Some(Dollars(0.72));
    assert_eq!(condemned(&story.at(60)), None);
    raise(&mut story, 70, Dollars(0.40));
    assert!(condemned(&story.at(80)).unwrap().0.contains("--max-rate"));
}

#[test]
fn a_fleet_that_is_to_be_smaller_lets_boxes_go() {
    let mut story = Story::new().with_worker(1, 10).with_worker(2, 10);
    story.rules.workers = 1;
    assert_eq!(condemned(&story.at(20)), Some(("the fleet is to be smaller", false)));
}

#[test]
fn a_status_is_written_down_before_it_is_judged() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    story.instances.as_mut().unwrap()[0].status = InstanceStatus::Exited;
    let note = Action::Note { id: id(1), since: at(20), status: InstanceStatus::Exited, price: None };
    assert_eq!(story.about_boxes_at(20), [note]);
    story.instances.as_mut().unwrap()[0].status = InstanceStatus::Running;
    story.instances.as_mut().unwrap()[0].price = Some(Dollars(0.5));
    let note =
        Action::Note { id: id(1), since: at(20), status: InstanceStatus::Running, price: Some(Dollars(0.5)) };
    assert_eq!(story.about_boxes_at(20), [note]);
    // Between two looks the middle is taken.
    story.instances.as_mut().unwrap()[0].price = None;
    story.instances.as_mut().unwrap()[0].status = InstanceStatus::Offline;
    let note = Action::Note { id: id(1), since: at(25), status: InstanceStatus::Offline, price: None };
    assert_eq!(story.about_boxes_at(30), [note]);
}
