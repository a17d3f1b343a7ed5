//! Kernels on an NVIDIA GPU: the modules that `build.rs` compiled, launched on candle's stream.
//!
//! All work of a device runs on one stream, in order; an address handed to a launch stays valid because
//! memory, too, is given back in that order. Nothing here waits for the device.

mod gemm;
mod memory;
mod profile;
mod staging;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, DevicePtr as _, DriverError, LaunchConfig, PushKernelArg as _, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDType, CudaDevice, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Device, Error, Result, Shape, Storage, Tensor, bail};
use half::bf16;

pub use gemm::{Epilogue, Product};
pub use profile::Spent;
pub use work::Work;

/// A module of kernels, as PTX for compute capability 8.0: the driver compiles it for the card at hand.
struct Source {
    ptx: &'static str,
    kernels: &'static [&'static str],
}

macro_rules! source {
    ($name:literal, $kernels:expr) => {
        Source { ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")), kernels: $kernels }
    };
}

static SOURCES: [Source; 5] = [
    source!("norm", &["rms_norm_bf16", "rms_norm_f32", "layer_norm_bf16", "layer_norm_f32"]),
    source!("rope", &["norm_rope_bf16", "norm_rope_f32", "rope_bf16", "rope_f32"]),
    source!("activation", &["silu_mul_bf16", "silu_mul_f32", "gelu_erf_bf16", "gelu_erf_f32"]),
    source!(
        "rows",
        &[
            "gather_rows_bf16",
            "gather_rows_f32",
            "add_rows_bf16",
            "add_rows_f32",
            "add_interpolated_bf16",
            "add_interpolated_f32",
            "patch_rows_bf16",
            "patch_rows_f32",
        ]
    ),
    source!("attention", &["attention_16", "attention_32", "attention_64", "attention_72", "attention_128"]),
];

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Arg {
    /// An address on the device.
    Address(u64),
    /// An `int`.
    I32(i32),
    /// An `int64_t`.
    I64(i64),
    /// A `float`.
    F32(f32),
}

/// The shape of a launch.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Blocks along x and y.
    pub blocks: (usize, usize),
    /// Threads a block.
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

/// One device: its kernels, its matrix products, its staging memory.
pub struct Gpu {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    functions: HashMap<&'static str, CudaFunction>,
    products: Mutex<gemm::Products>,
    staging: Mutex<staging::Staging>,
    answers: Mutex<Vec<work::Pinned>>,
    /// Held while a batch is launched: its uploads share one turn of the staging memory.
    launching: Mutex<()>,
    began: Mutex<work::Began>,
    memory: Mutex<memory::Allowance>,
    launches: Mutex<BTreeMap<&'static str, u64>>,
    profile: Mutex<Option<profile::Profile>>,
}

/// What is kept for each open device.
static GPUS: OnceLock<Mutex<HashMap<DeviceId, Arc<Gpu>>>> = OnceLock::new();

/// Gives back what is kept for devices that nobody uses any more, and the memory that was freed on them: it
/// stays with the process otherwise, even when the last handle of the card is gone.
pub fn release_unused() -> Result<()> {
    let mut gpus = lock(GPUS.get_or_init(Mutex::default));
    let unused: Vec<_> = gpus.extract_if(|_, gpu| Arc::strong_count(gpu) == 1).collect();
    drop(gpus);
    for (_, gpu) in unused {
        let stream = Arc::clone(gpu.stream());
        drop(gpu);
        memory::release_freed_memory(&stream)?;
    }
    Ok(())
}

/// A failed call of the driver as candle's error.
pub(crate) fn driver(error: DriverError) -> Error {
    Error::Cuda(Box::new(error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// The device of a tensor; `None` for other devices than CUDA.
    pub fn of(tensor: &Tensor) -> Result<Option<Arc<Self>>> {
        Self::of_device(tensor.device())
    }

    /// The device; `None` for other devices than CUDA.
    pub fn of_device(device: &Device) -> Result<Option<Arc<Self>>> {
        let Device::Cuda(device) = device else { return Ok(None) };
        let mut gpus = lock(GPUS.get_or_init(Mutex::default));
        if let Some(gpu) = gpus.get(&device.id()) {
            return Ok(Some(Arc::clone(gpu)));
        }
        let gpu = Arc::new(Self::new(device)?);
        gpus.insert(device.id(), Arc::clone(&gpu));
        Ok(Some(gpu))
    }

    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context();
        // cuBLASLt's handle belongs to the device that is current when it is made.
        context.bind_to_thread().map_err(driver)?;
        memory::keep_freed_memory(context)?;
        let mut functions = HashMap::new();
        for source in &SOURCES {
            let module = context.load_module(Ptx::from_src(source.ptx)).map_err(driver)?;
            for name in source.kernels {
                functions.insert(*name, module.load_function(name).map_err(driver)?);
            }
        }
        Ok(Self {
            device: device.clone(),
            products: Mutex::new(gemm::Products::new(&stream)?),
            staging: Mutex::default(),
            answers: Mutex::default(),
            launching: Mutex::default(),
            began: Mutex::default(),
            memory: Mutex::default(),
            stream,
            functions,
            launches: Mutex::default(),
            profile: Mutex::default(),
        })
    }

    /// The stream all work runs on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The name the driver gives the card, and its compute capability: what a part's bytes depend on.
    pub fn kind(&self) -> Result<String> {
        let context = self.stream.context();
        let (major, minor) = context.compute_capability().map_err(driver)?;
        Ok(format!("{} (compute capability {major}.{minor})", context.name().map_err(driver)?))
    }

    /// The newest CUDA that the driver knows: 1000 times the major version and 10 times the minor.
    #[allow(unsafe_code)]
    pub fn driver_version(&self) -> Result<i32> {
        let mut version = 0;
        // SAFETY: writes one `int`.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(driver)?;
        Ok(version)
    }

    /// Launches of each kernel since the device was opened.
    pub fn launches(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.launches).clone()
    }

    /// Starts timing every launch.
    pub fn start_profile(&self) {
        *lock(&self.profile) = Some(profile::Profile::default());
    }

    /// Ends timing and says where the time went, the largest share first. Waits for the device.
    pub fn end_profile(&self) -> Result<Vec<Spent>> {
        self.stream.synchronize().map_err(driver)?;
        lock(&self.profile).take().map_or_else(|| Ok(Vec::new()), profile::Profile::sum)
    }

    /// Runs work of the device under a name that a profile knows it by.
    fn timed<T>(&self, name: impl FnOnce() -> String, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begins()?;
        let started = match lock(&self.profile).as_ref() {
            None => None,
            Some(_) => Some((name(), profile::mark(&self.stream)?)),
        };
        let result = work()?;
        if let Some((name, start)) = started
            && let Some(profile) = lock(&self.profile).as_mut()
        {
            profile.add(name, start, profile::mark(&self.stream)?);
        }
        Ok(result)
    }

    /// Launches a kernel. The caller answers for the arguments: what lies behind each address has the
    /// type and extent that the kernel's comment says.
    #[allow(unsafe_code)]
    pub fn launch(&self, name: &'static str, grid: Grid, args: &[Arg]) -> Result<()> {
        if grid.blocks.0 == 0 || grid.blocks.1 == 0 {
            return Ok(());
        }
        let Some(function) = self.functions.get(name) else { bail!("there is no kernel {name}") };
        let config = LaunchConfig {
            grid_dim: (grid.blocks.0 as u32, grid.blocks.1 as u32, 1),
            block_dim: (grid.threads as u32, 1, 1),
            shared_mem_bytes: grid.shared as u32,
        };
        if grid.shared > 48 << 10 {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, grid.shared as i32).map_err(driver)?;
        }
        *lock(&self.launches).entry(name).or_default() += 1;
        self.timed(
            || name.to_owned(),
            || {
                let mut launch = self.stream.launch_builder(function);
                for arg in args {
                    match arg {
                        Arg::Address(address) => launch.arg(address),
                        Arg::I32(value) => launch.arg(value),
                        Arg::I64(value) => launch.arg(value),
                        Arg::F32(value) => launch.arg(value),
                    };
                }
                // SAFETY: the caller's promise above; the grid fits the limits of every card of
                // capability 8.0 (blocks along y are a row's width in pieces of 2,048 values or more).
                unsafe { launch.launch(config) }.map_err(driver)?;
                Ok(())
            },
        )
    }

    /// A tensor whose values are not set yet.
    #[allow(unsafe_code)]
    pub fn empty(&self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        let count = shape.elem_count();
        // SAFETY: whoever asks for an empty tensor launches the kernel that writes all of it.
        let storage = unsafe {
            match dtype {
                DType::BF16 => self.wrap(self.device.alloc::<bf16>(count)?),
                DType::F32 => self.wrap(self.device.alloc::<f32>(count)?),
                other => bail!("no kernel computes in {other:?}"),
            }
        };
        Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
    }

    fn wrap<T: CudaDType>(&self, slice: CudaSlice<T>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(slice, self.device.clone())
    }

    /// The address of the first value of a contiguous tensor.
    pub fn address(&self, tensor: &Tensor) -> Result<u64> {
        let (storage, layout) = tensor.storage_and_layout();
        if !layout.is_contiguous() {
            bail!("a kernel was given a tensor with gaps: {layout:?}");
        }
        let Storage::Cuda(storage) = &*storage else {
            bail!("a kernel was given a tensor of another device")
        };
        let (address, width) = match tensor.dtype() {
            DType::BF16 => (storage.as_cuda_slice::<bf16>()?.device_ptr(&self.stream).0, 2),
            DType::F32 => (storage.as_cuda_slice::<f32>()?.device_ptr(&self.stream).0, 4),
            other => bail!("no kernel computes in {other:?}"),
        };
        Ok(address + (layout.start_offset() * width) as u64)
    }
}

/// The suffix of a kernel's name for a type.
pub fn pick(dtype: DType, bf16: &'static str, f32: &'static str) -> Result<&'static str> {
    match dtype {
        DType::BF16 => Ok(bf16),
        DType::F32 => Ok(f32),
        other => bail!("no kernel computes in {other:?}"),
    }
}

/// Values of a type that fit one access of a thread, 16 bytes.
pub fn vector(dtype: DType) -> usize {
    16 / dtype.size_in_bytes()
}

/// Threads of a block that walks over `vectors` vectors, about two each.
pub fn threads(vectors: usize) -> usize {
    vectors.div_ceil(2).next_multiple_of(32).clamp(32, 512)
}
