//! How many of everything: the real set's figures, and the same proportions at a smaller size.

/// Items of the real set.
pub const FULL_ITEMS: u64 = 176_443;
const ITEM_FILES: u64 = 18;
const MARKED: u64 = 45_368;
const FOUND: u64 = 41_322;
const IMAGE_FILES: u64 = 62_658;
const PNG_FILES: u64 = 35_198;
const DAY_FOLDERS: u64 = 218;
const YEAR_TREES: u64 = 12;
/// One image file in so many is named by nobody.
const UNUSED_EVERY: u64 = 100;

/// How many of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Items.
    pub items: u64,
    /// Item files.
    pub item_files: u64,
    /// Items marked as having an image.
    pub marked: u64,
    /// Of these, items whose images exist.
    pub found: u64,
    /// Image files.
    pub image_files: u64,
    /// Of these, files that an item names.
    pub used_files: u64,
    /// Of the image files, PNG.
    pub png_files: u64,
    /// Folders `YYYYMMDD`.
    pub day_folders: u64,
    /// Trees `YYYY/MM/DD`.
    pub year_trees: u64,
}

impl Size {
    /// The real set's proportions for so many items.
    pub fn of(items: u64) -> Self {
        let share = |full: u64| (full * items + FULL_ITEMS / 2) / FULL_ITEMS;
        let found = share(FOUND);
        // An item has one to three images, so that a tiny set keeps within that.
        let image_files = share(IMAGE_FILES).max(found);
        let used_files = (image_files - image_files / UNUSED_EVERY).clamp(found, found * 3);
        // As many folders as the real set has, unless some would be empty.
        let tops = (DAY_FOLDERS + YEAR_TREES).min(image_files.max(1));
        let year_trees = (tops * YEAR_TREES / (DAY_FOLDERS + YEAR_TREES)).max(u64::from(tops > 1));
        Self {
            items,
            item_files: ITEM_FILES.min(items.max(1)),
            marked: share(MARKED).max(found),
            found,
            image_files,
            used_files,
            png_files: image_files * PNG_FILES / IMAGE_FILES,
            day_folders: tops - year_trees,
            year_trees,
        }
    }

    /// Folders and trees together.
    pub fn tops(&self) -> u64 {
        self.day_folders + self.year_trees
    }
}

/// Whether number `at` of `whole` is among `part` of them that lie as evenly as possible.
pub fn is_chosen(at: u64, part: u64, whole: u64) -> bool {
    whole > 0 && (at + 1) * part / whole > at * part / whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_size_is_the_real_set() {
        let size = Size::of(FULL_ITEMS);
        assert_eq!((size.marked, size.found, size.marked - size.found), (45_368, 41_322, 4_046));
        assert_eq!((size.image_files, size.png_files), (62_658, 35_198));
        assert_eq!((size.day_folders, size.year_trees, size.item_files), (218, 12, 18));
    }

    #[test]
    fn any_size_is_consistent() {
        for items in [1, 2, 5, 17, 100, 1000, 20_000] {
            let size = Size::of(items);
            assert!(size.found <= size.marked && size.marked <= items, "{size:?}");
            assert!(size.found <= size.used_files && size.used_files <= size.found * 3, "{size:?}");
            assert!(size.used_files <= size.image_files && size.png_files <= size.image_files, "{size:?}");
            let chosen = (0..items).filter(|at| is_chosen(*at, size.marked, items)).count() as u64;
            assert_eq!(chosen, size.marked);
        }
    }
}
