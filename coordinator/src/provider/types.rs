//! What is said to a provider and what it answers, whoever it is.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dollars::Dollars;

/// A number that a provider gives out.
macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self).map_err(|_| format!("{text:?} is not a number"))
            }
        }
    };
}

id!(InstanceId, "A rented box.");
id!(OfferId, "An offer, good for one box.");
id!(MachineId, "The machine behind an offer: a bad one is not rented again.");

/// What an offer must have.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Names of GPUs, any of them; empty for all.
    pub gpus: Vec<String>,
    /// GPUs of one box.
    pub gpus_per_box: u32,
    /// Bytes of memory of each GPU.
    pub gpu_memory: u64,
    /// Whether the box may be taken away for a higher bid.
    pub interruptible: bool,
    /// The most for an hour of one box.
    pub max_price: Option<Dollars>,
    /// The provider's own measure, 0 to 1.
    pub min_reliability: f64,
    /// Where it may stand; empty for anywhere.
    pub region: Region,
    /// Gigabytes of disk.
    pub disk_gb: u32,
    /// Seconds the offer must hold.
    pub duration_seconds: f64,
}

/// Where boxes may stand: two-letter country codes; empty for anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Region(pub Vec<String>);

/// Continents by name, as the countries of the market that lie there.
const CONTINENTS: [(&str, &str); 4] = [
    (
        "europe",
        "AL AD AT BE BA BG HR CY CZ DK EE FI FR DE GR HU IS IE IT LV LI LT LU MT MD MC ME NL MK NO PL PT RO RS SK SI ES \
         SE CH UA GB",
    ),
    ("north america", "CA MX US CR PA GT DO JM"),
    (
        "asia",
        "AM AZ BH BD GE HK IN ID IL JP JO KZ KR KW KG LB MY MN NP OM PK PH QA SA SG LK TW TH TR AE UZ VN",
    ),
    ("oceania", "AU NZ FJ"),
];

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut countries = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let name = word.replace('_', " ").to_lowercase();
            if let Some((_, members)) = CONTINENTS.iter().find(|(continent, _)| *continent == name) {
                countries.extend(members.split_whitespace().map(str::to_owned));
            } else if word.len() == 2 && word.chars().all(|c| c.is_ascii_alphabetic()) {
                countries.push(word.to_ascii_uppercase());
            } else {
                return Err(format!(
                    "{word:?} is neither a two-letter country code nor one of Europe, North America, Asia, Oceania"
                ));
            }
        }
        Ok(Self(countries))
    }
}

impl Region {
    /// Whether a place (`South Korea, KR`) lies in it. A place that says nothing lies nowhere.
    pub fn holds(&self, place: &str) -> bool {
        let code = place.rsplit(',').next().unwrap_or_default().trim();
        self.0.is_empty() || self.0.iter().any(|country| country == code)
    }
}

/// A box that can be rented.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Which one.
    pub id: OfferId,
    /// The machine.
    pub machine: MachineId,
    /// The GPU's name, for instance `RTX 4090`.
    pub gpu: String,
    /// How many of them.
    pub gpus: u32,
    /// Bytes of memory of each.
    pub gpu_memory: u64,
    /// What an hour costs in all while the box runs, with the disk asked for: the price on demand, or the lowest
    /// bid that holds now.
    pub price: Dollars,
    /// What an hour of the disk alone costs, running or not.
    pub disk_price: Dollars,
    /// What a gigabyte that comes in costs.
    pub download_price: Dollars,
    /// What a gigabyte that goes out costs.
    pub upload_price: Dollars,
    /// Megabits a second that come in.
    pub download_speed: f64,
    /// The provider's own measure, 0 to 1.
    pub reliability: f64,
    /// Where it stands.
    pub place: String,
}

/// What a box shall be.
#[derive(Clone, PartialEq)]
pub struct Order {
    /// Its label, by which it is found again whatever became of the answer.
    pub label: String,
    /// The container image.
    pub image: String,
    /// Gigabytes of disk.
    pub disk_gb: u32,
    /// The script that starts the worker.
    pub onstart: String,
    /// What the script and the worker are told.
    pub environment: BTreeMap<String, String>,
    /// The bid an hour, for an interruptible box.
    pub bid: Option<Dollars>,
}

impl fmt::Debug for Order {
    /// Names of variables alone: values are the worker's credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.environment.keys().collect();
        f.debug_struct("Order")
            .field("label", &self.label)
            .field("environment", &names)
            .finish_non_exhaustive()
    }
}

/// What a box does, as the provider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// It is being made.
    Created,
    /// Its image comes.
    Loading,
    /// It runs, which says nothing of the worker.
    Running,
    /// Stopped by somebody else than us: a higher bid. Its disk is paid for.
    Preempted,
    /// Its program ended.
    Exited,
    /// The provider has lost sight of the machine.
    Offline,
    /// None of these, or the provider does not know.
    Unknown,
}

impl InstanceStatus {
    /// Whether the whole price is asked for, and not the disk's alone.
    pub fn is_paid_in_full(self) -> bool {
        matches!(self, Self::Running | Self::Offline | Self::Unknown)
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Loading => "loading",
            Self::Running => "running",
            Self::Preempted => "preempted",
            Self::Exited => "exited",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

/// A box as the provider shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// Its label; empty where it has none.
    pub label: String,
    /// The machine.
    pub machine: MachineId,
    /// What it does.
    pub status: InstanceStatus,
    /// What the provider says of that.
    pub message: String,
    /// What an hour costs while it runs, where the provider says so.
    pub price: Option<Dollars>,
    /// The bid that would hold now, for an interruptible one.
    pub min_bid: Option<Dollars>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_countries_or_continents() {
        let region: Region = "us, Europe".parse().unwrap();
        assert!(region.holds("California, US") && region.holds("DE") && !region.holds("South Korea, KR"));
        assert!(!region.holds(""));
        assert!(Region::default().holds("anywhere"));
        assert!("the moon".parse::<Region>().unwrap_err().contains("the moon"));
    }

    #[test]
    fn an_order_does_not_show_its_secrets() {
        let order = Order {
            label: "fleet-r-0-ab".into(),
            image: String::new(),
            disk_gb: 40,
            onstart: String::new(),
            environment: BTreeMap::from([("FLEET_QUEUE".to_owned(), "redis://:hunter2@h".to_owned())]),
            bid: None,
        };
        let shown = format!("{order:?}");
        assert!(shown.contains("FLEET_QUEUE") && !shown.contains("hunter2"), "{shown}");
    }
}
