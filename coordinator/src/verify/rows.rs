//! Vectors: finite, of norm 1, equal to the vector of an empty item, equal to each other.

use std::io::Read;
use std::sync::mpsc::{Receiver, channel};

use shared::cores::{cores, in_turns};
use shared::npz::{self, Element, MemberReader, NpzError};
use shared::part::{NORM_TOLERANCE, NORM_TOLERANCE_F16};

use super::duplicates::{Duplicates, hash_row};
use super::report::Rows;

/// Bytes of rows that are checked at a time: what stays in a core's cache, and enough to pay for handing it over.
const CHUNK: usize = 1 << 19;
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

    /// Reads the vectors of a file whose first row is `first_row`. One thread reads and sums, the others check
    /// chunks in turns, and this one takes what they found in the same turns. `null` is the vector of an empty
    /// item.
    pub(super) fn read<R: Read + Send>(
        &mut self,
        member: MemberReader<'_, R>,
        first_row: u64,
        null: Option<&[f32]>,
    ) -> Result<(), NpzError> {
        let form = Form {
            row_bytes: member.header().row_bytes().max(1) as usize,
            half: member.header().element == Element::F16,
            null,
        };
        let mut next_row = first_row;
        let (give_back, used) = channel();
        in_turns(
            // Reading takes about as long as checking does on one core.
            cores().saturating_sub(1),
            move |give| read_chunks(member, form.row_bytes, &used, give),
            |chunk: Vec<u8>| (form.check(&chunk), chunk),
            |(found, chunk)| {
                next_row = self.take(next_row, &found);
                // The reader may be through.
                let _ = give_back.send(chunk);
                true
            },
        )
    }

    /// Takes what the next chunk showed. Returns the first row after it.
    fn take(&mut self, first_row: u64, found: &Found) -> u64 {
        let rows = |within: &[usize]| within.iter().map(|row| first_row + *row as u64).collect::<Vec<u64>>();
        for row in rows(&found.not_finite) {
            self.not_finite.push(row);
        }
        for row in rows(&found.not_unit) {
            self.not_unit.push(row);
        }
        self.null.extend(rows(&found.null));
        if (found.worst_norm - 1.0).abs() > (self.worst_norm - 1.0).abs() {
            self.worst_norm = found.worst_norm;
        }
        (first_row..).zip(&found.hashes).for_each(|(row, hash)| self.duplicates.add(*hash, row));
        first_row + found.hashes.len() as u64
    }
}

/// Reads chunks of whole rows, and checks the sum of all at the end.
fn read_chunks<R: Read>(
    mut member: MemberReader<'_, R>,
    row_bytes: usize,
    used: &Receiver<Vec<u8>>,
    give: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), NpzError> {
    let size = (CHUNK / row_bytes).max(1) * row_bytes;
    loop {
        let mut chunk = used.try_recv().unwrap_or_default();
        chunk.resize(size, 0);
        let count = member.read_rows(&mut chunk)?;
        chunk.truncate(count);
        if count == 0 || !give(chunk) {
            return member.finish();
        }
    }
}

/// What rows look like, and the vector they are compared with.
#[derive(Clone, Copy)]
struct Form<'a> {
    row_bytes: usize,
    half: bool,
    null: Option<&'a [f32]>,
}

/// What a chunk of rows showed, by their number in it.
struct Found {
    hashes: Vec<u128>,
    not_finite: Vec<usize>,
    not_unit: Vec<usize>,
    worst_norm: f64,
    null: Vec<usize>,
}

impl Form<'_> {
    fn check(&self, chunk: &[u8]) -> Found {
        let mut found = Found {
            hashes: Vec::with_capacity(chunk.len() / self.row_bytes),
            not_finite: Vec::new(),
            not_unit: Vec::new(),
            worst_norm: 1.0,
            null: Vec::new(),
        };
        for (row, vector) in chunk.chunks_exact(self.row_bytes).enumerate() {
            let (norm, tolerance) = if self.half {
                (npz::norm_f16(vector), NORM_TOLERANCE_F16)
            } else {
                (npz::norm(vector), NORM_TOLERANCE)
            };
            if !norm.is_finite() {
                found.not_finite.push(row);
            } else if (norm - 1.0).abs() > tolerance {
                found.not_unit.push(row);
                if (norm - 1.0).abs() > (found.worst_norm - 1.0).abs() {
                    found.worst_norm = norm;
                }
            }
            if self.null.is_some_and(|null| equals(vector, self.half, null)) {
                found.null.push(row);
            }
            found.hashes.push(hash_row(vector));
        }
        found
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
        && vector
            .as_chunks()
            .0
            .iter()
            .zip(null)
            .all(|(bytes, right)| (f32::from_le_bytes(*bytes) - right).abs() <= NULL_TOLERANCE)
}
