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
        worker.last_seen_seconds = 900.0;
    }
    story.memory.all_silent_since = Some(at(1200));
    assert_eq!(condemned(&story.at(2000)), None);
    // But not for ever.
    story.memory.all_silent_since = Some(at(100));
    let ends = story.at(2000).iter().filter(|action| matches!(action, Action::Condemn { .. })).count();
    assert_eq!(ends, 2);
}

#[test]
fn users_of_the_queue_are_made_again_when_a_worker_falls_silent() {
    let mut story = Story::new().with_worker(1, 10);
    let password_sha256 = "ab".repeat(32).try_into().unwrap();
    let user = crate::fleet::event::QueueUser { name: "worker-r-0-00000001".into(), password_sha256 };
    story.fleet.boxes.get_mut(&id(1)).unwrap().intent.queue_user = Some(user);
    story.snapshot().workers[0].last_seen_seconds = 151.0;
    assert_eq!(story.about_boxes_at(300), [Action::RestoreUsers]);
    story.memory.users_restored_at = Some(at(290));
    assert!(!story.about_boxes_at(300).contains(&Action::RestoreUsers));
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
fn a_container_that_ended_is_replaced() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Exited)]);
    assert!(condemned(&story.at(12)).unwrap().0.contains("container ended"));
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
