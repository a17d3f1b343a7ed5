//! Deflate on all cores: blocks that are compressed alone and lie one after the other as one valid stream.
//!
//! Each block but the last ends with an empty stored one at a byte (RFC 1951, 3.2.4), as pigz does it. Blocks
//! have a fixed size, so that the bytes are the same whatever the number of cores
//! ([`crate::laws::Law::SameBytesAgain`]).

use std::io::{self, Read};

use flate2::{Compress, Compression, FlushCompress, Status};

use super::Crc;
use crate::cores::{cores, in_turns};

/// Bytes of a block: what it loses by not seeing the block before is far below a percent.
const BLOCK: usize = 1 << 20;

/// What passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deflated {
    /// CRC-32 of the bytes read.
    pub(super) crc: u32,
    /// Bytes of the stream.
    pub(super) compressed: u64,
}

/// Bytes of a block, and whether it is the last.
struct Block {
    bytes: Vec<u8>,
    is_last: bool,
}

/// Deflates `size` bytes of `source` into `write`, a piece at a time and in order.
pub(super) fn deflate(
    source: &mut (impl Read + Send),
    size: u64,
    write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Deflated> {
    deflate_with(cores(), source, size, write)
}

fn deflate_with(
    threads: usize,
    source: &mut (impl Read + Send),
    size: u64,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Deflated> {
    let mut compressed = 0;
    let mut written = Ok(());
    let crc = in_turns(
        threads,
        |give| read_blocks(source, size, give),
        compress,
        |stream| {
            written = stream.and_then(|stream| {
                compressed += stream.len() as u64;
                write(&stream)
            });
            written.is_ok()
        },
    );
    // What ended the writing is the cause; the reader then only found that nobody took its blocks.
    written?;
    Ok(Deflated { crc: crc?, compressed })
}

/// Reads and sums the blocks.
fn read_blocks(source: &mut impl Read, size: u64, give: &mut dyn FnMut(Block) -> bool) -> io::Result<u32> {
    let (mut crc, mut left) = (Crc::new(), size);
    loop {
        let mut bytes = vec![0; left.min(BLOCK as u64) as usize];
        source.read_exact(&mut bytes)?;
        crc.update(&bytes);
        left -= bytes.len() as u64;
        if !give(Block { bytes, is_last: left == 0 }) || left == 0 {
            return Ok(crc.value());
        }
    }
}

/// The stream of one block.
fn compress(block: Block) -> io::Result<Vec<u8>> {
    let flush = if block.is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    let size = block.bytes.len();
    let mut stream = Vec::with_capacity(size + size / 1024 + 64);
    let mut deflater = Compress::new(Compression::default(), false);
    loop {
        let rest = block.bytes.get(deflater.total_in() as usize..).unwrap_or_default();
        let status = deflater.compress_vec(rest, &mut stream, flush)?;
        // Room that is left says that a block was flushed whole.
        let is_flushed = deflater.total_in() == size as u64 && stream.len() < stream.capacity();
        if status == Status::StreamEnd || (is_flushed && !block.is_last) {
            return Ok(stream);
        }
        stream.reserve(BLOCK / 16);
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::DeflateDecoder;

    use super::*;

    /// Text that compresses, then noise that does not.
    fn sample(size: usize) -> Vec<u8> {
        let mut state = 7_u64;
        (0..size)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if at < size / 2 { b"abcabd"[at % 6] } else { (state >> 56) as u8 }
            })
            .collect()
    }

    #[test]
    fn blocks_are_one_stream_and_the_same_for_any_number_of_cores() {
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
            let bytes = sample(size);
            let [one, many] = [1, 7].map(|threads| {
                let mut stream = Vec::new();
                let deflated = deflate_with(threads, &mut bytes.as_slice(), size as u64, |piece| {
                    stream.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
                assert_eq!(deflated, Deflated { crc: Crc::of(&bytes), compressed: stream.len() as u64 });
                stream
            });
            assert_eq!(one, many);
            let mut back = Vec::new();
            let mut decoder = DeflateDecoder::new(one.as_slice());
            decoder.read_to_end(&mut back).unwrap();
            assert_eq!(back, bytes, "{size}");
            assert_eq!(decoder.total_in(), one.len() as u64, "nothing lies behind the end of the stream");
        }
    }

    #[test]
    fn a_source_that_ends_early_and_a_writer_that_fails_are_errors() {
        let bytes = sample(3 * BLOCK);
        let short = deflate(&mut bytes.as_slice(), 4 * BLOCK as u64, |_| Ok(()));
        assert_eq!(short.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let full =
            deflate(&mut bytes.as_slice(), bytes.len() as u64, |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
