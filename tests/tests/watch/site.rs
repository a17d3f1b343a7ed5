//! What the dashboard answers to programs: JSON, Prometheus, orders.

use std::process::Command;

use serde_json::Value;
use tests::http::ask;
use tests::s3::python;
use tests::wait::until;
use tests::watched::{Dashboard, Plan, Scene};

const SMALL: Plan = Plan { items: 160, shard_size: 8, lease: "2s" };
const TOKEN: &str = "a token nobody guesses";

fn get(dashboard: &Dashboard, path: &str, headers: &str) -> (u16, String) {
    let (status, body) = ask(dashboard.port, &format!("GET {path}"), headers, b"").unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn post(dashboard: &Dashboard, path: &str, headers: &str) -> (u16, Value) {
    let (status, body) = ask(dashboard.port, &format!("POST {path}"), headers, b"").unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The value of a metric without labels, or with exactly these.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn prometheus_and_json_tell_what_status_tells() {
    let Some(scene) = Scene::plan(SMALL) else { return };
    let dashboard = scene.dashboard(None);
    let (_, before) = get(&dashboard, "/metrics", "");
    assert_eq!(metric(&before, "embed_fleet_items{state=\"done\"}"), Some(0.0));
    assert_eq!(metric(&before, "embed_fleet_planned_items"), Some(160.0));
    let mut worker = scene.worker("only", 20);
    assert_eq!(worker.wait(), 0);
    let (status, json) = until("the dashboard to see the end", || {
        let (status, json) = get(&dashboard, "/api/status", "");
        let json: Value = serde_json::from_str(&json).unwrap();
        (json["items_done"] == 160).then_some((status, json))
    });
    assert_eq!(
        (status, json["shards"]["done"].as_u64(), json["source"].as_str()),
        (200, Some(20), Some("queue"))
    );
    let (status, after) = get(&dashboard, "/metrics", "");
    assert_eq!(status, 200);
    assert_eq!(metric(&after, "embed_fleet_items{state=\"done\"}"), Some(160.0));
    assert_eq!(metric(&after, "embed_fleet_shards{state=\"done\"}"), Some(20.0));
    assert_eq!(metric(&after, "embed_fleet_run_stage{stage=\"finished\"}"), Some(1.0));
    parse_with_prometheus(&after);
}

/// The parser of Prometheus's own Python client reads it.
fn parse_with_prometheus(text: &str) {
    let script = "import sys\n\
                  from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                  families = {family.name: family for family in parse(sys.stdin.read())}\n\
                  assert families['embed_fleet_items'].type == 'gauge', families\n\
                  assert families['embed_fleet_worker_items'].type == 'counter', families\n\
                  assert families['embed_fleet_shards'].type == 'gauge'\n\
                  assert {s.labels['state'] for s in families['embed_fleet_shards'].samples} == \
                  {'pending', 'leased', 'delayed', 'done', 'dead'}\n\
                  assert all(f.documentation for f in families.values())\n\
                  print(len(families))";
    let mut parser = Command::new(python());
    parser.args(["-c", script]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = parser.stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("No module named 'prometheus_client'") {
        eprintln!("skipped: no prometheus_client");
        return;
    }
    assert!(output.status.success(), "{complaint}\n{text}");
    let families: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(families >= 15, "{families} families");
}

#[test]
fn orders_take_the_token_and_reading_from_elsewhere_too() {
    let Some(scene) = Scene::plan(SMALL) else { return };
    let open = scene.dashboard(None);
    let (status, said) = post(&open, "/api/pause", &bearer(TOKEN));
    assert_eq!(status, 403);
    assert!(said["error"].as_str().unwrap().contains("read-only"), "{said}");
    assert_eq!(scene.status()["state"], "running");

    let dashboard = scene.dashboard(Some(TOKEN));
    for wrong in [String::new(), bearer("a token nobody guessed")] {
        assert_eq!(post(&dashboard, "/api/pause", &wrong).0, 401);
    }
    assert_eq!(scene.status()["state"], "running");
    for (order, state) in [("pause", "paused"), ("resume", "running"), ("drain", "draining")] {
        let (status, said) = post(&dashboard, &format!("/api/{order}"), &bearer(TOKEN));
        assert_eq!((status, said["done"].as_str()), (200, Some(order)));
        assert_eq!(scene.status()["state"], state);
    }
    assert_eq!(get(&dashboard, "/api/pause", &bearer(TOKEN)).0, 405, "a link cannot pause");
    assert_eq!(get(&dashboard, "/api/status", "").0, 200, "reading is free here");
    let log = std::fs::read_to_string(scene.folder().join("dashboard.log")).unwrap();
    assert!(!log.contains(TOKEN), "{log}");

    // A page of a stranger whose name points at this machine.
    let rebound = "GET /api/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&dashboard, rebound), 401);
    let mine = rebound.replace("evil.example", "localhost");
    assert_eq!(status_of(&dashboard, &mine), 200);
    // And somebody for whom a proxy on this machine asks.
    assert_eq!(get(&dashboard, "/api/status", "X-Forwarded-For: 192.0.2.1\r\n").0, 401);
}

/// The status that answers a request as written.
fn status_of(dashboard: &Dashboard, request: &str) -> u16 {
    use std::io::{Read as _, Write as _};
    let mut connection = std::net::TcpStream::connect(("127.0.0.1", dashboard.port)).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn it_listens_for_strangers_only_with_a_token() {
    let Some(scene) = Scene::plan(SMALL) else { return };
    let dashboard = |listen: &str| scene.coordinator("dashboard").flag("--listen", listen);
    let refused = dashboard("0.0.0.0:0").output().expect(2);
    assert!(refused.stderr().contains("FLEET_DASHBOARD_TOKEN"), "{}", refused.stderr());
    let empty = dashboard("127.0.0.1:0").env("FLEET_DASHBOARD_TOKEN", "").output().expect(2);
    assert!(empty.stderr().contains("token is empty"), "{}", empty.stderr());
    let odd = dashboard("127.0.0.1:0").env("FLEET_DASHBOARD_TOKEN", "t\u{200b}").output().expect(2);
    assert!(odd.stderr().contains("no request can carry"), "{}", odd.stderr());
    let taken = scene.dashboard(None);
    let busy = dashboard(&format!("127.0.0.1:{}", taken.port)).output().expect(1);
    assert!(busy.stderr().contains("cannot listen on"), "{}", busy.stderr());
    let _ = dashboard("nowhere").output().expect(2);
}

#[test]
fn it_ends_by_sigterm_though_somebody_watches() {
    let Some(scene) = Scene::plan(SMALL) else { return };
    let mut dashboard = scene.dashboard(None);
    let mut watcher = std::net::TcpStream::connect(("127.0.0.1", dashboard.port)).unwrap();
    std::io::Write::write_all(&mut watcher, b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 512];
    assert!(std::io::Read::read(&mut watcher, &mut first).unwrap() > 0);
    dashboard.program.signal("TERM");
    assert_eq!(dashboard.program.wait(), 143);
}
