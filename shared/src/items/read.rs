//! Items of several files, in order, each with its place.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Item;
use super::error::{InputError, Place};
use super::mapping::FieldMapping;
use super::parse::{ItemFault, parse};
use super::scan::{Position, ScanError, Scanner};
use crate::digest::Hashing;

/// An item and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadItem {
    /// Its position in the whole input, from 0.
    pub index: u64,
    /// Where it stands.
    pub place: Place,
    /// The item.
    pub item: Item,
}

/// Reads files one after the other in bounded memory, and hashes them on the way.
pub struct ItemReader<'a> {
    files: &'a [PathBuf],
    mapping: &'a FieldMapping,
    next_file: usize,
    current: Option<Scanner<Hashing<File>>>,
    item_in_file: u64,
    index: u64,
    digests: Vec<String>,
}

impl<'a> ItemReader<'a> {
    /// Files in the order they are read.
    pub fn new(files: &'a [PathBuf], mapping: &'a FieldMapping) -> Self {
        Self { files, mapping, next_file: 0, current: None, item_in_file: 0, index: 0, digests: Vec::new() }
    }

    /// The next item, or `None` behind the last.
    pub fn next_item(&mut self) -> Result<Option<ReadItem>, InputError> {
        loop {
            let Some(scanner) = &mut self.current else {
                let Some(file) = self.files.get(self.next_file) else {
                    return Ok(None);
                };
                let opened =
                    File::open(file).map_err(|source| InputError::Read { file: file.clone(), source })?;
                self.current = Some(Scanner::new(Hashing::new(opened)));
                self.next_file += 1;
                self.item_in_file = 0;
                continue;
            };
            let file = &self.files[self.next_file - 1];
            match scanner.next_item().map_err(|error| scan_error(error, file))? {
                Some((position, bytes)) => {
                    self.item_in_file += 1;
                    let place = place(file, position, self.item_in_file);
                    let item =
                        parse(bytes, self.mapping).map_err(|fault| item_error(fault, place.clone()))?;
                    let index = self.index;
                    self.index += 1;
                    return Ok(Some(ReadItem { index, place, item }));
                }
                None => {
                    if let Some(scanner) = self.current.take() {
                        self.digests.push(scanner.into_reader().finish().1);
                    }
                }
            }
        }
    }

    /// The SHA-256 of each file read to its end, in hex.
    pub fn digests(&self) -> &[String] {
        &self.digests
    }

    /// How many items were read.
    pub fn count(&self) -> u64 {
        self.index
    }
}

fn place(file: &Path, position: Position, item: u64) -> Place {
    Place { file: file.to_owned(), line: position.line, column: position.column, item }
}

fn scan_error(error: ScanError, file: &Path) -> InputError {
    match error {
        ScanError::Read(source) => InputError::Read { file: file.to_owned(), source },
        ScanError::Syntax(position, what) => InputError::Syntax { place: place(file, position, 0), what },
    }
}

fn item_error(fault: ItemFault, place: Place) -> InputError {
    match fault {
        ItemFault::Field { field, what } => InputError::Field { place, field, what },
        ItemFault::Syntax { line, column, what } => {
            // Both count from 1: the first line of the item goes on from the item's own column.
            let column = if line <= 1 { place.column + column.saturating_sub(1) } else { column };
            let line = place.line + line.saturating_sub(1);
            InputError::Syntax { place: Place { line, column, ..place }, what }
        }
    }
}
