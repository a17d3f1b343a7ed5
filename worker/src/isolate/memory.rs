//! Memory of this machine and of a process, as Linux tells it.

use std::fs;

/// The share of the free memory that a child may take: the rest is this process's and the machine's.
const SHARE: f64 = 0.9;

/// An item that does not fit into less than this may be none to blame: the machine is small.
pub const ENOUGH_TO_JUDGE: u64 = 4 << 30;

/// Bytes that a child may take now; `None` where the machine does not say.
pub fn limit() -> Option<u64> {
    let of_machine = field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let free = of_container().map_or(of_machine, |container| container.min(of_machine));
    Some((free as f64 * SHARE) as u64)
}

/// What a container's limit leaves. Its page cache is given back when memory is short.
fn of_container() -> Option<u64> {
    let most: u64 = fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()?;
    let statistics = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
    let taken: u64 = statistics.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse().ok()?;
    Some(most.saturating_sub(taken))
}

/// Bytes of its own that a process holds; files that it maps are not counted.
pub fn taken_by(process: u32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{process}/status")).ok()?, "RssAnon:")
}

/// A field in kB.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Makes this process the first that the kernel ends when memory is short.
pub fn volunteer() {
    // Without the file there is no such kernel.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_this_process_have_memory() {
        assert!(limit().unwrap() > 1 << 20);
        let held = vec![1u8; 64 << 20];
        let taken = taken_by(std::process::id()).unwrap();
        assert!(taken > held.iter().map(|byte| u64::from(*byte)).sum::<u64>() / 2, "{taken}");
        assert_eq!(field("RssAnon:\t  12 kB\n", "RssAnon:"), Some(12 << 10));
        assert_eq!(field("RssFile: 12 kB", "RssAnon:"), None);
    }
}
