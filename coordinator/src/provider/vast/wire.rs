//! What the market's answers hold, as far as it is used. Fields may be missing or null in any of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::dollars::Dollars;
use crate::provider::{Instance, InstanceId, InstanceStatus, MachineId, Offer, OfferId};

/// The answer to a search.
#[derive(Debug, Deserialize)]
pub struct Offers {
    /// What was found. A missing list is no empty one.
    pub offers: Vec<WireOffer>,
}

/// An offer.
#[derive(Debug, Clone, Deserialize)]
pub struct WireOffer {
    id: u64,
    #[serde(default)]
    machine_id: Option<u64>,
    #[serde(default)]
    gpu_name: Option<String>,
    #[serde(default)]
    num_gpus: Option<u32>,
    /// MB.
    #[serde(default)]
    gpu_ram: Option<f64>,
    /// GB.
    #[serde(default)]
    disk_space: Option<f64>,
    #[serde(default)]
    dph_total: Option<f64>,
    #[serde(default)]
    min_bid: Option<f64>,
    #[serde(default)]
    reliability2: Option<f64>,
    #[serde(default)]
    reliability: Option<f64>,
    /// Megabits a second.
    #[serde(default)]
    inet_down: Option<f64>,
    /// $ a GB.
    #[serde(default)]
    inet_down_cost: Option<f64>,
    #[serde(default)]
    inet_up_cost: Option<f64>,
    #[serde(default)]
    cuda_max_good: Option<f64>,
    #[serde(default)]
    compute_cap: Option<f64>,
    #[serde(default)]
    geolocation: Option<String>,
    /// Seconds.
    #[serde(default)]
    duration: Option<f64>,
    /// $ a GB a month.
    #[serde(default)]
    storage_cost: Option<f64>,
}

/// Hours of the month that disk prices are for.
pub const HOURS_A_MONTH: f64 = 30.0 * 24.0;

/// What the market was asked for, which it is not trusted to have heeded.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The wish.
    pub wanted: &'a crate::provider::Wanted,
    /// The least `cuda_max_good`.
    pub cuda: f64,
    /// The least `compute_cap`.
    pub capability: f64,
}

impl WireOffer {
    /// The offer, if it holds what was asked for. What an offer does not say it does not hold.
    pub fn read(self, asked: &Asked<'_>) -> Option<Offer> {
        let wanted = asked.wanted;
        let price = if wanted.interruptible { self.min_bid? } else { self.dph_total? };
        let offer = Offer {
            id: OfferId(self.id),
            machine: MachineId(self.machine_id?),
            gpu: self.gpu_name?,
            gpus: self.num_gpus?,
            gpu_memory: (self.gpu_ram? * 1e6) as u64,
            price: Dollars(price),
            disk_price: Dollars(self.storage_cost.unwrap_or(0.0) * f64::from(wanted.disk_gb) / HOURS_A_MONTH),
            download_price: Dollars(self.inet_down_cost.unwrap_or(0.0)),
            upload_price: Dollars(self.inet_up_cost.unwrap_or(0.0)),
            download_speed: self.inet_down.unwrap_or(0.0),
            reliability: self.reliability2.or(self.reliability).unwrap_or(0.0),
            place: self.geolocation.unwrap_or_default(),
        };
        let same_gpu =
            |name: &String| name.replace('_', " ").eq_ignore_ascii_case(&offer.gpu.replace('_', " "));
        let holds = offer.price.0.is_finite()
            && offer.price.0 > 0.0
            // One that names no speed may take for ever.
            && offer.download_speed > 0.0
            && wanted.max_price.is_none_or(|most| offer.price <= most)
            && (wanted.gpus.is_empty() || wanted.gpus.iter().any(same_gpu))
            && offer.gpus == wanted.gpus_per_box
            && offer.gpu_memory >= wanted.gpu_memory
            && offer.reliability >= wanted.min_reliability
            && wanted.region.holds(&offer.place)
            && self.disk_space.is_some_and(|disk| disk >= f64::from(wanted.disk_gb))
            && self.duration.is_none_or(|seconds| seconds >= wanted.duration_seconds)
            && self.cuda_max_good.is_some_and(|version| version >= asked.cuda)
            && self.compute_cap.is_some_and(|capability| capability >= asked.capability);
        holds.then_some(offer)
    }
}

/// The answer to a creation.
#[derive(Debug, Deserialize)]
pub struct Creation {
    /// The instance.
    pub new_contract: u64,
}

