//! The npy header: element type and shape of an array.

use std::io::Read;

use ndarray_npy::npy::header::{Header, Layout};

use super::{MAX_DIM, MAX_ID_CHARACTERS, MAX_METADATA_CHARACTERS, NpzError};

/// The most bytes of a header that are read. Ours have 128.
const MAX_HEADER: usize = 4096;

/// The element types that an npz of this project holds, little-endian all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// `<U[width]`: text of at most `width` characters, 4 bytes each.
    Text {
        /// Characters of a row.
        width: u64,
    },
    /// `<f4`
    F32,
    /// `<f2`
    F16,
    /// `<i4`
    I32,
}

impl Element {
    /// Bytes of one element.
    pub fn size(self) -> u64 {
        match self {
            Self::Text { width } => width.saturating_mul(4),
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
        }
    }

    /// As numpy writes it.
    pub fn descriptor(self) -> String {
        match self {
            Self::Text { width } => format!("<U{width}"),
            Self::F32 => "<f4".to_owned(),
            Self::F16 => "<f2".to_owned(),
            Self::I32 => "<i4".to_owned(),
        }
    }

    fn parse(descriptor: &str) -> Result<Self, String> {
        match descriptor {
            "<f4" => Ok(Self::F32),
            "<f2" => Ok(Self::F16),
            "<i4" => Ok(Self::I32),
            _ if descriptor.starts_with('>') => {
                Err(format!("the type {descriptor:?} is big-endian; numbers here are little-endian"))
            }
            _ if descriptor.contains('O') => Err(format!("the type {descriptor:?} holds pickled objects")),
            _ => {
                // Digits alone: "<U+5" is no type of numpy's.
                let digits = descriptor
                    .strip_prefix("<U")
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                match digits.and_then(|digits| digits.parse().ok()) {
                    // Rows of no bytes: any number of them would fill a file of any size.
                    Some(0) => Err(format!("the type {descriptor:?} holds no characters")),
                    Some(width) if width <= MAX_ID_CHARACTERS.max(MAX_METADATA_CHARACTERS) => {
                        Ok(Self::Text { width })
                    }
                    _ => Err(format!("the type {descriptor:?} is none of <U, <f4, <f2 and <i4")),
                }
            }
        }
    }
}

/// Element type and shape of an array in C order, of one or two dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayHeader {
    /// The type of an element.
    pub element: Element,
    /// The first dimension.
    pub rows: u64,
    /// The second dimension, where there is one.
    pub columns: Option<u64>,
}

impl ArrayHeader {
    /// A vector of `rows` elements.
    pub fn vector(element: Element, rows: u64) -> Self {
        Self { element, rows, columns: None }
    }

    /// A matrix in C order.
    pub fn matrix(element: Element, rows: u64, columns: u64) -> Self {
        Self { element, rows, columns: Some(columns) }
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        self.element.size().saturating_mul(self.columns.unwrap_or(1))
    }

    /// Bytes of all rows; saturates where the shape is absurd, so that no real size equals it.
    pub fn data_bytes(&self) -> u64 {
        self.row_bytes().saturating_mul(self.rows)
    }

