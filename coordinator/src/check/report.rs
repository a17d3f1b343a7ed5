//! What `check` found, for a person and for a script.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use shared::images::{ImageRoots, Match};
use shared::items::ReadItem;

/// Paths listed in the text; JSON has all.
const SHOWN: usize = 20;

/// Counts over some items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Items.
    pub items: u64,
    /// Items with no text, or an empty one.
    pub without_text: u64,
    /// Items that say they have an image.
    pub marked: u64,
    /// Items that say so and have at least one that was found.
    pub marked_found: u64,
    /// Items that name at least one image.
    pub naming_images: u64,
    /// Items of which all named images were found.
    pub all_found: u64,
    /// Items of which only some were.
    pub some_found: u64,
    /// Items of which none was: embedded by their text alone.
    pub none_found: u64,
    /// Items of which none was and that have no text: they will fail.
    pub nothing_to_embed: u64,
    /// Images named.
    pub images_named: u64,
    /// Images found.
    pub images_found: u64,
    /// Bytes of the images found.
    pub image_bytes: u64,
}

/// An image that was not matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// The item's id.
    pub id: String,
    /// Where the item stands.
    pub place: String,
    /// The path as the item names it.
    pub path: String,
    /// Entries it could be, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Item files.
    pub files: u64,
    /// Counts over all items.
    pub total: Counts,
    /// Files in the image roots.
    pub images_in_roots: u64,
    /// Of these, named by no item.
    pub images_unused: u64,
    /// Images with no entry.
    pub missing: Vec<Unmatched>,
    /// Images with several entries that differ in case alone.
    pub ambiguous: Vec<Unmatched>,
    /// Counts by field and value.
    pub by: BTreeMap<String, BTreeMap<String, Counts>>,
}

/// Counts while items go by.
pub(super) struct Tally<'a> {
    roots: &'a ImageRoots,
    used: Vec<u64>,
    report: CheckReport,
}

impl<'a> Tally<'a> {
    pub(super) fn new(roots: &'a ImageRoots, by: &[String]) -> Self {
        let report = CheckReport {
            files: 0,
            total: Counts::default(),
            images_in_roots: roots.count(),
            images_unused: 0,
            missing: Vec::new(),
            ambiguous: Vec::new(),
            by: by.iter().map(|field| (field.clone(), BTreeMap::new())).collect(),
        };
        Self { roots, used: vec![0; roots.count().div_ceil(64) as usize], report }
    }

    pub(super) fn add(&mut self, read: &ReadItem, matches: &[Match]) {
        let counts = self.counts(read, matches);
        self.report.total.add(&counts);
        for (field, values) in &mut self.report.by {
            let value = read.item.fields.get(field).cloned().unwrap_or_default();
            values.entry(value).or_default().add(&counts);
        }
        for (path, found) in read.item.images.iter().zip(matches) {
            let unmatched = |candidates: &[String]| Unmatched {
                id: read.item.id.clone(),
                place: read.place.to_string(),
                path: path.clone(),
                candidates: candidates.to_vec(),
            };
            match found {
                Match::Missing => self.report.missing.push(unmatched(&[])),
                Match::Ambiguous(candidates) => self.report.ambiguous.push(unmatched(candidates)),
                Match::Found(_) => {}
            }
        }
    }

    fn counts(&mut self, read: &ReadItem, matches: &[Match]) -> Counts {
        let item = &read.item;
        let (mut found, mut bytes) = (0, 0);
        for image in matches {
            if let Match::Found(image) = image {
                let number = self.roots.number(*image);
                self.used[(number / 64) as usize] |= 1 << (number % 64);
                found += 1;
                bytes += self.roots.size(*image);
            }
        }
        let named = matches.len() as u64;
        let without_text = item.text.as_deref().unwrap_or_default().is_empty();
        let marked = item.has_image == Some(true);
        let none_found = named > 0 && found == 0;
        let one = u64::from;
        Counts {
            items: 1,
            without_text: one(without_text),
            marked: one(marked),
            marked_found: one(marked && found > 0),
            naming_images: one(named > 0),
            all_found: one(named > 0 && found == named),
            some_found: one(found > 0 && found < named),
            none_found: one(none_found),
            nothing_to_embed: one(none_found && without_text),
            images_named: named,
            images_found: found,
            image_bytes: bytes,
        }
    }

    pub(super) fn finish(mut self, files: u64) -> CheckReport {
        let used: u64 = self.used.iter().map(|bits| u64::from(bits.count_ones())).sum();
        self.report.files = files;
        self.report.images_unused = self.report.images_in_roots - used;
        self.report
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.items += other.items;
        self.without_text += other.without_text;
        self.marked += other.marked;
        self.marked_found += other.marked_found;
        self.naming_images += other.naming_images;
        self.all_found += other.all_found;
        self.some_found += other.some_found;
        self.none_found += other.none_found;
        self.nothing_to_embed += other.nothing_to_embed;
        self.images_named += other.images_named;
        self.images_found += other.images_found;
        self.image_bytes += other.image_bytes;
    }
}

/// The report for a person.
pub fn render(report: &CheckReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, report);
    text
}

fn write_all(text: &mut String, report: &CheckReport) -> std::fmt::Result {
    let total = &report.total;
    writeln!(
        text,
        "items    {} in {} files, {} without text",
        total.items, report.files, total.without_text
    )?;
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    if total.marked > 0 {
        writeln!(
            text,
            "marked   {} as having an image, {} of them found ({:.1} %)",
            total.marked,
            total.marked_found,
            share(total.marked_found, total.marked)
        )?;
    }
    writeln!(
        text,
        "images   {} named by {} items, {} found ({:.1} %), {:.1} MB",
        total.images_named,
        total.naming_images,
        total.images_found,
        share(total.images_found, total.images_named),
        total.image_bytes as f64 / 1e6
    )?;
    writeln!(
        text,
        "matched  {} items with all their images, {} with some, {} with none ({} of these have no text and will fail)",
        total.all_found, total.some_found, total.none_found, total.nothing_to_embed
    )?;
    writeln!(
        text,
        "unused   {} of {} files in the image roots",
        report.images_unused, report.images_in_roots
    )?;
    list(text, "missing", &report.missing)?;
    list(text, "ambiguous", &report.ambiguous)?;
    for (field, values) in &report.by {
        writeln!(text, "by {field}")?;
        for (value, counts) in values {
            let value = if value.is_empty() { "(none)" } else { value };
            writeln!(
                text,
                "  {value}: {} items, {} with an image named, {} of {} images found",
                counts.items, counts.naming_images, counts.images_found, counts.images_named
            )?;
        }
    }
    Ok(())
}

fn list(text: &mut String, what: &str, images: &[Unmatched]) -> std::fmt::Result {
    if images.is_empty() {
        return Ok(());
    }
    writeln!(text, "{what} images: {}", images.len())?;
    for image in images.iter().take(SHOWN) {
        write!(text, "  {} (item {:?}, {})", image.path, image.id, image.place)?;
        if !image.candidates.is_empty() {
            write!(text, ": could be {}", image.candidates.join(" or "))?;
        }
        writeln!(text)?;
    }
    if images.len() > SHOWN {
        writeln!(text, "  and {} more; --json lists all", images.len() - SHOWN)?;
    }
    Ok(())
}