/// A page of instances.
#[derive(Debug, Deserialize)]
pub struct InstancePage {
    /// The rows. A missing list is no empty one.
    pub instances: Vec<WireInstance>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_token: Option<Value>,
    /// Rows of all pages.
    #[serde(default)]
    pub total_instances: Option<u64>,
}

/// One instance, or none.
#[derive(Debug, Deserialize)]
pub struct OneInstance {
    /// The row; null once it is gone. A missing field is no null: that answer says nothing.
    #[serde(deserialize_with = "present")]
    pub instances: Option<WireInstance>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<WireInstance>, D::Error> {
    Option::deserialize(deserializer)
}

/// An instance.
#[derive(Debug, Clone, Deserialize)]
pub struct WireInstance {
    id: u64,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    machine_id: Option<u64>,
    #[serde(default)]
    actual_status: Option<String>,
    #[serde(default)]
    intended_status: Option<String>,
    #[serde(default)]
    cur_state: Option<String>,
    #[serde(default)]
    next_state: Option<String>,
    #[serde(default)]
    status_msg: Option<String>,
    #[serde(default)]
    dph_total: Option<f64>,
    #[serde(default)]
    is_bid: Option<bool>,
    #[serde(default)]
    min_bid: Option<f64>,
}

impl WireInstance {
    /// The instance.
    pub fn read(self) -> Instance {
        let status = self.status();
        Instance {
            id: InstanceId(self.id),
            status,
            label: self.label.unwrap_or_default().trim().to_owned(),
            machine: MachineId(self.machine_id.unwrap_or_default()),
            message: self.status_msg.unwrap_or_default().trim().to_owned(),
            price: self.dph_total.filter(|price| price.is_finite() && *price >= 0.0).map(Dollars),
            min_bid: self.min_bid.filter(|_| self.is_bid != Some(false)).map(Dollars),
        }
    }

