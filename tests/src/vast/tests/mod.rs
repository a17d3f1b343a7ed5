//! The market's behaviour, without HTTP and with a clock that is told what time it is.

mod boxes;
mod calls;
mod faults;
mod life;
mod walk;

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{Answer, Body, Request};
use super::market::{Effect, Market, Settings};
use super::offer::OfferSpec;
use super::script::Script;

const KEY: &str = "the-account-key";

/// A market at a time.
struct Bench {
    market: Market,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        Self::with_pace(0.0)
    }

    fn with_pace(pace: f64) -> Self {
        let settings = Settings { account_key: KEY.to_owned(), pace, ..Settings::default() };
        Self { market: Market::new(settings), now: Duration::from_secs(1_800_000_000) }
    }

    /// Lets seconds pass; what is to be done then.
    fn pass(&mut self, seconds: f64) -> Vec<Effect> {
        self.now += Duration::from_secs_f64(seconds);
        self.market.advance(self.now);
        self.market.take_effects()
    }

    fn call(&mut self, key: Option<&str>, method: &str, path: &str, body: &Value) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body: if body.is_null() { String::new() } else { body.to_string() },
            key: key.map(str::to_owned),
        };
        self.market.answer(&request, self.now)
    }

    /// By the account, answered with this status; the JSON.
    fn ask(&mut self, status: u16, method: &str, path: &str, body: Value) -> Value {
        let answer = self.call(Some(KEY), method, path, &body);
        assert_eq!(answer.status, Some(status), "{method} {path}: {answer:?}");
        value(answer)
    }

    /// Rents a machine that does this, with these fields in the create call too.
    fn rent(&mut self, script: Script, extra: Value) -> u64 {
        let offer = self.market.add_offer(OfferSpec { script, ..OfferSpec::default() });
        let reply = self.ask(200, "PUT", &format!("/api/v0/asks/{offer}/"), order(extra));
        reply["new_contract"].as_u64().unwrap()
    }

    /// An instance as the API shows it.
    fn one(&mut self, id: u64) -> Value {
        self.ask(200, "GET", &format!("/api/v0/instances/{id}/"), Value::Null)["instances"].take()
    }

    fn change(&mut self, id: u64, body: Value) -> Value {
        self.ask(200, "PUT", &format!("/api/v0/instances/{id}/"), body)
    }

    /// The states of an instance: actual, current, next, intended.
    fn states(&mut self, id: u64) -> [Value; 4] {
        let mut one = self.one(id);
        ["actual_status", "cur_state", "next_state", "intended_status"].map(|state| one[state].take())
    }
}

fn value(answer: Answer) -> Value {
    match answer.body {
        Body::Json(value) => value,
        Body::Text(_, text) => json!({"text": text}),
        Body::Log { instance, lines } => json!({"log": instance, "lines": lines}),
    }
}

fn order(extra: Value) -> Value {
    let mut body = json!({"client_id": "me", "image": "i", "disk": 72, "label": "fleet-r-0-aa", "onstart": "true",
        "runtype": "ssh"});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn starts(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Start(_))).count()
}
