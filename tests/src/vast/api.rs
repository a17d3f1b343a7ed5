//! Requests to answers: keys, pace, faults, and the small endpoints.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Body, Refusal, Request, parse_body};
use super::create::{LABEL_LIMIT, Order};
use super::ledger::{Caller, What};
use super::market::Market;
use super::route::{Endpoint, route};

/// Where logs lie once they were asked for.
const RESULTS: &str = "/results/";

impl Market {
    /// Answers a request, and writes it down.
    pub fn answer(&mut self, request: &Request, now: Duration) -> Answer {
        self.advance(now);
        let caller = self.caller(request);
        let place = self.ledger.arrive(request, caller, now);
        let mut answer = self.respond(request, caller, place, now).unwrap_or_else(|refusal| {
            self.refused += 1;
            self.faults.errors.write(&refusal, self.refused)
        });
        self.advance(now);
        answer.delay += self.faults.delay;
        if let Some(arrival) = self.ledger.arrivals.get_mut(place) {
            arrival.status = answer.status;
        }
        answer
    }

    fn caller(&self, request: &Request) -> Caller {
        let Some(key) = &request.key else { return Caller::Nobody };
        if *key == self.settings.account_key {
            return Caller::Account;
        }
        let own = self.instances.values().find(|instance| instance.key == *key);
        own.map_or(Caller::Nobody, |instance| Caller::Instance(instance.id))
    }

    fn respond(
        &mut self,
        request: &Request,
        caller: Caller,
        place: usize,
        now: Duration,
    ) -> Result<Answer, Refusal> {
        if let Some(broken) = self.faults.everything {
            return Ok(broken.spoil(Answer::success()));
        }
        if let Some(number) = request.path.strip_prefix(RESULTS) {
            return Ok(self.result(number));
        }
        let Some(endpoint) = route(&request.method, &request.path) else {
            return Ok(Answer::text(404, "404 page not found"));
        };
        permit(caller, endpoint, request.key.is_some())?;
        if self.faults.too_many > 0 {
            self.faults.too_many -= 1;
            return Ok(self.too_many(Duration::from_secs(1)));
        }
        let key = request.key.as_deref().unwrap_or_default();
        if let Err(early) = self.pace.call(key, &endpoint, now) {
            return Ok(self.too_many(early));
        }
        self.serve(endpoint, request, caller, place, now)
    }

    fn serve(
        &mut self,
        endpoint: Endpoint,
        request: &Request,
        caller: Caller,
        place: usize,
        now: Duration,
    ) -> Result<Answer, Refusal> {
        let body = parse_body(&request.body)?;
        match endpoint {
            Endpoint::Search => self.search(&body),
            Endpoint::SearchAsks => self.search(body.get("q").unwrap_or(&Value::Null)),
            Endpoint::Create(offer) => {
                let order = Order::parse(&body).map_err(Refusal::invalid)?;
                self.create(offer, order, place, now)
            }
            Endpoint::List => self.list(request, now),
            Endpoint::OldList => Err(Refusal {
                status: 410,
                error: "gone",
                message: "This endpoint is no more; use /api/v1/instances/.".to_owned(),
            }),
            Endpoint::Filters => Ok(self.filters(now)),
            Endpoint::One(id) => Ok(self.one(id, now)),
            Endpoint::Change(id) => self.change(id, &body, now),
            Endpoint::Destroy(id) => self.destroy(id, caller, now),
            Endpoint::Bid(id) => self.bid(id, &body, now),
            Endpoint::Logs(id) => self.request_log(id, &body),
            Endpoint::User => Ok(self.user()),
            Endpoint::GpuNames => Ok(self.gpu_names()),
            Endpoint::Charges => self.list_charges(request, now),
        }
    }

    /// 429 in plain text; every second time with the seconds to wait, rounded up.
    fn too_many(&mut self, wait: Duration) -> Answer {
        self.too_early += 1;
        let seconds = wait.as_nanos().div_ceil(1_000_000_000) as u64;
        let retry_after = (self.too_early % 2 == 1).then_some(seconds);
        Answer { retry_after, ..Answer::text(429, "API requests too frequent") }
    }

    fn change(&mut self, id: u64, body: &Value, now: Duration) -> Result<Answer, Refusal> {
        let fields = object(body, &["state", "label"])?;
        let instance = self.instances.get_mut(&id).ok_or_else(|| Refusal::no_instance(id))?;
        if let Some(label) = fields.get("label") {
            let label = label.as_str().ok_or_else(|| Refusal::invalid("label: expected a string"))?;
            if label.chars().count() > LABEL_LIMIT {
                return Err(Refusal::invalid(format!("label: more than {LABEL_LIMIT} characters")));
            }
            instance.label = Some(label.to_owned());
            self.write(id, What::Labelled(label.to_owned()), now);
            return Ok(Answer::success());
        }
        let changes = match fields.get("state").and_then(Value::as_str) {
            Some("stopped") => Some(instance.stop(now)),
            Some("running") => instance.start(now),
            _ => return Err(Refusal::invalid("state: expected \"running\" or \"stopped\"")),
        };
        let Some(changes) = changes else {
            let message = "Required resources are currently unavailable, state change queued.";
            return Ok(Answer::json(
                json!({"success": false, "error": "resources_unavailable", "msg": message}),
            ));
        };
        self.note(id, &changes, now);
        Ok(Answer::success())
    }

