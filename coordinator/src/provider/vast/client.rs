//! HTTP to the market: the key, the pace, what is tried again, and what an answer means.
//!
//! Reads and destructions are tried again; a creation and a bid only when the market says that it did not even
//! look at them (429).

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::excerpt::excerpt;
use url::Url;

use super::key::ApiKey;
use super::pace::{Call, Pace};
use crate::provider::{InstanceId, ProviderError, ProviderErrorKind};

/// Tries of a call that may be repeated.
const TRIES: u32 = 3;

/// Tries of one that came too early: the market has not looked at it.
const EARLY_TRIES: u32 = 8;

/// The longest pause that the market may ask for; a longer one is a failure, and the next tick tries again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a first failure that names none.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is attempted, for messages: `list the instances`.
    pub what: &'a str,
    /// The method.
    pub method: Method,
    /// The path from `/api`.
    pub path: String,
    /// The query.
    pub query: Vec<(&'static str, String)>,
    /// The body.
    pub body: Option<Value>,
    /// How it is counted.
    pub call: Call,
    /// Whether it does no harm twice.
    pub repeatable: bool,
}

impl<'a> Request<'a> {
    /// A read.
    pub fn get(what: &'a str, path: impl Into<String>, call: Call) -> Self {
        let path = path.into();
        Self { what, method: Method::GET, path, query: Vec::new(), body: None, call, repeatable: true }
    }

    /// A change.
    pub fn put(what: &'a str, path: impl Into<String>, body: Value, call: Call) -> Self {
        let path = path.into();
        Self { what, method: Method::PUT, path, query: Vec::new(), body: Some(body), call, repeatable: false }
    }

    /// The request as curl would send it, without the key.
    pub fn show(&self, base: &Url) -> String {
        let mut text = format!("{} {}", self.method, address(base, &self.path, &self.query));
        text += "\nAuthorization: Bearer ***";
        if let Some(body) = &self.body {
            text += &format!("\n{}", serde_json::to_string_pretty(body).unwrap_or_default());
        }
        text
    }
}

/// The market's server.
#[derive(Debug)]
pub struct VastClient {
    base: Url,
    key: ApiKey,
    http: Client,
    pace: Pace,
}

impl VastClient {
    /// Speaks to `base`, which is HTTPS unless it is this machine: the key goes with every request.
    pub fn new(base: Url, key: ApiKey, pace: f64) -> Result<Self, ProviderError> {
        let local = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if base.scheme() != "https" && !(base.scheme() == "http" && local) {
            return Err(ProviderError::new(
                ProviderErrorKind::Invalid,
                format!("{base} is not https: the account's key is not sent in the clear"),
            ));
        }
        let http = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(90))
            .user_agent(concat!("embed-fleet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                ProviderError::new(ProviderErrorKind::Invalid, "cannot speak HTTPS").with_source(error)
            })?;
        Ok(Self { base, key, http, pace: Pace::new(pace) })
    }

    /// The server.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Sends a request, and reads the answer as JSON.
    pub async fn call<T: DeserializeOwned>(&self, request: &Request<'_>) -> Result<T, ProviderError> {
        let text = self.text(request).await?;
        serde_json::from_str(&text).map_err(|error| {
            // An answer to a creation holds the key of the instance, one about the account the account's own.
            let shown = match request.call {
                Call::Create | Call::Account => "it is not shown, since it may hold a key".to_owned(),
                _ => quote(&text),
            };
            ProviderError::new(
                ProviderErrorKind::Unreachable,
                format!("cannot {}: the market's answer is not what it should be ({shown})", request.what),
            )
            .with_source(error)
        })
    }

    async fn text(&self, request: &Request<'_>) -> Result<String, ProviderError> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            self.pace.wait(request.call).await;
            let (error, asked) = match self.once(request).await {
                Ok(text) => return Ok(text),
                Err(failed) => failed,
            };
            // The market has not looked at a call that came too early.
            let again = match error.kind {
                // Unless it made something all the same.
                ProviderErrorKind::RateLimited => error.created.is_none(),
                ProviderErrorKind::Unreachable | ProviderErrorKind::Failed => request.repeatable,
                _ => false,
            };
            let wait = asked.unwrap_or(pause);
            let most = if error.kind == ProviderErrorKind::RateLimited { EARLY_TRIES } else { TRIES };
            if !again || tries >= most || wait > LONGEST_PAUSE {
                return Err(error);
            }
            tries += 1;
            pause *= 2;
            tokio::time::sleep(wait).await;
        }
    }

    /// One try: the body of a good answer, or the failure and the pause that the market asks for.
    async fn once(&self, request: &Request<'_>) -> Result<String, (ProviderError, Option<Duration>)> {
        let unreachable = |error: reqwest::Error| {
            let message = format!("cannot {}: no answer from {}", request.what, self.base);
            (
                ProviderError::new(ProviderErrorKind::Unreachable, message).with_source(error.without_url()),
                None,
            )
        };
        let mut call = self
            .http
            .request(request.method.clone(), address(&self.base, &request.path, &request.query))
            .bearer_auth(self.key.expose());
        if let Some(body) = &request.body {
            call = call.json(body);
        }
        let response = call.send().await.map_err(unreachable)?;
        let (status, asked) = (response.status(), retry_after(&response));
        let text = response.text().await.map_err(unreachable)?;
        match refusal(request.what, status, &text) {
            None => Ok(text),
            Some(error) => Err((error, asked)),
        }
    }

    /// A text at an address of its own, which gets no key; `None` while it is not there.
    pub async fn fetch(&self, url: &str) -> Option<String> {
        let response = self.http.get(url).timeout(Duration::from_secs(20)).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        response.text().await.ok()
    }
}

