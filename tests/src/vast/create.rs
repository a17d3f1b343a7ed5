//! The body of a create call, and the limits it has to keep.

use serde_json::{Map, Value};

/// Characters of `onstart` and `args` together.
const SCRIPT_LIMIT: usize = 4096;
/// Characters of `env`, written as JSON.
const ENVIRONMENT_LIMIT: usize = 32_768;
/// Characters of a label.
pub const LABEL_LIMIT: usize = 256;
/// GB.
const SMALLEST_DISK: f64 = 8.0;

const KNOWN: [&str; 26] = [
    "args",
    "args_str",
    "cancel_unavail",
    "client_id",
    "disk",
    "env",
    "extra",
    "force",
    "image",
    "image_login",
    "jupyter_dir",
    "label",
    "lang_utf8",
    "onstart",
    "price",
    "python_utf8",
    "runtype",
    "ssh_key",
    "target_state",
    "template_hash_id",
    "template_id",
    "use_jupyter_lab",
    "use_ssh",
    "user",
    "vm",
    "volume_info",
];

const RUNTYPES: [&str; 8] = [
    "args",
    "jupyter",
    "jupyter_direc ssh_direc ssh_proxy",
    "jupyter_proxy ssh_proxy",
    "ssh",
    "ssh_direc",
    "ssh_direc ssh_proxy",
    "ssh_proxy",
];

/// What somebody wants to rent.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The container image.
    pub image: String,
    /// GB.
    pub disk: f64,
    /// The bid in $/h; on demand without.
    pub price: Option<f64>,
    /// At most 256 characters.
    pub label: Option<String>,
    /// The script that runs at each start, or the entry point where `runtype` is `args`.
    pub onstart: String,
    /// Arguments of the entry point.
    pub args: Vec<String>,
    /// Variables and ports (`-p 80:80`), by name.
    pub env: Vec<(String, String)>,
    /// How one gets in; decides whether the container ends with its script.
    pub runtype: String,
    /// An error, rather than a stopped instance, where it cannot run.
    pub cancel_unavail: bool,
    /// `target_state` is `stopped`.
    pub stopped: bool,
}

impl Order {
    /// Reads a body. An error says what is wrong with which field.
    pub fn parse(body: &Value) -> Result<Self, String> {
        let body = body.as_object().ok_or("the body is no object")?;
        if let Some(unknown) = body.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("unknown field {unknown}"));
        }
        if text(body, "client_id")?.is_some_and(|client| client != "me") {
            return Err("client_id: expected \"me\"".to_owned());
        }
        let runtype = text(body, "runtype")?.unwrap_or_else(|| "ssh".to_owned());
        if !RUNTYPES.contains(&runtype.as_str()) {
            return Err(format!("runtype: {runtype} does not exist"));
        }
        let order = Self {
            image: text(body, "image")?.ok_or("image: missing")?,
            disk: number(body, "disk")?.unwrap_or(10.0),
            price: number(body, "price")?,
            label: text(body, "label")?,
            onstart: text(body, "onstart")?.unwrap_or_default(),
            args: arguments(body.get("args"))?,
            env: environment(body.get("env"))?,
            runtype,
            cancel_unavail: flag(body, "cancel_unavail")?,
            stopped: target_is_stopped(text(body, "target_state")?)?,
        };
        order.keep_limits(body).map(|()| order)
    }

    fn keep_limits(&self, body: &Map<String, Value>) -> Result<(), String> {
        let arguments: usize = self.args.iter().map(|argument| argument.chars().count()).sum();
        let script = self.onstart.chars().count() + arguments;
        let environment = body.get("env").map_or(0, |env| env.to_string().chars().count());
        let label = self.label.as_ref().map_or(0, |label| label.chars().count());
        if script > SCRIPT_LIMIT {
            return Err(format!("onstart and args: {script} characters, more than {SCRIPT_LIMIT}"));
        }
        if environment > ENVIRONMENT_LIMIT {
            return Err(format!("env: {environment} characters, more than {ENVIRONMENT_LIMIT}"));
        }
        if label > LABEL_LIMIT {
            return Err(format!("label: {label} characters, more than {LABEL_LIMIT}"));
        }
        if self.disk < SMALLEST_DISK {
            return Err(format!("disk: {} GB, fewer than {SMALLEST_DISK}", self.disk));
        }
        match self.price {
            Some(price) if price <= 0.0 => Err(format!("price: {price}")),
            _ => Ok(()),
        }
    }

    /// The variables among `env`; the rest are ports, mounts and networks.
    pub fn variables(&self) -> impl Iterator<Item = &(String, String)> {
        self.env.iter().filter(|(name, _)| !name.starts_with('-'))
    }

    /// Whether the container ends with its script.
    pub fn ends_with_script(&self) -> bool {
        self.runtype == "args"
    }
}

