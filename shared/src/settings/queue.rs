//! Where the queue is and how it is spoken to: its URL, and for `rediss://` whom to trust and what to
//! show. One type carries all of it to [`crate::queue::redis::RedisQueue::connect`].

use std::path::PathBuf;

use super::pem::{Certificates, ClientIdentity, PemError, PemSetting};
use super::{FileSettings, QueueUrl, SettingsError, environment};

/// The TLS settings as flags: paths alone, since arguments are seen by everybody on the machine.
#[derive(Debug, Clone, Default)]
pub struct TlsFlags {
    /// `--queue-ca`
    pub ca: Option<PathBuf>,
    /// `--queue-cert`
    pub certificate: Option<PathBuf>,
    /// `--queue-key`
    pub key: Option<PathBuf>,
}

/// A queue's URL with everything that a connection needs. It prints without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueAddress {
    url: QueueUrl,
    authority: Option<Certificates>,
    identity: Option<ClientIdentity>,
}

impl From<QueueUrl> for QueueAddress {
    /// Without TLS settings: `rediss://` then trusts the public CAs.
    fn from(url: QueueUrl) -> Self {
        Self { url, authority: None, identity: None }
    }
}

impl QueueAddress {
    /// Fills in flag, environment and file, each setting by itself, and reads the files they name.
    pub fn resolve(url: QueueUrl, flags: &TlsFlags, file: &FileSettings) -> Result<Self, SettingsError> {
        Self::resolve_with(url, flags, file, |name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    fn resolve_with(
        url: QueueUrl,
        flags: &TlsFlags,
        file: &FileSettings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let ca = CA.choose(flags.ca.as_ref(), &variable, file.queue_ca.as_ref())?;
        let certificate =
            CERTIFICATE.choose(flags.certificate.as_ref(), &variable, file.queue_cert.as_ref())?;
        let key = KEY.choose(flags.key.as_ref(), &variable, file.queue_key.as_ref())?;
        let without_tls = url.expose().starts_with("redis://");
        if let Some((_, setting)) = [&ca, &certificate, &key].into_iter().flatten().next()
            && without_tls
        {
            return Err(SettingsError::TlsWithoutTls { setting: setting.clone(), url: url.to_string() });
        }
        let authority =
            ca.map(|(pem, setting)| Certificates::of_authority(pem.read(&setting)?)).transpose()?;
        let identity = match (certificate, key) {
            (None, None) => None,
            (Some((certificate, its_setting)), Some((key, key_setting))) => {
                Some(ClientIdentity::new(certificate.read(&its_setting)?, key.read(&key_setting)?)?)
            }
            (Some((_, present)), None) => return Err(half(present, &KEY)),
            (None, Some((_, present))) => return Err(half(present, &CERTIFICATE)),
        };
        Ok(Self { url, authority, identity })
    }

    /// The URL.
    pub fn url(&self) -> &QueueUrl {
        &self.url
    }

    /// The only CA to trust; `None` trusts the public ones.
    pub fn authority(&self) -> Option<&Certificates> {
        self.authority.as_ref()
    }

    /// What to show to a server that asks who we are.
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identity.as_ref()
    }

    /// The same server and the same TLS under another user.
    #[must_use]
    pub fn with_url(&self, url: QueueUrl) -> Self {
        Self { url, ..self.clone() }
    }
}

fn half(present: String, missing: &Names) -> SettingsError {
    SettingsError::HalfAnIdentity { present, missing: missing.all() }
}

/// The names of one setting.
struct Names {
    flag: &'static str,
    variable: &'static str,
    field: &'static str,
}

const CA: Names = Names { flag: "--queue-ca", variable: environment::QUEUE_CA, field: "queue-ca" };
const CERTIFICATE: Names =
    Names { flag: "--queue-cert", variable: environment::QUEUE_CERT, field: "queue-cert" };
const KEY: Names = Names { flag: "--queue-key", variable: environment::QUEUE_KEY, field: "queue-key" };

impl Names {
    fn all(&self) -> String {
        format!("{} ({})", self.flag, self.variable)
    }

