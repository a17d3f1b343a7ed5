//! The least that `check` can do: the same JSON parsed into the fields that are used, and the same folder walked or
//! the same zip's directory read.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};

/// What was seen, so that nothing is left out by the compiler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Items.
    pub items: u64,
    /// Bytes of ids and texts.
    pub text_bytes: u64,
    /// Images named.
    pub images: u64,
    /// Image files.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "item_id")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    images: Vec<Cow<'a, str>>,
    has_image: bool,
}

/// Parses the item files of a folder and walks its images, on one thread.
pub fn check(folder: &Path) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for file in std::fs::read_dir(folder.join("items"))? {
        let bytes = std::fs::read(file?.path())?;
        serde_json::Deserializer::from_slice(&bytes).deserialize_seq(&mut seen)?;
    }
    let zip = folder.join("images.zip");
    if zip.exists() {
        let mut archive = zip::ZipArchive::new(BufReader::new(File::open(zip)?))?;
        for number in 0..archive.len() {
            seen.files += 1;
            seen.file_bytes += archive.by_index_raw(number)?.size();
        }
        return Ok(seen);
    }
    let mut waiting = vec![folder.join("images")];
    while let Some(below) = waiting.pop() {
        for entry in std::fs::read_dir(below)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else {
                seen.files += 1;
                seen.file_bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(seen)
}

impl<'de> Visitor<'de> for &mut Seen {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Item<'de>>()? {
            self.items += 1;
            self.text_bytes += (item.id.len() + item.text.len()) as u64;
            self.images += item.images.len() as u64 * u64::from(item.has_image);
        }
        Ok(())
    }
}
