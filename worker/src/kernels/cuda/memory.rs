//! The device's memory: kept by this process once it was used, and counted.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaSlice, CudaStream, result, sys};

use super::{Gpu, driver, lock};

/// Memory given back stays with this process: taking it again costs nothing.
#[allow(unsafe_code)]
pub fn keep_freed_memory(context: &Arc<CudaContext>) -> Result<()> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    // SAFETY: the pool is the device's own and lives as long as it; the attribute takes a `u64`.
    unsafe {
        result::mem_pool::set_attribute(
            pool(context)?,
            sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
        .map_err(driver)
    }
}

/// The pool that all memory of a device comes from.
#[allow(unsafe_code)]
fn pool(context: &CudaContext) -> Result<sys::CUmemoryPool> {
    // SAFETY: asks for a handle; the pool is the device's own and lives as long as it.
    unsafe { result::device::get_default_mem_pool(context.cu_device()) }.map_err(driver)
}

/// Gives memory that was freed, and kept, back to the card. Waits for the device.
#[allow(unsafe_code)]
pub fn release_freed_memory(stream: &CudaStream) -> Result<()> {
    stream.synchronize().map_err(driver)?;
    let context = stream.context();
    context.bind_to_thread().map_err(driver)?;
    // SAFETY: the pool is the device's own.
    unsafe { result::mem_pool::trim_to(pool(context)?, 0).map_err(driver) }
}

impl Gpu {
    /// Bytes of the card, and bytes in use by whomever, this process's reserves included.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) = self.stream().context().mem_get_info().map_err(driver)?;
        Ok((total as u64, (total - free) as u64))
    }

    /// Gives memory that was freed, and kept, back to the card. Waits for the device.
    pub fn release_freed_memory(&self) -> Result<()> {
        release_freed_memory(self.stream())
    }

    /// Bytes this handle of the card may use: those of the card, or fewer where [`Self::allow`] says so.
    pub fn memory_allowed(&self) -> Result<u64> {
        let (total, _) = self.memory()?;
        Ok(lock(&self.memory).bytes.unwrap_or(total).min(total))
    }

    /// Says how many bytes this handle may use: budgets follow that.
    pub fn allow(&self, bytes: u64) {
        lock(&self.memory).bytes = Some(bytes);
    }

    /// Holds so much of the card that no more than `limit` bytes are left for everything else.
    #[allow(unsafe_code)]
    pub fn limit_memory(&self, limit: u64) -> Result<()> {
        let (total, _) = self.memory()?;
        let size = total.saturating_sub(limit) as usize;
        lock(&self.memory).held = None;
        if size > 0 {
            // SAFETY: the memory is never touched.
            let held = unsafe { self.stream().alloc::<u8>(size) }.map_err(driver)?;
            lock(&self.memory).held = Some(held);
        }
        Ok(())
    }

    /// The most bytes that tensors took at once, what [`Self::limit_memory`] holds left out.
    #[allow(unsafe_code)]
    pub fn peak_memory(&self) -> Result<u64> {
        let context = self.stream().context();
        let mut peak = 0u64;
        // SAFETY: the pool is the device's own; the attribute is a `u64`.
        unsafe {
            let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
            result::mem_pool::get_attribute(pool(context)?, attribute, (&raw mut peak).cast())
                .map_err(driver)?;
        }
        let held = lock(&self.memory).held.as_ref().map_or(0, |held| held.len() as u64);
        Ok(peak - held)
    }
}

/// What a handle may use, and what it holds so that it cannot use more.
#[derive(Default)]
pub struct Allowance {
    bytes: Option<u64>,
    held: Option<CudaSlice<u8>>,
}
