//! The endpoints that give rows: searches, the list of instances in pages, one of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, Request};
use super::fault;
use super::market::Market;
use super::query::{Order, compare_rows, matches, parse_order};

/// The longest page of instances.
const PAGE: usize = 25;

/// A row of JSON.
pub type Row = Map<String, Value>;

impl Market {
    /// The offers that a query fits.
    pub(super) fn search(&self, query: &Value) -> Result<Answer, Refusal> {
        let mut filters = query.as_object().cloned().ok_or_else(|| Refusal::invalid("no query"))?;
        let order = match filters.remove("order") {
            None => vec![("score".to_owned(), true)],
            Some(order) => parse_order(&order).map_err(Refusal::invalid)?,
        };
        let for_bid = match filters.remove("type").as_ref().and_then(Value::as_str) {
            None | Some("on-demand" | "ask") => false,
            Some("bid") => true,
            Some(other) => return Err(Refusal::invalid(format!("type: {other} is not dealt in"))),
        };
        let limit = filters.remove("limit").map_or(Ok(self.settings.search_limit), |limit| {
            let limit = limit.as_u64().ok_or_else(|| Refusal::invalid("limit: expected a number"))?;
            Ok(self.settings.search_limit.min(limit as usize))
        })?;
        let storage = filters.remove("allocated_storage").map_or(Ok(5.0), |storage| {
            storage.as_f64().ok_or_else(|| Refusal::invalid("allocated_storage: expected a number"))
        })?;
        filters.remove("disable_bundling");
        // Versions are compared by their number.
        if let Some(version) = filters.remove("driver_version") {
            filters.insert("driver_vers".to_owned(), version);
        }
        let mut rows = Vec::new();
        for (id, spec) in &self.offers {
            let row = spec.row(*id, storage, for_bid);
            if matches(&row, &filters).map_err(Refusal::invalid)? {
                rows.push(row);
            }
        }
        rows.sort_by(|left, right| compare_rows(left, right, &order));
        rows.truncate(limit);
        Ok(Answer::json(json!({"offers": rows, "success": true})))
    }

    /// A page of instances.
    pub(super) fn list(&self, request: &Request, now: Duration) -> Result<Answer, Refusal> {
        let filters = match json_parameter(request, "select_filters")? {
            None => Map::new(),
            Some(Value::Object(filters)) => filters,
            Some(_) => return Err(Refusal::invalid("select_filters: expected an object")),
        };
        let order = order_by(request)?;
        let limit = limit(request, PAGE)?;
        let mut rows = Vec::new();
        for instance in self.instances.values() {
            let row = instance.row(now);
            let is_listed = now >= instance.created + self.faults.list_lag;
            if is_listed && matches(&row, &filters).map_err(Refusal::invalid)? {
                rows.push(row);
            }
        }
        let total = rows.len();
        let mut labels: BTreeMap<String, usize> = BTreeMap::new();
        for row in &rows {
            let label = row.get("label").and_then(Value::as_str).unwrap_or_default();
            *labels.entry(label.to_owned()).or_default() += 1;
        }
        let after = request.parameter("after_token").map(read_token).transpose()?;
        let is_first_page = after.is_none();
        let (page, next_token) = cut(rows, &order, after.as_ref(), limit);
        let page: Vec<Row> = match json_parameter(request, "select_cols")? {
            Some(Value::Array(columns)) => page.into_iter().map(|row| select(row, &columns)).collect(),
            _ => page,
        };
        let page = json!({"success": true, "instances": page, "next_token": next_token,
            "total_instances": total, "label_counts": labels});
        Ok(fault::page(&self.faults, is_first_page, page))
    }

    /// One instance, or null.
    pub(super) fn one(&self, id: u64, now: Duration) -> Answer {
        Answer::json(json!({"instances": self.instances.get(&id).map(|instance| instance.row(now))}))
    }

    /// The names of the GPUs that are offered.
    pub(super) fn gpu_names(&self) -> Answer {
        let names: BTreeSet<&str> = self.offers.values().map(|spec| spec.gpu_name.as_str()).collect();
        Answer::json(json!({"success": true, "gpu_names": names}))
    }

    /// What the instances may be filtered by.
    pub(super) fn filters(&self, now: Duration) -> Answer {
        let filters = self.instances.values().map(|instance| {
            let row = instance.row(now);
            select(row, &["actual_status", "verification", "gpu_name"].map(Value::from))
        });
        Answer::json(json!({"success": true, "filters": filters.collect::<Vec<_>>()}))
    }
}

fn order_by(request: &Request) -> Result<Order, Refusal> {
    let mut order = match json_parameter(request, "order_by")? {
        None => Vec::new(),
        Some(order) => parse_order(&order).map_err(Refusal::invalid)?,
    };
    if !order.iter().any(|(column, _)| column == "id") {
        order.push(("id".to_owned(), false));
    }
    Ok(order)
}

/// A query parameter that is JSON.
pub fn json_parameter(request: &Request, name: &str) -> Result<Option<Value>, Refusal> {
    let wrong = |error| Refusal::invalid(format!("{name}: no JSON: {error}"));
    request.parameter(name).map(|text| serde_json::from_str(text).map_err(wrong)).transpose()
}

/// The length of a page, at most so many rows.
pub fn limit(request: &Request, most: usize) -> Result<usize, Refusal> {
    let Some(text) = request.parameter("limit") else { return Ok(most) };
    match text.parse() {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Refusal::invalid(format!("limit: expected 1 to {most}, not {text}"))),
    }
}

/// A page of rows after a key, and the token of the next.
pub fn cut(
    mut rows: Vec<Row>,
    order: &Order,
    after: Option<&Row>,
    limit: usize,
) -> (Vec<Row>, Option<String>) {
    rows.sort_by(|left, right| compare_rows(left, right, order));
    if let Some(after) = after {
        rows.retain(|row| compare_rows(row, after, order) == Ordering::Greater);
    }
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let columns: Vec<Value> = order.iter().map(|(column, _)| Value::from(column.as_str())).collect();
    let last = rows.last().filter(|_| has_more).cloned();
    (rows, last.map(|last| write_token(&select(last, &columns))))
}

/// The columns of a row that are wanted.
fn select(mut row: Row, columns: &[Value]) -> Row {
    row.retain(|name, _| columns.iter().any(|column| column == name));
    row
}

fn write_token(values: &Row) -> String {
    URL_SAFE_NO_PAD.encode(json!({"values": values, "os_page": 0}).to_string())
}

/// The key in the token of a page.
pub fn read_token(token: &str) -> Result<Row, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let value = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let values = value.and_then(|value| value.get("values")?.as_object().cloned());
    values.ok_or_else(|| Refusal::invalid("after_token: not understood"))
}
