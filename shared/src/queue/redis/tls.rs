//! What a failure of TLS means to a person: whom the other side does not trust, and which setting helps.

use std::error::Error;
use std::sync::Arc;

use redis::RedisError;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::failure::Peer;

/// Whether the two sides do not trust each other: waiting does not help.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    matches!(
        tls_error(error),
        Some(TlsError::InvalidCertificate(_) | TlsError::AlertReceived(_) | TlsError::InvalidMessage(_))
    )
}

/// What to do about a failure of TLS; `None` where TLS is not to blame.
pub(super) fn advice(peer: &Peer, error: &RedisError) -> Option<&'static str> {
    if !peer.over_tls {
        return None;
    }
    match tls_error(error) {
        Some(TlsError::InvalidCertificate(problem)) => Some(about_certificate(peer, problem)),
        Some(TlsError::AlertReceived(AlertDescription::ProtocolVersion)) => {
            Some("the server speaks no version of TLS from 1.2 on")
        }
        Some(TlsError::AlertReceived(_)) => Some(about_identity(peer)),
        Some(TlsError::InvalidMessage(_)) => {
            Some("the server does not speak TLS on this port: name its TLS port, or use redis://")
        }
        _ if error.is_timeout() => Some(
            "the server may come back; the store has lost nothing. A port without TLS never answers a rediss:// URL",
        ),
        // A server that closes the connection may be quicker than its reason.
        _ if error.is_io_error() && !peer.has_identity => Some(
            "the server may come back; the store has lost nothing. If it asks for a client certificate, set \
             --queue-cert and --queue-key (FLEET_QUEUE_CERT, FLEET_QUEUE_KEY)",
        ),
        _ => None,
    }
}

fn about_certificate(peer: &Peer, problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate names other hosts: use in --queue (FLEET_QUEUE) a host that it names, or give \
             the server a certificate for this one"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the server's certificate, or set this machine's clock right"
        }
        _ if peer.has_authority => {
            "the server's certificate is not signed by the CA in --queue-ca (FLEET_QUEUE_CA): name the CA that signed it"
        }
        _ => {
            "the server's certificate is not signed by a public CA: name the CA that signed it with --queue-ca \
             (FLEET_QUEUE_CA)"
        }
    }
}

fn about_identity(peer: &Peer) -> &'static str {
    if peer.has_identity {
        "the server refuses the certificate of --queue-cert (FLEET_QUEUE_CERT): use one that its CA signed and that is \
         valid now"
    } else {
        "the server asks for a client certificate: set --queue-cert and --queue-key (FLEET_QUEUE_CERT, FLEET_QUEUE_KEY)"
    }
}

/// The TLS library's own error, somewhere in the chain.
fn tls_error(error: &RedisError) -> Option<&TlsError> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = in_one(error) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Errors in an `Arc` or an I/O error do not show their inner one as their source.
fn in_one<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return in_one(shared.as_ref());
    }
    in_one(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}
