//! Calls: searches, pages, keys, limits, and the ways in which a create call goes.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::ledger::{Caller, What};
use super::super::offer::OfferSpec;
use super::super::script::{CreateAnswer, Script};
use super::{Bench, KEY, order, seconds, value};

fn ids(offers: &Value) -> Vec<u64> {
    offers["offers"].as_array().unwrap().iter().map(|row| row["machine_id"].as_u64().unwrap()).collect()
}

fn shop() -> Bench {
    let mut bench = Bench::new();
    for (machine_id, gpu_name, price, storage_cost) in
        [(1, "RTX 4090", 0.40, 0.1), (2, "RTX 3090", 0.20, 2.0), (3, "RTX 4090", 0.30, 0.1)]
    {
        let gpu_name = gpu_name.to_owned();
        bench.market.add_offer(OfferSpec {
            machine_id,
            gpu_name,
            price,
            storage_cost,
            ..OfferSpec::default()
        });
    }
    bench
}

#[test]
fn a_search_filters_orders_and_limits() {
    let mut bench = shop();
    let mut search = |query: Value| ids(&bench.ask(200, "POST", "/api/v0/bundles/", query));
    assert_eq!(search(json!({"order": [["dph_total", "asc"]], "allocated_storage": 8})), [2, 3, 1]);
    // The disk counts: 216 GB at $2 a month are $0.6/h.
    assert_eq!(search(json!({"order": [["dph_total", "asc"]], "allocated_storage": 216})), [3, 1, 2]);
    let cheap = json!({"gpu_name": {"eq": "RTX 4090"}, "order": [["dph_total", "desc"]], "limit": 1});
    assert_eq!(search(cheap), [1]);
    let needs = json!({"cuda_max_good": {"gte": 13.0}, "compute_cap": {"gte": 800}, "verified": {"eq": true},
        "external": {"eq": false}, "rentable": {"eq": true}, "dph_total": {"lt": 0.35}, "order": [["id", "asc"]]});
    assert_eq!(search(needs), [2, 3]);
}

#[test]
fn prices_follow_the_type_and_the_disk() {
    let mut bench = shop();
    let query = |kind: &str| json!({"type": kind, "machine_id": {"eq": 1}, "allocated_storage": 72});
    let row = bench.ask(200, "POST", "/api/v0/bundles/", query("on-demand"))["offers"][0].clone();
    assert_eq!((&row["dph_base"], &row["is_bid"]), (&json!(0.4), &json!(false)));
    assert!((row["dph_total"].as_f64().unwrap() - 0.41).abs() < 1e-12);
    let asks = json!({"select_cols": ["*"], "q": query("bid")});
    let row = bench.ask(200, "PUT", "/api/v0/search/asks/", asks)["offers"][0].clone();
    assert_eq!((&row["dph_base"], &row["min_bid"], &row["is_bid"]), (&json!(0.2), &json!(0.2), &json!(true)));
}

#[test]
fn a_search_that_is_not_understood_is_refused() {
    let mut bench = shop();
    for query in [
        json!({"gpu": {"eq": 1}}),
        json!({"type": "gift"}),
        json!({"limit": "x"}),
        json!([]),
        json!({"order": [["id"]]}),
        json!({"num_gpus": {"about": 1}}),
    ] {
        assert_eq!(bench.ask(400, "POST", "/api/v0/bundles/", query)["error"], "invalid_args");
    }
}

#[test]
fn a_search_shows_64_offers_at_most() {
    let mut bench = Bench::new();
    for _ in 0..70 {
        bench.market.add_offer(OfferSpec::default());
    }
    assert_eq!(ids(&bench.ask(200, "POST", "/api/v0/bundles/", json!({"limit": 1000}))).len(), 64);
}

