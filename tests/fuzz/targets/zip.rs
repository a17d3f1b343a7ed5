//! Image zips: the central directory, names in their encodings, and entries.
//!
//! Input: a zip. Holds: every listed entry is within the limit of an image, is found under its own path, and is
//! read with the size it was listed with, or refused.
#![no_main]

use std::io::{Cursor, Write as _};

use fuzz::corpus::Scratch;
use shared::images::LARGEST_IMAGE;
use shared::images::path::normalise;
use shared::images::zip::Zip;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

static FILE: Scratch = Scratch::new();

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    FILE.with(data, |path| {
        let Ok((zip, index)) = Zip::open(path) else { return };
        assert!(index.len() <= data.len() / 46, "an entry takes 46 bytes of the directory");
        for at in 0..index.len() as u32 {
            let path = index.path(at);
            assert_eq!(path, normalise(path), "paths are listed as they are compared");
            assert!(index.exact(path).is_some());
            assert!(!index.folded(path).is_empty());
            let size = index.size(at);
            assert!(size <= LARGEST_IMAGE);
            if let Ok(bytes) = zip.read(path, index.locator(at), size) {
                assert_eq!(bytes.len() as u64, size);
            }
        }
    });
});

fn seeds() -> Vec<Vec<u8>> {
    let write = |method, wide: bool, comment: &str| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method).large_file(wide);
        zip.add_directory("top", options).expect("a folder");
        for name in ["top/a.png", "top/그림.png", "top/A.png", "20170311/b\\c.png"] {
            zip.start_file(name, options).expect("an entry");
            zip.write_all(&[b'x'; 100]).expect("its bytes");
        }
        zip.set_comment(comment).expect("a short comment");
        zip.finish().expect("a zip").into_inner()
    };
    let stored = write(CompressionMethod::Stored, false, "");
    // Names without the UTF-8 flag, in CP949 and in CP437.
    let mut other_names = stored.clone();
    for at in 0..other_names.len() - 10 {
        match &other_names[at..at + 4] {
            b"PK\x01\x02" => other_names[at + 9] &= !0x08,
            b"PK\x03\x04" => other_names[at + 7] &= !0x08,
            _ => {}
        }
    }
    let shifted = [b"#!/bin/sh\n".as_slice(), &stored].concat();
    let deflated = write(CompressionMethod::Deflated, false, "a comment");
    let seeds = vec![stored, other_names, shifted, deflated, write(CompressionMethod::Deflated, true, "")];
    seeds.iter().for_each(|seed| FILE.with(seed, check_seed));
    seeds
}

/// A seed that is refused would lead nowhere.
fn check_seed(path: &std::path::Path) {
    let (zip, index) = Zip::open(path).expect("a zip of ours");
    assert_eq!(index.len(), 4);
    for at in 0..4 {
        zip.read(index.path(at), index.locator(at), index.size(at)).expect("an entry of ours");
    }
}
