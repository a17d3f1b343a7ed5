//! `worker --check`: driver, device, memory, and every kernel against its twin.

use candle_core::DType;
use shared::exit::ExitCode;

use super::Failure;
use crate::device::{self, Device, DeviceChoice};
use crate::kernels::check::check;
use crate::load::refuse_wrong;

/// Says what each device is and whether it computes what it should, in both precisions.
pub fn check_device(choice: &DeviceChoice) -> Result<ExitCode, Failure> {
    for device in choice.open_all().map_err(|error| Failure::new(ExitCode::Unexpected, error))? {
        println!("{}", describe(&device)?);
        for (dtype, name) in [(DType::BF16, "bf16"), (DType::F32, "f32")] {
            let findings =
                check(dtype, &device).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
            for finding in &findings {
                let verdict = if finding.passed() { "ok" } else { "WRONG" };
                println!(
                    "{verdict:>5}  {name:<4}  {:.1e} of {:.1e}  {}",
                    finding.distance, finding.allowed, finding.name
                );
            }
            let passed = findings.iter().filter(|finding| finding.passed()).count();
            println!("{passed} of {} operations in {name} agree with their twins", findings.len());
            refuse_wrong(&findings).map_err(|error| Failure::new(error.exit_code(), error))?;
        }
    }
    Ok(ExitCode::Done)
}

fn describe(device: &Device) -> Result<String, Failure> {
    let unexpected = |error: candle_core::Error| Failure::new(ExitCode::Unexpected, error);
    let kind = device::kind(device).map_err(unexpected)?;
    #[cfg(feature = "cuda")]
    if let Some(gpu) = crate::kernels::cuda::Gpu::of_device(device).map_err(unexpected)? {
        let (total, used) = gpu.memory().map_err(unexpected)?;
        let driver = gpu.driver_version().map_err(unexpected)?;
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        return Ok(format!(
            "{kind}, driver for CUDA {}.{}, {:.1} GiB, {:.1} GiB in use",
            driver / 1000,
            driver % 1000 / 10,
            gib(total),
            gib(used)
        ));
    }
    Ok(kind)
}
