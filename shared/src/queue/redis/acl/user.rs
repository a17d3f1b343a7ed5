//! A worker's user: its name, its rights, and its password or the hash of it.
//!
//! A server keeps a password as its SHA-256, so the hash is enough to make a user and not enough to log in
//! as one. [`WorkerRights`] holds the hash and may be written down; [`WorkerUser`] adds the password, and
//! only with it is there an address to connect to.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{WORKER_COMMANDS, keys_of};
use crate::digest::sha256_hex;
use crate::ids::RunId;
use crate::queue::{QueueError, QueueErrorKind};
use crate::settings::{QueueAddress, QueueUrl};

/// The password of a worker's user. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct QueuePassword(String);

impl QueuePassword {
    /// A fresh one: 32 random bytes in hex.
    pub fn fresh() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()))
    }

    /// One that was kept; `None` for an empty one.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The password itself, for the file that keeps it and for logging in alone.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the server keeps of it.
    pub fn hash(&self) -> PasswordHash {
        PasswordHash(sha256_hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for QueuePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueuePassword(***)")
    }
}

/// The SHA-256 of a password in 64 lower-case hex digits. That of a [`QueuePassword::fresh`] one tells
/// nothing of it and may be written down; that of a short one can be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

/// Why a text is no [`PasswordHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a password is 64 digits of 0-9 and a-f")]
pub struct InvalidHash;

impl TryFrom<String> for PasswordHash {
    type Error = InvalidHash;

    fn try_from(text: String) -> Result<Self, InvalidHash> {
        let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(is_digit) { Ok(Self(text)) } else { Err(InvalidHash) }
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        hash.0
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a name is none for a worker's user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name for a worker's user: letters, digits, '.', '_' and '-', and not \"default\"")]
pub struct InvalidUser(String);

/// The user's name where none is given.
pub fn default_name(run: &RunId) -> String {
    format!("worker-{run}")
}

/// The user of one rented box: `worker-RUN-SLOT-NONCE`. [`check_name`] refuses it where the nonce has
/// other characters than a name may have.
pub fn box_name(run: &RunId, slot: u32, nonce: &str) -> String {
    format!("{}-{slot}-{nonce}", default_name(run))
}

/// Refuses names that a server or a URL would read otherwise, and the server's own user.
pub fn check_name(name: &str) -> Result<(), InvalidUser> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "default" || !name.chars().all(legal) {
        return Err(InvalidUser(name.to_owned()));
    }
    Ok(())
}

/// What a server is told to make a user that may work on one run: everything but the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRights {
    name: String,
    run: RunId,
    hash: PasswordHash,
    /// Whether the URL names another database than 0: a connection then begins with SELECT.
    selects: bool,
}

impl WorkerRights {
    /// A user of this name for the run, on the database that `address` names.
    pub fn new(
        name: &str,
        run: &RunId,
        hash: PasswordHash,
        address: &QueueAddress,
    ) -> Result<Self, InvalidUser> {
        check_name(name)?;
        let database = Url::parse(address.url().expose()).ok();
        let database = database.as_ref().map_or("", |url| url.path().trim_matches('/'));
        let selects = !matches!(database, "" | "0");
        Ok(Self { name: name.to_owned(), run: run.clone(), hash, selects })
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run it may work on.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The hash of its password.
    pub fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// What follows `ACL SETUSER`: whatever the user had before is taken away first. The password stands
    /// there as its SHA-256.
    pub fn rules(&self) -> Vec<String> {
        self.rules_for(WORKER_COMMANDS.iter().map(|(command, _)| *command))
    }

    /// The same for other data commands than [`WORKER_COMMANDS`].
    pub fn rules_for<'a>(&self, commands: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut rules = vec![
            self.name.clone(),
            "reset".to_owned(),
            "on".to_owned(),
            format!("#{}", self.hash),
            "resetchannels".to_owned(),
            keys_of(&self.run),
        ];
        rules.extend(["-@all", "+fcall", "+ping"].map(str::to_owned));
        rules.extend(self.selects.then(|| "+select".to_owned()));
        rules.extend(commands.map(|command| format!("+{command}")));
        rules
    }

    /// The line for redis-cli.
    pub fn line(&self) -> String {
        format!("ACL SETUSER {}", self.rules().join(" "))
    }
}

