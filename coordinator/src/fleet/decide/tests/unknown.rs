//! What is not known: answers that were lost, lists that cannot be read, boxes that nobody accounts for.

use super::*;

#[test]
fn an_unknown_list_leads_to_no_order_and_to_no_end() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Loading)]);
    apply(&mut story.fleet, 0, Event::Intent(intent(2, 1)));
    story.instances = Err("HTTP 503".into());
    // Far past every deadline: of loading, of an order without an answer.
    let actions = story.at(90_000);
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert!(said(&actions)[0].contains("HTTP 503") && said(&actions)[0].contains("nothing is rented"));
}

#[test]
fn a_box_known_to_be_ours_is_ended_without_the_list() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    let why = "no more".to_owned();
    apply(&mut story.fleet, 20, Event::Condemned { id: id(1), why, ban: false });
    story.instances = Err("HTTP 503".into());
    assert_eq!(story.about_boxes_at(30), [Action::Destroy { id: id(1), instance: InstanceId(1) }]);
}

#[test]
fn an_order_without_an_answer_is_found_by_its_label_or_given_up() {
    let mut story = Story::new();
    apply(&mut story.fleet, 0, Event::Intent(intent(1, 0)));
    assert!(story.about_boxes_at(360).is_empty(), "it may still come");
    assert_eq!(rented(&story.at(360)), [1], "its place is taken until then");
    assert_eq!(story.about_boxes_at(361), [Action::GiveUp { id: id(1) }]);
    // A launcher that came later has waited for nothing yet, whatever the other one's clock said.
    let mut later = Story::new();
    later.since_the_start = false;
    apply(&mut later.fleet, 0, Event::Intent(intent(1, 0)));
    assert!(later.about_boxes_at(9000).is_empty());
    assert_eq!(later.about_boxes_at(9361), [Action::GiveUp { id: id(1) }]);
    let listed = story.listed(1, InstanceStatus::Loading);
    story.instances = Ok(vec![listed]);
    assert_eq!(story.about_boxes_at(5), [Action::Adopt { id: id(1), instance: InstanceId(1) }]);
}

#[test]
fn two_instances_of_one_order_are_one_too_many() {
    let mut story = Story::new();
    apply(&mut story.fleet, 0, Event::Intent(intent(1, 0)));
    let mut second = story.listed(1, InstanceStatus::Loading);
    second.id = InstanceId(77);
    let listed = story.listed(1, InstanceStatus::Loading);
    story.instances = Ok(vec![second, listed]);
    let stray = Action::DestroyStray { instance: InstanceId(77), label: story.label(1) };
    assert_eq!(story.about_boxes_at(5), [Action::Adopt { id: id(1), instance: InstanceId(1) }, stray]);
}

#[test]
fn an_instance_of_a_box_given_up_is_destroyed_when_it_shows() {
    let mut story = Story::new();
    apply(&mut story.fleet, 0, Event::Intent(intent(1, 0)));
    apply(&mut story.fleet, 181, Event::GivenUp { id: id(1) });
    let listed = story.listed(1, InstanceStatus::Loading);
    story.instances = Ok(vec![listed]);
    let stray = Action::DestroyStray { instance: InstanceId(1), label: story.label(1) };
    assert_eq!(story.about_boxes_at(200), [stray]);
}

#[test]
fn other_instances_are_never_touched() {
    let mut story = Story::new();
    let named = |label: &str| Instance { label: label.into(), ..story.listed(1, InstanceStatus::Running) };
    let foreign =
        ["", "my training box", "fleet", "fleet-r", "fleet-r-x-000000000001", "fleet-other-0-000000000001"];
    let of_a_longer_run = "fleet-r-1-0-000000000001";
    let of_the_same_run_in_another_store = "fleet-r-0-abcd00000001";
    story.instances = Ok(foreign
        .into_iter()
        .chain([of_a_longer_run, of_the_same_run_in_another_store])
        .map(named)
        .collect());
    assert!(story.about_boxes_at(90_000).is_empty());
    story.memory.ending = Some(Ending::Finished);
    assert_eq!(story.about_boxes_at(90_000), [Action::Close], "nor do they keep the fleet from its end");
}

#[test]
fn a_label_that_somebody_changed_makes_a_box_theirs() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    apply(&mut story.fleet, 20, Event::Condemned { id: id(1), why: "no more".into(), ban: false });
    story.instances.as_mut().unwrap()[0].label = "mine now".into();
    let actions = story.at(30);
    assert!(!actions.iter().any(|action| matches!(action, Action::Destroy { .. })));
    assert!(said(&actions).iter().any(|text| text.contains("mine now")), "{actions:?}");
}

#[test]
fn a_box_that_is_not_listed_is_asked_for_before_it_is_believed_gone() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    story.instances = Ok(Vec::new());
    let confirm = [Action::Confirm { id: id(1), instance: InstanceId(1) }];
    assert!(story.about_boxes_at(60).is_empty(), "lists lag behind what was just made");
    assert_eq!(story.about_boxes_at(61), confirm);
    assert_eq!(rented(&story.at(61)), [1], "its place is not free before");
    apply(&mut story.fleet, 62, Event::Gone { id: id(1), since: at(62) });
    assert_eq!(rented(&story.at(63)), [0, 1]);
}

#[test]
fn a_destruction_is_asked_for_until_the_box_is_gone() {
    let mut story = Story::new().with_box(1, &[(10, InstanceStatus::Running)]);
    apply(&mut story.fleet, 20, Event::Condemned { id: id(1), why: "no more".into(), ban: false });
    let destroy = [Action::Destroy { id: id(1), instance: InstanceId(1) }];
    assert_eq!(story.about_boxes_at(21), destroy);
    story.memory.destroying.insert(InstanceId(1));
    assert!(story.about_boxes_at(60).is_empty(), "not while it is being asked for");
    story.memory.destroying.clear();
    story.memory.destroyed_at.insert(InstanceId(1), at(21));
    assert!(story.about_boxes_at(25).is_empty());
    assert_eq!(story.about_boxes_at(31), destroy, "a tick later, again");
    assert_eq!(rented(&story.at(31)), [1], "and nothing takes its place before it is gone");
}

#[test]
fn strays_that_cannot_be_destroyed_keep_nothing_else_from_being_done() {
    let mut story = Story::new().with_worker(1, 10);
    let mut stray = story.listed(9, InstanceStatus::Running);
    stray.id = InstanceId(77);
    story.instances.as_mut().unwrap().push(stray);
    story.memory.interrupted = true;
    let actions = story.at(30);
    assert_eq!(actions[0], Action::End(Ending::Interrupted));
    assert!(matches!(actions[1], Action::DestroyStray { instance: InstanceId(77), .. }), "{actions:?}");
    story.memory.destroyed_at.insert(InstanceId(77), at(30));
    story.memory.ending = Some(Ending::Interrupted);
    let actions = story.about_boxes_at(35);
    assert!(matches!(actions.as_slice(), [Action::Condemn { .. }]), "{actions:?}");
}

#[test]
fn a_silent_queue_ends_no_box_and_rents_none() {
    let mut story = Story::new().with_worker(1, 10);
    story.queue = QueueSight::Unknown("timed out".into());
    let actions = story.at(50_000);
    assert!(story.about_boxes_at(50_000).is_empty());
    assert!(rented(&actions).is_empty());
    assert!(said(&actions)[0].contains("timed out"));
}

#[test]
fn a_queue_that_lost_the_run_is_rebuilt() {
    let mut story = Story::new().with_worker(1, 10);
    story.queue = QueueSight::NoRun;
    assert_eq!(story.at(50_000), [Action::Rebuild]);
}