fn address(base: &Url, path: &str, query: &[(&str, String)]) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

fn retry_after(response: &Response) -> Option<Duration> {
    let header = response.headers().get("retry-after")?.to_str().ok()?;
    let seconds: f64 = header.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// What an answer refuses; `None` where it does not. Any field may be missing or of another kind, and the whole may be
/// plain text.
pub(super) fn refusal(what: &str, status: StatusCode, text: &str) -> Option<ProviderError> {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let denies = matches!(&said["success"], Value::Bool(false)) || said["success"] == "false";
    if status.is_success() && !denies {
        return None;
    }
    let word = |name: &str| match &said[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let (code, mut message) = (word("error"), word("msg"));
    if message.is_empty() {
        message = word("message");
    }
    let reason = match (code.as_str(), message.as_str()) {
        ("", "") => quote(text),
        (code, "") => quote(code),
        ("", message) => quote(message),
        (code, message) => quote(&format!("{code}: {message}")),
    };
    let kind = kind_of(status, &code, &message.to_lowercase());
    let mut error = ProviderError::new(kind, format!("cannot {what}: {reason} (HTTP {})", status.as_u16()));
    error.created = said["new_contract"].as_u64().map(InstanceId);
    Some(error)
}

fn kind_of(status: StatusCode, code: &str, message: &str) -> ProviderErrorKind {
    let about_money = code.contains("credit") || code.contains("balance") || message.contains("insufficient");
    match (status.as_u16(), code) {
        // A day's quota: trying again at once only makes more calls.
        (_, "search_quota_exceeded") => ProviderErrorKind::Quota,
        (429, _) => ProviderErrorKind::RateLimited,
        (_, "auth_error") | (401 | 403, _) => ProviderErrorKind::Denied,
        (_, "no_such_ask" | "no_such_offer") => ProviderErrorKind::OfferGone,
        (_, "no_such_instance") => ProviderErrorKind::NoInstance,
        (402, _) => ProviderErrorKind::Balance,
        (400 | 200, _) if about_money => ProviderErrorKind::Balance,
        (400 | 405 | 413 | 422, _) => ProviderErrorKind::Invalid,
        (502..=504, _) => ProviderErrorKind::Unreachable,
        // Also a 404 that does not say of what: it proves nothing gone.
        _ => ProviderErrorKind::Failed,
    }
}

/// The beginning of an answer, on one line.
fn quote(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "an empty answer".to_owned();
    }
    excerpt(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, text: &str) -> Option<ProviderErrorKind> {
        refusal("rent", StatusCode::from_u16(status).unwrap(), text).map(|error| error.kind)
    }

    #[test]
    fn answers_are_told_apart() {
        use ProviderErrorKind::{
            Balance, Denied, Failed, Invalid, NoInstance, OfferGone, Quota, RateLimited, Unreachable,
        };
        for (status, text, expected) in [
            (200, r#"{"success": true, "new_contract": 1}"#, None),
            (200, "[]", None),
            (404, r#"{"success": false, "error": "no_such_ask", "msg": "gone"}"#, Some(OfferGone)),
            (404, r#"{"error": "auth_error"}"#, Some(Denied)),
            (401, "", Some(Denied)),
            (429, "API requests too frequent", Some(RateLimited)),
            (429, r#"{"error": "search_quota_exceeded"}"#, Some(Quota)),
            (410, r#"{"success": false, "error": "no_such_ask", "message": "stale"}"#, Some(OfferGone)),
            (400, r#"{"success": false, "error": "invalid_args", "msg": "label too long"}"#, Some(Invalid)),
            (400, r#"{"success": false, "msg": "insufficient credit"}"#, Some(Balance)),
            (410, "gone", Some(Failed)),
            (404, "not found", Some(Failed)),
            (404, r#"{"success": false, "error": "no_such_instance"}"#, Some(NoInstance)),
            (400, r#"{"error": "invalid_args", "msg": "label my-credit-run is too long"}"#, Some(Invalid)),
            (200, r#"{"success": "false", "msg": "a", "message": "b"}"#, Some(Failed)),
            (502, "<html>", Some(Unreachable)),
            (500, "oops", Some(Failed)),
            (200, r#"{"success": false}"#, Some(Failed)),
        ] {
            assert_eq!(kind(status, text), expected, "{status} {text}");
        }
    }

    #[test]
    fn a_failure_may_have_made_an_instance() {
        let text = r#"{"success": false, "error": "oops", "new_contract": 77}"#;
        let error = refusal("rent", StatusCode::OK, text).unwrap();
        assert_eq!(error.created, Some(InstanceId(77)));
    }

    #[test]
    fn the_key_is_not_sent_in_the_clear() {
        let key = || ApiKey::read("k").unwrap();
        let refused = VastClient::new("http://console.vast.ai".parse().unwrap(), key(), 1.0).unwrap_err();
        assert_eq!(refused.kind, ProviderErrorKind::Invalid);
        assert!(VastClient::new("http://127.0.0.1:8080".parse().unwrap(), key(), 1.0).is_ok());
    }
}
