//! Equal things among very many, by hashes of 128 bits: 20 bytes each and a quarter more while they
//! are collected ([`shared::laws::Law::MemoryIsBounded`]).

use super::report::Rows;

/// Hash and row, packed without padding.
type Entry = [u32; 5];

/// The most groups of equal rows that are kept, and rows of a group.
const SHOWN: usize = 1000;

/// Hashes with the rows they belong to.
#[derive(Debug)]
pub(super) struct Duplicates {
    /// By the first byte of the hash, so that each vector grows and is sorted in small steps.
    buckets: Vec<Vec<Entry>>,
}

/// Rows that are equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Groups {
    /// How many groups there are.
    pub(super) count: u64,
    /// How many rows are in them.
    rows: u64,
    /// The first groups, each with its first rows, in order.
    shown: Vec<Vec<u64>>,
}

impl Duplicates {
    pub(super) fn new() -> Self {
        Self { buckets: vec![Vec::new(); 256] }
    }

    /// Adds a row. Rows from 2^32 on are not told apart from the last one that is.
    pub(super) fn add(&mut self, hash: u128, row: u64) {
        let bucket = &mut self.buckets[(hash >> 120) as usize];
        if bucket.len() == bucket.capacity() {
            bucket.reserve_exact(bucket.len() / 4 + 16);
        }
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        bucket.push([(hash >> 96) as u32, (hash >> 64) as u32, (hash >> 32) as u32, hash as u32, row]);
    }

    /// The groups of equal hashes. Takes no more memory than the hashes.
    pub(super) fn groups(mut self) -> Groups {
        let mut groups = Groups::default();
        for bucket in &mut self.buckets {
            // The row is last in the entry, so that the rows of a group come out in order.
            bucket.sort_unstable();
            for equal in
                bucket.chunk_by(|left, right| left[..4] == right[..4]).filter(|equal| equal.len() > 1)
            {
                groups.count += 1;
                groups.rows += equal.len() as u64;
                groups.shown.push(equal.iter().take(SHOWN).map(|entry| u64::from(entry[4])).collect());
                if groups.shown.len() == 2 * SHOWN {
                    groups.shorten();
                }
            }
            *bucket = Vec::new();
        }
        groups.shorten();
        groups
    }
}

impl Groups {
    /// Keeps the groups that begin first.
    fn shorten(&mut self) {
        self.shown.sort();
        self.shown.truncate(SHOWN);
    }

    /// The rows of all groups; of very many, the first.
    pub(super) fn rows(&self) -> Rows {
        let mut shown: Vec<u64> = self.shown.iter().flatten().copied().collect();
        shown.sort_unstable();
        Rows { count: self.rows, ..shown.into_iter().collect() }
    }

    /// The groups for a person: `rows 3 = 9; rows 4 = 8 = 11`.
    pub(super) fn describe(&self) -> String {
        let group = |rows: &Vec<u64>| {
            let rows: Vec<String> = rows.iter().take(10).map(u64::to_string).collect();
            format!("rows {}", rows.join(" = "))
        };
        let mut shown: Vec<String> = self.shown.iter().take(10).map(group).collect();
        if self.count > 10 {
            shown.push("...".to_owned());
        }
        shown.join("; ")
    }
}

/// A hash of a vector's bytes: fast, and good enough for what is only reported. Four lanes of folded
/// multiplication (the step of wyhash), each over a quarter of the words, so that four multiplications are
/// under way at once.
pub(super) fn hash_row(bytes: &[u8]) -> u128 {
    const KEYS: [u64; 4] =
        [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];
    let mut lanes = [KEYS[0] ^ bytes.len() as u64, KEYS[1], KEYS[2], KEYS[3]];
    let mut add = |block: &[u8; 64]| {
        let words = block.as_chunks().0;
        for (at, lane) in lanes.iter_mut().enumerate() {
            let (left, right) = (u64::from_le_bytes(words[2 * at]), u64::from_le_bytes(words[2 * at + 1]));
            *lane = fold(*lane ^ left, KEYS[at] ^ right);
        }
    };
    let (blocks, rest) = bytes.as_chunks();
    blocks.iter().for_each(&mut add);
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    add(&last);
    let [first, second] =
        [fold(lanes[0] ^ KEYS[3], lanes[1] ^ KEYS[2]), fold(lanes[2] ^ KEYS[1], lanes[3] ^ KEYS[0])];
    u128::from(fold(first ^ KEYS[0], second ^ KEYS[1])) << 64
        | u128::from(fold(first ^ KEYS[2], second ^ KEYS[3]))
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_grouped_in_order() {
        let mut duplicates = Duplicates::new();
        for row in 0..1000_u64 {
            let value = if row % 100 == 7 { 7 } else { row };
            duplicates.add(hash_row(&value.to_le_bytes()), row);
        }
        let groups = duplicates.groups();
        assert_eq!((groups.count, groups.rows), (1, 10));
        assert_eq!(groups.shown, [[7, 107, 207, 307, 407, 507, 607, 707, 807, 907]]);
        assert!(groups.describe().starts_with("rows 7 = 107"));
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let row = vec![1_u8; 70];
        let hash = hash_row(&row);
        for at in 0..row.len() {
            let mut other = row.clone();
            other[at] = 2;
            assert_ne!(hash_row(&other), hash, "{at}");
        }
        assert_ne!(hash_row(&[0; 31]), hash_row(&[0; 32]));
    }
}
