//! A market that does not answer as it should.

use std::time::Duration;

use tests::vast::{Broken, Fault, Script};
use tests::wait::until;

use crate::scene::{Scene, machine};

/// How long the list is down: longer than every deadline of a scene; five minutes by hand.
fn down() -> Duration {
    let seconds = std::env::var("LIST_DOWN_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(9))
}

/// While the list cannot be read nothing is rented and nothing is given up, and work goes on.
fn list_down(broken: Broken) {
    let Some(scene) = Scene::new(6000) else { return };
    for _ in 0..6 {
        scene.market.add_offer(machine(36.0, Script::default()));
    }
    // A box of somebody else, and one that only looks like ours.
    for label in ["my training box".to_owned(), format!("fleet-{}x-0-000000000000", scene.run)] {
        scene.rent_foreign(&label);
    }
    let mut launching = scene.start(scene.launch(3, 500));
    until("three workers", || (launching.log().matches(" works").count() == 3).then_some(()));
    scene.market.set_fault(Fault::List(broken));
    // A box that dies meanwhile is not known to have died.
    let victim = scene.fleet()["boxes"][0]["instance"].as_u64().unwrap();
    scene.market.crash(victim);
    let (creations, before) = (scene.creations(), scene.progress().0);
    let destructions = scene.of_account("DELETE", "/instances/").len();
    let end = std::time::Instant::now() + down();
    until("the message", || launching.log().contains("the instances cannot be listed").then_some(()));
    while std::time::Instant::now() < end {
        assert!(launching.process.is_running(), "{}", launching.log());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(scene.creations(), creations, "{}", launching.log());
    assert_eq!(scene.of_account("DELETE", "/instances/").len(), destructions, "{}", launching.log());
    assert!(scene.progress().0 > before, "boxes work on");
    scene.market.clear_faults();
    launching.process.signal("INT");
    launching.expect(130);
    scene.check_ledger();
    assert_eq!(scene.market.instances().len(), 2, "other instances are as they were");
}

#[test]
fn a_list_that_fails_is_no_empty_list() {
    list_down(Broken::Status(503));
}

#[test]
fn a_list_without_a_body_is_no_empty_list() {
    list_down(Broken::EmptyBody);
}

#[test]
fn a_list_of_the_wrong_shape_is_no_empty_list() {
    list_down(Broken::WrongShape);
}

#[test]
fn a_market_that_is_slow_and_counts_calls_is_waited_for() {
    let Some(scene) = Scene::new(240) else { return };
    for _ in 0..4 {
        scene.market.add_offer(machine(36.0, Script::default()));
    }
    scene.market.set_fault(Fault::Delay(Duration::from_millis(300)));
    scene.market.set_fault(Fault::ListLags(Duration::from_secs(1)));
    scene.market.set_fault(Fault::TooMany(6));
    let mut launching = scene.start(scene.launch(2, 300).args(["--created-within", "10s"]));
    launching.expect(0);
    scene.check_ledger();
    assert_eq!(scene.merged().ids.len(), 225);
}

#[test]
fn an_account_that_runs_dry_ends_the_fleet_in_order() {
    let Some(scene) = Scene::new(6000) else { return };
    for _ in 0..2 {
        scene.market.add_offer(machine(36.0, Script::default()));
    }
    scene.market.set_fault(Fault::Credit(1.30));
    let mut launching = scene.start(scene.launch(2, 300).args(["--balance-floor", "0.80"]));
    launching.expect(4);
    assert!(launching.log().contains("the account has"), "{}", launching.log());
    scene.check_ledger();
    assert!(scene.market.credit() > 0.0);
}