    fn bid(&mut self, id: u64, body: &Value, now: Duration) -> Result<Answer, Refusal> {
        let fields = object(body, &["client_id", "price"])?;
        let instance = self.instances.get_mut(&id).ok_or_else(|| Refusal::no_instance(id))?;
        if instance.bid.is_none() {
            return Err(Refusal::invalid(format!("Instance {id} is not interruptible.")));
        }
        let price = match fields.get("price") {
            None | Some(Value::Null) => None,
            Some(price) => {
                let price = price.as_f64().filter(|price| *price > 0.0);
                Some(price.ok_or_else(|| Refusal::invalid("price: expected a number over 0"))?)
            }
        };
        let changes = instance.rebid(price, now);
        self.note(id, &changes, now);
        Ok(Answer::success())
    }

    fn request_log(&mut self, id: u64, body: &Value) -> Result<Answer, Refusal> {
        let fields = object(body, &["tail", "filter", "daemon_logs"])?;
        if !self.instances.contains_key(&id) {
            return Err(Refusal::no_instance(id));
        }
        let lines = match fields.get("tail") {
            None | Some(Value::Null) => Some(1000),
            Some(Value::String(text)) => text.parse().ok(),
            Some(number) => number.as_u64(),
        };
        let lines = lines.ok_or_else(|| Refusal::invalid("tail: expected a number of lines"))?;
        let number = self.logs.len() as u64 + 1;
        self.logs.insert(number, (0, id, lines as usize));
        let url = format!("{}{RESULTS}{number}-C.{id}.log", self.settings.url);
        Ok(Answer::json(json!({"success": true, "result_url": url, "msg": "Request sent"})))
    }

    /// A log: missing, then empty, then there, as the settings say.
    fn result(&mut self, name: &str) -> Answer {
        let (missing, empty) = (self.settings.log_missing, self.settings.log_empty);
        let number = name.split('-').next().and_then(|number| number.parse().ok());
        let log = number.and_then(|number: u64| self.logs.get_mut(&number));
        let Some((polls, instance, lines)) = log else { return Answer::text(404, "NoSuchKey") };
        *polls += 1;
        match *polls {
            polls if polls <= missing => Answer::text(404, "NoSuchKey"),
            polls if polls <= missing + empty => Answer::text(200, ""),
            _ => Answer { body: Body::Log { instance: *instance, lines: *lines }, ..Answer::success() },
        }
    }

    /// Like the real one it carries the account's key: nobody may print it whole.
    fn user(&self) -> Answer {
        Answer::json(json!({
            "id": 4242, "username": "stand-in", "user": "stand-in", "email": "stand-in@example.invalid",
            "email_verified": true, "fullname": "Stand In", "balance": 0.0, "credit": self.credit(),
            "balance_threshold": 0.0, "balance_threshold_enabled": false, "can_pay": true,
            "has_billing": true, "host_agreement_accepted": false, "ssh_key": null,
            "api_key": self.settings.account_key,
        }))
    }
}

/// Whether somebody may do something: the account everything, an instance what concerns itself alone.
fn permit(caller: Caller, endpoint: Endpoint, has_key: bool) -> Result<(), Refusal> {
    let refusal =
        |status, message: &str| Err(Refusal { status, error: "auth_error", message: message.to_owned() });
    match caller {
        Caller::Account => Ok(()),
        _ if endpoint == Endpoint::GpuNames => Ok(()),
        Caller::Nobody if has_key => refusal(404, "Invalid user key"),
        Caller::Nobody => refusal(401, "Please log in or sign up"),
        Caller::Instance(own) => {
            let allowed = matches!(endpoint, Endpoint::Change(id) | Endpoint::Destroy(id) if id == own);
            if allowed { Ok(()) } else { refusal(403, "This key may not do that") }
        }
    }
}

/// An object with no other fields than these.
fn object<'a>(body: &'a Value, known: &[&str]) -> Result<&'a Map<String, Value>, Refusal> {
    let fields = body.as_object().ok_or_else(|| Refusal::invalid("the body is no object"))?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(Refusal::invalid(format!("unknown field {unknown}"))),
        None => Ok(fields),
    }
}