    /// The value that wins, and the name of the setting it came from. Empty is not set.
    fn choose(
        &self,
        flag: Option<&PathBuf>,
        variable: &impl Fn(&str) -> Option<String>,
        file: Option<&PemSetting>,
    ) -> Result<Option<(PemSetting, String)>, PemError> {
        if let Some(path) = flag {
            let given = PemSetting::from(path.to_string_lossy().into_owned());
            if given.is_text() {
                return Err(PemError::TextInFlag { flag: self.flag, variable: self.variable });
            }
            return Ok(Some((given, self.flag.to_owned())));
        }
        let variable =
            variable(self.variable).map(|value| (PemSetting::from(value), self.variable.to_owned()));
        let in_file = || file.map(|value| (value.clone(), format!("{} of {}", self.field, super::FILE_NAME)));
        let set = |(value, _): &(PemSetting, String)| !value.is_empty();
        Ok(variable.filter(set).or_else(|| in_file().filter(set)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        url: &str,
        flags: &TlsFlags,
        variables: &[(&str, &str)],
        file: &FileSettings,
    ) -> Result<QueueAddress, SettingsError> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        QueueAddress::resolve_with(QueueUrl::from(url.to_owned()), flags, file, variable)
    }

    fn refusal(url: &str, flags: &TlsFlags, variables: &[(&str, &str)]) -> String {
        let error = resolve(url, flags, variables, &FileSettings::default()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        error.to_string()
    }

    const URL: &str = "rediss://:hunter2@host:6379/0";
    const TEXT: &str = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";

    #[test]
    fn nothing_set_is_no_tls_setting() {
        let address = resolve(URL, &TlsFlags::default(), &[("FLEET_QUEUE_CA", "")], &FileSettings::default());
        assert_eq!(address.unwrap(), QueueAddress::from(QueueUrl::from(URL.to_owned())));
    }

    #[test]
    fn half_an_identity_is_refused_by_name() {
        let none = TlsFlags::default();
        let message = refusal(URL, &none, &[("FLEET_QUEUE_CERT", "c.pem")]);
        assert!(message.contains("FLEET_QUEUE_CERT") && message.contains("FLEET_QUEUE_KEY"), "{message}");
        let message = refusal(URL, &none, &[("FLEET_QUEUE_KEY", TEXT)]);
        assert!(message.contains("FLEET_QUEUE_KEY") && message.contains("FLEET_QUEUE_CERT"), "{message}");
    }

    #[test]
    fn tls_settings_without_tls_are_refused() {
        for name in ["FLEET_QUEUE_CA", "FLEET_QUEUE_CERT", "FLEET_QUEUE_KEY"] {
            let message = refusal("redis://:hunter2@host/0", &TlsFlags::default(), &[(name, "x.pem")]);
            assert!(message.contains(name) && message.contains("rediss://"), "{message}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let wrong = folder.path().join("wrong.pem");
        std::fs::write(&wrong, "hunter2").unwrap();
        let flags = |path: &std::path::Path| TlsFlags { ca: Some(path.into()), ..TlsFlags::default() };
        let message = refusal(URL, &flags(&wrong), &[]);
        assert!(message.contains("--queue-ca") && message.contains("wrong.pem"), "{message}");
        let message = refusal(URL, &flags(&folder.path().join("absent.pem")), &[]);
        assert!(message.contains("absent.pem") && message.contains("cannot be read"), "{message}");
        let message = refusal(URL, &TlsFlags::default(), &[("FLEET_QUEUE_CA", TEXT)]);
        assert!(message.contains("FLEET_QUEUE_CA"), "{message}");
        let message = refusal(URL, &flags(std::path::Path::new(TEXT)), &[]);
        assert!(message.contains("everybody") && message.contains("FLEET_QUEUE_CA"), "{message}");
        let file =
            FileSettings { queue_ca: Some(PemSetting::from(TEXT.to_owned())), ..FileSettings::default() };
        assert!(!format!("{file:?}").contains("hunter2"));
        let error = resolve(URL, &TlsFlags::default(), &[], &file).unwrap_err();
        assert!(error.to_string().contains("embed-fleet.toml"), "{error}");
    }
}
