//! `worker --check`: driver, device, memory, and every kernel against its twin.

use shared::exit::ExitCode;

use super::Failure;
use crate::device::{self, Device, DeviceChoice};
use crate::kernels::check::{Finding, check};
use crate::load::default_dtype;

/// Says what the device is and whether it computes what it should.
pub fn check_device(choice: &DeviceChoice) -> Result<ExitCode, Failure> {
    for device in choice.open_all().map_err(|error| Failure::new(ExitCode::Unexpected, error))? {
        println!("{}", describe(&device)?);
        let findings = findings(&device)?;
        for finding in &findings {
            let verdict = if finding.passed() { "ok" } else { "WRONG" };
            println!("{verdict:>5}  {:.1e} of {:.1e}  {}", finding.distance, finding.allowed, finding.name);
        }
        println!("{} kernels agree with their twins", findings.len());
        refuse_wrong(&findings)?;
    }
    Ok(ExitCode::Done)
}

/// Checks a GPU before it is trusted with a shard. On a CPU the twins are what computes.
pub fn trust(device: &Device) -> Result<(), Failure> {
    if device.is_cpu() { Ok(()) } else { refuse_wrong(&findings(device)?) }
}

fn findings(device: &Device) -> Result<Vec<Finding>, Failure> {
    let dtype = device::dtype(default_dtype(device));
    check(dtype, device).map_err(|error| Failure::new(ExitCode::Unexpected, error))
}

fn refuse_wrong(findings: &[Finding]) -> Result<(), Failure> {
    match findings.iter().find(|finding| !finding.passed()) {
        None => Ok(()),
        Some(wrong) => Err(Failure::new(
            ExitCode::Unexpected,
            anyhow::anyhow!(
                "this device computes {} wrongly: {:.1e} from the CPU's answer, {:.1e} is allowed; \
                 it claims nothing. Use another machine",
                wrong.name,
                wrong.distance,
                wrong.allowed
            ),
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_kernel_is_exit_1_by_its_name() {
        let finding = |name: &str, distance| Finding { name: name.to_owned(), distance, allowed: 1e-3 };
        assert!(refuse_wrong(&[finding("a", 1e-4), finding("b", 0.0)]).is_ok());
        let failure = refuse_wrong(&[finding("a", 1e-4), finding("b", 2e-3)]).unwrap_err();
        assert_eq!(failure.code, ExitCode::Unexpected);
        assert!(failure.error.to_string().contains("computes b wrongly"), "{}", failure.error);
        assert!(refuse_wrong(&[finding("a", f64::NAN)]).is_err());
    }

    #[test]
    fn a_cpu_is_its_own_measure() {
        assert!(trust(&Device::Cpu).is_ok());
    }
}
