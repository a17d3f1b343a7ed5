//! One merged file: its members written side by side, each row once.
//!
//! Rows, dimension and width are known before the first row, so that every member's place is. The
//! three arrays grow together as parts come in; the metadata, which needs the sums, comes last.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;

use shared::npz::{self, ArrayHeader, Crc, DeflatedMember, Element, Layout, MEMBERS};
use shared::part::{Metadata, ValidPart};

use super::buffers::Buffers;
use super::destination::Destination;
use super::ending::Ending;
use super::file_writer::FileWriter;
use super::object_writer::LARGEST_OBJECT;
use super::tally::Tally;
use super::target::{Sealed, Target, TargetWriter};
use super::{MergeError, OutputType};

/// What all files of a merge share.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) dim: u64,
    pub(super) id_width: u64,
    pub(super) output: OutputType,
    /// Whether members are deflated: only once all rows are there are their sizes known.
    pub(super) compress: bool,
    /// How it ends before its time.
    pub(super) ending: Ending,
    /// Room for the parts of objects.
    pub(super) buffers: Buffers,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct VolumeWriter {
    pub(super) tally: Tally,
    target: Target,
    layout: Layout,
    shape: Shape,
    rows: u64,
    written: u64,
    crcs: [Crc; 3],
    positions: [u64; 3],
}

impl VolumeWriter {
    /// Begins a file of `rows` rows. Blocks.
    pub(super) fn begin(destination: &Destination, shape: &Shape, rows: u64) -> Result<Self, MergeError> {
        let element = match shape.output {
            OutputType::F32 => Element::F32,
            OutputType::F16 => Element::F16,
        };
        let headers = [
            ArrayHeader::vector(Element::Text { width: shape.id_width }, rows),
            ArrayHeader::matrix(element, rows, shape.dim),
            ArrayHeader::vector(Element::I32, rows),
        ];
        let encoded = headers.each_ref().map(ArrayHeader::to_bytes);
        let size = |member: usize| encoded[member].len() as u64 + headers[member].data_bytes();
        let layout = Layout::stored(&[(MEMBERS[0], size(0)), (MEMBERS[1], size(1)), (MEMBERS[2], size(2))]);
        let about = layout.data_offset(2) + layout.size(2);
        check_size(destination, about, rows)?;
        let mut writer = Self {
            tally: Tally::default(),
            target: if shape.compress {
                Target::File(FileWriter::new(destination.temporary()?))
            } else {
                destination.begin(about, shape)?
            },
            positions: [0, 1, 2].map(|member| layout.data_offset(member)),
            layout,
            shape: shape.clone(),
            rows,
            written: 0,
            crcs: Default::default(),
        };
        for (member, header) in encoded.iter().enumerate() {
            writer.append(member, header)?;
        }
        Ok(writer)
    }

    /// Rows still to come.
    pub(super) fn room(&self) -> u64 {
        self.rows - self.written
    }

    /// Appends `rows` of a part.
    pub(super) fn write(&mut self, part: &ValidPart, rows: &Range<usize>) -> Result<(), MergeError> {
        fn slice<'a>(bytes: &'a [u8], rows: &Range<usize>, row: usize) -> &'a [u8] {
            &bytes[rows.start * row..rows.end * row]
        }
        let id_row = part.id_width as usize * 4;
        let ids = slice(part.ids(), rows, id_row);
        self.append(0, &widen(ids, id_row, self.shape.id_width as usize * 4))?;
        let vectors = slice(part.vectors(), rows, self.shape.dim as usize * 4);
        match self.shape.output {
            // The part's own checksum was compared with these very bytes.
            OutputType::F32 if *rows == (0..part.rows()) => {
                self.crcs[1].combine(&part.vectors_crc);
                self.append_summed(1, vectors)?;
            }
            OutputType::F32 => self.append(1, vectors)?,
            OutputType::F16 => self.append(1, &npz::encode_f16_rows(vectors))?,
        }
        self.append(2, slice(part.image_counts(), rows, 4))?;
        self.written += rows.len() as u64;
        Ok(())
    }

    /// Writes metadata, headers and directory, and deflates all that is to be deflated. Blocks.
    pub(super) fn seal(
        mut self,
        metadata: &Metadata,
        destination: &Destination,
    ) -> Result<Sealed, MergeError> {
        let member = encode_metadata(metadata);
        for position in 0..3 {
            let (at, header) = self.layout.seal(position, self.crcs[position].value());
            self.write_at(at, &header)?;
        }
        let last = self.layout.push(npz::METADATA, member.len() as u64);
        let (at, header) = self.layout.seal(last, Crc::of(&member));
        self.write_at(at, &header)?;
        self.write_at(self.layout.data_offset(last), &member)?;
        let (at, directory) = self.layout.directory();
        self.write_at(at, &directory)?;
        match (self.target, self.shape.compress) {
            (Target::File(stored), true) => deflate(stored, &self.layout, destination, &self.shape),
            (target, _) => target.seal(),
        }
    }

    fn append(&mut self, member: usize, bytes: &[u8]) -> Result<(), MergeError> {
        self.crcs[member].update(bytes);
        self.append_summed(member, bytes)
    }

    fn append_summed(&mut self, member: usize, bytes: &[u8]) -> Result<(), MergeError> {
        let at = self.positions[member];
        self.positions[member] += bytes.len() as u64;
        self.write_at(at, bytes)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), MergeError> {
        self.target.write_at(at, bytes)
    }
}

