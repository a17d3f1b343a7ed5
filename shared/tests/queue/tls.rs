//! `rediss://` against a real server with TLS: whom the client trusts and what it shows.

// Helpers of tests are not seen as tests by this lint.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shared::queue::redis::{RedisOptions, RedisQueue};
use shared::queue::{ClaimReply, QueueErrorKind};
use shared::settings::{FileSettings, PemSetting, QueueAddress, QueueUrl, SettingsError, TlsFlags};
use tempfile::TempDir;

use crate::claim;
use crate::common::redis_server::{RedisServer, free_port};

/// A folder with two CAs, the server's certificate, one for another host, and a client's, each `NAME.crt`
/// and `NAME.key`.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn make() -> Option<Self> {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
            println!("skipped: no openssl on this machine");
            return None;
        }
        for name in ["ca", "other-ca"] {
            let (key, certificate) =
                (authority.path(&format!("{name}.key")), authority.path(&format!("{name}.crt")));
            openssl(
                &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"],
                &[("-subj", Path::new(&format!("/CN={name}"))), ("-keyout", &key), ("-out", &certificate)],
            );
        }
        authority.sign("server", "subjectAltName=DNS:localhost");
        authority.sign("elsewhere", "subjectAltName=DNS:elsewhere.example");
        authority.sign("client", "extendedKeyUsage=clientAuth");
        Some(authority)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str, extension: &str) {
        let (key, request) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")));
        openssl(
            &["req", "-newkey", "rsa:2048", "-nodes"],
            &[("-subj", Path::new(&format!("/CN={name}"))), ("-keyout", &key), ("-out", &request)],
        );
        let extensions = self.path("extensions");
        std::fs::write(&extensions, extension).unwrap();
        openssl(
            &["x509", "-req", "-days", "2", "-CAcreateserial"],
            &[
                ("-in", &request),
                ("-CA", &self.path("ca.crt")),
                ("-CAkey", &self.path("ca.key")),
                ("-extfile", &extensions),
                ("-out", &self.path(&format!("{name}.crt"))),
            ],
        );
    }

    fn flags(&self, ca: Option<&str>, identity: Option<&str>) -> TlsFlags {
        TlsFlags {
            ca: ca.map(|name| self.path(&format!("{name}.crt"))),
            certificate: identity.map(|name| self.path(&format!("{name}.crt"))),
            key: identity.map(|name| self.path(&format!("{name}.key"))),
        }
    }

    /// A server with this certificate; its TLS port.
    fn server(&self, certificate: &str, clients: &str) -> Option<(RedisServer, u16)> {
        let port = free_port();
        let path = |name: String| self.path(&name).display().to_string();
        let (own, key) = (path(format!("{certificate}.crt")), path(format!("{certificate}.key")));
        let server = RedisServer::start(&[
            "--tls-port",
            &port.to_string(),
            "--tls-auth-clients",
            clients,
            "--tls-cert-file",
            &own,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &path("ca.crt".to_owned()),
        ])?;
        Some((server, port))
    }
}

