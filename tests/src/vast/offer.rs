//! What is for rent, with the fields that the vendor's client knows.

use serde_json::{Map, Value, json};

use super::money::MONTH_HOURS;
use super::script::Script;

/// A machine that is offered. Every field has a default (a good RTX 4090), so that a test names only what
/// it is about.
#[derive(Debug, Clone)]
pub struct OfferSpec {
    /// The machine; 0 gets the next number. It stays when the offer comes back under another id.
    pub machine_id: u64,
    /// Its owner; 0 is the machine's number too.
    pub host_id: u64,
    /// As the API writes it: `RTX 4090`.
    pub gpu_name: String,
    /// GPUs of the offer.
    pub num_gpus: u32,
    /// MB of one GPU.
    pub gpu_ram: u64,
    /// Compute capability times 100.
    pub compute_cap: u32,
    /// The newest CUDA that its driver knows.
    pub cuda_max_good: f64,
    /// GB that may be rented.
    pub disk_space: f64,
    /// `dph_base` on demand, $/h without the disk.
    pub price: f64,
    /// The lowest bid that runs, $/h without the disk.
    pub min_bid: f64,
    /// $/GB/month.
    pub storage_cost: f64,
    /// Mbit/s.
    pub inet_down: f64,
    /// Mbit/s.
    pub inet_up: f64,
    /// $/GB.
    pub inet_down_cost: f64,
    /// $/GB.
    pub inet_up_cost: f64,
    /// From 0 to 1.
    pub reliability: f64,
    /// Seconds for which it may be rented.
    pub duration: f64,
    /// A country, as the API writes it.
    pub geolocation: String,
    /// Whether the vendor has verified the machine.
    pub verified: bool,
    /// Whether the machine is offered again, under another id, once an instance on it is gone.
    pub comes_back: bool,
    /// What it does.
    pub script: Script,
}

impl Default for OfferSpec {
    fn default() -> Self {
        Self {
            machine_id: 0,
            host_id: 0,
            gpu_name: "RTX 4090".to_owned(),
            num_gpus: 1,
            gpu_ram: 24_564,
            compute_cap: 890,
            cuda_max_good: 13.0,
            disk_space: 500.0,
            price: 0.4,
            min_bid: 0.2,
            storage_cost: 0.15,
            inet_down: 2000.0,
            inet_up: 1000.0,
            inet_down_cost: 0.002,
            inet_up_cost: 0.003,
            reliability: 0.995,
            duration: 2_592_000.0,
            geolocation: "Sweden, SE".to_owned(),
            verified: true,
            comes_back: true,
            script: Script::default(),
        }
    }
}

impl OfferSpec {
    /// The row of a search under this id, with the price for so many GB of disk: on demand, or for a bid
    /// at the current minimum.
    pub fn row(&self, id: u64, allocated_gb: f64, for_bid: bool) -> Map<String, Value> {
        let base = if for_bid { self.min_bid } else { self.price };
        let storage = self.storage_cost * allocated_gb / MONTH_HOURS;
        let total = base + storage;
        let gpus = f64::from(self.num_gpus);
        let mut row = self.hardware();
        add(
            &mut row,
            json!({
                "id": id, "ask_contract_id": id, "bundle_id": id, "bundled_results": 1,
                "dph_base": base, "dph_total": total, "discounted_dph_total": total,
                "min_bid": self.min_bid, "is_bid": for_bid, "credit_discount_max": 0.1, "platform_fee": null,
                "storage_cost": self.storage_cost, "storage_total_cost": storage,
                "dlperf": 100.0 * gpus, "dlperf_per_dphtotal": 100.0 * gpus / total,
                "total_flops": 82.0 * gpus, "flops_per_dphtotal": 82.0 * gpus / total,
                "score": 100.0 * gpus / total, "vram_costperhour": total / (self.gpu_ram as f64 * gpus),
            }),
        );
        add(
            &mut row,
            json!({
                "rentable": true, "rented": false, "external": null, "hosting_type": 0, "resource_type": "gpu",
                "start_date": null, "end_date": null, "duration": self.duration, "direct_port_count": 100,
                "logo": "/static/logos/vastai_small2.png", "webpage": null, "cluster_id": null,
                "avail_vol_ask_id": null, "avail_vol_dph": null, "avail_vol_size": null,
                "nw_disk_min_bw": null, "nw_disk_max_bw": null, "nw_disk_avg_bw": null,
                "verified": self.verified, "vericode": u8::from(self.verified), "datacenter": false,
                "vms_enabled": false, "is_vm_deverified": false,
                "expected_reliability": self.reliability, "reliability_mult": self.reliability,
            }),
        );
        row
    }

    /// What an offer and an instance on it have in common.
    pub fn hardware(&self) -> Map<String, Value> {
        let gpus = u64::from(self.num_gpus);
        let mut row = Map::new();
        add(
            &mut row,
            json!({
                "machine_id": self.machine_id, "host_id": self.host_id, "hostname": null,
                "num_gpus": self.num_gpus, "gpu_name": self.gpu_name, "gpu_ram": self.gpu_ram,
                "gpu_total_ram": self.gpu_ram * gpus, "gpu_frac": 1.0, "gpu_arch": "nvidia", "gpu_lanes": 16,
                "gpu_mem_bw": 850.0, "gpu_max_power": 450.0, "gpu_max_temp": 90.0, "gpu_display_active": false,
                "compute_cap": self.compute_cap, "cuda_max_good": self.cuda_max_good, "bw_nvlink": 0.0,
                "driver_version": "580.95.05", "driver_vers": 580_095_005,
            }),
        );
        add(
            &mut row,
            json!({
                "cpu_name": "AMD EPYC 7543", "cpu_cores": 64, "cpu_cores_effective": 16.0, "cpu_ghz": 2.8,
                "cpu_ram": 128_000, "cpu_arch": "amd64", "has_avx": 1, "mobo_name": "H12SSL-i",
                "os_version": "22.04", "ubuntu_version": "22.04", "pci_gen": 4.0, "pcie_bw": 24.0,
                "disk_space": self.disk_space, "disk_bw": 3000.0, "disk_name": "nvme",
                "inet_up": self.inet_up, "inet_down": self.inet_down,
                "inet_up_cost": self.inet_up_cost, "inet_down_cost": self.inet_down_cost,
                "reliability": self.reliability, "reliability2": self.reliability,
                "geolocation": self.geolocation, "geolocode": 0, "public_ipaddr": "203.0.113.7",
                "static_ip": true, "verification": if self.verified { "verified" } else { "unverified" },
            }),
        );
        row
    }
}

/// Adds the fields of an object to a row.
pub fn add(row: &mut Map<String, Value>, fields: Value) {
    if let Value::Object(fields) = fields {
        row.extend(fields);
    }
}
