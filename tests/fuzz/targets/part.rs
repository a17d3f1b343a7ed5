//! Parts against plan and shard: every byte, and the tail alone.
//!
//! Input: three member arrays behind their lengths (16 bits each) and the text of the metadata, from which an npz
//! with right checksums is made under the name that is its digest. Holds: an accepted part keeps what the validator
//! promises (ids of the shard, norms, counts, every item accounted for), and the tail accepts it too.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use fuzz::sample::{self, FIRST, IDS};
use shared::ids::{ContentName, Sha16, ShardId};
use shared::npz::{self, ArrayHeader, Directory, MEMBERS, Tail, slice_array};
use shared::part::{NORM_TOLERANCE, PartExpectation, ValidPart, validate_part, validate_tail};
use shared::plan::{Plan, ShardRecord};

/// Bytes of a short npy header.
const HEADER: usize = 128;

static PLAN: LazyLock<Plan> = LazyLock::new(sample::plan);
static SHARD: LazyLock<ShardRecord> = LazyLock::new(|| sample::record(6));

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let Some(bytes) = npz_of(data) else { return };
    let name = ContentName { shard: ShardId(6), sha: Sha16::of(&bytes) }.part();
    let expectation = PartExpectation { plan: &PLAN, shard: &SHARD, first_index: FIRST };
    let tail = validate_tail(&name, bytes.len() as u64, &bytes, expectation);
    assert!(!matches!(tail, Ok(Tail::NeedMore(_))), "it has every byte");
    let Ok(part) = validate_part(&name, Bytes::from(bytes), expectation) else { return };
    check(&part);
    let Ok(Tail::Complete(summary)) = tail else { panic!("a valid part with a tail that is not: {tail:?}") };
    assert_eq!((summary.metadata, summary.id_width), (part.metadata, part.id_width));
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 4 {
        0 => {
            value(data, size, seed >> 2).unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
        }
        _ => fuzz::mutate::numbers(data, size, max_size, seed),
    }
});

/// Replaces one value of the vectors or the image counts, and nothing of the headers before them.
fn value(data: &mut [u8], size: usize, seed: u32) -> Option<usize> {
    const VALUES: [[u8; 4]; 10] = [
        0_f32.to_le_bytes(),
        (-0.0_f32).to_le_bytes(),
        0.5_f32.to_le_bytes(),
        0.6_f32.to_le_bytes(),
        (-0.8_f32).to_le_bytes(),
        1_f32.to_le_bytes(),
        f32::NAN.to_le_bytes(),
        f32::INFINITY.to_le_bytes(),
        1_i32.to_le_bytes(),
        (-1_i32).to_le_bytes(),
    ];
    let length = |at: usize| Some(usize::from(u16::from_le_bytes([*data.get(at)?, *data.get(at + 1)?])));
    let second = 2 + length(0)?;
    let third = second + 2 + length(second)?;
    let start = if seed % 2 == 0 { second } else { third };
    let (seed, rows) = (seed as usize / 2, start + 2 + HEADER..start + 2 + length(start)?);
    let places = rows.len() / 4;
    let at = rows.start + 4 * (seed / VALUES.len()).checked_rem(places)?;
    if at + 4 > size {
        return None;
    }
    data[at..at + 4].copy_from_slice(&VALUES[seed % VALUES.len()]);
    Some(size)
}

fn check(part: &ValidPart) {
    let failures = part.metadata.failures.as_deref().unwrap_or_default();
    assert_eq!(part.rows() + failures.len(), IDS.len(), "every item is accounted for");
    let mut with_image = 0;
    for (index, id) in (FIRST..).zip(IDS) {
        let Some(row) = part.row_of(index, FIRST) else {
            assert!(failures.iter().any(|failure| failure.index == index && failure.id == id));
            continue;
        };
        assert_eq!(part.id(row), id);
        let vector = part.vector(row);
        assert_eq!(vector.len(), 4);
        let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!((norm - 1.0).abs() <= NORM_TOLERANCE, "{norm}");
        assert!(part.image_count(row) >= 0);
        with_image += u64::from(part.image_count(row) > 0);
    }
    assert_eq!(part.metadata.with_image, with_image);
}

/// The four members as an npz. The metadata is given as text, whose header follows from it.
fn npz_of(mut data: &[u8]) -> Option<Vec<u8>> {
    let mut members = [const { Vec::new() }; 4];
    for member in &mut members[..3] {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        (*member, data) = (bytes.to_vec(), rest);
    }
    members[3] = data.to_vec();
    if let Ok(text) = std::str::from_utf8(data) {
        let width = npz::text_width(text);
        let mut row = ArrayHeader::vector(npz::Element::Text { width }, 1).to_bytes();
        npz::encode_text(text, width, &mut row);
        members[3] = row;
    }
    let pieces = members.each_ref().map(|bytes| [bytes.as_slice()]);
    let named: Vec<(&str, &[&[u8]])> =
        MEMBERS.iter().zip(&pieces).map(|(name, pieces)| (*name, pieces.as_slice())).collect();
    Some(npz::write_stored(&named))
}

fn seeds() -> Vec<Vec<u8>> {
    let part = sample::part(&PLAN);
    let directory = Directory::from_tail(&part.bytes, part.bytes.len() as u64).expect("our own part");
    let mut seed = Vec::new();
    for position in 0..4 {
        let slice = slice_array(&part.bytes, &directory, position).expect("our own part");
        let bytes = match position {
            3 => serde_json::to_vec(&part.metadata).expect("metadata can be written"),
            _ => [slice.header.to_bytes(), part.bytes[slice.rows].to_vec()].concat(),
        };
        if position < 3 {
            seed.extend((bytes.len() as u16).to_le_bytes());
        }
        seed.extend(bytes);
    }
    assert_eq!(npz_of(&seed).as_ref(), Some(&part.bytes), "the seed is our own part");
    let expectation = PartExpectation { plan: &PLAN, shard: &SHARD, first_index: FIRST };
    validate_part(&part.name.part(), part.bytes.into(), expectation).expect("our own part");
    vec![seed]
}
