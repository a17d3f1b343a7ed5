//! Certificates of a test's own, made by openssl: a CA, and what it signed for localhost and for a client.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The files of a small CA: `ca`, `server` and `client`, each with `.crt` and `.key`.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them, or says visibly that openssl is missing.
    ///
    /// # Panics
    /// When it is there and does not make them.
    pub fn make() -> Option<Self> {
        if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: openssl is not installed");
            return None;
        }
        let certificates = Self { folder: TempDir::new().unwrap() };
        let folder = certificates.folder.path();
        let new_key = "req -newkey rsa:2048 -nodes";
        openssl(folder, &format!("{new_key} -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.crt"));
        for (name, extension) in
            [("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")]
        {
            std::fs::write(folder.join("extensions"), extension).unwrap();
            openssl(folder, &format!("{new_key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            let sign = "x509 -req -days 2 -CAcreateserial -CA ca.crt -CAkey ca.key -extfile extensions";
            openssl(folder, &format!("{sign} -in {name}.csr -out {name}.crt"));
        }
        Some(certificates)
    }

    /// A file's place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file's text.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
