//! How fleets end.

use super::*;

fn ended(actions: &[Action]) -> Option<&Ending> {
    actions.iter().find_map(|action| match action {
        Action::End(ending) => Some(ending),
        _ => None,
    })
}

#[test]
fn a_finished_run_ends_its_boxes_and_closes_when_none_is_left() {
    let mut story = Story::new().with_worker(1, 10);
    story.snapshot().shards = ShardCounts { done: 10, ..ShardCounts::default() };
    assert_eq!(ended(&story.at(100)), Some(&Ending::Finished));
    story.memory.ending = Some(Ending::Finished);
    assert_eq!(condemned(&story.at(101)), Some(("the run is finished", false)));
    apply(&mut story.fleet, 101, Event::Condemned { id: id(1), why: "done".into(), ban: false });
    assert!(!story.at(102).contains(&Action::Close), "it is still there");
    apply(&mut story.fleet, 103, Event::Gone { id: id(1), since: at(103) });
    assert!(!story.at(104).contains(&Action::Close), "the list still has it");
    story.instances = Err("HTTP 503".into());
    assert!(!story.at(105).contains(&Action::Close), "the list cannot be read");
    story.instances = Ok(Vec::new());
    assert_eq!(story.about_boxes_at(106), [Action::Close]);
}

#[test]
fn an_order_without_an_answer_is_waited_for_before_the_end() {
    let mut story = Story::new();
    apply(&mut story.fleet, 0, Event::Intent(intent(1, 0)));
    story.memory.ending = Some(Ending::Interrupted);
    assert!(story.about_boxes_at(100).is_empty());
    let listed = story.listed(1, InstanceStatus::Loading);
    story.instances = Ok(vec![listed]);
    assert_eq!(story.about_boxes_at(101), [Action::Adopt { id: id(1), instance: InstanceId(1) }]);
}

#[test]
fn dead_shards_alone_end_a_fleet_too() {
    let mut story = Story::new().with_worker(1, 10);
    story.snapshot().shards = ShardCounts { done: 8, dead: 2, ..ShardCounts::default() };
    assert_eq!(ended(&story.at(100)), Some(&Ending::Dead(2)));
}

#[test]
fn ctrl_c_ends_a_fleet() {
    let mut story = Story::new().with_worker(1, 10);
    story.memory.interrupted = true;
    assert_eq!(ended(&story.at(100)), Some(&Ending::Interrupted));
}

#[test]
fn a_budget_is_drained_before_it_is_reached_and_what_is_done_is_kept() {
    let mut story = Story::new().with_worker(1, 0);
    story.rules.budget = Some(Dollars(0.30));
    // At most spent: 0.36 an hour and traffic of 0.10; kept back: 336 s, 0.0336.
    assert!(!story.at(1600).iter().any(|action| matches!(action, Action::Drain { .. })));
    let actions = story.at(1700);
    let Some(Action::Drain { why }) = actions.iter().find(|action| matches!(action, Action::Drain { .. }))
    else {
        panic!("{actions:?}")
    };
    assert!(why.contains("budget of $0.30"), "{why}");
    assert_eq!(condemned(&actions), None, "its worker hands in what it holds");
    apply(&mut story.fleet, 1700, Event::Drained { why: why.clone() });
    assert!(story.at(1701).contains(&Action::DrainAgain), "the queue has not heard of it");
    story.snapshot().state = RunState::Draining;
    let actions = story.at(1702);
    assert_eq!((condemned(&actions), rented(&actions)), (None, vec![]));
    story.snapshot().workers[0].leases = 0;
    assert!(condemned(&story.at(1703)).unwrap().0.contains("holds nothing"));
    // One that does not finish is ended at the deadline: the worst of it was kept back.
    story.snapshot().workers[0].leases = 3;
    assert_eq!(condemned(&story.at(2000)), None);
    assert!(condemned(&story.at(2001)).unwrap().0.contains("in time"));
    apply(&mut story.fleet, 2001, Event::Condemned { id: id(1), why: "late".into(), ban: false });
    assert_eq!(ended(&story.at(2002)), Some(&Ending::Exhausted(why.clone())));
}

#[test]
fn a_draining_fleet_does_not_need_the_queue_to_end_in_time() {
    let mut story = Story::new().with_worker(1, 0);
    apply(&mut story.fleet, 100, Event::Drained { why: "budget".into() });
    story.queue = QueueSight::Unknown("timed out".into());
    assert_eq!(condemned(&story.at(399)), None);
    assert!(condemned(&story.at(401)).is_some());
}

#[test]
fn an_account_that_runs_dry_drains() {
    let mut story = Story::new().with_worker(1, 0);
    story.balance = Some(Dollars(1.05));
    assert!(!story.at(100).iter().any(|action| matches!(action, Action::Drain { .. })));
    story.balance = Some(Dollars(1.03));
    assert!(story.at(100).iter().any(|action| matches!(action, Action::Drain { .. })));
}

#[test]
fn the_last_hour_drains() {
    let mut story = Story::new().with_worker(1, 0);
    assert!(!story.at(99_699).iter().any(|action| matches!(action, Action::Drain { .. })));
    assert!(story.at(99_700).iter().any(|action| matches!(action, Action::Drain { .. })));
}
