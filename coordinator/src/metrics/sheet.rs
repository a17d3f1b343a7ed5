//! Metrics written down one after the other, all under the prefix `embed_fleet_`. The client library writes the format and
//! escapes the labels.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Names and values of labels.
pub type Labels = Vec<(&'static str, String)>;

/// Owned labels.
pub fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

/// What one scrape gets.
pub struct Sheet {
    registry: Registry,
    /// Families of facts by name: all of one name must stand together.
    infos: Vec<(&'static str, Family<Labels, Gauge>)>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self { registry: Registry::with_prefix("embed_fleet"), infos: Vec::new() }
    }
}

impl Sheet {
    /// One value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Labels::new(), value)]);
    }

    /// The same with labels; without any value the metric is left out.
    pub fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        let mut any = false;
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
            any = true;
        }
        if any {
            self.registry.register(name, help, family);
        }
    }

    /// Counts of what happened; the format adds `_total` to the name.
    pub fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        let mut any = false;
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
            any = true;
        }
        if any {
            self.registry.register(name, help, family);
        }
    }

    /// A fact that is told by its labels: `name_info{...} 1`.
    pub fn info(&mut self, name: &'static str, help: &str, labels: Labels) {
        let known = self.infos.iter().position(|(of, _)| *of == name);
        let index = known.unwrap_or_else(|| {
            let family = Family::<Labels, Gauge>::default();
            self.registry.register(format!("{name}_info"), help, family.clone());
            self.infos.push((name, family));
            self.infos.len() - 1
        });
        self.infos[index].1.get_or_create(&labels).set(1);
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
