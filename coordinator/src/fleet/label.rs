//! Labels: how a box is found again, whatever became of the answer to its creation.
//!
//! `fleet-<run>-<slot>-<nonce>`, the slot a number, the nonce eight hex digits. A run's id may itself hold dashes, so
//! a label is read from its end: `fleet-a-b-0-12345678` belongs to the run `a-b`, never to `a`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared::ids::RunId;

/// What every label begins with.
const PREFIX: &str = "fleet-";

/// Digits of a nonce.
const DIGITS: usize = 8;

/// Names a box before and after it exists: fresh for each intent to rent one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxId(String);

impl BoxId {
    /// A fresh one.
    pub fn fresh() -> Self {
        Self(hex::encode(rand::random::<[u8; DIGITS / 2]>()))
    }
}

impl FromStr for BoxId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == DIGITS && text.chars().all(legal) {
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
        let label = Label { run: "a-b".parse().unwrap(), slot: 3, id: "0123abcd".parse().unwrap() };
        assert_eq!(label.to_string(), "fleet-a-b-3-0123abcd");
        assert_eq!(Label::read(&label.to_string()), Some(label.clone()));
        assert_eq!(Label::of(&"a".parse().unwrap(), &label.to_string()), None);
        assert_eq!(Label::of(&label.run, &label.to_string()), Some(label));
        for foreign in
            ["", "my box", "fleet-", "fleet-a-x-0123abcd", "fleet-a-1-0123ABCD", "fleet-a-01-0123abcd"]
        {
            assert_eq!(Label::read(foreign), None, "{foreign}");
        }
        assert_ne!(BoxId::fresh(), BoxId::fresh());
    }
}
