//! The query language of searches and lists: `{field: {operator: value}}`, an order, and pages by key.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// A field and whether it descends.
pub type Order = Vec<(String, bool)>;

/// Whether a row has all it is asked for. An error names a field or an operator that does not exist.
///
/// Numbers may come as text (the vendor's client sends `"1"`), and null counts as false.
pub fn matches(row: &Map<String, Value>, filters: &Map<String, Value>) -> Result<bool, String> {
    for (field, conditions) in filters {
        let Some(value) = row.get(field) else { return Err(format!("unknown field {field}")) };
        let Value::Object(conditions) = conditions else {
            return Err(format!("{field}: expected an object of operators"));
        };
        // A place (`Sweden, SE`) is asked for by its code.
        let code = match (field.as_str(), value) {
            ("geolocation", Value::String(place)) => place.rsplit(", ").next().map(Value::from),
            _ => None,
        };
        let value = code.as_ref().unwrap_or(value);
        for (operator, wanted) in conditions {
            if !holds(value, operator, wanted).ok_or_else(|| format!("{field}: bad operator {operator}"))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// `None` for an operator that does not exist or that cannot take this value.
fn holds(value: &Value, operator: &str, wanted: &Value) -> Option<bool> {
    Some(match (operator, wanted) {
        ("eq", wanted) => same(value, wanted),
        ("neq", wanted) => !same(value, wanted),
        ("gt", wanted) => compare(value, wanted) == Some(Ordering::Greater),
        ("gte", wanted) => compare(value, wanted).is_some_and(Ordering::is_ge),
        ("lt", wanted) => compare(value, wanted) == Some(Ordering::Less),
        ("lte", wanted) => compare(value, wanted).is_some_and(Ordering::is_le),
        ("in", Value::Array(list)) => list.iter().any(|wanted| same(value, wanted)),
        ("notin", Value::Array(list)) => !list.iter().any(|wanted| same(value, wanted)),
        _ => return None,
    })
}

fn same(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Null, Value::Null | Value::Bool(false)) => true,
        _ => compare(value, wanted) == Some(Ordering::Equal),
    }
}

fn compare(value: &Value, wanted: &Value) -> Option<Ordering> {
    if let (Some(value), Some(wanted)) = (number(value), number(wanted)) {
        return value.partial_cmp(&wanted);
    }
    match (value, wanted) {
        (Value::String(value), Value::String(wanted)) => Some(value.cmp(wanted)),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Which of two rows comes first; null comes before everything.
pub fn compare_rows(left: &Map<String, Value>, right: &Map<String, Value>, order: &Order) -> Ordering {
    let compared = order.iter().map(|(field, descends)| {
        let (left, right) = (left.get(field), right.get(field));
        let (left, right) = (left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null));
        let ordering = compare(left, right).unwrap_or_else(|| (!left.is_null()).cmp(&(!right.is_null())));
        if *descends { ordering.reverse() } else { ordering }
    });
    compared.fold(Ordering::Equal, Ordering::then)
}

/// The order of a search, `[[field, "asc" or "desc"], ...]`, or of a list, `[{"col", "dir"}, ...]`.
pub fn parse_order(value: &Value) -> Result<Order, String> {
    let wrong = || format!("bad order {value}");
    let entries = value.as_array().ok_or_else(wrong)?;
    let parse = |entry: &Value| {
        let (field, direction) = match entry {
            Value::Array(pair) => (pair.first()?, pair.get(1)?),
            Value::Object(object) => (object.get("col")?, object.get("dir")?),
            _ => return None,
        };
        match direction.as_str()? {
            "asc" => Some((field.as_str()?.to_owned(), false)),
            "desc" => Some((field.as_str()?.to_owned(), true)),
            _ => None,
        }
    };
    entries.iter().map(|entry| parse(entry).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row() -> Map<String, Value> {
        let row = json!({"gpu_name": "RTX 4090", "num_gpus": 1, "cuda_max_good": 12.8, "external": null,
            "verified": true, "label": null});
        row.as_object().unwrap().clone()
    }

    fn asks(filters: Value) -> Result<bool, String> {
        matches(&row(), filters.as_object().unwrap())
    }

    #[test]
    fn every_operator_says_yes_and_no() {
        let cases = [
            (json!({"num_gpus": {"eq": 1}}), true),
            (json!({"num_gpus": {"eq": "1"}}), true),
            (json!({"num_gpus": {"eq": 2}}), false),
            (json!({"num_gpus": {"neq": 2}}), true),
            (json!({"cuda_max_good": {"gte": "12.8"}}), true),
            (json!({"cuda_max_good": {"gt": 12.8}}), false),
            (json!({"cuda_max_good": {"lt": 13.0, "gt": 12.0}}), true),
            (json!({"cuda_max_good": {"lte": 12.7}}), false),
            (json!({"gpu_name": {"in": ["RTX 3090", "RTX 4090"]}}), true),
            (json!({"gpu_name": {"notin": ["RTX 4090"]}}), false),
            (json!({"external": {"eq": false}, "verified": {"eq": true}}), true),
            (json!({"label": {"in": [null]}}), true),
            (json!({"label": {"gt": 1}}), false),
            (json!({"verified": {}}), true),
        ];
        for (filters, expected) in cases {
            assert_eq!(asks(filters.clone()), Ok(expected), "{filters}");
        }
    }

    #[test]
    fn what_does_not_exist_is_an_error() {
        assert!(asks(json!({"gpu": {"eq": 1}})).unwrap_err().contains("gpu"));
        assert!(asks(json!({"num_gpus": {"is": 1}})).unwrap_err().contains("is"));
        assert!(asks(json!({"num_gpus": {"in": 1}})).is_err());
        assert!(asks(json!({"num_gpus": 1})).is_err());
    }

    #[test]
    fn both_ways_to_write_an_order_are_understood() {
        let expected = vec![("dph_total".to_owned(), false), ("id".to_owned(), true)];
        assert_eq!(parse_order(&json!([["dph_total", "asc"], ["id", "desc"]])), Ok(expected.clone()));
        let columns = json!([{"col": "dph_total", "dir": "asc"}, {"col": "id", "dir": "desc"}]);
        assert_eq!(parse_order(&columns), Ok(expected));
        assert!(parse_order(&json!([["id", "up"]])).is_err());
        assert!(parse_order(&json!("id")).is_err());
    }

    #[test]
    fn rows_are_compared_field_by_field() {
        let rows = [json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3}), json!({"a": null, "b": 9})];
        let rows = rows.map(|row| row.as_object().unwrap().clone());
        let order = vec![("a".to_owned(), false), ("b".to_owned(), true)];
        assert_eq!(compare_rows(&rows[0], &rows[1], &order), Ordering::Greater);
        assert_eq!(compare_rows(&rows[2], &rows[0], &order), Ordering::Less);
        assert_eq!(compare_rows(&rows[0], &rows[0], &order), Ordering::Equal);
    }
}