/// An object has a limited number of parts, and parts are in memory.
fn check_size(destination: &Destination, size: u64, rows: u64) -> Result<(), MergeError> {
    if size <= LARGEST_OBJECT || !destination.is_sent() {
        return Ok(());
    }
    let fit = u128::from(rows) * u128::from(LARGEST_OBJECT) / u128::from(size);
    let (name, most) = (destination.describe(), LARGEST_OBJECT);
    Err(MergeError::TooLarge { name, size, most, rows: fit as u64 })
}

/// The members of a stored file deflated, on their way to the destination. Blocks.
fn deflate(
    stored: FileWriter,
    layout: &Layout,
    destination: &Destination,
    shape: &Shape,
) -> Result<Sealed, MergeError> {
    let path = stored.path().to_owned();
    let mut stored = stored.into_file().map_err(|error| MergeError::write(&path, error))?;
    let size = stored.as_file().metadata().map_err(|error| MergeError::write(&path, error))?.len();
    let mut target = destination.begin(size, shape)?;
    let failed = |error: io::Error| match error.downcast::<MergeError>() {
        Ok(error) => error,
        Err(source) => MergeError::Write { path: destination.describe().into(), source },
    };
    deflate_into(stored.as_file_mut(), layout, &mut target.writer(&shape.ending)).map_err(failed)?;
    target.seal()
}

fn deflate_into(source: &mut File, layout: &Layout, target: &mut TargetWriter<'_>) -> io::Result<()> {
    let mut members = Vec::with_capacity(MEMBERS.len());
    for position in 0..MEMBERS.len() {
        source.seek(SeekFrom::Start(layout.data_offset(position)))?;
        let size = layout.size(position);
        let mut reader = (&*source).take(size);
        members.push(npz::write_deflated_member(target, layout.name(position), size, &mut reader)?);
    }
    let end = target.stream_position()?;
    target.write_all(&DeflatedMember::directory(&members, end))
}

/// The metadata member: header and its one row.
fn encode_metadata(metadata: &Metadata) -> Vec<u8> {
    // Strings, numbers and lists of them: always JSON.
    let text = serde_json::to_string(metadata).unwrap_or_default();
    let width = npz::text_width(&text);
    let mut member = ArrayHeader::vector(Element::Text { width }, 1).to_bytes();
    npz::encode_text(&text, width, &mut member);
    member
}

/// Rows of text of one width as rows of another, larger one.
fn widen(rows: &[u8], from: usize, to: usize) -> Vec<u8> {
    let mut wide = Vec::with_capacity(rows.len() / from.max(1) * to);
    for row in rows.chunks_exact(from.max(1)) {
        wide.extend_from_slice(row);
        wide.resize(wide.len() + to.saturating_sub(from), 0);
    }
    wide
}

#[cfg(test)]
mod tests {
    use shared::store::Store;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_object_too_large_for_bounded_memory_is_refused_with_what_fits() {
        let object = Destination::Object { store: Store::memory(), key: "F.npz".to_owned() };
        let begin = |rows| {
            let object = object.clone();
            let (output, ending, buffers) = (OutputType::F32, Ending::default(), Buffers::default());
            let shape = Shape { dim: 4096, id_width: 20, output, compress: false, ending, buffers };
            tokio::task::spawn_blocking(move || VolumeWriter::begin(&object, &shape, rows))
        };
        let error = begin(100_000_000).await.unwrap().unwrap_err();
        let MergeError::TooLarge { rows, .. } = error else { panic!("{error}") };
        assert!(error.to_string().contains(&format!("--rows-per-file {rows}")), "{error}");
        assert!(rows > 30_000_000 && begin(rows).await.unwrap().is_ok());
    }
}
