//! Instances: coming up, being outbid, going offline, ending, and what it costs.

use serde_json::json;

use super::super::instance::Phase;
use super::super::ledger::{Caller, What};
use super::super::market::Effect;
use super::super::money::Money;
use super::super::script::{DestroyFailure, Load, Outbid, Script, Stage};
use super::{Bench, KEY, seconds, starts};

/// Up after ten seconds.
fn slow() -> Script {
    Script { load: Load::After(seconds(10.0)), ..Script::default() }
}

#[test]
fn an_instance_comes_up_in_stages_and_starts_once() {
    let mut bench = Bench::new();
    let id = bench.rent(slow(), json!({"env": {"A": "1", "-p 80:80": "1"}}));
    let first = bench.one(id);
    assert_eq!((&first["actual_status"], &first["intended_status"]), (&json!(null), &json!("running")));
    assert_eq!(first["extra_env"], json!([["-p 80:80", "1"], ["A", "1"]]));
    assert_eq!(first["start_date"], json!(1_800_000_000.0));
    assert!(bench.pass(1.5).is_empty());
    assert_eq!(bench.one(id)["actual_status"], "created");
    assert!(bench.pass(2.0).is_empty());
    let (loading, message) = (bench.one(id), bench.one(id)["status_msg"].clone());
    assert_eq!(loading["actual_status"], "loading");
    assert_eq!(loading["ports"], json!(null));
    assert!(bench.pass(3.0).is_empty());
    assert_ne!(bench.one(id)["status_msg"], message);
    assert_eq!(starts(&bench.pass(4.0)), 1);
    assert_eq!(bench.states(id).map(|state| state.as_str().unwrap().to_owned()), ["running"; 4]);
    assert!(bench.one(id)["ports"].is_object());
    assert!(bench.pass(1000.0).is_empty());
    let status = |what: &What| matches!(what, What::Status(_) | What::Started).then(|| format!("{what:?}"));
    let events = bench.market.ledger.of(id);
    let seen: Vec<_> =
        events.iter().filter_map(|event| Some((event.at.as_secs() % 100, status(&event.what)?))).collect();
    let expected = [
        (0, "Status(None)"),
        (1, "Status(Some(\"created\"))"),
        (2, "Status(Some(\"loading\"))"),
        (10, "Status(Some(\"running\"))"),
        (10, "Started"),
    ];
    assert_eq!(seen, expected.map(|(at, what)| (at, what.to_owned())));
}

#[test]
fn some_never_come_up() {
    let mut bench = Bench::new();
    let stuck = |stage| Script { load: Load::Stuck(stage), ..Script::default() };
    let scheduled = bench.rent(stuck(Stage::Scheduled), json!({}));
    let loading = bench.rent(stuck(Stage::Loading), json!({}));
    let message = "Error response from daemon: pull access denied for i".to_owned();
    let failed = bench.rent(Script { load: Load::Fails(message.clone()), ..Script::default() }, json!({}));
    let before = bench.one(loading)["status_msg"].clone();
    assert!(bench.pass(100_000.0).is_empty());
    assert_eq!(bench.one(scheduled)["actual_status"], json!(null));
    let after = bench.one(loading);
    assert_eq!((&after["actual_status"], &after["status_msg"]), (&json!("loading"), &before));
    assert_eq!(bench.one(failed)["status_msg"], json!(message));
}

#[test]
fn a_slow_one_moves_its_message_all_the_way() {
    let mut bench = Bench::new();
    let load = Load::Slowly { total: seconds(3600.0), message_every: seconds(60.0) };
    let id = bench.rent(Script { load, ..Script::default() }, json!({}));
    bench.pass(1000.0);
    let mut messages = Vec::new();
    for _ in 0..40 {
        messages.push(bench.one(id)["status_msg"].to_string());
        assert_eq!(starts(&bench.pass(60.0)), 0);
    }
    messages.dedup();
    assert_eq!(messages.len(), 40);
    assert_eq!(starts(&bench.pass(300.0)), 1);
}

