//! Processes and GPUs of this machine.

use std::fs;
use std::process::Stdio;

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its number.
    pub number: u64,
    /// Its name, without `NVIDIA` and `GeForce`.
    pub name: String,
    /// Its memory in bytes.
    pub memory: u64,
}

/// The GPUs that the driver shows; none without one.
pub async fn gpus() -> Vec<Gpu> {
    let output = tokio::process::Command::new("nvidia-smi")
        .args(["--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().filter_map(read_gpu).collect()
        }
        _ => Vec::new(),
    }
}

/// `0, NVIDIA GeForce RTX 4090, 24564`, memory in MiB.
fn read_gpu(line: &str) -> Option<Gpu> {
    let mut words = line.split(',').map(str::trim);
    let number = words.next()?.parse().ok()?;
    let name = words.next()?.trim_start_matches("NVIDIA ").trim_start_matches("GeForce ").to_owned();
    let memory: u64 = words.next()?.parse().ok()?;
    Some(Gpu { number, name, memory: memory << 20 })
}

/// The processes of a box: those with its label in their environment. A zombie has none.
pub fn of_label(label: &str) -> Vec<u32> {
    let wanted = format!("FLEET_INSTANCE={label}");
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|process| {
            fs::read(format!("/proc/{process}/environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|text| text == wanted.as_bytes())
            })
        })
        .collect()
}

/// Sends a signal; a process that is gone meanwhile is no failure.
pub fn signal(name: &str, processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    let _ = std::process::Command::new("kill")
        .args(["-s", name])
        .args(numbers)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_read_from_its_line() {
        let gpu = Gpu { number: 1, name: "RTX 4090".to_owned(), memory: 24564 << 20 };
        assert_eq!(read_gpu("1, NVIDIA GeForce RTX 4090, 24564"), Some(gpu));
        assert_eq!(read_gpu("No devices were found"), None);
    }

    #[test]
    fn processes_are_found_by_their_label() {
        let label = format!("fleet-test-0-{}", std::process::id());
        let mut child =
            std::process::Command::new("sleep").arg("60").env("FLEET_INSTANCE", &label).spawn().unwrap();
        // Until exec has happened the process shows our own environment.
        while of_label(&label).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(of_label(&label), [child.id()]);
        assert_eq!(of_label(&label[..label.len() - 1]), [0; 0]);
        signal("TERM", &of_label(&label));
        child.wait().unwrap();
        assert_eq!(of_label(&label), [0; 0]);
    }
}
