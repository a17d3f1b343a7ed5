//! The stand-in for Vast.ai held against the vendor's own client, PyPI `vastai`; and what that client sends.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::vast::vendor::{self, Client};
use tests::vast::{CreateAnswer, Load, OfferSpec, Script, Settings, StandIn, shapes};
use tests::wait::until;

fn market() -> StandIn {
    StandIn::start(Settings { pace: 0.0, ..Settings::default() })
}

fn spec() -> OfferSpec {
    let load = Load::After(Duration::from_millis(20));
    OfferSpec { script: Script { load, ..Script::default() }, ..OfferSpec::default() }
}

/// A call of nobody's client, answered with 200.
fn call(url: &str, key: &str, what: &str, body: &Value) -> Value {
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let header = format!("Authorization: Bearer {key}\r\n");
    let (status, answer) = tests::http::ask(port, what, &header, body.to_string().as_bytes()).unwrap();
    assert_eq!(status, 200, "{what}: {}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).unwrap()
}

/// Runs a command that must say this.
fn says(client: &Client, arguments: &[&str], expected: &str) {
    let output = client.run(&[arguments, &["--no-color"]].concat());
    assert!(output.code == Some(0) && output.out.contains(expected), "{arguments:?}: {output:?}");
}

fn search(client: &Client) {
    let query = "num_gpus=1 gpu_name=RTX_4090 cuda_vers>=13.0 compute_cap>=800 gpu_ram>=20 inet_down>500 verified=True";
    let search = ["search", "offers", query, "-o", "dph,id-", "--storage", "72"];
    let rows = client.json(&search);
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert!((rows[0]["dph_total"].as_f64().unwrap() - 0.415).abs() < 1e-9);
    assert!(
        (client.json(&[&search[..], &["--new", "-i"]].concat())[0]["dph_total"].as_f64().unwrap() - 0.215)
            .abs()
            < 1e-9
    );
    assert_eq!(client.json(&[&search[..], &["--limit", "1"]].concat()).as_array().unwrap().len(), 1);
    says(client, &search, "RTX_4090");
    assert_eq!(client.json(&["search", "offers", "gpu_name=RTX_5090"]), json!([]));
}

fn create(client: &Client, offer: u64, extra: &[&str]) -> u64 {
    let offer = offer.to_string();
    let arguments = [
        "create",
        "instance",
        &offer,
        "--image",
        "some/image:1",
        "--disk",
        "20",
        "--label",
        "fleet-r-0-aa",
        "--env",
        "-e GREETING=hello -p 8080:8080",
        "--onstart-cmd",
        "echo $GREETING from $CONTAINER_ID",
        "--ssh",
    ];
    let reply = client.json(&[&arguments[..], extra].concat());
    assert_eq!(reply["success"], json!(true));
    reply["new_contract"].as_u64().unwrap()
}

fn status(market: &StandIn, id: u64) -> Option<&'static str> {
    market.instances().into_iter().find(|rented| rented.id == id)?.status
}

fn live(client: &Client, market: &StandIn, id: u64) {
    let number = id.to_string();
    until("the box to have spoken", || market.log(id).contains("hello").then_some(()));
    let one = client.json(&["show", "instance", &number]);
    assert_eq!((&one["actual_status"], &one["label"]), (&json!("running"), &json!("fleet-r-0-aa")));
    assert_eq!(one["extra_env"], json!({"-p 8080:8080": "1", "GREETING": "hello"}));
    assert_eq!(one["is_bid"], json!(true));
    says(client, &["show", "instance", &number], "RTX_4090");
    says(client, &["label", "instance", &number, "fleet-r-0-bb"], "set to fleet-r-0-bb");
    says(client, &["logs", &number, "--tail", "50"], &format!("hello from {id}"));
    says(client, &["change", "bid", &number, "--price", "0.35"], "bid price changed");
    says(client, &["change", "bid", &number], "bid price changed");
    says(client, &["stop", "instance", &number], "stopping instance");
    assert_eq!(status(market, id), Some("stopped"));
    says(client, &["start", "instance", &number], "starting instance");
    assert_eq!(status(market, id), Some("running"));
}

fn list(client: &Client, expected: usize) {
    let rows = client.json(&["show", "instances"]);
    assert_eq!(rows.as_array().unwrap().len(), expected);
    let mut ids: Vec<u64> = rows.as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    let quiet = client.run(&["show", "instances", "-q"]).out;
    assert_eq!(quiet.lines().map(|line| line.parse::<u64>().unwrap()).collect::<Vec<_>>(), ids);
    ids.dedup();
    assert_eq!(ids.len(), expected);
    says(client, &["show", "instances", "--full"], &format!("Total: {expected} instances"));
    says(client, &["show", "instances", "--full", "-v", "--label", "fleet-r-0-bb"], "Total: 1 instances");
    let page = client.json(&["show", "instances", "--limit", "10", "--order-by", "start_date desc"]);
    assert_eq!(page["instances"].as_array().unwrap().len(), 10);
    let next = page["next_token"].as_str().unwrap();
    let page =
        client.json(&["show", "instances", "--limit", "25", "--next-token", next, "--status", "running"]);
    assert_eq!(page["total_instances"], json!(expected));
}