#[test]
fn stopping_kills_and_starting_runs_the_script_anew() {
    let mut bench = Bench::new();
    let id = bench.rent(slow(), json!({}));
    bench.pass(10.0);
    assert_eq!(bench.change(id, json!({"state": "stopped"})), json!({"success": true}));
    assert_eq!(bench.market.take_effects(), [Effect::Kill(id)]);
    assert_eq!(bench.states(id).map(|state| state.as_str().unwrap().to_owned()), ["stopped"; 4]);
    bench.change(id, json!({"state": "running"}));
    assert_eq!(starts(&bench.market.take_effects()), 1);
    assert_eq!(bench.one(id)["actual_status"], "running");
    // One that was never up has to load first.
    let other = bench.rent(slow(), json!({"target_state": "stopped"}));
    assert!(bench.pass(100.0).is_empty());
    bench.change(other, json!({"state": "running"}));
    assert_eq!(starts(&bench.pass(9.0)), 0);
    assert_eq!(starts(&bench.pass(1.0)), 1);
}

fn outbid(at: f64, min_bid: f64, lasts: Option<f64>) -> Script {
    let outbids = vec![Outbid { at: seconds(at), min_bid, lasts: lasts.map(seconds) }];
    Script { outbids, ..slow() }
}

#[test]
fn an_outbid_instance_is_paused_and_wakes_up_by_itself() {
    let mut bench = Bench::new();
    let id = bench.rent(outbid(20.0, 0.9, Some(30.0)), json!({"price": 0.3}));
    assert_eq!(bench.one(id)["is_bid"], json!(true));
    assert_eq!(starts(&bench.pass(15.0)), 1);
    assert_eq!(bench.pass(5.0), [Effect::Kill(id)]);
    let states = bench.states(id);
    assert_eq!(states, [json!("exited"), json!("stopped"), json!("stopped"), json!("stopped")]);
    assert_eq!(bench.one(id)["min_bid"], json!(0.9));
    assert_eq!(starts(&bench.pass(29.0)), 0);
    assert_eq!(starts(&bench.pass(1.0)), 1);
    assert_eq!(bench.one(id)["min_bid"], json!(0.2));
    assert_eq!(bench.market.instances()[&id].phase, Phase::Running);
}

#[test]
fn a_higher_bid_wins_before_and_after() {
    let mut bench = Bench::new();
    let high = bench.rent(outbid(20.0, 0.9, None), json!({"price": 0.9}));
    let low = bench.rent(outbid(20.0, 0.9, None), json!({"price": 0.3}));
    let on_demand = bench.rent(outbid(20.0, 0.9, None), json!({}));
    bench.pass(15.0);
    assert_eq!(bench.pass(10.0), [Effect::Kill(low)]);
    for id in [high, on_demand] {
        assert_eq!(bench.one(id)["actual_status"], "running");
    }
    let path = format!("/api/v0/instances/bid_price/{low}/");
    bench.ask(200, "PUT", &path, json!({"client_id": "me", "price": 0.8}));
    assert!(bench.market.take_effects().is_empty());
    bench.ask(200, "PUT", &path, json!({"client_id": "me", "price": 0.9}));
    assert_eq!(starts(&bench.market.take_effects()), 1);
    // A bid that falls under the lowest is outbid at once; none at all is the lowest that runs.
    bench.ask(200, "PUT", &path, json!({"client_id": "me", "price": 0.1}));
    assert_eq!(bench.market.take_effects(), [Effect::Kill(low)]);
    bench.ask(200, "PUT", &path, json!({"client_id": "me", "price": null}));
    assert_eq!(starts(&bench.market.take_effects()), 1);
    bench.ask(400, "PUT", &format!("/api/v0/instances/bid_price/{on_demand}/"), json!({"price": 1.0}));
}

#[test]
fn a_start_while_outbid_is_queued_and_a_stop_ends_that() {
    let mut bench = Bench::new();
    let id = bench.rent(outbid(20.0, 0.9, Some(100.0)), json!({"price": 0.3}));
    bench.pass(30.0);
    let reply = bench.change(id, json!({"state": "running"}));
    assert_eq!((&reply["success"], &reply["error"]), (&json!(false), &json!("resources_unavailable")));
    assert_eq!(bench.states(id)[1..], [json!("stopped"), json!("running"), json!("running")]);
    bench.change(id, json!({"state": "stopped"}));
    bench.market.take_effects();
    assert_eq!(starts(&bench.pass(1000.0)), 0);
    assert_eq!(bench.states(id)[0], json!("stopped"));
}

