//! Boxes as real processes, over real HTTP.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::fault::{Broken, Fault};
use super::super::ledger::What;
use super::super::market::Settings;
use super::super::offer::OfferSpec;
use super::super::script::{CreateAnswer, Load, Outbid, Script};
use super::super::stand_in::{Rented, StandIn};
use super::order;
use crate::http;
use crate::wait::until;

fn market() -> StandIn {
    StandIn::start(Settings { pace: 0.0, ..Settings::default() })
}

fn quick() -> Script {
    Script { load: Load::After(Duration::from_millis(20)), ..Script::default() }
}

/// A call as somebody with this key makes it: the status and the body.
fn call(market: &StandIn, key: &str, what: &str, body: &Value) -> Option<(u16, Vec<u8>)> {
    let port = market.url().rsplit(':').next().unwrap().parse().unwrap();
    http::ask(port, what, &format!("Authorization: Bearer {key}\r\n"), body.to_string().as_bytes())
}

fn rent(market: &StandIn, script: Script, extra: Value) -> u64 {
    let offer = market.add_offer(OfferSpec { script, ..OfferSpec::default() });
    let (status, body) =
        call(market, market.key(), &format!("PUT /api/v0/asks/{offer}/"), &order(extra)).unwrap();
    assert_eq!(status, 200);
    serde_json::from_slice::<Value>(&body).unwrap()["new_contract"].as_u64().unwrap()
}

fn rented(market: &StandIn, id: u64) -> Option<Rented> {
    market.instances().into_iter().find(|rented| rented.id == id)
}

/// Waits for a line that a box prints.
fn printed(market: &StandIn, id: u64, line: &str) {
    until(line, || market.log(id).lines().any(|printed| printed == line).then_some(()));
}

fn lives(process: &str) -> bool {
    Path::new("/proc").join(process).join("environ").exists()
        && std::fs::read(format!("/proc/{process}/environ")).is_ok_and(|bytes| !bytes.is_empty())
}

#[test]
fn a_box_sees_its_own_environment_and_folder_alone() {
    let market = market();
    let script = Script { environment: vec![("ADDED".to_owned(), "by the host".to_owned())], ..quick() };
    let onstart = "env | cut -d= -f1 | grep -v -e '^_$' -e PWD -e SHLVL | sort | tr '\\n' ' '; echo; pwd; echo $HOME $TMPDIR\n\
        echo \"$GIVEN, $ADDED\"; echo wrong >&2; echo end";
    let env = json!({"GIVEN": "a b", "ADDED": "by us", "-p 80:80": "1"});
    let id = rent(&market, script, json!({"onstart": onstart, "env": env}));
    printed(&market, id, "end");
    let home = rented(&market, id).unwrap().folder.display().to_string();
    let expected = format!(
        "ADDED CONTAINER_API_KEY CONTAINER_ID GIVEN HOME PATH TMPDIR \n{home}\n{home} {home}/tmp\na b, by the host\nwrong\nend\n"
    );
    assert_eq!(market.log(id), expected);
    let ended =
        || market.ledger().of(id).iter().any(|event| event.what == What::ScriptEnded(Some(0))).then_some(());
    until("the end of the script to be noted", ended);
    assert_eq!(rented(&market, id).unwrap().status, Some("running"));
}

#[test]
fn a_folder_survives_a_stop_and_processes_do_not() {
    let market = market();
    // One leaves the group, as a watchdog might; the other stays in it.
    let onstart = "echo life >> lives; cat lives | wc -l\nsetsid sleep 1000 & echo $! > stray; echo $$ > leader; echo up; sleep 1000";
    let id = rent(&market, quick(), json!({"onstart": onstart}));
    printed(&market, id, "up");
    let home = rented(&market, id).unwrap().folder;
    let process = |name| std::fs::read_to_string(home.join(name)).unwrap().trim().to_owned();
    let processes = [process("stray"), process("leader")];
    until("both to live", || processes.iter().all(|process| lives(process)).then_some(()));
    let path = format!("PUT /api/v0/instances/{id}/");
    call(&market, market.key(), &path, &json!({"state": "stopped"})).unwrap();
    until("both to die", || processes.iter().all(|process| !lives(process)).then_some(()));
    call(&market, market.key(), &path, &json!({"state": "running"})).unwrap();
    printed(&market, id, "2");
    until("the second life", || (market.log(id).matches("up\n").count() == 2).then_some(()));
    let leader = process("leader");
    call(&market, market.key(), &format!("DELETE /api/v0/instances/{id}/"), &json!({})).unwrap();
    until("the box to die", || (!lives(&leader) && !home.exists()).then_some(()));
    assert!(market.log(id).contains("up"));
    assert!(market.instances().is_empty());
}