#[test]
fn a_create_call_can_go_wrong_in_every_way() {
    let mut bench = Bench::new();
    let mut create = |create| {
        let script = Script { create, ..Script::default() };
        let offer = bench.market.add_offer(OfferSpec { script, ..OfferSpec::default() });
        let before = bench.market.instances().len();
        let answer = bench.call(Some(KEY), "PUT", &format!("/api/v0/asks/{offer}/"), &order(json!({})));
        (answer.status, answer.delay, bench.market.instances().len() - before, value(answer))
    };
    let (status, _, made, reply) = create(CreateAnswer::Success);
    assert_eq!((status, made, &reply["success"]), (Some(200), 1, &json!(true)));
    assert!(reply["new_contract"].is_u64() && reply["instance_api_key"].is_string());
    let (status, _, made, reply) = create(CreateAnswer::FailureButExists);
    assert_eq!((status, made, &reply["success"]), (Some(200), 1, &json!(false)));
    assert!(reply["new_contract"].is_u64());
    let (status, _, made, _) = create(CreateAnswer::ReplyLost);
    assert_eq!((status, made), (None, 1));
    let (status, delay, made, _) = create(CreateAnswer::Late(seconds(5.0)));
    assert_eq!((status, delay, made), (Some(200), seconds(5.0), 1));
    for gone in [404, 410, 400] {
        let (status, _, made, reply) = create(CreateAnswer::Taken(gone));
        assert_eq!((status, made, &reply["error"]), (Some(gone), 0, &json!("no_such_ask")));
    }
    let (status, _, made, _) = create(CreateAnswer::ServerError);
    assert_eq!((status, made), (Some(500), 0));
    assert_eq!(bench.market.ledger.created("fleet-").len(), 4);
    let made_by = bench.market.ledger.events.iter().find_map(|event| match event.what {
        What::Created { request, .. } => Some(request),
        _ => None,
    });
    assert!(bench.market.ledger.arrivals[made_by.unwrap()].path.starts_with("/api/v0/asks/"));
}

#[test]
fn limits_of_a_create_call_hold() {
    let mut bench = shop();
    let offer = *bench.market.offers().keys().next().unwrap();
    let mut refused =
        |extra| bench.ask(400, "PUT", &format!("/api/v0/asks/{offer}/"), order(extra))["error"].clone();
    assert_eq!(refused(json!({"onstart": "x".repeat(4097)})), "invalid_args");
    assert_eq!(refused(json!({"env": {"A": "x".repeat(32_768)}})), "invalid_args");
    assert_eq!(refused(json!({"label": "x".repeat(257)})), "invalid_args");
    assert_eq!(refused(json!({"disk": 7})), "invalid_args");
    assert_eq!(refused(json!({"disk": 501})), "invalid_args");
    assert!(bench.market.instances().is_empty());
}

