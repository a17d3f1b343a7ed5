//! Bundles: a tar of `items.jsonl` and images.
//!
//! Input: a byte that says what follows: a tar; a tar whose header checksums are repaired; or `items.jsonl` and
//! images with a NUL between each, of which a tar is made. Holds: a bundle that is read can be built again
//! from what it gave, and then reads the same.
#![no_main]

use bytes::Bytes;
use shared::bundle::{Bundle, BundleBuilder};

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let mut tar = rest.to_vec();
    match kind % 3 {
        0 => {}
        1 => fuzz::repair::tar(&mut tar),
        _ => tar = tar_of(rest),
    }
    let Ok(bundle) = Bundle::read(tar.into()) else { return };
    let mut builder = BundleBuilder::new();
    let mut images = Vec::new();
    while let Some(image) = bundle.image(&format!("images/{}", images.len())) {
        builder.add_image(Bytes::copy_from_slice(image));
        images.push(image);
    }
    for (item, index) in bundle.items().iter().zip(bundle.items().first().map_or(0, |item| item.index)..=u64::MAX) {
        assert_eq!(item.index, index, "indexes follow each other");
        assert!(!item.id.is_empty() && !item.id.contains('\0'));
        assert!(item.images.iter().all(|image| bundle.image(&image.entry).is_some()));
        builder.add_item(item.clone());
    }
    let (bytes, _) = builder.finish().expect("a bundle in memory");
    let again = Bundle::read(bytes.into()).expect("what was read can be built");
    assert_eq!(again.items(), bundle.items());
    for (number, image) in images.into_iter().enumerate() {
        assert_eq!(again.image(&format!("images/{number}")), Some(image));
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz::mutate::numbers(data, size, max_size, seed)
});

/// A tar of entries in their order.
fn tar_of(entries: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (number, bytes) in entries.splitn(6, |byte| *byte == 0).enumerate() {
        let name = match number {
            0 => "items.jsonl".to_owned(),
            _ => format!("images/{}", number - 1),
        };
        let mut header = tar::Header::new_ustar();
        header.set_path(name).expect("a short name");
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, bytes).expect("a tar in memory");
    }
    tar.into_inner().expect("a tar in memory")
}

fn seeds() -> Vec<Vec<u8>> {
    let bundles = fuzz::sample::bundles();
    bundles.iter().for_each(|bundle| drop(Bundle::read(bundle.clone().into()).expect("a bundle of ours")));
    let mut seeds: Vec<Vec<u8>> =
        bundles.iter().flat_map(|bundle| [0, 1].map(|kind| [&[kind], bundle.as_slice()].concat())).collect();
    let line = |index: u64, entry: &str| {
        format!(
            r#"{{"index":{index},"id":"a","text":null,"images":[{{"entry":"{entry}","path":"p"}}],"missing":[]}}"#
        )
    };
    for items in [line(7, "images/0"), format!("{}\n{}\n", line(7, "images/0"), line(8, "images/1"))] {
        let entries = [&[2], items.as_bytes(), &[0], b"x", &[0], b"y"].concat();
        Bundle::read(tar_of(&entries[1..]).into()).expect("a bundle of ours");
        seeds.push(entries);
    }
    seeds
}
