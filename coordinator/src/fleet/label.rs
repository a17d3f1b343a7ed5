//! Labels: how a box is found again, whatever became of the answer to its creation.
//!
//! `fleet-<run>-<slot>-<nonce>`, the slot a number, the nonce twelve hex digits, of which the first four are the
//! fleet's own: the same run may lie in two stores, and each has its own fleet. A run's id may itself hold dashes, so
//! a label is read from its end: `fleet-a-b-0-0123456789ab` belongs to the run `a-b`, never to `a`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared::ids::RunId;

/// What every label begins with.
const PREFIX: &str = "fleet-";

/// Digits of a nonce.
const DIGITS: usize = 12;

/// Digits of it that are the fleet's.
const TAG_DIGITS: usize = 4;

/// What the nonces of a fleet begin with: four hex digits, from its first entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FleetTag(String);

impl FleetTag {
    /// A fresh one.
    pub fn fresh() -> Self {
        Self(hex::encode(rand::random::<[u8; TAG_DIGITS / 2]>()))
    }
}

impl TryFrom<String> for FleetTag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_hex(&text, TAG_DIGITS) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not the tag of a fleet: {TAG_DIGITS} hex digits"))
        }
    }
}

impl From<FleetTag> for String {
    fn from(tag: FleetTag) -> Self {
        tag.0
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

/// Names a box before and after it exists: fresh for each intent to rent one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxId(String);

impl BoxId {
    /// A fresh one of a fleet.
    pub fn fresh(tag: &FleetTag) -> Self {
        Self(tag.0.clone() + &hex::encode(rand::random::<[u8; (DIGITS - TAG_DIGITS) / 2]>()))
    }

    /// Whether it is one of this fleet's.
    pub fn is_of(&self, tag: &FleetTag) -> bool {
        self.0.starts_with(&tag.0)
    }
}

impl FromStr for BoxId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_hex(text, DIGITS) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} is not the id of a box: {DIGITS} hex digits"))
        }
    }
}

impl TryFrom<String> for BoxId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BoxId> for String {
    fn from(id: BoxId) -> Self {
        id.0
    }
}

impl fmt::Display for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A box's label, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The run it works on.
    pub run: RunId,
    /// Which of the fleet's places it fills.
    pub slot: u32,
    /// Which box.
    pub id: BoxId,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}-{}-{}", self.run, self.slot, self.id)
    }
}

impl Label {
    /// Reads a label; `None` for one that is not ours.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.rsplitn(3, '-');
        let (id, slot, run) = (parts.next()?, parts.next()?, parts.next()?);
        let slot = slot.parse::<u32>().ok().filter(|number| number.to_string() == slot)?;
        Some(Self { run: run.parse().ok()?, slot, id: id.parse().ok()? })
    }

    /// Reads a label of this run.
    pub fn of(run: &RunId, text: &str) -> Option<Self> {
        Self::read(text).filter(|label| label.run == *run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_belongs_to_one_run() {
        let label = Label { run: "a-b".parse().unwrap(), slot: 3, id: "0123456789ab".parse().unwrap() };
        assert_eq!(label.to_string(), "fleet-a-b-3-0123456789ab");
        assert_eq!(Label::read(&label.to_string()), Some(label.clone()));
        assert_eq!(Label::of(&"a".parse().unwrap(), &label.to_string()), None);
        assert_eq!(Label::of(&label.run, &label.to_string()), Some(label));
        for foreign in [
            "",
            "my box",
            "fleet-",
            "fleet-a-x-0123456789ab",
            "fleet-a-1-0123456789AB",
            "fleet-a-01-0123456789ab",
        ] {
            assert_eq!(Label::read(foreign), None, "{foreign}");
        }
        let tag = FleetTag::fresh();
        let id = BoxId::fresh(&tag);
        assert!(id.is_of(&tag) && Label::read(&format!("fleet-r-0-{id}")).is_some());
        assert_ne!(id, BoxId::fresh(&tag));
    }
}
