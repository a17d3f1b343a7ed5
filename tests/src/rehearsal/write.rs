//! The files of a rehearsal on disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use shared::digest::{Hasher, sha256_hex};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::Truth;
use super::layout::{Images, Layout, Place, image_name, is_png};
use super::pictures::Pictures;
use super::size::Size;
use super::text::{self, SUBJECTS};

/// Of the items whose images are found every so manyth names one more.
const PARTLY_EVERY: u64 = 50;

/// How images lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In folders, below `images/`.
    Folders,
    /// In `images.zip`.
    Zip,
}

/// Makes `items/`, the images and `truth.json` below a folder, which must not have any of them.
pub fn make(folder: &Path, items: u64, form: Form) -> io::Result<Truth> {
    for name in ["items", "images", "images.zip", "truth.json"] {
        if folder.join(name).exists() {
            return Err(io::Error::other(format!("{name} is there already; name an empty folder")));
        }
    }
    let size = Size::of(items);
    fs::create_dir_all(folder.join("items"))?;
    let mut images = ImageWriter::begin(folder, form)?;
    let mut truth = Truth { items, item_files: size.item_files, ..Truth::default() };
    let mut written = ItemWriter::begin(folder, size);
    let mut texts = BTreeSet::new();
    for (item, has) in Layout::new(size).enumerate() {
        let item = item as u64;
        let paths = match has {
            Images::None => Vec::new(),
            Images::Missing => {
                vec![Place::lost(item).written(&image_name(item, 0, item.is_multiple_of(2)), item)]
            }
            Images::Found { first, count } => {
                let mut paths = Vec::new();
                for file in first..first + count {
                    let (place, png) = (Place::of(file, &size), is_png(file, &size));
                    let name = image_name(item, file - first, png);
                    truth.image_bytes_found += images.add(&place, &name, file, png)?;
                    paths.push(place.written(&name, item));
                }
                truth.marked_found += 1;
                truth.images_found += count;
                if truth.marked_found.is_multiple_of(PARTLY_EVERY) {
                    truth.marked_partly += 1;
                    paths.push(Place::lost(item).written(&image_name(item, count, true), item));
                }
                paths
            }
        };
        if !matches!(has, Images::Found { .. }) {
            let mut said = String::new();
            text::write(item, &mut said);
            texts.insert(sha256_hex(said.as_bytes()));
        }
        truth.marked += u64::from(!paths.is_empty());
        truth.images_named += paths.len() as u64;
        written.add(item, &paths)?;
    }
    (truth.item_bytes, truth.items_sha256) = written.finish()?;
    for file in size.used_files..size.image_files {
        let png = is_png(file, &size);
        let name = format!("unused{file}.{}", if png { "png" } else { "jpg" });
        images.add(&Place::of(file, &size), &name, file, png)?;
        truth.image_files_unused += 1;
    }
    images.finish(&mut truth)?;
    truth.different = texts.len() as u64 + truth.marked_found;
    fs::write(folder.join("truth.json"), serde_json::to_vec_pretty(&truth)?)?;
    Ok(truth)
}

/// Item files in the form of the real ones: an array, indented by one.
struct ItemWriter<'a> {
    folder: &'a Path,
    size: Size,
    file: u64,
    lines: String,
    items_in_file: u64,
    bytes: u64,
    hasher: Hasher,
}

impl<'a> ItemWriter<'a> {
    fn begin(folder: &'a Path, size: Size) -> Self {
        Self {
            folder,
            size,
            file: 0,
            lines: "[".to_owned(),
            items_in_file: 0,
            bytes: 0,
            hasher: Hasher::new(),
        }
    }

    fn add(&mut self, item: u64, paths: &[String]) -> io::Result<()> {
        let file = item * self.size.item_files / self.size.items;
        if file != self.file {
            self.end_file()?;
            self.file = file;
        }
        self.lines.push_str(if self.items_in_file == 0 { "\n" } else { ",\n" });
        self.items_in_file += 1;
        self.lines += &format!(" {{\n  \"item_id\": \"Q{item:06}\",\n  \"text\": \"");
        // No text or path below has a quote; a backslash is the one sign to escape.
        text::write(item, &mut self.lines);
        self.lines += &format!("\",\n  \"has_image\": {},\n  \"images\": [", !paths.is_empty());
        for (number, path) in paths.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            self.lines += &format!("{comma}\n   \"{}\"", path.replace('\\', "\\\\"));
        }
        let (end, subject) = (if paths.is_empty() { "" } else { "\n  " }, SUBJECTS[(item % 5) as usize]);
        self.lines +=
            &format!("{end}],\n  \"subject\": \"{subject}\",\n  \"year\": {}\n }}", 2005 + item % 19);
        Ok(())
    }

    fn end_file(&mut self) -> io::Result<()> {
        self.lines.push_str("\n]\n");
        let path = self.folder.join(format!("items/items_part{:02}.json", self.file + 1));
        fs::write(path, &self.lines)?;
        self.hasher.update(self.lines.as_bytes());
        self.bytes += self.lines.len() as u64;
        self.items_in_file = 0;
        self.lines.truncate(1);
        Ok(())
    }

    fn finish(mut self) -> io::Result<(u64, String)> {
        self.end_file()?;
        Ok((self.bytes, self.hasher.finish_hex()))
    }
}

/// Image files, in folders or in a zip.
struct ImageWriter {
    pictures: Pictures,
    target: Target,
    folders: BTreeSet<String>,
    files: u64,
    png: u64,
    bytes: u64,
}

enum Target {
    Folders(std::path::PathBuf),
    Zip(Box<ZipWriter<BufWriter<File>>>),
}

impl ImageWriter {
    fn begin(folder: &Path, form: Form) -> io::Result<Self> {
        let target = match form {
            Form::Folders => Target::Folders(folder.join("images")),
            Form::Zip => {
                let file = BufWriter::new(File::create(folder.join("images.zip"))?);
                Target::Zip(Box::new(ZipWriter::new(file)))
            }
        };
        Ok(Self { pictures: Pictures::draw(), target, folders: BTreeSet::new(), files: 0, png: 0, bytes: 0 })
    }

    /// Writes an image file. Returns its bytes.
    fn add(&mut self, place: &Place, name: &str, number: u64, is_png: bool) -> io::Result<u64> {
        let bytes = self.pictures.file(number, is_png);
        let folder = place.folder();
        match &mut self.target {
            Target::Folders(root) => {
                let path = root.join(&folder);
                if !self.folders.contains(&folder) {
                    fs::create_dir_all(&path)?;
                }
                fs::write(path.join(name), &bytes)?;
            }
            Target::Zip(zip) => {
                let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
                zip.start_file(format!("{folder}/{name}"), options)?;
                zip.write_all(&bytes)?;
            }
        }
        self.folders.insert(folder);
        self.files += 1;
        self.png += u64::from(is_png);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }

    fn finish(self, truth: &mut Truth) -> io::Result<()> {
        if let Target::Zip(zip) = self.target {
            zip.finish()?.flush()?;
        }
        let tops: BTreeSet<&str> =
            self.folders.iter().filter_map(|folder| folder.split('/').next()).collect();
        truth.year_trees = tops.iter().filter(|top| top.len() == 4).count() as u64;
        truth.day_folders = tops.len() as u64 - truth.year_trees;
        truth.image_files = self.files;
        truth.png_files = self.png;
        truth.image_bytes = self.bytes;
        Ok(())
    }
}