fn pay(client: &Client, market: &StandIn) {
    let user = client.json(&["show", "user"]);
    assert!(user["credit"].as_f64().unwrap() < 100.0 && user.get("api_key").is_none());
    says(client, &["show", "user"], "Credit");
    let page = client.json(&["show", "invoices-v1", "--charges", "--limit", "100"]);
    let amounts = page["results"].as_array().unwrap().iter().map(|row| row["amount"].as_f64().unwrap());
    assert!(amounts.sum::<f64>() <= market.charges("").dollars());
    assert_eq!(page["total"], json!(market.ledger().created("").len()));
    says(client, &["show", "invoices-v1", "--charges", "--full", "-l", "100"], "Showing");
    let tree = [
        "show",
        "invoices-v1",
        "-c",
        "-ct",
        "instance",
        "-f",
        "tree",
        "-v",
        "--full",
        "-l",
        "100",
        "--latest-first",
    ];
    says(client, &tree, "bandwidth");
}

fn refusals(client: &Client, market: &StandIn) {
    let gone =
        OfferSpec { script: Script { create: CreateAnswer::Taken(404), ..Script::default() }, ..spec() };
    let offer = market.add_offer(gone).to_string();
    let output = client.run(&["create", "instance", &offer, "--image", "i", "--disk", "20"]);
    assert!(output.err.contains("error 404: Instance type by id") && output.out.is_empty(), "{output:?}");
    let output = client.run(&["destroy", "instance", "1", "-y"]);
    assert!(output.err.contains("error 404: Instance 1 not found"), "{output:?}");
    let offer = market.add_offer(spec()).to_string();
    let output = client.run(&["create", "instance", &offer, "--image", "i", "--disk", "7", "--raw"]);
    let error: Value = serde_json::from_str(&output.err).unwrap();
    assert_eq!(error["status_code"], json!(400));
    let output = client.run(&["show", "instance", "1"]);
    assert!(output.code == Some(1) && output.err.contains("not found"), "{output:?}");
}

#[test]
fn the_vendors_client_works_with_the_stand_in_and_sends_what_is_recorded() {
    let market = market();
    let Some(client) = Client::new(&market) else { return };
    let offers: Vec<u64> = (0..3).map(|_| market.add_offer(spec())).collect();
    search(&client);
    let on_demand = create(&client, offers[0], &[]);
    let bid = create(&client, offers[1], &["--bid_price", "0.3", "--cancel-unavail"]);
    live(&client, &market, bid);
    for _ in 0..26 {
        let offer = market.add_offer(spec());
        let id = market.rent(offer, &json!({"image": "i", "disk": 8})).unwrap();
        until("it to run", || (status(&market, id) == Some("running")).then_some(()));
    }
    list(&client, 28);
    pay(&client, &market);
    says(&client, &["destroy", "instance", &on_demand.to_string(), "-y"], "destroying instance");
    assert_eq!(status(&market, on_demand), None);
    let arrivals = market.ledger().arrivals;
    let own = |body: &str| body.contains("\"image\":\"i\"");
    let sent: Vec<_> = arrivals.into_iter().filter(|arrival| !own(&arrival.body)).collect();
    let sent = shapes(&sent);
    for shape in &sent {
        println!("{shape}");
    }
    let recorded = vendor::requests();
    assert_eq!(sent, recorded, "now it sends:\n{}", serde_json::to_string_pretty(&sent).unwrap());

    refusals(&client, &market);
    let stranger = client.with_key("wrong");
    let output = stranger.run(&["show", "instances", "--raw"]);
    assert!(output.err.contains("404") && output.err.contains("Invalid user key"), "{output:?}");
}

#[test]
fn no_box_survives_a_process_that_is_killed() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_vast-stand-in"))
        .args(["--pace", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let value =
        |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
    let (url, key) = (value("VAST_URL="), value("VAST_API_KEY="));
    let offers = call(&url, &key, "POST /api/v0/bundles/", &json!({}));
    let offer = offers["offers"][0]["id"].as_u64().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("processes");
    let onstart = format!(
        "setsid sleep 1000 & env -i sleep 1000 & echo $$ > {0}.new; jobs -p >> {0}.new; mv {0}.new {0}; sleep 1000",
        file.display()
    );
    let body = json!({"client_id": "me", "image": "i", "disk": 8, "onstart": onstart});
    call(&url, &key, &format!("PUT /api/v0/asks/{offer}/"), &body);
    let processes = until("the box to run", || std::fs::read_to_string(&file).ok());
    let lives = |number: &str| {
        let state = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    let numbers: Vec<&str> = processes.split_whitespace().collect();
    assert!(numbers.len() >= 3 && numbers.iter().any(|number| lives(number)), "{processes}");
    process.kill().unwrap();
    process.wait().unwrap();
    until("all of them to die", || numbers.iter().all(|number| !lives(number)).then_some(()));
}
