//! A batch on the device: launched without waiting, timed by the device's own clock, its answer copied
//! into pinned memory.

use std::sync::Arc;
use std::time::Duration;

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, result};
use candle_core::{DType, Result, Tensor, bail};

use super::{Gpu, driver, lock, profile, staging};

/// Pinned memory for one answer. It stays with the process, and is used again.
pub struct Pinned {
    address: *mut f32,
    size: usize,
}

// SAFETY: plain memory with one owner.
#[allow(unsafe_code)]
unsafe impl Send for Pinned {}

/// When the device began with the batch that is being launched: at its first kernel or product, so that what
/// the host prepares before does not count as work of the device. Gaps between later launches do.
#[derive(Default)]
pub enum Began {
    /// No batch is being launched.
    #[default]
    Idle,
    /// Nothing of the batch has been launched.
    Awaited,
    /// At this mark.
    At(CudaEvent),
}

/// A batch that the device works on.
pub struct Work {
    gpu: Arc<Gpu>,
    start: CudaEvent,
    end: CudaEvent,
    /// Lives until the copy has passed.
    answer: Tensor,
    /// There until it is given back.
    pinned: Option<Pinned>,
}

impl Drop for Work {
    fn drop(&mut self) {
        // The copy may be under way: nobody else may have its memory yet.
        if self.end.synchronize().is_ok()
            && let Some(pinned) = self.pinned.take()
        {
            lock(&self.gpu.answers).push(pinned);
        }
    }
}

impl Gpu {
    /// Launches a batch; one at a time, whatever threads ask. `launch` gives its answer, a matrix of f32.
    pub fn start_batch(self: &Arc<Self>, launch: impl FnOnce() -> Result<Tensor>) -> Result<Work> {
        let _launching = lock(&self.launching);
        self.begin_uploads()?;
        *lock(&self.began) = Began::Awaited;
        let launched = launch();
        // Also after a failure: uploads are under way.
        self.end_uploads()?;
        let answer = launched?.contiguous()?;
        let start = match std::mem::replace(&mut *lock(&self.began), Began::Idle) {
            Began::At(start) => start,
            Began::Idle | Began::Awaited => profile::mark(self.stream())?,
        };
        let pinned = self.pinned(answer.elem_count())?;
        self.copy_to_host(&answer, &pinned)?;
        let end = profile::mark(self.stream())?;
        Ok(Work { gpu: Arc::clone(self), start, end, answer, pinned: Some(pinned) })
    }

    /// Notes that work begins.
    pub(super) fn begins(&self) -> Result<()> {
        let mut began = lock(&self.began);
        if matches!(*began, Began::Awaited) {
            *began = Began::At(profile::mark(self.stream())?);
        }
        Ok(())
    }

    fn pinned(&self, size: usize) -> Result<Pinned> {
        if let Some(pinned) = lock(&self.answers).pop_if(|pinned| pinned.size >= size) {
            return Ok(pinned);
        }
        let size = size.next_power_of_two();
        let address = staging::pinned(size * size_of::<f32>())?;
        Ok(Pinned { address: address.cast(), size })
    }

    #[allow(unsafe_code)]
    fn copy_to_host(&self, answer: &Tensor, pinned: &Pinned) -> Result<()> {
        if answer.dtype() != DType::F32 {
            bail!("an answer is f32");
        }
        let address = self.address(answer)?;
        // SAFETY: the pinned memory has room for the answer and is read after the event of its end.
        unsafe {
            let target = std::slice::from_raw_parts_mut(pinned.address, answer.elem_count());
            result::memcpy_dtoh_async(target, address, self.stream().cu_stream()).map_err(driver)
        }
    }
}

impl Drop for Pinned {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: allocated by `pinned`; a `Work` waits before it lets go.
        let _ = unsafe { result::free_host(self.address.cast()) };
    }
}

impl Work {
    /// Whether the device is through.
    pub fn is_finished(&self) -> bool {
        self.end.is_complete()
    }

    /// Waits for the rows of the answer; with them, how long the device worked.
    #[allow(unsafe_code)]
    pub fn finish(self) -> Result<(Vec<Vec<f32>>, Duration)> {
        self.end.synchronize().map_err(driver)?;
        let (_, columns) = self.answer.dims2()?;
        let Some(pinned) = &self.pinned else { bail!("a batch was finished twice") };
        // SAFETY: the copy has passed, and nothing else writes this memory.
        let values = unsafe { std::slice::from_raw_parts(pinned.address, self.answer.elem_count()) };
        let rows = values.chunks_exact(columns.max(1)).map(<[f32]>::to_vec).collect();
        let milliseconds = self.start.elapsed_ms(&self.end).map_err(driver)?;
        Ok((rows, Duration::from_secs_f64(f64::from(milliseconds) / 1e3)))
    }
}
