//! What arrives and what is answered, apart from how it travels.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `PUT`, ...
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// As it came.
    pub body: String,
    /// The `Authorization: Bearer`.
    pub key: Option<String>,
}

impl Request {
    /// The value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// JSON.
    Json(Value),
    /// Text with its content type.
    Text(&'static str, String),
    /// The last lines of what an instance printed: the caller reads its log.
    Log {
        /// Whose.
        instance: u64,
        /// How many lines.
        lines: usize,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status, or `None`: the connection is closed without a reply.
    pub status: Option<u16>,
    /// Seconds of a `Retry-After`.
    pub retry_after: Option<u64>,
    /// What it says.
    pub body: Body,
    /// It goes out after this time.
    pub delay: Duration,
}

impl Answer {
    /// 200 with JSON.
    pub fn json(value: Value) -> Self {
        Self { status: Some(200), retry_after: None, body: Body::Json(value), delay: Duration::ZERO }
    }

    /// `{"success": true}`.
    pub fn success() -> Self {
        Self::json(json!({"success": true}))
    }

    /// Plain text with a status.
    pub fn text(status: u16, text: &str) -> Self {
        let body = Body::Text("text/plain; charset=utf-8", text.to_owned());
        Self { status: Some(status), body, ..Self::success() }
    }

    /// None at all: the connection is closed.
    pub fn hang_up() -> Self {
        Self { status: None, ..Self::success() }
    }
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The short name: `invalid_args`.
    pub error: &'static str,
    /// In words.
    pub message: String,
}

impl Refusal {
    /// 400, for a request that cannot be understood.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { status: 400, error: "invalid_args", message: message.into() }
    }

    /// 404, for an instance that does not exist.
    pub fn no_instance(id: u64) -> Self {
        Self { status: 404, error: "no_such_instance", message: format!("Instance {id} not found.") }
    }

    /// For an offer that is gone.
    pub fn no_ask(status: u16, id: u64) -> Self {
        let message = format!("Instance type by id {id} is not available.");
        Self { status, error: "no_such_ask", message }
    }
}

/// How refusals are written. The real API is not consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorStyle {
    /// `{success, error, msg}`.
    #[default]
    Full,
    /// `{success, msg}`.
    NoName,
    /// `{success, error}`.
    NoMessage,
    /// `{success, error, message}`.
    Message,
    /// The message alone, as text.
    Plain,
    /// All of these in turn.
    Mixed,
}

impl ErrorStyle {
    /// The answer to the `turn`th refused request.
    pub fn write(self, refusal: &Refusal, turn: usize) -> Answer {
        let (error, message) = (refusal.error, refusal.message.as_str());
        let value = match self {
            Self::Full => json!({"success": false, "error": error, "msg": message}),
            Self::NoName => json!({"success": false, "msg": message}),
            Self::NoMessage => json!({"success": false, "error": error}),
            Self::Message => json!({"success": false, "error": error, "message": message}),
            Self::Plain => return Answer::text(refusal.status, message),
            Self::Mixed => {
                let all = [Self::Full, Self::NoName, Self::NoMessage, Self::Message, Self::Plain];
                return all[turn % all.len()].write(refusal, turn);
            }
        };
        Answer { status: Some(refusal.status), ..Answer::json(value) }
    }
}

/// A JSON body; an empty one is an empty object.
pub fn parse_body(body: &str) -> Result<Value, Refusal> {
    if body.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_str(body).map_err(|error| Refusal::invalid(format!("the body is no JSON: {error}")))
}
