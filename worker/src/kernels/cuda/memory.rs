//! The device's memory: kept by this process once it was used, and counted.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaSlice, result, sys};

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
        let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(driver)?;
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
        .map_err(driver)
    }
}

impl Gpu {
    /// Bytes of the card, and bytes in use by whomever, this process's reserves included.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) = self.stream().context().mem_get_info().map_err(driver)?;
        Ok((total as u64, (total - free) as u64))
    }

    /// Gives memory that was freed, and kept, back to the card. Waits for the device.
    #[allow(unsafe_code)]
    pub fn release_freed_memory(&self) -> Result<()> {
        self.stream().synchronize().map_err(driver)?;
        let context = self.stream().context();
        // SAFETY: the pool is the device's own.
        unsafe {
            let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(driver)?;
            result::mem_pool::trim_to(pool, 0).map_err(driver)
        }
    }

    /// Bytes this process may use: those of the card, or fewer where [`Self::limit_memory`] says so.
    pub fn memory_allowed(&self) -> Result<u64> {
        let (total, _) = self.memory()?;
        let limit = lock(&self.ballast).as_ref().map(|ballast| ballast.limit);
        Ok(limit.unwrap_or(total).min(total))
    }

    /// Takes memory away, so that no more than `limit` bytes of the card are left for this process.
    #[allow(unsafe_code)]
    pub fn limit_memory(&self, limit: u64) -> Result<()> {
        let (total, _) = self.memory()?;
        let size = total.saturating_sub(limit) as usize;
        let mut ballast = lock(&self.ballast);
        *ballast = None;
        if size > 0 {
            // SAFETY: the memory is never touched.
            let held = unsafe { self.stream().alloc::<u8>(size) }.map_err(driver)?;
            *ballast = Some(Ballast { limit, held });
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
            let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(driver)?;
            let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
            result::mem_pool::get_attribute(pool, attribute, (&raw mut peak).cast()).map_err(driver)?;
        }
        let held = lock(&self.ballast).as_ref().map_or(0, |ballast| ballast.held.len() as u64);
        Ok(peak - held)
    }
}

/// Memory that is held and not used.
pub struct Ballast {
    limit: u64,
    held: CudaSlice<u8>,
}
