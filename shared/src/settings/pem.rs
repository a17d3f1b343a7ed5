//! Certificates and private keys as people give them: a path to a PEM file, or the PEM text itself.
//!
//! What is given as text is a secret like the content of a file: neither is ever shown. A message names
//! the setting and the file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::Deserialize;

/// How PEM text starts.
const PEM_START: &str = "-----BEGIN";

/// A path to a PEM file, or the text of one. Prints without its content.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct PemSetting(String);

impl PemSetting {
    /// Whether this is PEM text and no path.
    pub fn is_text(&self) -> bool {
        self.0.trim_start().starts_with(PEM_START)
    }

    /// Whether nothing was given.
    pub(super) fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The PEM text, read from the file where a path was given. `setting` names the setting in messages.
    pub(super) fn read(&self, setting: &str) -> Result<Pem, PemError> {
        if self.is_text() {
            // Environments of one line a variable carry line ends as two characters.
            let text = if self.0.contains('\n') { self.0.clone() } else { self.0.replace("\\n", "\n") };
            return Ok(Pem { text: text.into_bytes(), place: setting.to_owned() });
        }
        let path = PathBuf::from(&self.0);
        let place = format!("{setting} {}", path.display());
        match std::fs::read(&path) {
            Ok(text) => Ok(Pem { text, place }),
            Err(source) => Err(PemError::Read { place, source }),
        }
    }
}

impl From<String> for PemSetting {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for PemSetting {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for PemSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_text() { f.write_str("PemSetting(***)") } else { write!(f, "PemSetting({:?})", self.0) }
    }
}

/// A certificate or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("{place}: the file cannot be read")]
    Read {
        /// The setting and the file.
        place: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{place}: expected {expected}, and there is none that can be read")]
    Content {
        /// The setting and the file.
        place: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The certificate belongs to another key.
    #[error("{key}: this is not the private key of the certificate in {certificate}")]
    OtherKey {
        /// The setting and the file of the key.
        key: String,
        /// The setting and the file of the certificate.
        certificate: String,
    },
    /// PEM text on the command line.
    #[error(
        "{flag} takes a path: on the command line PEM text is seen by everybody on this machine; put it into a file, or \
         into {variable}"
    )]
    TextInFlag {
        /// The flag.
        flag: &'static str,
        /// The variable that takes text.
        variable: &'static str,
    },
}

/// PEM text that was read, and where it came from.
pub(super) struct Pem {
    text: Vec<u8>,
    place: String,
}

/// One or more certificates as PEM, each of which can be read.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates(Vec<u8>);

impl Certificates {
    /// Checks a CA's certificates: each can be a root of trust.
    pub(super) fn of_authority(pem: Pem) -> Result<Self, PemError> {
        const EXPECTED: &str = "a CA's certificate as PEM (BEGIN CERTIFICATE)";
        let certificates = certificates_in(&pem, EXPECTED)?;
        let mut roots = rustls::RootCertStore::empty();
        match certificates.into_iter().try_for_each(|certificate| roots.add(certificate)) {
            Ok(()) => Ok(Self(pem.text)),
            Err(_) => Err(PemError::Content { place: pem.place, expected: EXPECTED }),
        }
    }

    /// The PEM text.
    pub fn pem(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(***)")
    }
}

/// What a client shows of itself: a certificate and its private key, which belong together.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ClientIdentity {
    pub(super) fn new(certificate: Pem, key: Pem) -> Result<Self, PemError> {
        let chain = certificates_in(&certificate, "a certificate as PEM (BEGIN CERTIFICATE)")?;
        let unreadable = || PemError::Content {
            place: key.place.clone(),
            expected: "a private key as PEM without a passphrase (BEGIN PRIVATE KEY)",
        };
        let private = PrivateKeyDer::from_pem_slice(&key.text).map_err(|_| unreadable())?;
        match CertifiedKey::from_der(chain, private, &default_provider()) {
            Ok(_) => Ok(Self { certificate: certificate.text, key: key.text }),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(PemError::OtherKey { key: key.place, certificate: certificate.place })
            }
            Err(_) => Err(unreadable()),
        }
    }

    /// The certificate, with its chain, as PEM.
    pub fn certificate_pem(&self) -> &[u8] {
        &self.certificate
    }

    /// The private key as PEM, for the TLS library alone.
    pub fn expose_key_pem(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(***)")
    }
}

/// All certificates in the text, at least one.
fn certificates_in(pem: &Pem, expected: &'static str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let read = CertificateDer::pem_slice_iter(&pem.text).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(PemError::Content { place: pem.place.clone(), expected }),
    }
}