impl AsRef<Self> for WorkerRights {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A user that may work on one run, with its password: who holds this can log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUser {
    rights: WorkerRights,
    password: QueuePassword,
}

impl AsRef<WorkerRights> for WorkerUser {
    fn as_ref(&self) -> &WorkerRights {
        &self.rights
    }
}

impl WorkerUser {
    /// A user of this name for the run, on the database that `address` names.
    pub fn new(
        name: &str,
        run: &RunId,
        password: QueuePassword,
        address: &QueueAddress,
    ) -> Result<Self, InvalidUser> {
        let rights = WorkerRights::new(name, run, password.hash(), address)?;
        Ok(Self { rights, password })
    }

    /// What the server is told of it.
    pub fn rights(&self) -> &WorkerRights {
        &self.rights
    }

    /// The server as this user reaches it.
    pub fn address(&self, administrator: &QueueAddress) -> Result<QueueAddress, QueueError> {
        let unreadable = || {
            QueueError::new(QueueErrorKind::Refused, "the queue's URL has no place for a user and a password")
        };
        let mut url = Url::parse(administrator.url().expose()).map_err(|_| unreadable())?;
        url.set_username(&self.rights.name).map_err(|()| unreadable())?;
        url.set_password(Some(self.password.expose())).map_err(|()| unreadable())?;
        Ok(administrator.with_url(QueueUrl::from(url.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(url: &str) -> QueueAddress {
        QueueAddress::from(QueueUrl::from(url.to_owned()))
    }

    #[test]
    fn the_line_has_the_password_as_its_hash() {
        let password = QueuePassword::read(" hunter2\n").unwrap();
        let address = admin("redis://admin:root@h:1/3");
        let user = WorkerUser::new("w", &"r.1".parse().unwrap(), password, &address).unwrap();
        let start = format!(
            "ACL SETUSER w reset on #{} resetchannels ~fleet:{{r.1}}:* -@all +fcall +ping +select +time ",
            sha256_hex(b"hunter2")
        );
        assert!(user.rights().line().starts_with(&start), "{}", user.rights().line());
        assert!(!format!("{user:?} {:?}", user.address(&address).unwrap()).contains("hunter2"));
        assert_eq!(user.address(&address).unwrap().url().expose(), "redis://w:hunter2@h:1/3");
        assert_eq!(QueuePassword::fresh().expose().len(), 64);
        assert_eq!(QueuePassword::read(" \n"), None);
    }

    #[test]
    fn names_that_a_server_or_a_url_reads_otherwise_are_refused() {
        for bad in ["", "default", "a b", "a\nb", "ä", "a@b", "a:b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        let name = box_name(&"r.1_x-Y".parse().unwrap(), 17, "0af3");
        assert_eq!(name, "worker-r.1_x-Y-17-0af3");
        check_name(&name).unwrap();
    }

    /// What was written down gives the same rules as the user itself.
    #[test]
    fn rights_are_made_again_from_the_hash_alone() {
        let (run, address) = ("r".parse().unwrap(), admin("rediss://admin:root@h:1/0"));
        let user = WorkerUser::new("w", &run, QueuePassword::fresh(), &address).unwrap();
        let kept = serde_json::to_string(user.rights().hash()).unwrap();
        let hash: PasswordHash = serde_json::from_str(&kept).unwrap();
        assert_eq!(&WorkerRights::new("w", &run, hash, &address).unwrap(), user.rights());
        for bad in ["", "\"\"", "\"A\"", &kept.to_uppercase(), &kept.replacen('"', "\" ", 1)] {
            assert!(serde_json::from_str::<PasswordHash>(bad).is_err(), "{bad}");
        }
    }
}