#[test]
fn a_box_ends_itself_with_its_own_key() {
    let market = market();
    let onstart = "printf 'DELETE /api/v0/instances/%s/ HTTP/1.0\\r\\nAuthorization: Bearer %s\\r\\n\\r\\n' \
        \"$CONTAINER_ID\" \"$CONTAINER_API_KEY\" > /dev/tcp/127.0.0.1/$PORT; sleep 1000";
    let port = market.url().rsplit(':').next().unwrap().to_owned();
    let id = rent(&market, quick(), json!({"onstart": onstart, "env": {"PORT": port}}));
    until("the instance to be gone", || rented(&market, id).is_none().then_some(()));
    let ledger = market.ledger();
    let by = super::super::ledger::Caller::Instance(id);
    assert!(ledger.of(id).iter().any(|event| event.what == What::DestroyAsked { caller: by, granted: true }));
}

#[test]
fn an_outbid_box_wakes_up_as_a_zombie() {
    let market = market();
    let outbids = vec![Outbid {
        at: Duration::from_millis(300),
        min_bid: 0.9,
        lasts: Some(Duration::from_millis(100)),
    }];
    let id =
        rent(&market, Script { outbids, ..quick() }, json!({"price": 0.3, "onstart": "echo up; sleep 1000"}));
    until("a second life", || (market.log(id).matches("up\n").count() == 2).then_some(()));
    let statuses = market.ledger();
    let statuses = statuses.of(id).into_iter().filter_map(|event| match event.what {
        What::Status(status) => status,
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), ["created", "loading", "running", "exited", "running"]);
}

#[test]
fn a_crash_leaves_the_instance_listed() {
    let market = market();
    let id = rent(&market, quick(), json!({"onstart": "echo up; sleep 1000"}));
    printed(&market, id, "up");
    market.crash(id);
    let seen = rented(&market, id).unwrap();
    assert_eq!((seen.status, seen.group), (Some("running"), None));
}

#[test]
fn an_entry_point_runs_with_its_arguments_and_takes_the_container_along() {
    let market = market();
    let args =
        json!({"runtype": "args", "onstart": "bash", "args": ["-c", "echo $0 $1; exit 5", "a", "b c"]});
    let id = rent(&market, quick(), args);
    until("its end", || (rented(&market, id)?.status == Some("exited")).then_some(()));
    assert_eq!(market.log(id), "a b c\n");
}

#[test]
fn a_lost_reply_closes_the_connection_and_the_next_one_works() {
    let market = market();
    let script = Script { create: CreateAnswer::ReplyLost, ..quick() };
    let offer = market.add_offer(OfferSpec { script, ..OfferSpec::default() });
    let path = format!("PUT /api/v0/asks/{offer}/");
    assert_eq!(call(&market, market.key(), &path, &order(json!({}))), None);
    assert_eq!(market.instances().len(), 1);
    market.set_fault(Fault::Everything(Broken::Closed));
    assert_eq!(call(&market, market.key(), "GET /api/v1/instances/", &json!(null)), None);
    market.set_fault(Fault::Everything(Broken::EmptyBody));
    assert_eq!(call(&market, market.key(), "GET /api/v1/instances/", &json!(null)), Some((200, Vec::new())));
    market.clear_faults();
    assert_eq!(call(&market, market.key(), "GET /api/v1/instances/", &json!(null)).unwrap().0, 200);
}

#[test]
fn a_request_is_carried_out_although_its_client_is_gone() {
    let market = market();
    let port: u16 = market.url().rsplit(':').next().unwrap().parse().unwrap();
    for made in 1..=20 {
        let offer = market.add_offer(OfferSpec { script: quick(), ..OfferSpec::default() });
        let body = order(json!({})).to_string();
        let head = format!(
            "PUT /api/v0/asks/{offer}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
            market.key(),
            body.len()
        );
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.write_all(&[head, body].concat().into_bytes()).unwrap();
        drop(connection);
        until("the instance", || (market.instances().len() == made).then_some(()));
    }
}

#[test]
fn dropping_the_stand_in_ends_everything() {
    let market = market();
    let onstart = "echo $$ > leader; setsid sleep 1000 & echo $! > stray; echo up; sleep 1000";
    let id = rent(&market, quick(), json!({"onstart": onstart}));
    printed(&market, id, "up");
    let home = rented(&market, id).unwrap().folder;
    let process = |name| std::fs::read_to_string(home.join(name)).unwrap().trim().to_owned();
    let (processes, watcher) = ([process("leader"), process("stray")], market.watcher().to_string());
    let port: u16 = market.url().rsplit(':').next().unwrap().parse().unwrap();
    drop(market);
    until("all of it to end", || processes.iter().all(|process| !lives(process)).then_some(()));
    until("the folder and the watcher to go", || (!home.exists() && !lives(&watcher)).then_some(()));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
