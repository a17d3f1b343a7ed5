//! Newtypes for everything that has an identity. No bare strings travel between modules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that does not have the form its type asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {what}: {rule}")]
pub struct InvalidId {
    /// What was expected, for instance "run id".
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// Names a run: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = value.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if starts_well && value.len() <= 64 && value.chars().all(legal) {
            Ok(Self(value.to_owned()))
        } else {
            Err(InvalidId {
                what: "run id",
                value: value.to_owned(),
                rule: "up to 64 letters, digits, '.', '_' and '-', the first a letter or a digit",
            })
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names a shard: its number in input order, written in decimal with at least six digits and ordered
/// as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShardId(pub u64);

impl FromStr for ShardId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            what: "shard id",
            value: value.to_owned(),
            rule: "a decimal number, zero-padded to six or more digits",
        };
        if value.len() < 6 || !value.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let id = Self(value.parse().map_err(|_| invalid())?);
        // One spelling per shard, or a foreign "0000001" would pass for shard 000001.
        if id.to_string() == value { Ok(id) } else { Err(invalid()) }
    }
}

impl TryFrom<String> for ShardId {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<ShardId> for String {
    fn from(id: ShardId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// The first 16 hex characters of a SHA-256: the content name of a bundle or a part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha16(String);

impl Sha16 {
    /// The content name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_hex(&crate::digest::sha256_hex(bytes))
    }

    /// The content name that belongs to a full digest in lower-case hex.
    ///
    /// # Panics
    /// When `sha256` is shorter than 16 characters, which no digest is.
    pub fn of_hex(sha256: &str) -> Self {
        Self(sha256[..16].to_owned())
    }

    /// The 16 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sha16 {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if value.len() == 16 && value.bytes().all(lower_hex) {
            Ok(Self(value.to_owned()))
        } else {
            Err(InvalidId { what: "content name", value: value.to_owned(), rule: "16 lower-case hex digits" })
        }
    }
}

impl TryFrom<String> for Sha16 {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<Sha16> for String {
    fn from(id: Sha16) -> Self {
        id.0
    }
}

impl fmt::Display for Sha16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The file name of a bundle (`<shard>-<sha16>.tar`) or of a part (`<shard>-<sha16>.npz`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentName {
    /// The shard it belongs to.
    pub shard: ShardId,
    /// The content.
    pub sha: Sha16,
}

impl ContentName {
    /// The file name of a bundle.
    pub fn bundle(&self) -> String {
        format!("{}-{}.tar", self.shard, self.sha)
    }

    /// The file name of a part.
    pub fn part(&self) -> String {
        format!("{}-{}.npz", self.shard, self.sha)
    }

    /// Reads the name of a bundle.
    pub fn parse_bundle(name: &str) -> Result<Self, InvalidId> {
        Self::parse(name, ".tar", "bundle name")
    }

    /// Reads the name of a part.
    pub fn parse_part(name: &str) -> Result<Self, InvalidId> {
        Self::parse(name, ".npz", "part name")
    }

    fn parse(name: &str, ending: &str, what: &'static str) -> Result<Self, InvalidId> {
        let parsed = name
            .strip_suffix(ending)
            .and_then(|stem| stem.split_once('-'))
            .and_then(|(shard, sha)| Some(Self { shard: shard.parse().ok()?, sha: sha.parse().ok()? }));
        parsed.ok_or_else(|| InvalidId {
            what,
            value: name.to_owned(),
            rule: "<shard>-<first 16 hex of its sha256> and its ending",
        })
    }
}

/// Names a worker process; unique per process start, so that a restarted worker is never taken for
/// the one that held its leases.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

impl WorkerId {
    /// A fresh id: host name, process id, and 8 random hex digits.
    pub fn fresh(host: &str) -> Self {
        let host: String =
            host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).take(40).collect();
        let host = if host.is_empty() { "worker" } else { &host };
        Self(format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>()))
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fencing token: unique per claim and growing, made by the queue from its own clock in
/// microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(pub u64);

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Made by a worker for one claim; repeating the claim with the same nonce gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimNonce(pub String);

impl ClaimNonce {
    /// A fresh nonce of 16 hex digits.
    pub fn fresh() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_keep_to_the_rule() {
        for good in ["a", "0", "run-1", "A.b_c-d", &"x".repeat(64)] {
            assert!(good.parse::<RunId>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "한", "a b", &"x".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shard_ids_have_one_spelling_and_order_as_numbers() {
        assert_eq!(ShardId(7).to_string(), "000007");
        assert_eq!(ShardId(1_234_567).to_string(), "1234567");
        assert_eq!("000007".parse(), Ok(ShardId(7)));
        for bad in ["7", "0000007", "00000a", "-00001", ""] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad}");
        }
        assert!(ShardId(999_999) < ShardId(1_000_000));
    }

    #[test]
    fn content_names_round_trip() {
        let name = ContentName { shard: ShardId(12), sha: Sha16::of(b"x") };
        assert_eq!(ContentName::parse_part(&name.part()), Ok(name.clone()));
        assert_eq!(ContentName::parse_bundle(&name.bundle()), Ok(name.clone()));
        assert!(ContentName::parse_part(&name.bundle()).is_err());
        assert!(ContentName::parse_part("000012-XYZ.npz").is_err());
    }
}
