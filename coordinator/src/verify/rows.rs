//! Vectors: finite, of norm 1, equal to the vector of an empty item, equal to each other.

use std::io::Read;
use std::sync::mpsc::sync_channel;

use shared::npz::{self, Element, MemberReader, NpzError};
use shared::part::{NORM_TOLERANCE, NORM_TOLERANCE_F16};

use super::duplicates::{Duplicates, hash_row};
use super::report::Rows;

/// Bytes of rows that are checked at a time.
const CHUNK: u64 = 1 << 20;
/// How far the components of two vectors of the same empty item may be apart in single precision:
/// what law 5 allows between devices.
const NULL_TOLERANCE: f32 = 1e-6;
/// Half precision keeps 11 bits: two roundings of nearly the same number are at most one step apart.
const F16_STEP: f32 = 1.0 / 1024.0;

/// What the vectors of all files showed.
#[derive(Debug)]
pub(super) struct RowChecks {
    pub(super) not_finite: Rows,
    pub(super) not_unit: Rows,
    /// The norm that is furthest from 1.
    pub(super) worst_norm: f64,
    /// Rows equal to the vector of an empty item.
    pub(super) null: Vec<u64>,
    pub(super) duplicates: Duplicates,
}

impl RowChecks {
    pub(super) fn new() -> Self {
        Self {
            not_finite: Rows::default(),
            not_unit: Rows::default(),
            worst_norm: 1.0,
            null: Vec::new(),
            duplicates: Duplicates::new(),
        }
    }

    /// Reads the vectors of a file whose first row is `first_row`. One thread reads and sums, this
    /// one checks. `null` is the vector of an empty item.
    pub(super) fn read<R: Read + Send>(
        &mut self,
        mut member: MemberReader<'_, R>,
        first_row: u64,
        null: Option<&[f32]>,
    ) -> Result<(), NpzError> {
        let row_bytes = member.header().row_bytes().max(1) as usize;
        let half = member.header().element == Element::F16;
        let chunk = (CHUNK as usize / row_bytes).max(1) * row_bytes;
        let mut row = first_row;
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Vec<u8>>(2);
            let (give_back, take_back) = sync_channel::<Vec<u8>>(4);
            let reader = scope.spawn(move || -> Result<(), NpzError> {
                loop {
                    let mut bytes = take_back.try_recv().unwrap_or_default();
                    bytes.resize(chunk, 0);
                    let count = member.read_rows(&mut bytes)?;
                    bytes.truncate(count);
                    if count == 0 || send.send(bytes).is_err() {
                        return member.finish();
                    }
                }
            });
            for bytes in receive {
                for vector in bytes.chunks_exact(row_bytes) {
                    self.check(row, vector, half, null);
                    row += 1;
                }
                let _ = give_back.try_send(bytes);
            }
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn check(&mut self, row: u64, vector: &[u8], half: bool, null: Option<&[f32]>) {
        let (norm, tolerance) = if half {
            (npz::norm_f16(vector), NORM_TOLERANCE_F16)
        } else {
            (npz::norm(vector), NORM_TOLERANCE)
        };
        if !norm.is_finite() {
            self.not_finite.push(row);
        } else if (norm - 1.0).abs() > tolerance {
            self.not_unit.push(row);
            if (norm - 1.0).abs() > (self.worst_norm - 1.0).abs() {
                self.worst_norm = norm;
            }
        }
        if null.is_some_and(|null| equals(vector, half, null)) {
            self.null.push(row);
        }
        self.duplicates.add(hash_row(vector), row);
    }
}

/// Whether a row is the vector of an empty item, up to its last bits. Ends at the first component
/// that is not.
fn equals(vector: &[u8], half: bool, null: &[f32]) -> bool {
    if half {
        let row = npz::f16_vector(vector);
        return row.len() == null.len()
            && row
                .iter()
                .zip(null)
                .all(|(left, right)| (left - right).abs() <= right.abs() * F16_STEP + NULL_TOLERANCE);
    }
    vector.len() == null.len() * 4
        && vector.chunks_exact(4).zip(null).all(|(bytes, right)| {
            let left = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            (left - right).abs() <= NULL_TOLERANCE
        })
}
