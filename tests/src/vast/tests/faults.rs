//! What goes wrong for the whole account.

use serde_json::{Value, json};

use super::super::answer::{Answer, Body, ErrorStyle};
use super::super::fault::{Broken, Fault, Faults};
use super::super::offer::OfferSpec;
use super::super::script::Script;
use super::{Bench, KEY, order, seconds, value};

fn list(bench: &mut Bench) -> Answer {
    bench.call(Some(KEY), "GET", "/api/v1/instances/", &json!(null))
}

#[test]
fn a_list_breaks_in_every_way_and_nothing_else_does() {
    let mut bench = Bench::new();
    let id = bench.rent(Script::default(), json!({}));
    let mut seen = |broken| {
        bench.market.set_fault(Fault::List(broken), bench.now);
        assert!(bench.one(id).is_object());
        let answer = list(&mut bench);
        (answer.status, answer.body)
    };
    let (status, body) = seen(Broken::Status(503));
    assert!(status == Some(503) && matches!(body, Body::Text("text/plain; charset=utf-8", _)));
    assert_eq!(seen(Broken::Closed).0, None);
    assert!(matches!(seen(Broken::Html), (Some(200), Body::Text("text/html", _))));
    assert_eq!(seen(Broken::WrongShape), (Some(200), Body::Json(json!({"success": true}))));
    assert_eq!(seen(Broken::EmptyBody), (Some(200), Body::Text("application/json", String::new())));
    let (_, Body::Text(_, half)) = seen(Broken::Truncated) else { panic!("no text") };
    assert!(half.starts_with('{') && serde_json::from_str::<Value>(&half).is_err());
    bench.market.faults = Faults::default();
    assert_eq!(value(list(&mut bench))["total_instances"], json!(1));
}

#[test]
fn later_pages_break_alone() {
    let mut bench = Bench::new();
    for _ in 0..26 {
        bench.rent(Script::default(), json!({}));
    }
    bench.market.set_fault(Fault::LaterPages(Broken::EmptyBody), bench.now);
    let first = value(list(&mut bench));
    let next = format!("/api/v1/instances/?after_token={}", first["next_token"].as_str().unwrap());
    let second = bench.call(Some(KEY), "GET", &next, &json!(null));
    assert_eq!(second.body, Body::Text("application/json", String::new()));
}

#[test]
fn a_list_that_lags_lacks_the_newest() {
    let mut bench = Bench::new();
    bench.market.set_fault(Fault::ListLags(seconds(10.0)), bench.now);
    bench.rent(Script::default(), json!({}));
    assert_eq!(value(list(&mut bench))["total_instances"], json!(0));
    bench.pass(10.0);
    assert_eq!(value(list(&mut bench))["total_instances"], json!(1));
}

#[test]
fn with_everything_down_nothing_is_done() {
    let mut bench = Bench::new();
    let id = bench.rent(Script::default(), json!({}));
    bench.market.set_fault(Fault::Everything(Broken::Closed), bench.now);
    assert_eq!(bench.call(Some(KEY), "DELETE", &format!("/api/v0/instances/{id}/"), &json!({})).status, None);
    assert_eq!(bench.market.instances().len(), 1);
    assert_eq!(bench.market.ledger.arrivals.last().unwrap().status, None);
}

#[test]
fn replies_are_late_and_calls_are_too_many() {
    let mut bench = Bench::new();
    bench.market.set_fault(Fault::Delay(seconds(3.0)), bench.now);
    bench.market.set_fault(Fault::TooMany(3), bench.now);
    let answers: Vec<Answer> = (0..4).map(|_| list(&mut bench)).collect();
    assert!(answers.iter().all(|answer| answer.delay == seconds(3.0)));
    let seen: Vec<_> = answers.iter().map(|answer| (answer.status.unwrap(), answer.retry_after)).collect();
    assert_eq!(seen, [(429, Some(1)), (429, None), (429, Some(1)), (200, None)]);
}

#[test]
fn without_credit_nothing_is_rented() {
    let mut bench = Bench::new();
    let first = bench.rent(Script::default(), json!({}));
    bench.pass(3600.0);
    bench.market.set_fault(Fault::Credit(0.3), bench.now);
    assert!((bench.market.credit() - 0.3).abs() < 1e-9);
    bench.pass(3600.0);
    assert!(bench.market.credit() < 0.0);
    let offer = bench.market.add_offer(OfferSpec::default());
    let reply = bench.ask(400, "PUT", &format!("/api/v0/asks/{offer}/"), order(json!({})));
    assert_eq!(reply["error"], "insufficient_credit");
    assert_eq!(bench.market.ledger.created(""), [first]);
}

#[test]
fn refusals_are_written_in_many_ways() {
    let mut bench = Bench::new();
    let mut refusal = |style| {
        bench.market.set_fault(Fault::Errors(style), bench.now);
        bench.ask(404, "DELETE", "/api/v0/instances/1/", json!({}))
    };
    let message = "Instance 1 not found.";
    assert_eq!(
        refusal(ErrorStyle::Full),
        json!({"success": false, "error": "no_such_instance", "msg": message})
    );
    assert_eq!(refusal(ErrorStyle::NoName), json!({"success": false, "msg": message}));
    assert_eq!(refusal(ErrorStyle::NoMessage), json!({"success": false, "error": "no_such_instance"}));
    assert_eq!(refusal(ErrorStyle::Plain), json!({"text": message}));
    let mixed: Vec<String> = (0..5).map(|_| refusal(ErrorStyle::Mixed).to_string()).collect();
    let mut different = mixed.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 5, "{mixed:?}");
}
