//! Who may see a run, and who may give orders.
//!
//! Reading is free on this machine: where the dashboard listens on loopback alone, and the browser asked for a name of
//! this machine (a page of a stranger that had its own name point here would ask for that one). What a proxy on this
//! machine passes on comes from elsewhere: it is known by what proxies add, or by the name asked for, which a proxy
//! therefore has to pass on. From elsewhere reading takes the token, and orders take it everywhere. Without a token there
//! are no orders and no listening beyond loopback.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, VIA};
use axum::http::{HeaderMap, HeaderName};
use shared::digest::sha256_hex;

use crate::failure::Failure;

/// A token shorter than this can be guessed.
pub const SHORT_TOKEN: usize = 16;

/// The word that proves who may give orders. It is kept as its digest: nothing can print it, and comparing digests
/// tells nothing of the token by the time it takes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    digest: Arc<str>,
    is_short: bool,
}

impl Token {
    /// One that a request can carry: printable ASCII, with no blanks around it.
    pub fn new(token: &str) -> Result<Self, Failure> {
        let token = token.trim();
        if token.is_empty() {
            return Err(Failure::usage(
                "the dashboard's token is empty: leave it out, or set a long random one",
            ));
        }
        if !token.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(Failure::usage(
                "the dashboard's token has characters that no request can carry: use letters, digits and signs of ASCII",
            ));
        }
        let is_short = token.len() < SHORT_TOKEN;
        Ok(Self { digest: sha256_hex(token.as_bytes()).into(), is_short })
    }

    /// Whether it can be guessed.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    fn is(&self, said: &str) -> bool {
        *self.digest == *sha256_hex(said.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The rules of one dashboard.
#[derive(Debug, Clone)]
pub struct Access {
    token: Option<Token>,
    is_local: bool,
}

/// Why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token to prove anything by.
    ReadOnly,
    /// The token is missing or wrong.
    Unproven,
}

impl Access {
    /// For a dashboard that listens here; refuses to listen for strangers without a token.
    pub fn new(listen: SocketAddr, token: Option<Token>) -> Result<Self, Failure> {
        let is_local = listen.ip().is_loopback();
        if !is_local && token.is_none() {
            return Err(Failure::usage(format!(
                "{listen} can be reached from other machines: set FLEET_DASHBOARD_TOKEN, or listen on 127.0.0.1"
            )));
        }
        Ok(Self { token, is_local })
    }

    /// Whether orders are possible at all.
    pub fn takes_orders(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this request may see the run.
    pub fn may_read(&self, headers: &HeaderMap) -> bool {
        self.reads_freely(headers) || self.is_proven(headers)
    }

    /// Whether it may do so without the token.
    pub fn reads_freely(&self, headers: &HeaderMap) -> bool {
        self.is_local && asks_for_this_machine(headers) && !is_passed_on(headers)
    }

    /// Whether this request may give orders.
    pub fn may_order(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            None => Err(Refusal::ReadOnly),
            Some(_) if self.is_proven(headers) => Ok(()),
            Some(_) => Err(Refusal::Unproven),
        }
    }

    fn is_proven(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return false };
        let said = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, said) = said.and_then(|said| said.split_once(' ')).unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer") && token.is(said.trim())
    }
}

/// Whether a proxy says that it passes the request on for somebody.
fn is_passed_on(headers: &HeaderMap) -> bool {
    let says_so = |name: &HeaderName| {
        *name == FORWARDED || *name == VIA || name == "x-real-ip" || name.as_str().starts_with("x-forwarded-")
    };
    headers.keys().any(says_so)
}

/// Whether the host asked for is this machine by name or number. Browsers always say one.
fn asks_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1:8080";
    const ANYWHERE: &str = "0.0.0.0:8080";

    fn access(listen: &str, token: Option<&str>) -> Access {
        Access::new(listen.parse().unwrap(), token.map(|token| Token::new(token).unwrap())).unwrap()
    }

    fn headers(host: &str, authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(said) = authorization {
            headers.insert(AUTHORIZATION, said.parse().unwrap());
        }
        headers
    }

    #[test]
    fn no_strangers_without_a_token() {
        for listen in [ANYWHERE, "192.0.2.1:80", "[::]:8080"] {
            let refused = Access::new(listen.parse().unwrap(), None).unwrap_err();
            assert!(refused.error.to_string().contains("FLEET_DASHBOARD_TOKEN"));
        }
        assert!(Access::new("[::1]:8080".parse().unwrap(), None).is_ok());
        assert!(!format!("{:?}", Token::new("hunter2").unwrap()).contains("hunter2"));
    }

    #[test]
    fn reading_is_free_here_and_takes_the_token_from_elsewhere() {
        let local = access(HERE, Some("s3cret"));
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "run.localhost:80"] {
            assert!(local.may_read(&headers(host, None)), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "[::2]:8080", "8.8.8.8"]
        {
            assert!(!local.may_read(&headers(host, None)), "{host}");
        }
        assert!(local.may_read(&headers("proxied.example", Some("Bearer s3cret"))));
        let open = access(ANYWHERE, Some("s3cret"));
        assert!(!open.may_read(&headers("127.0.0.1:8080", None)));
        assert!(open.may_read(&headers("box.example:8080", Some("bearer s3cret"))));
    }

    #[test]
    fn what_a_proxy_passes_on_comes_from_elsewhere() {
        let local = access(HERE, Some("s3cret"));
        for (name, value) in [
            ("Forwarded", "for=192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Real-IP", "192.0.2.1"),
            ("Via", "1.1 proxy"),
        ] {
            let passed_on = |said| {
                let mut headers = headers(HERE, said);
                headers.insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
                headers
            };
            assert!(!local.may_read(&passed_on(None)), "{name}");
            assert!(local.may_read(&passed_on(Some("Bearer s3cret"))), "{name}");
        }
    }

    #[test]
    fn a_token_is_what_a_request_can_carry() {
        for wrong in ["  ", "s3cret\u{200b}", "gehe\u{ef}m", "two\nlines", "a\u{7f}"] {
            assert_eq!(Token::new(wrong).unwrap_err().code, shared::exit::ExitCode::Usage, "{wrong:?}");
        }
        assert_eq!(Token::new(" s3cret\n").unwrap(), Token::new("s3cret").unwrap());
        assert!(Token::new("several words of it").is_ok());
    }

    #[test]
    fn orders_take_the_token_everywhere() {
        let order = |access: &Access, said| access.may_order(&headers(HERE, said));
        assert_eq!(order(&access(HERE, None), Some("Bearer s3cret")), Err(Refusal::ReadOnly));
        let with_token = access(HERE, Some("s3cret"));
        for wrong in [None, Some("Bearer"), Some("Bearer s3cre"), Some("Basic s3cret"), Some("s3cret")] {
            assert_eq!(order(&with_token, wrong), Err(Refusal::Unproven), "{wrong:?}");
        }
        assert_eq!(order(&with_token, Some("Bearer s3cret")), Ok(()));
    }
}
