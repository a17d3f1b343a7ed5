//! What is shown and sent: dry runs, secrets, and the vendor's own requests beside ours.

use std::collections::BTreeMap;

use tests::vast::{Kind, Script, Shape, shapes, vendor};
use tests::wait::until;

use crate::scene::{Scene, both, machine};

#[test]
fn a_dry_run_shows_the_requests_and_sends_only_the_search() {
    let Some(scene) = Scene::new(64) else { return };
    for number in 0..3 {
        scene.market.add_offer(machine(36.0 + f64::from(number), Script::default()));
    }
    let nowhere = both(&scene.launch(2, 1).args(["--dry-run", "--region", "KR,Oceania"]).output().expect(0));
    assert!(nowhere.contains("no offer holds what is wanted") && !nowhere.contains("PUT "), "{nowhere}");
    let shown = both(&scene.launch(2, 1).args(["--dry-run", "--region", "Europe"]).output().expect(0));
    for expected in [
        "POST http://127.0.0.1:",
        "/api/v0/bundles/",
        "PUT http://127.0.0.1:",
        "/api/v0/asks/",
        "Authorization: Bearer ***",
        "\"label\": \"fleet-",
        "\"onstart\": \"#!/usr/bin/env bash",
        "items on 2 boxes: about",
        "nothing was rented",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
    scene.check_secrets("the dry run", &shown);
    assert!(!shown.contains("X-Amz-Signature"), "a signature is shown:\n{shown}");
    let ledger = scene.market.ledger();
    let changes: Vec<&str> = ledger
        .arrivals
        .iter()
        .filter(|arrival| arrival.method != "GET" && !arrival.path.contains("/bundles/"))
        .map(|arrival| arrival.path.as_str())
        .collect();
    assert!(changes.is_empty(), "{changes:?}");
    assert!(scene.fleet()["boxes"].as_array().unwrap().is_empty());
}

#[test]
fn boxes_get_no_secret_but_their_own() {
    let Some(scene) = Scene::new(240) else { return };
    scene.market.add_offer(machine(36.0, Script::default()));
    let mut launching = scene.start(scene.launch(1, 100));
    launching.expect(0);
    scene.check_secrets("the launcher's log", &launching.log());
    for request in scene.of_account("PUT", "") {
        scene.check_secrets(&request.path, &request.body);
    }
    let orders = scene.of_account("PUT", "/asks/");
    let order: serde_json::Value = serde_json::from_str(&orders[0].body).unwrap();
    let queue = order["env"]["FLEET_QUEUE"].as_str().unwrap();
    assert!(queue.starts_with(&format!("redis://worker-{}-0-", scene.run)), "{queue}");
    assert!(order["onstart"].as_str().unwrap().len() < 4096);
    // Whatever it said, on the box or in the record.
    let ledger = scene.market.ledger();
    for instance in ledger.created(&scene.prefix()) {
        let log = scene.market.log(instance);
        scene.check_secrets("a box's log", &log);
        let password = queue.split(':').nth(2).and_then(|rest| rest.split('@').next()).unwrap();
        assert!(!log.contains(password) && !launching.log().contains(password));
        scene.check_secrets("a box's journal", &scene.fleet().to_string());
    }
}

#[test]
fn a_question_is_asked_before_money_is_spent() {
    let Some(scene) = Scene::new(64) else { return };
    scene.market.add_offer(machine(36.0, Script::default()));
    let launch = scene.coordinator("launch").args([
        "--workers",
        "1",
        "--api-pace",
        "0.02",
        "--image",
        "some/image",
        "--max-hours",
        "1",
    ]);
    let said = both(&launch.output().expect(2));
    assert!(said.contains("pass --yes"), "{said}");
    assert_eq!(scene.creations(), 0);
}

#[test]
fn a_detached_launcher_goes_on_and_leaves_its_log() {
    let Some(scene) = Scene::new(240) else { return };
    scene.market.add_offer(machine(36.0, Script::default()));
    let said = scene.launch(1, 100).args(["--detach"]).output().expect(0);
    assert!(said.stdout().trim().parse::<u32>().is_ok(), "{}", said.stdout());
    let log = scene.path(&format!("{}.launch.log", scene.run));
    until("its end", || std::fs::read_to_string(&log).ok()?.contains("every box is gone").then_some(()));
    scene.check_ledger();
    assert_eq!(scene.merged().ids.len(), 225);
}

/// What our request has that none of the vendor's has, and the other way round, by method and path.
fn difference(ours: &Shape, theirs: &[Shape]) -> Option<(Vec<String>, Vec<String>)> {
    let same = |shape: &&Shape| shape.method == ours.method && shape.path == ours.path;
    let fields = |shape: &Shape| {
        let query = shape.query.iter().map(|(name, kind)| (format!("?{name}"), *kind));
        query.chain(shape.body.iter().map(|(name, kind)| (name.clone(), *kind))).collect::<BTreeMap<_, _>>()
    };
    let mine = fields(ours);
    let candidates = theirs.iter().filter(same).map(fields);
    let compared = candidates.map(|other| {
        let more = mine.iter().filter(|(name, kind)| other.get(*name) != Some(kind));
        let less = other.iter().filter(|(name, kind)| !mine.contains_key(*name) && **kind != Kind::Null);
        let names = |(name, _): (&String, &Kind)| name.clone();
        (more.map(names).collect::<Vec<_>>(), less.map(names).collect::<Vec<_>>())
    });
    compared.min_by_key(|(more, less)| more.len() + less.len())
}

#[test]
fn our_requests_are_the_vendors_but_for_what_is_meant() {
    let Some(scene) = Scene::new(96) else { return };
    let outbids =
        vec![tests::vast::Outbid { at: std::time::Duration::from_secs(4), min_bid: 40.0, lasts: None }];
    let bad = vec![("RIGGED_CHECK".to_owned(), "1".to_owned())];
    scene.market.add_offer(machine(36.0, Script { environment: bad, ..Script::default() }));
    scene.market.add_offer(machine(36.1, Script { outbids, ..Script::default() }));
    let mut launching = scene.start(scene.launch(1, 500).args(["--interruptible", "--bid", "60"]));
    launching.expect(0);
    let ledger = scene.market.ledger();
    let of_account: Vec<_> = ledger
        .arrivals
        .iter()
        .filter(|arrival| arrival.caller == tests::vast::Caller::Account && arrival.path.starts_with("/api"))
        .cloned()
        .collect();
    let (ours, theirs) = (shapes(&of_account), vendor::requests());
    let mut told = BTreeMap::new();
    for shape in &ours {
        let name = format!("{} {}", shape.method, shape.path);
        let (more, less) =
            difference(shape, &theirs).unwrap_or_else(|| panic!("the vendor's client has no request {name}"));
        println!("{name:<50} more: {:<60} less: {}", more.join(" "), less.join(" "));
        told.insert(name, more);
    }
    // Filters of a search are free; a creation also says which state is wanted.
    let search = told.remove("POST /api/v0/bundles/").unwrap();
    let filters = [
        "rented",
        "disk_space",
        "reliability2",
        "duration",
        "min_bid",
        "cuda_max_good",
        "compute_cap",
        "gpu_ram",
        "num_gpus",
        "gpu_name",
        "limit",
    ];
    assert!(search.iter().all(|name| filters.contains(&name.as_str())), "{search:?}");
    assert_eq!(told.remove("PUT /api/v0/asks/{id}/").unwrap(), ["target_state"]);
    for (name, more) in told {
        assert!(more.is_empty(), "{name} has {more:?}");
    }
    let wanted =
        ["GET /api/v1/instances/", "DELETE /api/v0/instances/{id}/", "PUT /api/v0/instances/bid_price/{id}/"];
    for name in wanted {
        assert!(ours.iter().any(|shape| format!("{} {}", shape.method, shape.path) == name), "{name}");
    }
}
