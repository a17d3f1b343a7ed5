//! What was billed, as the API lists it: a row for each instance, with what it is made of.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, Request};
use super::instance::Bill;
use super::lists::{Row, cut, json_parameter, limit, read_token};
use super::market::{Closed, Market};
use super::money::Money;
use super::query::matches;

/// The longest page.
const PAGE: usize = 100;

impl Market {
    /// A page of charges. `select_filters` takes `day` (seconds since the epoch, held against the time an
    /// instance lived) and `type`.
    pub(super) fn list_charges(&self, request: &Request, now: Duration) -> Result<Answer, Refusal> {
        let mut filters = match json_parameter(request, "select_filters")? {
            None => Map::new(),
            Some(Value::Object(filters)) => filters,
            Some(_) => return Err(Refusal::invalid("select_filters: expected an object")),
        };
        let day = filters.remove("day").unwrap_or(Value::Null);
        let bound = |name, otherwise| day.get(name).and_then(Value::as_f64).unwrap_or(otherwise);
        let (from, to) = (bound("gte", 0.0), bound("lte", f64::MAX));
        let mut rows = Vec::new();
        for account in self.accounts(now) {
            let row = charge(&account);
            let lived = account.gone.as_secs_f64() >= from && account.created.as_secs_f64() <= to;
            if lived && matches(&row, &filters).map_err(Refusal::invalid)? {
                rows.push(row);
            }
        }
        let latest_first = json_parameter(request, "latest_first")? == Some(Value::Bool(true));
        let order = vec![("start".to_owned(), latest_first), ("source".to_owned(), latest_first)];
        let total = rows.len();
        let after = request.parameter("after_token").map(read_token).transpose()?;
        let (page, next_token) = cut(rows, &order, after.as_ref(), limit(request, PAGE)?);
        Ok(Answer::json(json!({"success": true, "count": page.len(), "total": total, "results": page,
            "next_token": next_token})))
    }

    /// All accounts, closed and open ones.
    fn accounts(&self, now: Duration) -> Vec<Closed> {
        let open = self.instances.values().map(|instance| Closed {
            id: instance.id,
            label: instance.label.clone(),
            created: instance.created,
            gone: now,
            bill: instance.bill,
            gpu_name: instance.spec.gpu_name.clone(),
        });
        self.closed.iter().cloned().chain(open).collect()
    }
}

fn charge(account: &Closed) -> Row {
    let (start, end) = (account.created.as_secs(), account.gone.as_secs());
    let source = format!("instance-{}", account.id);
    let entry = |kind: &str, description: String, amount: Money, items: Vec<Value>| {
        json!({"start": start, "end": end, "type": kind, "source": source, "description": description,
            "amount": amount.dollars(), "items": items,
            "metadata": {"instance_id": account.id, "label": account.label}})
    };
    let Bill { gpu, disk, bandwidth } = account.bill;
    let parts = [("gpu", gpu.amount()), ("disk", disk.amount()), ("bandwidth", bandwidth)];
    let parts = parts.map(|(kind, amount)| entry(kind, format!("{kind} of {source}"), amount, Vec::new()));
    let description = format!("Instance {} {}", account.id, account.gpu_name);
    match entry("instance", description, account.bill.total(), parts.to_vec()) {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}
