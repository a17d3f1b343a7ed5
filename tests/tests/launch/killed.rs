//! Launchers that are killed, stopped, overtaken; and ends from elsewhere.

use std::time::Duration;

use tempfile::TempDir;
use tests::chaos::random::Random;
use tests::vast::{CreateAnswer, DestroyFailure, Fault, Script};
use tests::wait::until;

use crate::scene::{Scene, both, machine};

/// Machines whose creation answers late or not at all, so that there is something to be killed in.
fn add_slow_machines(scene: &Scene, count: u32) {
    for number in 0..count {
        let create = match number % 4 {
            1 => CreateAnswer::Late(Duration::from_millis(700)),
            2 => CreateAnswer::ReplyLost,
            3 => CreateAnswer::Taken(404),
            _ => CreateAnswer::Success,
        };
        scene
            .market
            .add_offer(machine(36.0 + f64::from(number) / 10.0, Script { create, ..Script::default() }));
    }
}

#[test]
fn a_launcher_killed_at_ten_moments_leaves_no_orphan_and_rents_nothing_twice() {
    let Some(scene) = Scene::new(720) else { return };
    add_slow_machines(&scene, 16);
    // What was ordered right before a kill is not listed right after it.
    scene.market.set_fault(Fault::ListLags(Duration::from_millis(1500)));
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = Random::new(seed, "kills");
    let launch = || scene.start(scene.launch(4, 500).args(["--launches-per-hour", "60"]));
    for _ in 0..10 {
        let mut launching = launch();
        let moment = Duration::from_millis(random.between(200, 2500));
        if launching.process.wait_for(moment).is_some() {
            break;
        }
        launching.process.kill();
    }
    let mut last = launch();
    last.expect(0);
    scene.check_ledger();
    assert!(scene.market.ledger().most_alive(&scene.prefix()) <= 4);
    assert_eq!(scene.merged().ids.len(), 675);
}

#[test]
fn ctrl_c_destroys_every_box_and_sigterm_leaves_them() {
    let Some(scene) = Scene::new(4000) else { return };
    add_slow_machines(&scene, 8);
    let mut first = scene.start(scene.launch(2, 500));
    until("a worker", || first.log().contains(" works").then_some(()));
    first.process.signal("TERM");
    first.expect(143);
    let alive = scene.market.ledger().alive(&scene.prefix());
    assert!(!alive.is_empty() && first.log().contains("its boxes work on"), "{}", first.log());
    let creations = scene.creations();
    let mut second = scene.start(scene.launch(2, 500));
    until("the second launcher", || second.log().contains("taking over").then_some(()));
    until("both workers", || (second.log() + &first.log()).matches(" works").count().ge(&2).then_some(()));
    second.process.signal("INT");
    second.expect(130);
    assert!(scene.creations() >= creations);
    scene.check_ledger();
}

#[test]
fn the_second_launcher_wins_and_the_first_stops_without_touching_a_box() {
    let Some(scene) = Scene::new(4000) else { return };
    for _ in 0..4 {
        scene.market.add_offer(machine(36.0, Script::default()));
    }
    let mut first = scene.start(scene.launch(2, 500));
    until("two workers", || (first.log().matches(" works").count() == 2).then_some(()));
    let mut second = scene.start(scene.launch(2, 500));
    first.expect(1);
    assert!(first.log().contains("has taken this fleet over"), "{}", first.log());
    // Ended from another machine: the launcher there stops, and nothing is left.
    let elsewhere = TempDir::new().unwrap();
    let destroy = scene.coordinator_in("destroy", elsewhere.path()).args(["--all", "--run", &scene.run]);
    let said = both(&destroy.args(["--api-pace", "0.02", "--tick", "200ms"]).output().expect(0));
    assert!(said.contains("no box of run") && said.contains("billed"), "{said}");
    second.expect(1);
    scene.check_ledger();
    assert_eq!(scene.creations(), 2, "{}\n{}", first.log(), second.log());
    let users = scene.redis.cli(&["-a", crate::scene::QUEUE_PASSWORD, "--no-auth-warning", "ACL", "USERS"]);
    assert_eq!(users, "default", "users of boxes are left");
}

#[test]
fn a_box_destroyed_by_hand_is_replaced_and_a_foreign_one_is_not_touched() {
    let Some(scene) = Scene::new(2000) else { return };
    let foreign = scene.rent_foreign("my training box");
    for _ in 0..3 {
        scene.market.add_offer(machine(36.0, Script::default()));
    }
    let mut launching = scene.start(scene.launch(1, 400));
    until("a worker", || launching.log().contains(" works").then_some(()));
    let mine = scene.fleet()["boxes"][0]["instance"].as_u64().unwrap().to_string();
    let destroy = |id: &str| {
        scene.coordinator("destroy").args([
            id,
            "--api-pace",
            "0.02",
            "--tick",
            "200ms",
            "--give-up-after",
            "4s",
        ])
    };
    let said = both(&destroy(&foreign.to_string()).output().expect(2));
    assert!(said.contains("my training box") && said.contains("left alone"), "{said}");
    let _ = destroy(&mine).output().expect(0);
    until("another worker", || (launching.log().matches(" works").count() == 2).then_some(()));
    launching.process.signal("INT");
    launching.expect(130);
    let alive: Vec<u64> = scene.market.instances().iter().map(|instance| instance.id).collect();
    assert_eq!(alive, [foreign]);
}

#[test]
fn a_box_that_cannot_be_destroyed_is_named_and_the_exit_code_says_so() {
    let Some(scene) = Scene::new(2000) else { return };
    let lies = Script { destroy_failures: vec![DestroyFailure::Lie; 200], ..Script::default() };
    scene.market.add_offer(machine(36.0, lies));
    let mut launching = scene.start(scene.launch(1, 400));
    until("a worker", || launching.log().contains(" works").then_some(()));
    launching.process.signal("TERM");
    launching.expect(143);
    let id = scene.market.instances()[0].id.to_string();
    let destroy = scene.coordinator("destroy").args(["--all", "--api-pace", "0.02", "--tick", "200ms"]);
    let said = both(&destroy.args(["--give-up-after", "3s", "--created-within", "1s"]).output().expect(1));
    assert!(said.contains("not confirmed to be gone") && said.contains(&id), "{said}");
}
