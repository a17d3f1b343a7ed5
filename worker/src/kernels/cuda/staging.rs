//! From the host to the device without waiting: values are copied into pinned memory, and the device
//! fetches them from there when its stream gets to it.
//!
//! Batches take turns with two sets of pinned memory: before a set is used again, its last fetch must
//! have passed.

use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DevicePtr as _, DeviceRepr, result,
};
use candle_core::{Error, Result};

use super::{Gpu, driver, lock, profile};

/// A piece of pinned memory.
struct Chunk {
    address: *mut u8,
    size: usize,
    used: usize,
}

// SAFETY: plain memory, used behind a lock.
#[allow(unsafe_code)]
unsafe impl Send for Chunk {}

/// What one batch uploads from.
#[derive(Default)]
struct Turn {
    chunks: Vec<Chunk>,
    fetched: Option<CudaEvent>,
}

/// The staging memory of a device.
#[derive(Default)]
pub struct Staging {
    turns: [Turn; 2],
    turn: usize,
}

/// Each upload starts at a multiple of this.
const ALIGNMENT: usize = 256;
/// Pinned memory is taken in multiples of this.
const STEP: usize = 16 << 20;

/// Pinned memory of the host. Where it runs out, no smaller batch on the device helps.
#[allow(unsafe_code)]
pub fn pinned(size: usize) -> Result<*mut std::ffi::c_void> {
    // SAFETY: the caller frees it once, when nothing copies from or to it.
    unsafe { result::malloc_host(size, 0) }
        .map_err(|_| Error::Msg(format!("this machine gives no {size} bytes of pinned memory")))
}

impl Chunk {
    fn new(size: usize) -> Result<Self> {
        let address = pinned(size)?;
        Ok(Self { address: address.cast(), size, used: 0 })
    }
}

impl Drop for Chunk {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; whoever drops a chunk has waited for its last fetch.
        let _ = unsafe { result::free_host(self.address.cast()) };
    }
}

impl Turn {
    /// Waits for the last fetch, and makes one chunk of what was several.
    fn begin(&mut self, stream: &CudaStream) -> Result<()> {
        let used = self.chunks.iter().any(|chunk| chunk.used > 0);
        match self.fetched.take() {
            Some(event) => event.synchronize().map_err(driver)?,
            // Uploads that no batch has ended: outside of one, or of one that panicked.
            None if used => stream.synchronize().map_err(driver)?,
            None => {}
        }
        if self.chunks.len() > 1 {
            let size = self.chunks.iter().map(|chunk| chunk.size).sum();
            self.chunks.clear();
            self.chunks.push(Chunk::new(size)?);
        }
        for chunk in &mut self.chunks {
            chunk.used = 0;
        }
        Ok(())
    }

    /// A place for so many bytes.
    #[allow(unsafe_code)]
    fn place(&mut self, bytes: usize) -> Result<*mut u8> {
        let full = self.chunks.last().is_none_or(|chunk| chunk.size - chunk.used < bytes);
        if full {
            self.chunks.push(Chunk::new(bytes.next_multiple_of(STEP))?);
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        // SAFETY: within the chunk, by the check above.
        let place = unsafe { chunk.address.add(chunk.used) };
        chunk.used = (chunk.used + bytes).next_multiple_of(ALIGNMENT).min(chunk.size);
        Ok(place)
    }
}

impl Gpu {
    /// Begins the uploads of a batch.
    pub fn begin_uploads(&self) -> Result<()> {
        self.stream().context().bind_to_thread().map_err(driver)?;
        let mut staging = lock(&self.staging);
        staging.turn = 1 - staging.turn;
        let turn = staging.turn;
        staging.turns[turn].begin(self.stream())
    }

    /// Ends the uploads of a batch.
    pub fn end_uploads(&self) -> Result<()> {
        let mut staging = lock(&self.staging);
        let turn = staging.turn;
        staging.turns[turn].fetched = Some(profile::mark(self.stream())?);
        Ok(())
    }

    /// Values on the device, for work that is launched from now on. Uploads outside a batch are waited for
    /// by the next batch but one.
    #[allow(unsafe_code)]
    pub fn upload<T: DeviceRepr + Copy>(&self, values: &[T]) -> Result<CudaSlice<T>> {
        self.stream().context().bind_to_thread().map_err(driver)?;
        // SAFETY: all of it is written by the copy below before any later work reads it.
        let slice = unsafe { self.stream().alloc::<T>(values.len()) }.map_err(driver)?;
        let bytes = std::mem::size_of_val(values);
        if bytes > 0 {
            let mut staging = lock(&self.staging);
            let turn = staging.turn;
            // An event before this upload says nothing of it.
            staging.turns[turn].fetched = None;
            let place = staging.turns[turn].place(bytes)?;
            let (address, _) = slice.device_ptr(self.stream());
            // SAFETY: the source is `bytes` long, so is the place, and it is not written again before
            // the event after its last fetch has passed.
            unsafe {
                std::ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), place, bytes);
                let staged = std::slice::from_raw_parts(place, bytes);
                result::memcpy_htod_async(address, staged, self.stream().cu_stream()).map_err(driver)?;
            }
        }
        Ok(slice)
    }
}
