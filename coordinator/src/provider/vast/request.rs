//! The requests, field by field as the market documents them.

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::Request;
use super::pace::Call;
use crate::dollars::Dollars;
use crate::provider::{InstanceId, OfferId, Order, Wanted};

/// The least CUDA version a machine's driver must know: our kernels are made for it.
pub const LEAST_CUDA: f64 = 13.0;

/// The least compute capability, times 100.
pub const LEAST_CAPABILITY: f64 = 800.0;

/// Offers of one search.
const OFFERS: u32 = 200;

/// Instances of a page: the most there may be.
const PAGE: u32 = 25;

/// Charges of a page: the most there may be.
const CHARGES: u32 = 100;

/// How the market starts a container whose `onstart` is run.
const RUNTYPE: &str = "ssh_proxy";

/// Offers that hold what is wanted, the cheapest first.
pub fn search(wanted: &Wanted) -> Request<'static> {
    let mut body = Map::new();
    let mut field = |name: &str, condition: &str, value: Value| {
        body.insert(name.to_owned(), json!({ condition: value }));
    };
    field("verified", "eq", true.into());
    field("external", "eq", false.into());
    field("rentable", "eq", true.into());
    field("rented", "eq", false.into());
    field("num_gpus", "eq", wanted.gpus_per_box.into());
    field("gpu_ram", "gte", (wanted.gpu_memory / 1_000_000).into());
    field("disk_space", "gte", wanted.disk_gb.into());
    field("reliability2", "gte", wanted.min_reliability.into());
    field("duration", "gte", wanted.duration_seconds.into());
    field("cuda_max_good", "gte", LEAST_CUDA.into());
    field("compute_cap", "gte", LEAST_CAPABILITY.into());
    if !wanted.gpus.is_empty() {
        let names: Vec<String> = wanted.gpus.iter().map(|name| name.replace('_', " ")).collect();
        field("gpu_name", "in", names.into());
    }
    if !wanted.region.0.is_empty() {
        field("geolocation", "in", wanted.region.0.clone().into());
    }
    let price = if wanted.interruptible { "min_bid" } else { "dph_total" };
    if let Some(most) = wanted.max_price {
        field(price, "lte", most.0.into());
    }
    let kind = if wanted.interruptible { "bid" } else { "on-demand" };
    body.insert("order".to_owned(), json!([[price, "asc"]]));
    body.insert("type".to_owned(), kind.into());
    body.insert("limit".to_owned(), OFFERS.into());
    body.insert("allocated_storage".to_owned(), wanted.disk_gb.into());
    Request {
        what: "search offers",
        method: Method::POST,
        path: "/api/v0/bundles/".to_owned(),
        query: Vec::new(),
        body: Some(body.into()),
        call: Call::Search,
        repeatable: true,
    }
}

/// Takes an offer.
pub fn create(offer: OfferId, order: &Order) -> Request<'static> {
    let mut body = json!({
        "client_id": "me",
        "image": order.image,
        "env": order.environment,
        "disk": order.disk_gb,
        "label": order.label,
        "onstart": order.onstart,
        "runtype": RUNTYPE,
        // Rather no box than one that is stopped and paid for.
        "cancel_unavail": true,
        "target_state": "running",
    });
    if let Some(bid) = order.bid {
        body["price"] = bid.0.into();
    }
    Request::put("rent a box", format!("/api/v0/asks/{offer}/"), body, Call::Create)
}

/// The order as it may be shown.
pub fn masked(order: &Order) -> Order {
    let mask = |(name, value): (&String, &String)| (name.clone(), mask(name, value));
    Order { environment: order.environment.iter().map(mask).collect(), ..order.clone() }
}

/// A variable's value as it may be shown: a URL without password and query, everything else that is not known to be
/// harmless hidden.
fn mask(name: &str, value: &str) -> String {
    const HARMLESS: [&str; 6] = [
        "FLEET_RUN",
        "FLEET_INSTANCE",
        "FLEET_UNTIL",
        "FLEET_GIVE_UP_AFTER",
        "FLEET_WORKER_ARGS",
        "FLEET_WORKER_SHA256",
    ];
    if HARMLESS.contains(&name) || matches!(value, "true" | "false") {
        value.to_owned()
    } else if value.contains("://") {
        let cut = value.split('?').next().unwrap_or_default();
        let hidden = if cut.len() < value.len() { "?***" } else { "" };
        format!("{}{hidden}", shared::settings::mask_url(cut))
    } else {
        "***".to_owned()
    }
}