fn openssl(arguments: &[&str], files: &[(&str, &Path)]) {
    let mut command = Command::new("openssl");
    command.args(arguments);
    for (flag, file) in files {
        command.arg(flag).arg(file);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn resolve(port: u16, flags: &TlsFlags, file: &FileSettings) -> Result<QueueAddress, SettingsError> {
    QueueAddress::resolve(QueueUrl::from(format!("rediss://localhost:{port}/0")), flags, file)
}

fn queue(address: &QueueAddress) -> RedisQueue {
    let options = RedisOptions { give_up_after: Duration::from_secs(20), ..RedisOptions::default() };
    RedisQueue::connect(address, &"tls".parse().unwrap(), options).unwrap()
}

async fn is_served(address: &QueueAddress) {
    let queue = queue(address);
    queue.load_functions().await.unwrap();
    assert_eq!(claim(&queue, "a", 1).await.unwrap(), ClaimReply::UnknownRun);
}

/// Refused at once, in words that name the setting.
async fn is_refused(address: &QueueAddress, words: &str) {
    let error = claim(&queue(address), "a", 1).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Refused, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn only_the_named_ca_is_trusted() {
    let Some(authority) = Authority::make() else { return };
    let Some((_server, port)) = authority.server("server", "no") else { return };
    let file = FileSettings::default();
    let address = |ca| resolve(port, &authority.flags(ca, None), &file).unwrap();
    is_served(&address(Some("ca"))).await;
    is_refused(&address(None), "name the CA that signed it with --queue-ca (FLEET_QUEUE_CA)").await;
    is_refused(&address(Some("other-ca")), "not signed by the CA in --queue-ca").await;
    // The text itself, as a rented machine gets it in its environment, also in one line.
    let text = std::fs::read_to_string(authority.path("ca.crt")).unwrap();
    for text in [text.clone(), text.replace('\n', "\\n")] {
        let file = FileSettings { queue_ca: Some(PemSetting::from(text)), ..FileSettings::default() };
        is_served(&resolve(port, &TlsFlags::default(), &file).unwrap()).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let Some(authority) = Authority::make() else { return };
    let Some((_server, port)) = authority.server("elsewhere", "no") else { return };
    let address = resolve(port, &authority.flags(Some("ca"), None), &FileSettings::default()).unwrap();
    is_refused(&address, "the server's certificate names other hosts").await;
}

#[tokio::test]
async fn mutual_tls_needs_a_certificate_that_the_server_trusts() {
    let Some(authority) = Authority::make() else { return };
    let Some((_server, port)) = authority.server("server", "yes") else { return };
    let file = FileSettings::default();
    let address = |identity| resolve(port, &authority.flags(Some("ca"), identity), &file).unwrap();
    is_served(&address(Some("client"))).await;
    is_refused(&address(None), "set --queue-cert and --queue-key (FLEET_QUEUE_CERT, FLEET_QUEUE_KEY)").await;
    is_refused(&address(Some("other-ca")), "refuses the certificate of --queue-cert").await;
    let shown = format!("{:?}", address(Some("client")));
    let key = std::fs::read_to_string(authority.path("client.key")).unwrap();
    assert!(key.lines().all(|line| !shown.contains(line)), "{shown}");
}

/// A server without TLS takes our greeting for half a command and waits for the rest.
#[tokio::test]
async fn a_port_without_tls_is_suspected() {
    let Some(authority) = Authority::make() else { return };
    let Some(server) = RedisServer::start(&[]) else { return };
    let address =
        resolve(server.port(), &authority.flags(Some("ca"), None), &FileSettings::default()).unwrap();
    let second = Duration::from_secs(1);
    let options =
        RedisOptions { connect_timeout: second / 4, give_up_after: second, ..RedisOptions::default() };
    let queue = RedisQueue::connect(&address, &"tls".parse().unwrap(), options).unwrap();
    let error = claim(&queue, "a", 1).await.unwrap_err();
    assert_eq!(error.kind, QueueErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("A port without TLS"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let Some(authority) = Authority::make() else { return };
    let flags = TlsFlags {
        certificate: Some(authority.path("client.crt")),
        key: Some(authority.path("server.key")),
        ..TlsFlags::default()
    };
    let error = resolve(1, &flags, &FileSettings::default()).unwrap_err().to_string();
    assert!(error.contains("server.key") && error.contains("client.crt"), "{error}");
    // A certificate in the place of the key, and a key in that of a certificate.
    let swapped = TlsFlags {
        certificate: Some(authority.path("client.key")),
        key: Some(authority.path("client.crt")),
        ..TlsFlags::default()
    };
    let error = resolve(1, &swapped, &FileSettings::default()).unwrap_err().to_string();
    assert!(error.contains("client.key") && error.contains("BEGIN CERTIFICATE"), "{error}");
}