#[test]
fn the_list_comes_in_pages_that_lose_nothing() {
    let mut bench = Bench::new();
    let made: Vec<u64> = (0..60).map(|_| bench.rent(Script::default(), json!({}))).collect();
    bench.rent(Script::default(), json!({"label": "else"}));
    let filters = "select_filters={\"label\":{\"in\":[\"fleet-r-0-aa\"]}}";
    let (mut seen, mut token, mut pages): (Vec<u64>, _, _) = (Vec::new(), String::new(), 0);
    loop {
        let page = bench.ask(200, "GET", &format!("/api/v1/instances/?{filters}{token}"), json!(null));
        assert_eq!(page["total_instances"], json!(60));
        seen.extend(page["instances"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()));
        pages += 1;
        // One that goes between two pages hides none of the others.
        if pages == 1 {
            bench.ask(200, "DELETE", &format!("/api/v0/instances/{}/", made[24]), json!({}));
            bench.rent(Script::default(), json!({}));
        }
        match page["next_token"].as_str() {
            Some(next) => token = format!("&after_token={next}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 61));
    assert_eq!(seen[..60], made);
    let newest =
        "/api/v1/instances/?limit=1&order_by=[{\"col\":\"id\",\"dir\":\"desc\"}]&select_cols=[\"id\"]";
    let page = bench.ask(200, "GET", newest, json!(null));
    assert_eq!(page["instances"], json!([{"id": seen[60]}]));
    assert_eq!(page["label_counts"], json!({"else": 1, "fleet-r-0-aa": 60}));
    for bad in ["limit=26", "limit=0", "after_token=x", "order_by=id", "select_filters={\"x\":{}}"] {
        bench.ask(400, "GET", &format!("/api/v1/instances/?{bad}"), json!(null));
    }
    assert_eq!(bench.ask(410, "GET", "/api/v0/instances/", json!(null))["success"], json!(false));
    assert_eq!(bench.ask(200, "GET", "/api/v0/instances/1/", json!(null)), json!({"instances": null}));
}

#[test]
fn keys_open_what_is_theirs_alone() {
    let mut bench = Bench::new();
    let own = bench.rent(Script::default(), json!({}));
    let other = bench.rent(Script::default(), json!({}));
    let key = bench.market.instances()[&own].key.clone();
    let path = |id: u64| format!("/api/v0/instances/{id}/");
    let status = |bench: &mut Bench, key: Option<&str>, method: &str, path: &str, body: Value| {
        let answer = bench.call(key, method, path, &body);
        let status = answer.status.unwrap();
        assert!(status == 200 || value(answer)["error"] == "auth_error");
        status
    };
    assert_eq!(status(&mut bench, None, "GET", "/api/v0/users/current", json!(null)), 401);
    assert_eq!(status(&mut bench, Some("wrong"), "GET", "/api/v0/users/current", json!(null)), 404);
    for (method, path) in [
        ("GET", "/api/v1/instances/".to_owned()),
        ("GET", path(own)),
        ("DELETE", path(other)),
        ("PUT", path(other)),
        ("PUT", "/api/v0/asks/1/".to_owned()),
        ("GET", "/api/v0/users/current/".to_owned()),
    ] {
        assert_eq!(status(&mut bench, Some(&key), method, &path, json!({})), 403, "{method} {path}");
    }
    assert_eq!(status(&mut bench, Some(&key), "PUT", &path(own), json!({"label": "mine"})), 200);
    assert_eq!(status(&mut bench, Some(&key), "PUT", &path(own), json!({"state": "stopped"})), 200);
    assert_eq!(status(&mut bench, Some(&key), "PUT", &path(own), json!({"state": "running"})), 200);
    assert_eq!(status(&mut bench, Some(&key), "DELETE", &path(own), json!({})), 200);
    assert_eq!(status(&mut bench, Some(&key), "DELETE", &path(own), json!({})), 404);
    assert_eq!(bench.market.instances().keys().collect::<Vec<_>>(), [&other]);
    let asked = What::DestroyAsked { caller: Caller::Instance(own), granted: true };
    assert!(bench.market.ledger.of(own).iter().any(|event| event.what == asked));
    let callers: Vec<Caller> = bench.market.ledger.arrivals.iter().map(|arrival| arrival.caller).collect();
    assert!(callers.contains(&Caller::Nobody) && callers.contains(&Caller::Account));
}

#[test]
fn labels_and_states_are_checked() {
    let mut bench = Bench::new();
    let id = bench.rent(Script::default(), json!({}));
    bench.change(id, json!({"label": "x".repeat(256)}));
    assert_eq!(bench.one(id)["label"], json!("x".repeat(256)));
    for body in [
        json!({"label": "x".repeat(257)}),
        json!({"label": 1}),
        json!({"state": "paused"}),
        json!({}),
        json!({"states": "stopped"}),
    ] {
        bench.ask(400, "PUT", &format!("/api/v0/instances/{id}/"), body);
    }
    bench.ask(404, "PUT", "/api/v0/instances/1/", json!({"state": "stopped"}));
    bench.ask(404, "PUT", "/api/v0/instances/bid_price/1/", json!({"price": 1}));
    bench.ask(404, "GET", "/api/v9/", json!(null));
    assert_eq!(bench.call(Some(KEY), "PUT", "/api/v0/asks/1/", &json!("{")).status, Some(400));
}

#[test]
fn a_log_is_missing_then_empty_then_there() {
    let mut bench = Bench::new();
    bench.market.settings.log_empty = 1;
    bench.market.settings.url = "http://here".to_owned();
    let id = bench.rent(Script::default(), json!({}));
    let reply = bench.ask(200, "PUT", &format!("/api/v0/instances/request_logs/{id}"), json!({"tail": "50"}));
    let path = reply["result_url"].as_str().unwrap().strip_prefix("http://here").unwrap().to_owned();
    let answers: Vec<Answer> = (0..4).map(|_| bench.call(None, "GET", &path, &json!(null))).collect();
    assert_eq!(answers.iter().map(|answer| answer.status.unwrap()).collect::<Vec<_>>(), [404, 404, 200, 200]);
    let bodies: Vec<Value> = answers.into_iter().map(value).collect();
    assert_eq!(bodies[2..], [json!({"text": ""}), json!({"log": id, "lines": 50})]);
    assert_eq!(bench.call(None, "GET", "/results/99-C.1.log", &json!(null)).status, Some(404));
    bench.ask(400, "PUT", &format!("/api/v0/instances/request_logs/{id}/"), json!({"tail": "all"}));
}

#[test]
fn calls_that_come_too_early_get_429_with_and_without_a_time() {
    let mut bench = Bench::with_pace(1.0);
    let path = "/api/v0/instances/1/";
    bench.ask(200, "GET", path, json!(null));
    let early = |bench: &mut Bench| {
        let answer = bench.call(Some(KEY), "GET", path, &json!(null));
        (answer.status, answer.retry_after, value(answer)["text"].is_string())
    };
    bench.now += Duration::from_millis(500);
    assert_eq!(early(&mut bench), (Some(429), Some(2), true));
    assert_eq!(early(&mut bench), (Some(429), None, true));
    bench.now += Duration::from_millis(1500);
    bench.ask(200, "GET", path, json!(null));
}