    /// Stopped in every respect without our having stopped it (we never do) is a higher bid: the box may start
    /// again by itself at any time.
    fn status(&self) -> InstanceStatus {
        let says =
            |field: &Option<String>, word: &str| field.as_deref().is_some_and(|text| text.trim() == word);
        if [&self.cur_state, &self.intended_status, &self.next_state]
            .iter()
            .all(|field| says(field, "stopped"))
        {
            return InstanceStatus::Preempted;
        }
        match self.actual_status.as_deref().map(str::trim) {
            None | Some("" | "created") => InstanceStatus::Created,
            Some("loading") => InstanceStatus::Loading,
            Some("running") => InstanceStatus::Running,
            Some("exited") => InstanceStatus::Exited,
            Some("offline") => InstanceStatus::Offline,
            Some(_) => InstanceStatus::Unknown,
        }
    }
}

/// Whom the key belongs to. The answer holds the key itself: it is never shown.
#[derive(Debug, Deserialize)]
pub struct User {
    /// The account's number.
    #[serde(default)]
    pub id: Option<u64>,
    /// Money that is left.
    #[serde(default)]
    pub credit: Option<f64>,
    /// The older name for it.
    #[serde(default)]
    pub balance: Option<f64>,
}

/// A page of charges.
#[derive(Debug, Deserialize)]
pub struct ChargePage {
    /// The charges. A missing list is no empty one.
    pub results: Vec<Charge>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_token: Option<Value>,
}

/// A charge.
#[derive(Debug, Deserialize)]
pub struct Charge {
    amount: f64,
    /// `instance-ID`.
    #[serde(default)]
    source: Option<String>,
}

/// Adds up charges by instance; what is for something else is left out.
pub fn add_charges(sums: &mut BTreeMap<InstanceId, Dollars>, charges: Vec<Charge>) {
    for charge in charges {
        let id = charge.source.as_deref().and_then(|source| source.strip_prefix("instance-")?.parse().ok());
        if let Some(id) = id {
            *sums.entry(id).or_default() += Dollars(charge.amount);
        }
    }
}

/// Where the next page begins; an absent, null or empty token is the end.
pub fn next_page(token: Option<&Value>) -> Option<String> {
    match token {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(number @ Value::Number(_)) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Region, Wanted};

    fn wanted() -> Wanted {
        Wanted {
            gpus: vec!["RTX_4090".into()],
            gpus_per_box: 1,
            gpu_memory: 22 << 30,
            interruptible: false,
            max_price: Some(Dollars(0.45)),
            min_reliability: 0.98,
            region: Region(vec!["KR".into()]),
            disk_gb: 72,
            duration_seconds: 3600.0,
        }
    }

    fn offer(change: &[(&str, Value)]) -> WireOffer {
        let mut json = serde_json::json!({
            "id": 1, "machine_id": 2, "gpu_name": "RTX 4090", "num_gpus": 1, "gpu_ram": 24564, "disk_space": 200.0,
            "dph_total": 0.4, "min_bid": 0.2, "reliability2": 0.99, "inet_down": 800.0, "cuda_max_good": 13.0,
            "compute_cap": 890, "geolocation": "South Korea, KR", "duration": 90000.0, "storage_cost": 0.2
        });
        for (name, value) in change {
            json[*name] = value.clone();
        }
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_offer_is_held_to_every_wish() {
        let wanted = wanted();
        let asked = Asked { wanted: &wanted, cuda: 13.0, capability: 800.0 };
        let good = offer(&[]).read(&asked).unwrap();
        assert_eq!((good.price, good.disk_price), (Dollars(0.4), Dollars(0.2 * 72.0 / 720.0)));
        for (name, value) in [
            ("gpu_name", Value::from("RTX 3090")),
            ("num_gpus", 2.into()),
            ("gpu_ram", 12000.into()),
            ("disk_space", 50.into()),
            ("dph_total", 0.46.into()),
            ("dph_total", 0.into()),
            ("dph_total", Value::Null),
            ("reliability2", 0.9.into()),
            ("cuda_max_good", 12.8.into()),
            ("cuda_max_good", Value::Null),
            ("compute_cap", 750.into()),
            ("geolocation", "Texas, US".into()),
            ("duration", 60.into()),
            ("machine_id", Value::Null),
            ("inet_down", Value::Null),
        ] {
            assert_eq!(offer(&[(name, value.clone())]).read(&asked), None, "{name} {value}");
        }
    }

    #[test]
    fn an_interruptible_offer_has_the_price_of_its_bid() {
        let wanted = Wanted { interruptible: true, ..wanted() };
        let asked = Asked { wanted: &wanted, cuda: 13.0, capability: 800.0 };
        assert_eq!(offer(&[("dph_total", 0.9.into())]).read(&asked).unwrap().price, Dollars(0.2));
    }

    #[test]
    fn statuses_are_told_apart() {
        let row = |json: &str| serde_json::from_str::<WireInstance>(json).unwrap().read();
        for (json, status) in [
            (r#"{"id": 1}"#, InstanceStatus::Created),
            (r#"{"id": 1, "actual_status": null}"#, InstanceStatus::Created),
            (r#"{"id": 1, "actual_status": "loading"}"#, InstanceStatus::Loading),
            (r#"{"id": 1, "actual_status": "running", "cur_state": "running"}"#, InstanceStatus::Running),
            (r#"{"id": 1, "actual_status": "rebooting"}"#, InstanceStatus::Unknown),
            (
                r#"{"id": 1, "actual_status": "exited", "cur_state": "stopped", "next_state": "stopped", "intended_status": "stopped"}"#,
                InstanceStatus::Preempted,
            ),
            (
                r#"{"id": 1, "actual_status": "exited", "cur_state": "running", "next_state": "stopped", "intended_status": "stopped"}"#,
                InstanceStatus::Exited,
            ),
        ] {
            assert_eq!(row(json).status, status, "{json}");
        }
        assert_eq!(row(r#"{"id": 1, "label": null, "dph_total": null}"#).price, None);
    }

    #[test]
    fn an_answer_without_a_list_is_no_empty_list() {
        assert!(serde_json::from_str::<InstancePage>(r#"{"success": true}"#).is_err());
        assert!(serde_json::from_str::<InstancePage>("{}").is_err());
        assert!(serde_json::from_str::<OneInstance>("{}").is_err());
        assert!(serde_json::from_str::<OneInstance>(r#"{"instances": null}"#).unwrap().instances.is_none());
    }

    #[test]
    fn charges_are_added_by_instance() {
        let page: ChargePage = serde_json::from_str(
            r#"{"results": [{"amount": 0.25, "source": "instance-7"}, {"amount": 0.5, "source": "instance-7"},
                {"amount": 9, "source": "volume-7"}, {"amount": 1, "source": null}], "next_token": ""}"#,
        )
        .unwrap();
        assert_eq!(next_page(page.next_token.as_ref()), None);
        let mut sums = BTreeMap::new();
        add_charges(&mut sums, page.results);
        assert_eq!(sums, BTreeMap::from([(InstanceId(7), Dollars(0.75))]));
    }
}