#[test]
fn a_bid_that_is_too_low_from_the_first_makes_a_stopped_instance_or_none() {
    let mut bench = Bench::new();
    let id = bench.rent(slow(), json!({"price": 0.1}));
    assert_eq!(starts(&bench.pass(100.0)), 0);
    assert_eq!(bench.states(id)[1], json!("stopped"));
    let offer = bench.market.add_offer(super::OfferSpec::default());
    let body = super::order(json!({"price": 0.1, "cancel_unavail": true}));
    let reply = bench.ask(410, "PUT", &format!("/api/v0/asks/{offer}/"), body);
    assert_eq!(reply["error"], "no_such_ask");
    assert_eq!(bench.market.instances().len(), 1);
}

#[test]
fn one_that_goes_offline_dies_and_is_billed_until_it_is_destroyed() {
    let mut bench = Bench::new();
    let script = Script { offline_at: Some(seconds(60.0)), load: Load::After(seconds(0.0)), ..slow() };
    let id = bench.rent(script, json!({}));
    assert_eq!(starts(&bench.market.take_effects()), 1);
    assert_eq!(bench.pass(60.0), [Effect::Kill(id)]);
    assert_eq!(bench.states(id)[0], json!("offline"));
    bench.pass(3540.0);
    bench.ask(200, "DELETE", &format!("/api/v0/instances/{id}/"), json!({}));
    bench.pass(5000.0);
    // One hour of GPU at $0.4 and of 72 GB at $0.15 a month, one GB at $0.002.
    assert_eq!(bench.market.charges("fleet-"), Money::of_dollars(0.4 + 0.015 + 0.002));
}

#[test]
fn the_bill_counts_every_state_at_its_own_price() {
    let mut bench = Bench::new();
    let id = bench.rent(slow(), json!({"price": 0.36}));
    bench.pass(10.0);
    bench.pass(100.0);
    bench.change(id, json!({"state": "stopped"}));
    bench.pass(1000.0);
    bench.change(id, json!({"state": "running"}));
    bench.pass(50.0);
    bench.ask(200, "PUT", &format!("/api/v0/instances/bid_price/{id}/"), json!({"price": 0.72}));
    bench.pass(10.0);
    let bill = bench.market.instances()[&id].bill;
    // $0.36/h are 100,000 nano-dollars a second; the disk's $0.015/h are 4166.67.
    assert_eq!(bill.gpu.amount(), Money(150 * 100_000 + 10 * 200_000));
    assert_eq!(bill.disk.amount(), Money(1170 * 15_000_000 / 3600));
    assert_eq!(bill.bandwidth, Money::of_dollars(0.002));
    assert_eq!(bench.market.charges("fleet-r-0"), bill.total());
    assert_eq!(bench.market.charges("fleet-r-1"), Money(0));
    let credit = 100.0 - bill.total().dollars();
    assert!(
        (bench.ask(200, "GET", "/api/v0/users/current/", json!(null))["credit"].as_f64().unwrap() - credit)
            .abs()
            < 1e-9
    );
}

#[test]
fn the_charges_are_those_amounts() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let id = bench.rent(slow(), json!({}));
        bench.pass(20.0);
        bench.ask(200, "DELETE", &format!("/api/v0/instances/{id}/"), json!({}));
    }
    bench.rent(slow(), json!({}));
    bench.pass(5.0);
    let (mut amounts, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path =
            format!("/api/v0/charges/?limit=2&select_filters={{\"type\":{{\"in\":[\"instance\"]}}}}{token}");
        let page = bench.ask(200, "GET", &path, json!(null));
        assert_eq!(page["total"], json!(4));
        for row in page["results"].as_array().unwrap() {
            let parts = row["items"].as_array().unwrap().iter();
            let parts: f64 = parts.map(|part| part["amount"].as_f64().unwrap()).sum();
            assert!((parts - row["amount"].as_f64().unwrap()).abs() < 1e-12);
            assert!(row["source"].as_str().unwrap().starts_with("instance-"));
            amounts.push(row["amount"].as_f64().unwrap());
        }
        pages += 1;
        match page["next_token"].as_str() {
            Some(next) => token = format!("&after_token={next}"),
            None => break,
        }
    }
    assert_eq!((pages, amounts.len()), (2, 4));
    assert!((amounts.iter().sum::<f64>() - bench.market.charges("").dollars()).abs() < 1e-12);
    let later = "/api/v0/charges/?select_filters={\"day\":{\"gte\":1800000045}}";
    assert_eq!(bench.ask(200, "GET", later, json!(null))["total"], json!(2));
}

