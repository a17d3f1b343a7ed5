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

/// Cuts files, one after the other, into the bytes of their items in bounded memory, and hashes them on
/// the way.
pub(super) struct Cutter<'a> {
    files: &'a [PathBuf],
    next_file: usize,
    current: Option<Scanner<Hashing<File>>>,
    item_in_file: u64,
    digests: Vec<String>,
}

/// Where an item stands: its file's number, its place in the file, and its number there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) file: usize,
    position: Position,
    number: u64,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(files: &'a [PathBuf]) -> Self {
        Self { files, next_file: 0, current: None, item_in_file: 0, digests: Vec::new() }
    }

    /// Appends the bytes of the next item; `None` behind the last.
    pub(super) fn next_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Spot>, InputError> {
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
            let file = self.next_file - 1;
            if let Some((position, item)) =
                scanner.next_item().map_err(|error| scan_error(error, &self.files[file]))?
            {
                bytes.extend_from_slice(item);
                self.item_in_file += 1;
                return Ok(Some(Spot { file, position, number: self.item_in_file }));
            }
            if let Some(scanner) = self.current.take() {
                self.digests.push(scanner.into_reader().finish().1);
            }
        }
    }

    /// The SHA-256 of each file read to its end, in hex.
    pub(super) fn into_digests(self) -> Vec<String> {
        self.digests
    }
}

/// Reads the item whose bytes stand at a spot.
pub(super) fn read_item(
    bytes: &[u8],
    spot: Spot,
    index: u64,
    files: &[PathBuf],
    mapping: &FieldMapping,
) -> Result<ReadItem, InputError> {
    let place = place(&files[spot.file], spot.position, spot.number);
    match parse(bytes, mapping) {
        Ok(item) => Ok(ReadItem { index, place, item }),
        Err(fault) => Err(item_error(fault, place)),
    }
}

/// Reads files one after the other, item by item, on one thread.
pub struct ItemReader<'a> {
    cutter: Cutter<'a>,
    mapping: &'a FieldMapping,
    bytes: Vec<u8>,
    index: u64,
}

impl<'a> ItemReader<'a> {
    /// Files in the order they are read.
    pub fn new(files: &'a [PathBuf], mapping: &'a FieldMapping) -> Self {
        Self { cutter: Cutter::new(files), mapping, bytes: Vec::new(), index: 0 }
    }

    /// The next item, or `None` behind the last.
    pub fn next_item(&mut self) -> Result<Option<ReadItem>, InputError> {
        self.bytes.clear();
        let Some(spot) = self.cutter.next_into(&mut self.bytes)? else {
            return Ok(None);
        };
        let item = read_item(&self.bytes, spot, self.index, self.cutter.files, self.mapping)?;
        self.index += 1;
        Ok(Some(item))
    }

    /// The SHA-256 of each file read to its end, in hex.
    pub fn digests(&self) -> &[String] {
        &self.cutter.digests
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
