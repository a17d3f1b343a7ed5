//! A fleet's whole life: boxes that fail in every way, the bill, the budget.

use std::time::Duration;

use serde_json::Value;
use tests::vast::{CreateAnswer, DestroyFailure, Load, Outbid, Script, Stage};
use tests::wait::until;

use crate::scene::{Scene, both, machine};

/// Two machines that never load, one that is outbid twice, one with a bad GPU, one whose creation says it failed and
/// whose destruction fails twice, then good ones; the cheapest first.
fn add_machines(scene: &Scene) {
    let seconds = Duration::from_secs;
    let stuck = |stage| Script { load: Load::Stuck(stage), ..Script::default() };
    scene.market.add_offer(machine(30.0, stuck(Stage::Loading)));
    scene.market.add_offer(machine(30.1, stuck(Stage::Created)));
    let outbids = vec![
        Outbid { at: seconds(7), min_bid: 33.0, lasts: None },
        Outbid { at: seconds(14), min_bid: 90.0, lasts: Some(seconds(2)) },
    ];
    scene.market.add_offer(machine(30.2, Script { outbids, ..Script::default() }));
    let environment = vec![("RIGGED_CHECK".to_owned(), "1".to_owned())];
    scene.market.add_offer(machine(30.3, Script { environment, ..Script::default() }));
    let exists = Script {
        create: CreateAnswer::FailureButExists,
        destroy_failures: vec![DestroyFailure::ServerError, DestroyFailure::Refused],
        ..Script::default()
    };
    scene.market.add_offer(machine(30.4, exists));
    for number in 0..8 {
        scene.market.add_offer(machine(31.0 + f64::from(number) / 10.0, Script::default()));
    }
}

/// The estimate against the bill, as both go on: the furthest apart they were, as a share of the bill, once there
/// was a dollar of it.
fn watch_estimate(scene: &Scene) -> Option<f64> {
    let before = scene.billed();
    let fleet = scene.fleet();
    let after = scene.billed();
    let estimate = fleet["cost"]["so_far"].as_f64().unwrap();
    let off = (before - estimate).max(estimate - after).max(0.0);
    (before > 1.0).then_some(off / before)
}

#[test]
fn a_fleet_of_six_survives_its_market() {
    let Some(scene) = Scene::new(1440) else { return };
    add_machines(&scene);
    let launcher = scene.launch(6, 400).args(["--interruptible", "--bid", "60", "--budget", "40", "--json"]);
    let mut launching = scene.start(launcher);
    let mut furthest = Vec::new();
    while launching.process.is_running() {
        furthest.extend(watch_estimate(&scene));
    }
    launching.expect(0);
    let log = launching.log();
    scene.check_ledger();
    let ledger = scene.market.ledger();
    assert!(ledger.most_alive(&scene.prefix()) <= 6);
    for said in [
        "it loads without progress",
        "does not begin to load",
        "outbid; offering",
        "it was outbid",
        "its worker failed: (check)",
        "its creation failed",
        "the run is finished",
    ] {
        assert!(log.contains(said), "{said:?} is not in\n{log}");
    }
    // What is written down says the same as the market, to the cent.
    let fleet = scene.fleet();
    let billed = fleet["cost"]["billed"].as_f64().unwrap();
    assert!((billed - scene.billed()).abs() < 0.005, "{billed} is not {}", scene.billed());
    assert!(billed <= 40.0);
    let estimate = fleet["cost"]["so_far"].as_f64().unwrap();
    println!("billed {billed:.4}, estimate {estimate:.4}, {} looks", furthest.len());
    assert!((estimate - billed).abs() <= 0.02 * billed, "estimate {estimate}, billed {billed}");
    let furthest = furthest.into_iter().fold(0.0, f64::max);
    println!("the running estimate was off by {:.2} % at most", 100.0 * furthest);
    assert!(furthest <= 0.02, "the running estimate was off by {furthest}");
    let rows = scene.merged();
    assert_eq!(rows.ids.len(), 1350);
}

#[test]
fn a_budget_that_is_too_small_is_never_exceeded_and_what_is_done_stays() {
    let Some(scene) = Scene::new(1600) else { return };
    for number in 0..4 {
        scene.market.add_offer(machine(36.0 + f64::from(number) / 10.0, Script::default()));
    }
    let launch = |batch_ms, budget: &str| scene.launch(2, batch_ms).args(["--budget", budget]);
    let small = launch(400, "0.90").output().expect(4);
    let said = both(&small);
    assert!(said.contains("the budget of $0.90 is reached") && said.contains("coordinator status"), "{said}");
    scene.check_ledger();
    let spent = scene.billed();
    assert!(spent <= 0.90, "{spent}");
    let (done, total) = scene.progress();
    println!("spent {spent:.3} of 0.90, {done} of {total} items");
    assert!(done > 0 && done < total, "{done} of {total}");
    // More money goes on where it stopped, and counts what was spent.
    let _ = launch(40, "8.00").output().expect(0);
    scene.check_ledger();
    assert!(scene.billed() <= 8.0);
    assert_eq!(scene.merged().ids.len(), 1500);
}

#[test]
fn a_budget_that_no_box_fits_rents_nothing() {
    let Some(scene) = Scene::new(16) else { return };
    scene.market.add_offer(machine(36.0, Script::default()));
    let said = both(&scene.launch(1, 1).args(["--budget", "0.05"]).output().expect(4));
    assert!(said.contains("the budget is $0.0500"), "{said}");
    assert_eq!(scene.creations(), 0);
}

#[test]
fn a_redis_that_starts_empty_costs_nothing_but_time() {
    let Some(mut scene) = Scene::new(400) else { return };
    for number in 0..3 {
        scene.market.add_offer(machine(36.0 + f64::from(number), Script::default()));
    }
    let mut launching = scene.start(scene.launch(2, 300).args(["--silent-after", "60s"]));
    until("two workers", || (launching.log().matches(" works").count() == 2).then_some(()));
    scene.redis.restart_empty();
    launching.expect(0);
    let log = launching.log();
    assert!(log.contains("rebuilt from the store"), "{log}");
    assert_eq!(scene.creations(), 2, "the boxes got their users back:\n{log}");
    scene.check_ledger();
    assert_eq!(scene.merged().ids.len(), 375);
}

#[test]
fn the_report_says_what_each_kind_of_gpu_cost() {
    let Some(scene) = Scene::new(400) else { return };
    scene.market.add_offer(machine(36.0, Script::default()));
    scene.market.add_offer(tests::vast::OfferSpec {
        gpu_name: "RTX 3090".to_owned(),
        ..machine(30.0, Script::default())
    });
    let report = scene.launch(2, 200).args(["--json"]).output().expect(0).stdout();
    let report: Value = serde_json::from_str(&report).unwrap();
    let kinds = report["cost"]["by_gpu"].as_array().unwrap();
    let of = |gpu: &str| kinds.iter().find(|kind| kind["gpu"] == gpu).unwrap();
    let items: u64 = ["RTX 4090", "RTX 3090"].map(|gpu| of(gpu)["items"].as_u64().unwrap()).iter().sum();
    assert!(items >= 375, "{report}");
    assert!(of("RTX 3090")["dollars"].as_f64().unwrap() > 0.0, "{report}");
    let status = scene.coordinator("status").output().expect(0).stdout();
    assert!(status.contains("billed") && status.contains("RTX 3090"), "{status}");
    let json = scene.coordinator("status").args(["--json"]).output().expect(0).stdout();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["cost"]["billed"], report["cost"]["billed"], "{json}");
}
