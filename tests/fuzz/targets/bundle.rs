//! Bundles: a tar of `items.jsonl` and images.
//!
//! Input: a byte that says whether header checksums are repaired, then the tar. Holds: a bundle that is read
//! can be built again from what it gave, and then reads the same.
#![no_main]

use bytes::Bytes;
use shared::bundle::{Bundle, BundleBuilder};

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let Some((repaired, tar)) = data.split_first() else { return };
    let mut tar = tar.to_vec();
    if *repaired > 0 {
        fuzz::repair::tar(&mut tar);
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

fn seeds() -> Vec<Vec<u8>> {
    let bundles = fuzz::sample::bundles();
    bundles.iter().for_each(|bundle| drop(Bundle::read(bundle.clone().into()).expect("a bundle of ours")));
    let seeds =
        bundles.iter().flat_map(|bundle| [0, 1].map(|repaired| [&[repaired], bundle.as_slice()].concat()));
    seeds.collect()
}
