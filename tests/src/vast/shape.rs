//! Requests without their values, so that those of two clients can be compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ledger::Arrival;

/// What kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// null
    Null,
    /// true or false
    Bool,
    /// A number.
    Number,
    /// A string.
    Text,
    /// An array.
    List,
    /// An object.
    Object,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }
}

/// A request without its values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// With `{id}` for a number.
    pub path: String,
    /// What its query holds; a value that is JSON is seen as such.
    pub query: BTreeMap<String, Kind>,
    /// What its body holds, if that is an object.
    pub body: BTreeMap<String, Kind>,
}

impl Shape {
    /// That of a request.
    pub fn of(arrival: &Arrival) -> Self {
        let part = |part: &str| match part.parse::<u64>() {
            Ok(_) => "{id}".to_owned(),
            Err(_) => part.to_owned(),
        };
        let query = arrival.query.iter().map(|(name, value)| {
            let kind = serde_json::from_str(value).map_or(Kind::Text, |value| Kind::of(&value));
            (name.clone(), kind)
        });
        let body = match serde_json::from_str(&arrival.body) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        Self {
            method: arrival.method.clone(),
            path: arrival.path.split('/').map(part).collect::<Vec<_>>().join("/"),
            query: query.collect(),
            body: body.iter().map(|(name, value)| (name.clone(), Kind::of(value))).collect(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |fields: &BTreeMap<String, Kind>| {
            let fields = fields.iter().map(|(name, kind)| format!("{name}: {kind:?}").to_lowercase());
            fields.collect::<Vec<_>>().join(", ")
        };
        write!(formatter, "{:6} {}", self.method, self.path)?;
        if !self.query.is_empty() {
            write!(formatter, " ?{}", list(&self.query))?;
        }
        if !self.body.is_empty() {
            write!(formatter, " {{{}}}", list(&self.body))?;
        }
        Ok(())
    }
}

/// The shapes of requests to the API, each once, in order.
pub fn shapes(arrivals: &[Arrival]) -> Vec<Shape> {
    let to_api = arrivals.iter().filter(|arrival| arrival.path.starts_with("/api/"));
    let mut shapes: Vec<Shape> = to_api.map(Shape::of).collect();
    shapes.sort();
    shapes.dedup();
    shapes
}
