//! Which item has which images, where each image lies, and how the item writes its path.

use super::size::{Size, is_chosen};
use super::{fraction, hash};

/// Items of one exam: their share of pictures is alike, and another exam's is not.
const EXAM: u64 = 700;
/// The most of an exam's weight, and the least: what the densest exam has of pictures over the mean.
const WEIGHTS: [f64; 2] = [0.2, 2.6];
const EXAMS: u64 = 11;
const STYLES: u64 = 12;
const LOST: u64 = 13;

/// What an item has of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// None, and it says so.
    None,
    /// It names one that does not exist.
    Missing,
    /// It names these image files, `first` and the ones after it.
    Found {
        /// The first one's number.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// What every item has of images, in input order.
pub struct Layout {
    size: Size,
    item: u64,
    weight: f64,
    total: f64,
    marked: u64,
    found: u64,
    next_file: u64,
    /// The item before gave one of its images to this one.
    given: bool,
}

impl Layout {
    /// The images of the items of a rehearsal.
    pub fn new(size: Size) -> Self {
        let total = (0..size.items).map(exam_weight).sum();
        Self { size, item: 0, weight: 0.0, total, marked: 0, found: 0, next_file: 0, given: false }
    }

    fn found_images(&mut self) -> Images {
        let spare = self.size.used_files - self.size.found;
        let extra = |at: u64| is_chosen(at, spare, self.size.found);
        let at = self.found;
        let mut count = 1 + u64::from(extra(at)) + u64::from(std::mem::take(&mut self.given));
        // Now and then the second image goes to the next item, which then may have three.
        if count == 2 && at + 1 < self.size.found && hash(STYLES, at).is_multiple_of(5) {
            count = 1;
            self.given = true;
        }
        let first = self.next_file;
        self.found += 1;
        self.next_file += count;
        Images::Found { first, count }
    }
}

impl Iterator for Layout {
    type Item = Images;

    fn next(&mut self) -> Option<Images> {
        if self.item == self.size.items {
            return None;
        }
        self.weight += exam_weight(self.item);
        self.item += 1;
        // The last item takes what rounding left.
        let due = if self.item == self.size.items {
            self.size.marked
        } else {
            (self.size.marked as f64 * self.weight / self.total) as u64
        };
        if due <= self.marked {
            return Some(Images::None);
        }
        let at = self.marked;
        self.marked += 1;
        if is_chosen(at, self.size.marked - self.size.found, self.size.marked) {
            Some(Images::Missing)
        } else {
            Some(self.found_images())
        }
    }
}

/// How dense pictures are at an item.
fn exam_weight(item: u64) -> f64 {
    let share = fraction(EXAMS, item / EXAM);
    WEIGHTS[0] + (WEIGHTS[1] - WEIGHTS[0]) * share * share
}

/// A day of the top folder or tree `top`: year, month, day. No two tops of 230 have the same.
fn day_of(top: u64, tops: u64) -> (u64, u64, u64) {
    (2005 + top * 19 / tops.max(1), top % 12 + 1, top * 5 % 28 + 1)
}

/// Where an image file lies, from the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    date: (u64, u64, u64),
    in_tree: bool,
}

impl Place {
    /// The place of an image file: files of items that follow each other lie together.
    pub fn of(file: u64, size: &Size) -> Self {
        let top = file * size.tops() / size.image_files.max(1);
        let (year, month, day) = day_of(top, size.tops());
        let in_tree = is_chosen(top, size.year_trees, size.tops());
        let date = if in_tree { (year, file % 12 + 1, file / 12 % 28 + 1) } else { (year, month, day) };
        Self { date, in_tree }
    }

    /// The folder, with `/`.
    pub fn folder(&self) -> String {
        dated(self.date, self.in_tree)
    }

    /// A path below it as item `item` writes it: every third the other way round, now and then as Windows does
    /// or with `./` before it.
    pub fn written(&self, name: &str, item: u64) -> String {
        let other = hash(STYLES, item).is_multiple_of(3);
        let path = format!("{}/{name}", dated(self.date, self.in_tree != other));
        match hash(STYLES + LOST, item) % 20 {
            0 => path.replace('/', "\\"),
            1 => format!("./{path}"),
            2 => format!(".\\{}", path.replace('/', "\\")),
            _ => path,
        }
    }

    /// Where an item's image would lie that does not exist.
    pub fn lost(item: u64) -> Self {
        let drawn = hash(LOST, item);
        let date = (2005 + drawn % 19, drawn / 19 % 12 + 1, drawn / 228 % 28 + 1);
        Self { date, in_tree: false }
    }
}

fn dated((year, month, day): (u64, u64, u64), in_tree: bool) -> String {
    if in_tree { format!("{year}/{month:02}/{day:02}") } else { format!("{year}{month:02}{day:02}") }
}

/// Whether an image file is PNG.
pub fn is_png(file: u64, size: &Size) -> bool {
    is_chosen(file, size.png_files, size.image_files)
}

/// The name of an item's image.
pub fn image_name(item: u64, number: u64, is_png: bool) -> String {
    format!("q{item}_{number}.{}", if is_png { "png" } else { "jpg" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_image_has_its_item_and_every_item_its_due() {
        for items in [1, 3, 50, 1000, 176_443] {
            let size = Size::of(items);
            let (mut next, mut found, mut missing) = (0, 0, 0);
            for images in Layout::new(size) {
                match images {
                    Images::None => {}
                    Images::Missing => missing += 1,
                    Images::Found { first, count } => {
                        assert_eq!(first, next);
                        assert!((1..=3).contains(&count));
                        next += count;
                        found += 1;
                    }
                }
            }
            assert_eq!((found, found + missing, next), (size.found, size.marked, size.used_files), "{items}");
        }
    }

    #[test]
    fn folders_and_trees_are_as_many_as_they_should_be() {
        let size = Size::of(176_443);
        let places: Vec<Place> = (0..size.image_files).map(|file| Place::of(file, &size)).collect();
        let days: BTreeSet<String> =
            places.iter().filter(|place| !place.in_tree).map(Place::folder).collect();
        let years: BTreeSet<u64> =
            places.iter().filter(|place| place.in_tree).map(|place| place.date.0).collect();
        assert_eq!((days.len(), years.len()), (218, 12));
    }
}