    /// The header's bytes as numpy reads them, a multiple of 64.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut shape = vec![self.rows as usize];
        shape.extend(self.columns.map(|columns| columns as usize));
        // A quoted descriptor is a Python literal and a short dictionary fits every version, so that
        // neither step can fail; an empty header would be found by the first reader.
        let literal = format!("'{}'", self.element.descriptor()).parse().ok();
        literal
            .and_then(|type_descriptor| {
                Header { type_descriptor, layout: Layout::Standard, shape }.to_bytes().ok()
            })
            .unwrap_or_default()
    }

    /// Reads a header of `member` that begins at byte `at` of the file. Returns it with its length.
    pub fn read(reader: &mut impl Read, member: &str, at: u64) -> Result<(Self, u64), NpzError> {
        let wrong = |what: String| NpzError::array(member, at, what);
        let mut bytes = vec![0; 10];
        reader.read_exact(&mut bytes).map_err(|error| NpzError::io(Some(member), at, error))?;
        if !bytes.starts_with(b"\x93NUMPY") {
            return Err(wrong("it does not begin as an npy array does".to_owned()));
        }
        let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        if bytes[6] > 1 {
            let mut high = [0; 2];
            reader.read_exact(&mut high).map_err(|error| NpzError::io(Some(member), at, error))?;
            bytes.extend_from_slice(&high);
            length |= usize::from(u16::from_le_bytes(high)) << 16;
        }
        if length > MAX_HEADER {
            return Err(wrong(format!("its header of {length} bytes is longer than any array here needs")));
        }
        let start = bytes.len();
        bytes.resize(start + length, 0);
        reader.read_exact(&mut bytes[start..]).map_err(|error| NpzError::io(Some(member), at, error))?;
        if !is_plain(&bytes[start..]) {
            return Err(wrong("its header is not a plain dictionary of type, order and shape".to_owned()));
        }
        let header = Header::from_reader(&mut bytes.as_slice()).map_err(|error| wrong(error.to_string()))?;
        Ok((Self::from_header(&header).map_err(wrong)?, bytes.len() as u64))
    }

    fn from_header(header: &Header) -> Result<Self, String> {
        let descriptor =
            header.type_descriptor.as_string().ok_or("its type is structured, not a plain one")?;
        let element = Element::parse(descriptor)?;
        if header.layout.is_fortran() {
            return Err("it is in Fortran order; rows here lie one after the other".to_owned());
        }
        let columns = match header.shape[..] {
            [_] => None,
            [_, columns] if columns as u64 <= MAX_DIM => Some(columns as u64),
            [_, columns] => return Err(format!("its rows of {columns} components are absurd")),
            _ => return Err(format!("it has {} dimensions", header.shape.len())),
        };
        Ok(Self { element, rows: header.shape[0] as u64, columns })
    }

    /// Checks that this array is what `member` of an npz must be.
    pub(super) fn check_kind(&self, member: &str) -> Result<(), String> {
        let fits = match member {
            super::ITEM_IDS => {
                matches!(self.element, Element::Text { width } if width <= MAX_ID_CHARACTERS)
                    && self.columns.is_none()
            }
            super::EMBEDDINGS => {
                matches!(self.element, Element::F32 | Element::F16)
                    && self.columns.is_some_and(|columns| columns > 0)
            }
            super::IMAGE_COUNTS => self.element == Element::I32 && self.columns.is_none(),
            super::METADATA => {
                matches!(self.element, Element::Text { .. }) && self.columns.is_none() && self.rows == 1
            }
            _ => false,
        };
        let expected = match member {
            super::ITEM_IDS => "<U of shape [n]",
            super::EMBEDDINGS => "<f4 or <f2 of shape [n, d]",
            super::IMAGE_COUNTS => "<i4 of shape [n]",
            _ => "<U of shape [1]",
        };
        if fits { Ok(()) } else { Err(format!("it is {self}, and must be {expected}")) }
    }
}

impl std::fmt::Display for ArrayHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.columns {
            Some(columns) => write!(f, "{} of shape [{}, {columns}]", self.element.descriptor(), self.rows),
            None => write!(f, "{} of shape [{}]", self.element.descriptor(), self.rows),
        }
    }
}

/// Whether a header's text is safe to hand to the literal parser, which recurses on brackets and
/// knows escapes: printable, no escapes, few brackets (a dictionary and a shape have two; a
/// structured type has two more and is named as such later).
fn is_plain(text: &[u8]) -> bool {
    let opening = text.iter().filter(|byte| matches!(byte, b'(' | b'[' | b'{')).count();
    let plain = |byte: &u8| *byte == b'\n' || (b' '..=b'~').contains(byte) && *byte != b'\\';
    opening <= 6 && text.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dictionary: &str) -> Result<ArrayHeader, NpzError> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(dictionary.len() as u16 + 1).to_le_bytes());
        bytes.extend_from_slice(dictionary.as_bytes());
        bytes.push(b'\n');
        ArrayHeader::read(&mut bytes.as_slice(), "x.npy", 40).map(|(header, _)| header)
    }

    #[test]
    fn headers_round_trip() {
        for header in [
            ArrayHeader::vector(Element::Text { width: 7 }, 3),
            ArrayHeader::matrix(Element::F32, 0, 4096),
            ArrayHeader::matrix(Element::F16, 1 << 40, 1),
            ArrayHeader::vector(Element::I32, 9),
        ] {
            let bytes = header.to_bytes();
            assert_eq!(bytes.len() % 64, 0);
            let (back, length) = ArrayHeader::read(&mut bytes.as_slice(), "x.npy", 0).unwrap();
            assert_eq!((back, length), (header, bytes.len() as u64));
        }
    }

    #[test]
    fn what_numpy_could_mean_and_we_do_not_is_refused_by_name() {
        for (dictionary, word) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "pickled"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", "big-endian"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }", "Fortran"),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", "none of"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 1), }", "dimensions"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", "shape"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }", "shape"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", "structured"),
            ("{'descr': '<U99999999999', 'fortran_order': False, 'shape': (3,), }", "none of"),
            ("{'descr': '<U+5', 'fortran_order': False, 'shape': (3,), }", "none of"),
            ("{'descr': '<U0', 'fortran_order': False, 'shape': (1152921504606846976,), }", "no characters"),
            ("{'shape': ((((((((((((((((((((((", "plain"),
            ("{'descr': '\\N{SPACE}', }", "plain"),
            ("nonsense", "expected"),
        ] {
            let error = read(dictionary).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("x.npy, byte 40"), "{dictionary}: {error}");
        }
    }
}
