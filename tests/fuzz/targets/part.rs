//! Parts against plan and shard: every byte, and the tail alone.
//!
//! Input: four pieces behind their lengths (16 bits each): the member arrays, from which an npz with right
//! checksums is made under the name that is its digest. Holds: an accepted part keeps what the validator
//! promises (ids of the shard, norms, counts, every item accounted for), and the tail accepts it too.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use fuzz::sample::{self, FIRST, IDS};
use shared::ids::{ContentName, Sha16, ShardId};
use shared::npz::{self, ArrayHeader, Directory, MEMBERS, Tail, slice_array};
use shared::part::{NORM_TOLERANCE, PartExpectation, ValidPart, validate_part, validate_tail};
use shared::plan::{Plan, ShardRecord};

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
    for member in &mut members {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        (*member, data) = (bytes.to_vec(), rest);
    }
    if let Ok(text) = std::str::from_utf8(&members[3]) {
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
        seed.extend((bytes.len() as u16).to_le_bytes());
        seed.extend(bytes);
    }
    assert_eq!(npz_of(&seed).as_ref(), Some(&part.bytes), "the seed is our own part");
    let expectation = PartExpectation { plan: &PLAN, shard: &SHARD, first_index: FIRST };
    validate_part(&part.name.part(), part.bytes.into(), expectation).expect("our own part");
    vec![seed]
}