#[test]
fn destroys_fail_lie_and_linger_as_the_machine_has_it() {
    let mut bench = Bench::new();
    let destroy_failures = vec![DestroyFailure::ServerError, DestroyFailure::Refused, DestroyFailure::Lie];
    let id = bench.rent(Script { destroy_failures, lingers: seconds(40.0), ..slow() }, json!({}));
    bench.pass(20.0);
    let path = format!("/api/v0/instances/{id}/");
    bench.ask(500, "DELETE", &path, json!({}));
    assert_eq!(bench.ask(200, "DELETE", &path, json!({}))["success"], json!(false));
    assert_eq!(bench.ask(200, "DELETE", &path, json!({}))["success"], json!(true));
    assert!(bench.market.take_effects().is_empty());
    assert_eq!(bench.ask(200, "DELETE", &path, json!({}))["success"], json!(true));
    assert_eq!(bench.market.take_effects(), [Effect::Kill(id)]);
    bench.pass(39.0);
    assert!(bench.one(id).is_object());
    assert_eq!(bench.market.ledger.alive("fleet-"), [id]);
    assert_eq!(bench.pass(1.0), [Effect::Erase(id)]);
    assert!(bench.one(id).is_null());
    assert_eq!(bench.ask(404, "DELETE", &path, json!({}))["error"], "no_such_instance");
    let asked = bench.market.ledger.of(id);
    let asked = asked.iter().filter_map(|event| match event.what {
        What::DestroyAsked { caller: Caller::Account, granted } => Some(granted),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [false, false, true, true]);
    assert!(bench.market.ledger.alive("fleet-").is_empty());
}

#[test]
fn a_machine_comes_back_under_another_id() {
    let mut bench = Bench::new();
    let offer = bench.market.add_offer(super::OfferSpec { machine_id: 77, ..super::OfferSpec::default() });
    let path = format!("/api/v0/asks/{offer}/");
    let id = bench.ask(200, "PUT", &path, super::order(json!({})))["new_contract"].as_u64().unwrap();
    assert!(bench.market.offers().is_empty());
    assert_eq!(bench.ask(404, "PUT", &path, super::order(json!({})))["error"], "no_such_ask");
    bench.ask(200, "DELETE", &format!("/api/v0/instances/{id}/"), json!({}));
    let offers = bench.market.offers();
    assert_eq!(offers.values().map(|spec| spec.machine_id).collect::<Vec<_>>(), [77]);
    assert!(!offers.contains_key(&offer));
}

#[test]
fn a_script_that_ends_leaves_an_ssh_box_running_and_ends_an_args_box() {
    let mut bench = Bench::new();
    let ssh = bench.rent(Script { load: Load::After(seconds(0.0)), ..Script::default() }, json!({}));
    let args = bench
        .rent(Script { load: Load::After(seconds(0.0)), ..Script::default() }, json!({"runtype": "args"}));
    for id in [ssh, args] {
        bench.market.script_ended(id, Some(3), bench.now);
    }
    assert_eq!(bench.one(ssh)["actual_status"], "running");
    assert_eq!(bench.one(args)["actual_status"], "exited");
    let ended = |event: &&super::super::ledger::Event| event.what == What::ScriptEnded(Some(3));
    assert_eq!(bench.market.ledger.events.iter().filter(ended).count(), 2);
}

#[test]
fn a_host_adds_its_own_variables() {
    let mut bench = Bench::new();
    let environment = vec![("FLEET_WORKER_ARGS".to_owned(), "--store evil".to_owned())];
    let script = Script { environment: environment.clone(), load: Load::After(seconds(0.0)), ..slow() };
    let id = bench.rent(script, json!({"env": {"FLEET_WORKER_ARGS": "good"}}));
    let effects = bench.market.take_effects();
    let [Effect::Start(container)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((container.instance, &container.environment), (id, &environment));
    assert!(!container.key.is_empty() && !container.key.contains(KEY));
}
