//! Two machines and a router between them, as network namespaces of this one: the router can lose packets in
//! silence, as a network does and a proxy cannot.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The machine of the queue: from a range that is set aside for tests of networks.
pub const QUEUE_ADDRESS: &str = "198.18.2.2";

/// Namespaces that go when it is dropped.
pub struct Lab {
    name: String,
}

impl Lab {
    /// Makes them, or says why this machine cannot.
    pub fn start() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let lab = Self { name: format!("ef{}x{number}", std::process::id()) };
        let (workers, router, queue) = (lab.workers(), lab.router(), lab.queue());
        for namespace in [&workers, &router, &queue] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        lab.connect(&workers, "198.18.1.2/24", "198.18.1.1/24", "a")?;
        lab.connect(&queue, &format!("{QUEUE_ADDRESS}/24"), "198.18.2.1/24", "b")?;
        ip(&["-n", &workers, "route", "add", "default", "via", "198.18.1.1"])?;
        ip(&["-n", &queue, "route", "add", "default", "via", "198.18.2.1"])?;
        lab.forward(true)?;
        Ok(lab)
    }

    /// The namespace of the workers.
    pub fn workers(&self) -> String {
        format!("{}w", self.name)
    }

    /// The namespace of the queue.
    pub fn queue(&self) -> String {
        format!("{}q", self.name)
    }

    fn router(&self) -> String {
        format!("{}r", self.name)
    }

    /// Whether the router passes packets on; those that it does not are lost without a word.
    pub fn forward(&self, on: bool) -> Result<(), String> {
        let setting = format!("net.ipv4.ip_forward={}", u8::from(on));
        ip(&["netns", "exec", &self.router(), "sysctl", "-qw", &setting])
    }

    fn connect(&self, machine: &str, address: &str, gateway: &str, letter: &str) -> Result<(), String> {
        let (near, far) = (format!("{}{letter}0", self.name), format!("{}{letter}1", self.name));
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far])?;
        ip(&["link", "set", &near, "netns", machine])?;
        ip(&["link", "set", &far, "netns", &self.router()])?;
        for (namespace, link, address) in [(machine, &near, address), (&self.router(), &far, gateway)] {
            ip(&["-n", namespace, "addr", "add", address, "dev", link])?;
            ip(&["-n", namespace, "link", "set", link, "up"])?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [self.workers(), self.router(), self.queue()] {
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