/// A page of all instances.
pub fn list(after: Option<&str>) -> Request<'static> {
    let mut request = Request::get("list the instances", "/api/v1/instances/", Call::List);
    request.query = vec![
        ("select_filters", "{}".to_owned()),
        ("order_by", r#"[{"col": "id", "dir": "asc"}]"#.to_owned()),
        ("limit", PAGE.to_string()),
    ];
    request.query.extend(after.map(|token| ("after_token", token.to_owned())));
    request
}

/// One instance.
pub fn one(id: InstanceId) -> Request<'static> {
    let mut request = Request::get("look at an instance", format!("/api/v0/instances/{id}/"), Call::One);
    request.query = vec![("owner", "me".to_owned())];
    request
}

/// The end of an instance.
pub fn destroy(id: InstanceId) -> Request<'static> {
    Request {
        what: "destroy an instance",
        method: Method::DELETE,
        path: format!("/api/v0/instances/{id}/"),
        query: Vec::new(),
        body: Some(json!({})),
        call: Call::Destroy,
        repeatable: true,
    }
}

/// A higher bid.
pub fn bid(id: InstanceId, bid: Dollars) -> Request<'static> {
    let body = json!({ "client_id": "me", "price": bid.0 });
    Request::put("raise a bid", format!("/api/v0/instances/bid_price/{id}/"), body, Call::Bid)
}

/// The last lines of a log: the answer says where they will be.
pub fn logs(id: InstanceId, lines: u32) -> Request<'static> {
    let body = json!({ "tail": lines.to_string() });
    Request::put("ask for a log", format!("/api/v0/instances/request_logs/{id}/"), body, Call::Log)
}

/// The account.
pub fn user() -> Request<'static> {
    Request::get("look at the account", "/api/v0/users/current", Call::Account)
}

/// What was billed between two moments, whole days.
pub fn charges(since: Timestamp, until: Timestamp, after: Option<&str>) -> Request<'static> {
    const DAY: i64 = 24 * 60 * 60;
    let (first, last) = (since.as_second() / DAY * DAY, until.as_second() / DAY * DAY + DAY);
    let mut request = Request::get("read the charges", "/api/v0/charges/", Call::Account);
    let filters = json!({ "day": { "gte": first, "lte": last }, "type": { "in": ["instance"] } });
    request.query = vec![
        ("select_filters", filters.to_string()),
        ("latest_first", "false".to_owned()),
        ("limit", CHARGES.to_string()),
        ("format", "table".to_owned()),
    ];
    request.query.extend(after.map(|token| ("after_token", token.to_owned())));
    request
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_shown_order_has_no_secret() {
        let environment = [
            ("FLEET_RUN", "r"),
            ("FLEET_QUEUE", "rediss://worker-r-0-ab:hunter2@redis.example.org:6379/0"),
            ("FLEET_STORE", "https://s3.example.org/b/runs/r/access/1.json?X-Amz-Signature=hunter2"),
            ("FLEET_QUEUE_CA", "-----BEGIN CERTIFICATE-----"),
            ("HF_TOKEN", "hunter2"),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        let order = Order {
            label: "fleet-r-0-ab".into(),
            image: "nvidia/cuda".into(),
            disk_gb: 40,
            onstart: "#!/bin/bash".into(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            bid: Some(Dollars(0.3)),
        };
        let base = "https://console.vast.ai".parse().unwrap();
        let shown = create(OfferId(7), &masked(&order)).show(&base);
        assert!(
            shown.starts_with("PUT https://console.vast.ai/api/v0/asks/7/\nAuthorization: Bearer ***\n"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        for kept in [
            "rediss://worker-r-0-ab:***@redis.example.org:6379/0",
            "https://s3.example.org/b/runs/r/access/1.json?***",
            r#""price": 0.3"#,
            r#""AWS_ALLOW_HTTP": "true""#,
        ] {
            assert!(shown.contains(kept), "{kept} in {shown}");
        }
        assert_eq!(masked(&order).environment.len(), BTreeMap::from(environment).len());
    }
}
