//! An instance as the API writes it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::instance::{Instance, Phase};
use super::money::Money;
use super::offer::add;

impl Instance {
    /// All its columns.
    pub fn row(&self, now: Duration) -> Map<String, Value> {
        let (current, next) = self.states();
        let base = self.base_price().dollars();
        let storage = self.disk_price().dollars();
        let up = self.phase == Phase::Running;
        let environment: Vec<[&str; 2]> =
            self.order.env.iter().map(|(name, value)| [name.as_str(), value.as_str()]).collect();
        let ports =
            json!({"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": (20_000 + self.id % 40_000).to_string()}]});
        let uptime =
            self.started.filter(|_| up).map(|started| now.saturating_sub(started).as_secs_f64() / 60.0);
        let mut row = self.spec.hardware();
        add(
            &mut row,
            json!({
                "id": self.id, "actual_status": self.status(now), "intended_status": next,
                "cur_state": current, "next_state": next, "status_msg": self.message(now),
                "label": self.label, "is_bid": self.bid.is_some(), "min_bid": self.min_bid.dollars(),
                "bid_price": self.bid.map(Money::dollars),
                "dph_base": base, "dph_total": base + storage, "storage_cost": self.spec.storage_cost,
                "storage_total_cost": storage, "start_date": self.created.as_secs_f64(),
                "end_date": self.created.as_secs_f64() + self.spec.duration,
                "uptime_mins": uptime,
            }),
        );
        add(
            &mut row,
            json!({
                "image_uuid": self.order.image, "image_args": self.order.args,
                "image_runtype": self.order.runtype, "onstart": self.order.onstart, "extra_env": environment,
                "disk_space": self.order.disk, "disk_usage": 0.1, "disk_util": 0.1, "volume_info": [],
                "gpu_util": up.then_some(0.0), "gpu_temp": up.then_some(40.0), "cpu_util": 0.0,
                "mem_usage": 0.0, "mem_limit": 64.0, "vmem_usage": 0.0,
                "ssh_host": "ssh4.vast.ai", "ssh_port": 20_000 + self.id % 40_000, "ssh_idx": "4",
                "local_ipaddrs": "192.168.1.7", "ports": up.then_some(ports),
                "direct_port_start": -1, "direct_port_end": -1, "jupyter_token": "",
                "template_id": null, "template_hash_id": null, "template_name": null,
            }),
        );
        row
    }
}
