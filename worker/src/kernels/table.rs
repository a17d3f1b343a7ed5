//! Small arrays that kernels read: kept on the host, where the twins read them, and uploaded to a GPU.

use candle_core::{Device, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::Gpu;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr as _, DeviceRepr};

/// Values of a type a kernel can read.
#[cfg(not(feature = "cuda"))]
pub trait Value: Copy {}
#[cfg(not(feature = "cuda"))]
impl<T: Copy> Value for T {}

/// Values of a type a kernel can read.
#[cfg(feature = "cuda")]
pub trait Value: Copy + DeviceRepr {}
#[cfg(feature = "cuda")]
impl<T: Copy + DeviceRepr> Value for T {}

/// An array on the host and, where the device is a GPU, on the device.
#[derive(Debug)]
pub struct Table<T> {
    values: Vec<T>,
    #[cfg(feature = "cuda")]
    uploaded: Option<CudaSlice<T>>,
}

impl<T: Value> Table<T> {
    /// Uploads the values where the device is a GPU.
    pub fn new(values: Vec<T>, device: &Device) -> Result<Self> {
        #[cfg(feature = "cuda")]
        {
            let uploaded = Gpu::of_device(device)?.map(|gpu| gpu.upload(&values)).transpose()?;
            Ok(Self { values, uploaded })
        }
        #[cfg(not(feature = "cuda"))]
        {
            debug_assert!(device.is_cpu());
            Ok(Self { values })
        }
    }

    /// The values on the host.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// Where the values lie on the device.
    #[cfg(feature = "cuda")]
    pub fn address(&self, gpu: &Gpu) -> Result<u64> {
        match &self.uploaded {
            Some(slice) => Ok(slice.device_ptr(gpu.stream()).0),
            None => candle_core::bail!("a kernel was given an array of another device"),
        }
    }
}

impl Table<f32> {
    /// The values as a tensor on the device.
    pub fn tensor(self, shape: (usize, usize), device: &Device) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Some(slice), Device::Cuda(cuda)) = (self.uploaded, device) {
            use candle_core::{CudaStorage, Storage, op::BackpropOp};
            let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, cuda.clone()));
            return Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false));
        }
        Tensor::from_vec(self.values, shape, device)
    }
}
