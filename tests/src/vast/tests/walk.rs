//! Random lives: whatever happens in whatever order, time goes on and the books are right.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::super::ledger::What;
use super::super::money::Money;
use super::super::script::{CreateAnswer, DestroyFailure, Load, Outbid, Script, Stage};
use super::{Bench, KEY, OfferSpec, order, seconds};

fn script(random: &mut StdRng) -> Script {
    let mut time = || seconds(random.random_range(0.0..100.0));
    let loads = [
        Load::After(time()),
        Load::Slowly { total: time(), message_every: time() },
        Load::Stuck(Stage::Created),
        Load::After(seconds(0.0)),
    ];
    let outbids = [0.1, 0.5].map(|min_bid| Outbid { at: time(), min_bid, lasts: Some(time()) });
    let (offline, lingers) = (time(), time());
    Script {
        load: loads[random.random_range(0..loads.len())].clone(),
        create: [CreateAnswer::Success, CreateAnswer::ReplyLost][random.random_range(0..2)],
        outbids: outbids[..random.random_range(0..=2)].to_vec(),
        offline_at: random.random_bool(0.2).then_some(offline),
        destroy_failures: vec![DestroyFailure::Refused; random.random_range(0..3)],
        lingers: if random.random_bool(0.5) { lingers } else { seconds(0.0) },
        ..Script::default()
    }
}

fn step(bench: &mut Bench, random: &mut StdRng) {
    let instances: Vec<u64> = bench.market.instances().keys().copied().collect();
    let id = if instances.is_empty() { 1 } else { instances[random.random_range(0..instances.len())] };
    let path = format!("/api/v0/instances/{id}/");
    let (method, path, body) = match random.random_range(0..7) {
        0 => {
            let script = script(random);
            let offer = bench.market.add_offer(OfferSpec { script, ..OfferSpec::default() });
            let price =
                if random.random_bool(0.7) { json!(random.random_range(0.1..0.6)) } else { json!(null) };
            ("PUT", format!("/api/v0/asks/{offer}/"), order(json!({"price": price})))
        }
        1 => ("DELETE", path, json!({})),
        2 => ("PUT", path, json!({"state": "stopped"})),
        3 => ("PUT", path, json!({"state": "running"})),
        4 => (
            "PUT",
            format!("/api/v0/instances/bid_price/{id}/"),
            json!({"price": random.random_range(0.1..0.6)}),
        ),
        _ => return drop(bench.pass(random.random_range(0.0..40.0))),
    };
    bench.call(Some(KEY), method, &path, &body);
}

#[test]
fn the_books_are_right_whatever_happens() {
    for seed in 0..100 {
        let (mut bench, mut random) = (Bench::new(), StdRng::seed_from_u64(seed));
        let mut billed = Money::default();
        for _ in 0..150 {
            step(&mut bench, &mut random);
            bench.pass(0.0);
            let now = bench.market.charges("");
            assert!(now >= billed, "seed {seed}: a bill went down");
            billed = now;
            let waits = bench.market.next_event().is_none_or(|at| at > bench.now);
            assert!(waits, "seed {seed}: something that is due has not happened");
        }
        let listed: Vec<u64> = bench.market.instances().keys().copied().collect();
        assert_eq!(bench.market.ledger.alive(""), listed, "seed {seed}");
        let page = bench.ask(200, "GET", "/api/v0/charges/", json!(null));
        let rows = page["results"].as_array().unwrap();
        let listed: f64 = rows.iter().map(|row| row["amount"].as_f64().unwrap()).sum();
        assert!(page["next_token"].is_null() && (listed - billed.dollars()).abs() < 1e-9, "seed {seed}");
        let events = &bench.market.ledger.events;
        assert!(events.is_sorted_by_key(|event| event.at), "seed {seed}: the ledger is out of order");
        for event in events.iter().filter(|event| event.what == What::Gone) {
            let last = bench.market.ledger.of(event.instance).last().map(|event| event.what.clone());
            assert_eq!(last, Some(What::Gone), "seed {seed}: something became of an instance that is gone");
        }
    }
}
