//! npz files: directory, tail, headers and members, as streams and as slices.
//!
//! Input: bytes of a file; the first two say how many of its last bytes the tail gets. Holds: a header that is
//! read is written the same; stream, slice and tail agree on every file that they accept; a tail asks for no
//! more than it can use, and then is content.
#![no_main]

use std::io::{Cursor, Seek as _};

use shared::npz::{
    ArrayHeader, DeflatedMember, Directory, MEMBERS, Method, NpzError, NpzReader, Tail, slice_array,
    tail_metadata, write_deflated_member,
};

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let Some((length, file)) = data.split_first_chunk::<2>() else { return };
    if let Ok((header, _)) = ArrayHeader::read(&mut &file[..], "x.npy", 0) {
        let (again, _) = ArrayHeader::read(&mut header.to_bytes().as_slice(), "x.npy", 0).expect("our own header");
        assert_eq!(again, header);
    }
    let total = file.len() as u64;
    let streamed = stream(file);
    let Ok(directory) = Directory::from_tail(file, total) else {
        assert!(streamed.is_err(), "no directory, no members");
        return;
    };
    for position in 0..MEMBERS.len() {
        let sliced = slice_array(file, &directory, position);
        if let (Ok(members), Ok(slice)) = (&streamed, &sliced) {
            assert_eq!(members[position], (slice.header.clone(), file[slice.rows.clone()].to_vec()));
        }
        let stored = directory.entry(position).method == Method::Stored;
        assert!(sliced.is_ok() || streamed.is_err() || !stored, "a stored member that only a stream takes");
    }
    let tail = &file[file.len() - usize::from(u16::from_le_bytes(*length)).min(file.len())..];
    if let Ok(Tail::NeedMore(wanted)) = tail_metadata(tail, total) {
        let wanted = usize::try_from(wanted).expect("a part of the file");
        assert!(tail.len() < wanted && wanted <= file.len());
        let again = tail_metadata(&file[file.len() - wanted..], total);
        assert!(!matches!(again, Ok(Tail::NeedMore(_))), "it got what it asked for");
    }
    let _ = tail_metadata(tail, u64::from_le_bytes([tail.len() as u8; 8]));
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz::mutate::numbers(data, size, max_size, seed)
});

type Member = (ArrayHeader, Vec<u8>);

fn stream(file: &[u8]) -> Result<Vec<Member>, NpzError> {
    let mut reader = NpzReader::open(Cursor::new(file))?;
    let mut members = Vec::new();
    while let Some(mut member) = reader.next_member()? {
        let header = member.header().clone();
        let mut rows = Vec::new();
        // The largest row of the smallest file would hide the leaks of all others.
        let mut row = vec![0; (header.row_bytes() as usize).min(1 << 22)];
        loop {
            let count = member.read_rows(&mut row)?;
            if count == 0 {
                break;
            }
            rows.extend_from_slice(&row[..count]);
            if rows.len() > 1 << 24 {
                break;
            }
        }
        member.finish()?;
        members.push((header, rows));
    }
    Ok(members)
}

fn seeds() -> Vec<Vec<u8>> {
    let part = fuzz::sample::part(&fuzz::sample::plan()).bytes;
    let directory = Directory::from_tail(&part, part.len() as u64).expect("our own part");
    let mut file = Cursor::new(Vec::new());
    let members = [0, 1, 2, 3].map(|position| {
        let slice = slice_array(&part, &directory, position).expect("our own part");
        let member = [slice.header.to_bytes(), part[slice.rows].to_vec()].concat();
        write_deflated_member(&mut file, MEMBERS[position], member.len() as u64, &mut member.as_slice())
            .expect("a file in memory")
    });
    let end = file.stream_position().expect("a file in memory");
    let mut deflated = file.into_inner();
    deflated.extend(DeflatedMember::directory(&members, end));
    let header = slice_array(&part, &directory, 1).expect("our own part").header.to_bytes();
    assert!(stream(&part).is_ok() && stream(&deflated).is_ok());
    [part, deflated, header].map(|file| [&[0, 2], file.as_slice()].concat()).to_vec()
}
