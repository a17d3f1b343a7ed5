//! The device a worker computes on.

use std::fmt;
use std::str::FromStr;

pub use candle_core::Device;

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where this build and this machine have it, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number.
    Cuda(usize),
}

/// The device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("{0:?} is not a device: auto, cpu or cuda:N")]
    Unknown(String),
    /// The build lacks CUDA.
    #[error("this build has no CUDA: build with --features cuda, or pass --device cpu")]
    NoCuda,
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
        let unknown = || DeviceError::Unknown(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or_else(unknown),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if !candle_core::utils::cuda_is_available() => Ok(Device::Cpu),
            Self::Auto => cuda(0),
            Self::Cuda(_) if !candle_core::utils::cuda_is_available() => Err(DeviceError::NoCuda),
            Self::Cuda(number) => cuda(number),
        }
    }
}

fn cuda(number: usize) -> Result<Device, DeviceError> {
    Device::new_cuda(number).map_err(|source| DeviceError::Cuda { number, source })
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
