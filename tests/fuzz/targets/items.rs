//! Item files: JSON arrays, JSON Lines, field mapping and template.
//!
//! Input: a byte that chooses the mapping, then the file. Holds: the file is cut into the same items however
//! few bytes a read gives; an item that is read obeys the rules of ids and paths, and is the same when it is
//! written and read again.
#![no_main]

use std::io::Read;

use shared::images::check_path;
use shared::items::parse::parse;
use shared::items::scan::{ScanError, Scanner};
use shared::items::{FieldMapping, Item, Template};

libfuzzer_sys::fuzz_target!(init: fuzz::corpus::write_seeds(seeds), |data: &[u8]| {
    let Some((choice, file)) = data.split_first() else { return };
    // The first line of the file is the template, where one is asked for.
    let template = std::str::from_utf8(file).ok().and_then(|text| text.lines().next()).unwrap_or_default();
    let mapping = match choice % 3 {
        0 => FieldMapping::default(),
        1 => FieldMapping {
            id: Some("no".into()),
            text: Some("body".into()),
            images: Some("pics".into()),
            keep: ["year".to_owned(), "no".to_owned()].into(),
            ..FieldMapping::default()
        },
        _ => FieldMapping { template: Template::parse(template).ok(), ..FieldMapping::default() },
    };
    let whole = scan(file);
    assert_eq!(whole, scan(Trickle(file, 1 + file.len() / (1 + usize::from(*choice % 8)))), "reads of another length");
    for bytes in whole.0 {
        let Ok(item) = parse(&bytes, &mapping) else { continue };
        check(&item);
        let again = parse(write(&item).as_bytes(), &FieldMapping::default()).expect("what was read can be written");
        assert_eq!((again.id, again.text, again.images), (item.id, item.text, item.images));
    }
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz::mutate::numbers(data, size, max_size, seed)
});

/// The items of a file, and what ended it.
fn scan(reader: impl Read) -> (Vec<Vec<u8>>, Option<String>) {
    let mut scanner = Scanner::new(reader);
    let mut items = Vec::new();
    loop {
        match scanner.next_item() {
            Ok(Some((_, bytes))) => items.push(bytes.to_vec()),
            Ok(None) => return (items, None),
            Err(ScanError::Syntax(place, what)) => return (items, Some(format!("{place:?} {what}"))),
            Err(ScanError::Read(error)) => return (items, Some(error.to_string())),
        }
    }
}

fn check(item: &Item) {
    assert!(!item.id.is_empty() && !item.id.contains('\0'));
    assert!(item.id.chars().count() as u64 <= shared::npz::MAX_ID_CHARACTERS);
    assert!(item.images.iter().all(|path| check_path(path).is_ok()));
}

fn write(item: &Item) -> String {
    serde_json::json!({"id": item.id, "text": item.text, "images": item.images}).to_string()
}

/// Gives a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let array = "\u{feff}[\n {\"id\": 7, \"text\": \"a\\u00e9\\ud83c\\udf93\", \"images\": [\"a/b.png\"]},\n {\"item_id\": \"x\", \"image\": \"\"}]\n";
    let lines = "{\"no\": 1, \"body\": null, \"pics\": \"./a\\\\b.png\", \"year\": [2005, {\"a\": 1.5e3}]}\r\n{\"no\": \"2\"}\n";
    let template =
        "{question}\\n{choices} {{x}}\n{\"id\": 1, \"question\": \"Q\", \"choices\": [\"1\", 2, null]}";
    let nested = format!("{{\"id\": 1, \"x\": {}{}}}", "[".repeat(130), "]".repeat(130));
    [
        (0, array),
        (1, lines),
        (2, template),
        (0, nested.as_str()),
        (0, "{\"id\":\"a\\u0000\"}{}"),
        (0, "[{},]"),
    ]
    .map(|(choice, text)| [&[choice], text.as_bytes()].concat())
    .to_vec()
}
