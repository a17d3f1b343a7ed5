//! The device a worker computes on.

#[cfg(feature = "cuda")]
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
#[cfg(feature = "cuda")]
use std::sync::Arc;

use candle_core::DType;
pub use candle_core::Device;
use shared::plan::Dtype;

#[cfg(feature = "cuda")]
use crate::kernels::cuda::Gpu;

/// `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first CUDA device where this build has CUDA, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA devices with these numbers, one or more. A number may come twice.
    Cuda(Vec<usize>),
    /// All CUDA devices of the machine.
    AllCuda,
}

/// The device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("{0:?} is not a device: auto, cpu, cuda:N, cuda:N,M or cuda:all")]
    Unknown(String),
    /// One device is needed.
    #[error("{0} names several devices, and one is needed here")]
    Several(String),
    /// The memory cannot be limited.
    #[error("cannot limit the memory of the device")]
    Memory(#[source] candle_core::Error),
    /// Only a GPU's memory can be limited.
    #[error("--gpu-memory limits the memory of a GPU, and this is a CPU")]
    MemoryOfCpu,
    /// The build lacks CUDA.
    #[error("this build has no CUDA: build with --features cuda, or pass --device cpu")]
    NoCuda,
    /// The machine lacks a GPU, or its driver does not show it.
    #[error("no CUDA device is found: see what nvidia-smi says, or pass --device cpu")]
    NoDevice,
    /// CUDA refuses.
    #[error("cannot use CUDA device {number}")]
    Cuda {
        /// The device's number.
        number: usize,
        /// The cause.
        source: candle_core::Error,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let number = |text: &str| text.trim_start_matches("cuda:").parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(vec![0])),
            "cuda:all" => Ok(Self::AllCuda),
            _ => text
                .starts_with("cuda:")
                .then(|| text.split(',').map(number).collect::<Option<Vec<_>>>())
                .flatten()
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::AllCuda => f.write_str("cuda:all"),
            Self::Cuda(numbers) => {
                let names: Vec<String> = numbers.iter().map(|number| format!("cuda:{number}")).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

impl DeviceChoice {
    /// Opens the devices, one or more.
    pub fn open_all(&self) -> Result<Vec<Device>, DeviceError> {
        let built = candle_core::utils::cuda_is_available();
        let found = cuda_devices();
        match self {
            Self::Cpu => Ok(vec![Device::Cpu]),
            Self::Auto if !built => Ok(vec![Device::Cpu]),
            Self::Cuda(_) | Self::AllCuda if !built => Err(DeviceError::NoCuda),
            // A rented GPU that is not there must not pass unnoticed as a slow CPU.
            Self::Auto | Self::Cuda(_) | Self::AllCuda if found == 0 => Err(DeviceError::NoDevice),
            Self::Auto => Ok(vec![cuda(0)?]),
            Self::Cuda(numbers) => numbers.iter().map(|number| cuda(*number)).collect(),
            Self::AllCuda => (0..found).map(cuda).collect(),
        }
    }

    /// Opens the only device.
    pub fn open(&self) -> Result<Device, DeviceError> {
        let mut devices = self.open_all()?;
        match devices.pop() {
            Some(device) if devices.is_empty() => Ok(device),
            _ => Err(DeviceError::Several(self.to_string())),
        }
    }
}

/// Opens a CUDA device with a stream of its own, whatever thread launches on it.
fn cuda(number: usize) -> Result<Device, DeviceError> {
    let device =
        Device::new_cuda_with_stream(number).map_err(|source| DeviceError::Cuda { number, source })?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = &device {
        // SAFETY: all work of a device runs on its one stream, and memory is given back in its order.
        #[allow(unsafe_code)]
        unsafe {
            cuda.disable_event_tracking();
        }
    }
    Ok(device)
}

fn cuda_devices() -> usize {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        CudaContext::device_count().map_or(0, |count| count.max(0) as usize)
    }
    #[cfg(not(feature = "cuda"))]
    0
}

/// The type of candle for a precision.
pub fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::Bf16 => DType::BF16,
    }
}

/// The kind of a device, for the metadata: devices of one kind give equal bytes.
pub fn kind(device: &Device) -> candle_core::Result<String> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of_device(device)? {
        return gpu.kind();
    }
    debug_assert!(device.is_cpu());
    Ok(cpu_kind().to_owned())
}

/// Bytes of a GPU's memory that this process may use, to the nearest whole GiB: drivers take some MiB more or
/// fewer, and cards of one size must agree. 0 for a CPU.
pub fn memory(device: &Device) -> candle_core::Result<u64> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = Gpu::of_device(device)? {
        return Ok((gpu.memory_allowed()? + (1 << 29)) >> 30 << 30);
    }
    debug_assert!(device.is_cpu());
    Ok(0)
}

/// Shares the memory of each card among the devices that are the same card, and holds back what lies above
/// `limit` bytes of it; a CPU has no limit.
pub fn share_memory(devices: &[Device], limit: Option<u64>) -> Result<(), DeviceError> {
    #[cfg(feature = "cuda")]
    {
        let mut cards: BTreeMap<usize, Vec<Arc<Gpu>>> = BTreeMap::new();
        for device in devices {
            if let Some(gpu) = Gpu::of_device(device).map_err(DeviceError::Memory)? {
                cards.entry(gpu.stream().context().ordinal()).or_default().push(gpu);
            }
        }
        for gpus in cards.values() {
            let (total, _) = gpus[0].memory().map_err(DeviceError::Memory)?;
            if let Some(limit) = limit {
                gpus[0].limit_memory(limit).map_err(DeviceError::Memory)?;
            }
            let share = limit.unwrap_or(total).min(total) / gpus.len() as u64;
            for gpu in gpus {
                gpu.allow(share);
            }
        }
    }
    match limit {
        Some(_) if devices.iter().any(Device::is_cpu) => Err(DeviceError::MemoryOfCpu),
        _ => Ok(()),
    }
}

/// `22GiB`, `512MiB` or bytes.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => (&text[..at], &text[at..]),
        None => (text, "B"),
    };
    let unit: u64 = match unit {
        "B" => 1,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a size such as 22GiB or 512MiB".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a whole number above 0 and GiB or MiB".to_owned())
}

/// Gives the memory of devices back whose models are gone, so that another process may use it.
pub fn release_unused() {
    #[cfg(feature = "cuda")]
    if let Err(error) = crate::kernels::cuda::release_unused() {
        tracing::warn!(%error, "the memory of a device could not be given back");
    }
}

/// The kind of CPU, for the metadata: CPUs of one kind give equal bytes.
pub fn cpu_kind() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "CPU (x86-64, AVX-512)";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "CPU (x86-64, AVX2)";
        }
        "CPU (x86-64)"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "CPU (AArch64)"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "CPU"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_they_are_shown() {
        for name in ["auto", "cpu", "cuda:all", "cuda:0", "cuda:0,cuda:0", "cuda:1,cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda:1,3".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(vec![1, 3]));
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:0,", "0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_memory("22GiB"), Ok(22 << 30));
        assert_eq!(parse_memory("512MiB"), Ok(512 << 20));
        for wrong in ["22GB", "0GiB", "GiB", "-1GiB", "99999999999GiB"] {
            assert!(parse_memory(wrong).is_err(), "{wrong}");
        }
    }
}