fn target_is_stopped(target: Option<String>) -> Result<bool, String> {
    match target.as_deref() {
        None | Some("running") => Ok(false),
        Some("stopped") => Ok(true),
        Some(other) => Err(format!("target_state: {other}")),
    }
}

fn text(body: &Map<String, Value>, field: &str) -> Result<Option<String>, String> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{field}: expected a string, not {other}")),
    }
}

fn number(body: &Map<String, Value>, field: &str) -> Result<Option<f64>, String> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(other) => Err(format!("{field}: expected a number, not {other}")),
    }
}

fn flag(body: &Map<String, Value>, field: &str) -> Result<bool, String> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(other) => Err(format!("{field}: expected true or false, not {other}")),
    }
}

fn arguments(value: Option<&Value>) -> Result<Vec<String>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("args: expected a list, not {other}")),
    };
    let argument = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(|value| argument(value).ok_or_else(|| format!("args: {value} is no string"))).collect()
}

fn environment(value: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    let variables = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err("env: expected an object".to_owned()),
    };
    let pair = |(name, value): (&String, &Value)| match value {
        Value::String(_) if name.is_empty() || name.contains(['=', '\0']) => {
            Err(format!("env: {name:?} is no name"))
        }
        Value::String(value) if value.contains('\0') => Err(format!("env: {name} holds a NUL")),
        Value::String(value) => Ok((name.clone(), value.clone())),
        _ => Err(format!("env: {name} is no string")),
    };
    variables.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: &Value) -> String {
        Order::parse(body).unwrap_err()
    }

    #[test]
    fn a_body_is_read_whole() {
        let body = json!({"client_id": "me", "image": "i", "disk": 20, "price": 0.3, "label": "l",
            "onstart": "true", "env": {"A": "1", "-p 80:80": "1"}, "runtype": "ssh", "extra": null});
        let order = Order::parse(&body).unwrap();
        assert_eq!((order.disk, order.price, order.label.as_deref()), (20.0, Some(0.3), Some("l")));
        assert_eq!(order.env.len(), 2);
        assert_eq!(order.variables().collect::<Vec<_>>(), [&("A".to_owned(), "1".to_owned())]);
        assert!(!order.ends_with_script() && !order.cancel_unavail && !order.stopped);
    }

    #[test]
    fn limits_are_kept_to_the_character() {
        let at = |script: usize, arguments: usize| json!({"image": "i", "onstart": "ö".repeat(script), "args": ["x".repeat(arguments)]});
        assert!(Order::parse(&at(4000, 96)).is_ok());
        assert!(refused(&at(4000, 97)).contains("4097 characters"));
        let label = |length| json!({"image": "i", "label": "l".repeat(length)});
        assert!(Order::parse(&label(256)).is_ok());
        assert!(refused(&label(257)).contains("label"));
        // {"A":""} is eight characters.
        let env = |length: usize| json!({"image": "i", "env": {"A": "x".repeat(length)}});
        assert!(Order::parse(&env(32_760)).is_ok());
        assert!(refused(&env(32_761)).contains("32769"));
        assert!(Order::parse(&json!({"image": "i", "disk": 8})).is_ok());
        assert!(refused(&json!({"image": "i", "disk": 7.9})).contains("disk"));
    }

    #[test]
    fn wrong_types_and_unknown_names_are_refused() {
        let cases = [
            (json!([]), "object"),
            (json!({}), "image"),
            (json!({"image": "i", "imagee": "i"}), "imagee"),
            (json!({"image": "i", "env": "-e A=1"}), "env"),
            (json!({"image": "i", "env": {"A": 1}}), "A is no string"),
            (json!({"image": "i", "env": {"A=B": "1"}}), "no name"),
            (json!({"image": "i", "disk": "20"}), "disk"),
            (json!({"image": "i", "price": 0}), "price"),
            (json!({"image": "i", "args": "a b"}), "args"),
            (json!({"image": "i", "runtype": "telnet"}), "telnet"),
            (json!({"image": "i", "client_id": "you"}), "client_id"),
            (json!({"image": "i", "target_state": "paused"}), "paused"),
        ];
        for (body, expected) in cases {
            assert!(refused(&body).contains(expected), "{body}: {}", refused(&body));
        }
    }
}
