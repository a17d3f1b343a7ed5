//! Where a Redis queue is, and how long it is waited for.

use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, TlsCertificates,
};
use url::Url;

use super::super::{QueueError, QueueErrorKind};
use crate::settings::QueueAddress;

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// For one answer of the server. After three answers in a row that did not come in time the
    /// connection is made anew, since packets may be lost in silence.
    pub response_timeout: Duration,
    /// For one connection to stand.
    pub connect_timeout: Duration,
    /// For one operation with all its repetitions; then it fails as unreachable.
    pub give_up_after: Duration,
    /// The pause before the first repetition; it doubles with every further one.
    pub first_pause: Duration,
    /// The longest pause between two repetitions.
    pub longest_pause: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            give_up_after: Duration::from_secs(30),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
        }
    }
}

impl RedisOptions {
    /// The part that the connection itself keeps.
    pub(super) fn connection_config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.response_timeout))
            .set_connection_timeout(Some(self.connect_timeout))
    }
}

/// A client for `redis://` or `rediss://`; nothing is sent yet.
pub(super) fn open_client(address: &QueueAddress) -> Result<Client, QueueError> {
    let url = address.url().expose();
    let shown = mask_url(url);
    let refused = |why: String| QueueError::new(QueueErrorKind::Refused, why);
    if !["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(refused(format!("queue {shown}: expected redis://... or rediss://...")));
    }
    // The cause is left out of the message, since it may quote the URL.
    let unreadable =
        || refused(format!("queue {shown}: not a URL of the form redis://user:password@host:port/0"));
    let info: ConnectionInfo = url.into_connection_info().map_err(|_| unreadable())?;
    let info = info.set_tcp_settings(tcp_settings());
    let client = match tls_certificates(address) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    };
    client.map_err(|_| unreadable())
}

/// What the client library wants to know of TLS, where anything was set. A CA that is set is the only
/// one trusted.
fn tls_certificates(address: &QueueAddress) -> Option<TlsCertificates> {
    let root_cert = address.authority().map(|authority| authority.pem().to_vec());
    let client_tls = address.identity().map(|identity| ClientTlsConfig {
        client_cert: identity.certificate_pem().to_vec(),
        client_key: identity.expose_key_pem().to_vec(),
    });
    (root_cert.is_some() || client_tls.is_some()).then_some(TlsCertificates { client_tls, root_cert })
}

/// A vanished peer is noticed within about 15 s even where no packet tells of it.
fn tcp_settings() -> TcpSettings {
    let ten_seconds = Duration::from_secs(10);
    let keepalive = TcpKeepalive::new().with_time(ten_seconds).with_interval(ten_seconds);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let settings = settings.set_user_timeout(Duration::from_secs(15));
    settings
}

/// The URL with its password and query replaced by `***`, fit for messages.
pub fn mask_url(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else {
        return "(unreadable URL)".to_owned();
    };
    if parsed.cannot_be_a_base() || parsed.host().is_none() {
        return format!("{}:***", parsed.scheme());
    }
    let masked_password = parsed.password().is_none() || parsed.set_password(Some("***")).is_ok();
    if !masked_password {
        return format!("{}://***", parsed.scheme());
    }
    if parsed.query().is_some() {
        parsed.set_query(Some("***"));
    }
    parsed.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::QueueUrl;

    fn open(url: &str) -> Result<Client, QueueError> {
        open_client(&QueueAddress::from(QueueUrl::from(url.to_owned())))
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(mask_url("redis://:hunter2@h:6379/0"), "redis://:***@h:6379/0");
        assert_eq!(mask_url("rediss://u:hunter2@h:6379"), "rediss://u:***@h:6379");
        assert_eq!(mask_url("redis://h:6379/0?password=hunter2"), "redis://h:6379/0?***");
        assert_eq!(mask_url("redis://h/0"), "redis://h/0");
        for odd in ["hunter2", "redis:hunter2", "redis://u:hunter2@h:99999", "://hunter2", "redis:///hunter2"]
        {
            let error = open(odd).err().map(|error| format!("{error} {error:?}"));
            assert!(
                !error.unwrap_or_default().contains("hunter2") && !mask_url(odd).contains("hunter2"),
                "{odd}"
            );
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        let error = open("http://u:hunter2@h/").unwrap_err();
        assert_eq!(error.kind, QueueErrorKind::Refused);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
