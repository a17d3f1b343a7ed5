//! Buffers of whole parts that are used again: freshly mapped pages for each part of a run take longer to
//! make than to fill, and allocators keep what several threads have freed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that nobody uses at the moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer, with the room of one that was given back where there is one.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// The filled buffer as shared bytes; it comes back once the last of them is dropped.
    pub(super) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.home.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_go() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"a part");
        let address = buffer.as_ptr();
        let bytes = buffers.lend(buffer);
        let slice = bytes.slice(2..);
        drop(bytes);
        assert_eq!(buffers.take().capacity(), 0, "somebody still reads it");
        assert_eq!(slice, "part");
        drop(slice);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }
}
