//! The bytes of one item after the other, out of a JSON array or JSON Lines, in memory bounded by the
//! largest item. Only the outermost structure is looked at here: brackets, strings and commas.

use std::io::{self, Read};

use memchr::{memchr_iter, memchr2, memrchr};

/// Bytes asked of the reader at once.
const CHUNK: usize = 1 << 18;

/// The largest item.
const LARGEST_ITEM: usize = 64 << 20;

/// Where an item or a mistake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: u64,
    /// The column in bytes, from 1.
    pub column: u64,
}

/// Why scanning ended early.
#[derive(Debug)]
pub enum ScanError {
    /// The reader failed.
    Read(io::Error),
    /// The structure is broken.
    Syntax(Position, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Lines,
    /// Inside the array, before its first item.
    First,
    /// Inside the array, behind an item.
    Behind,
    End,
}

/// Cuts a file into items.
pub struct Scanner<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` before this are consumed.
    at: usize,
    exhausted: bool,
    state: State,
    position: Position,
}

impl<R: Read> Scanner<R> {
    /// A scanner at the start of a file.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            at: 0,
            exhausted: false,
            state: State::Start,
            position: Position { line: 1, column: 1 },
        }
    }

    /// The reader, for what it has counted.
    pub fn into_reader(self) -> R {
        self.reader
    }

    /// The next item: where it starts and its bytes, an object from `{` to `}`.
    pub fn next_item(&mut self) -> Result<Option<(Position, &[u8])>, ScanError> {
        if self.state == State::Start {
            self.open()?;
        }
        if !self.advance_to_item()? {
            return Ok(None);
        }
        let start = self.position;
        let length = self.measure_object(start)?;
        let first = self.at;
        self.consume(length);
        if self.state == State::First {
            self.state = State::Behind;
        }
        Ok(Some((start, &self.buffer[first..first + length])))
    }

    /// Decides between array and lines.
    fn open(&mut self) -> Result<(), ScanError> {
        self.fill(3)?;
        if self.rest().starts_with(b"\xef\xbb\xbf") {
            self.at += 3;
        }
        self.skip_white()?;
        self.state = match self.peek() {
            Some(b'[') => {
                self.consume(1);
                State::First
            }
            _ => State::Lines,
        };
        Ok(())
    }

    /// Goes to the `{` of the next item; `false` at the end.
    fn advance_to_item(&mut self) -> Result<bool, ScanError> {
        self.skip_white()?;
        let next = self.peek();
        match (self.state, next) {
            (State::End | State::Lines, None) => return Ok(false),
            (State::End, Some(_)) => return self.syntax("there is something behind the end of the array"),
            (State::First | State::Behind, Some(b']')) => {
                self.consume(1);
                self.state = State::End;
                return self.advance_to_item();
            }
            (State::Behind, Some(b',')) => {
                self.consume(1);
                self.skip_white()?;
            }
            (State::Behind, Some(_)) => return self.syntax("a ',' or ']' is missing behind the item before"),
            _ => {}
        }
        match self.peek() {
            Some(b'{') => Ok(true),
            Some(_) => self.syntax("an item must be a JSON object and start with '{'"),
            None => self.syntax("the file ends before its array does: it is truncated"),
        }
    }

    /// The length of the object that starts here.
    fn measure_object(&mut self, start: Position) -> Result<usize, ScanError> {
        let mut nesting = Nesting::default();
        let mut length = 0_usize;
        loop {
            let rest = &self.buffer[self.at + length..];
            if let Some(end) = nesting.find_end(rest) {
                return Ok(length + end);
            }
            length += rest.len();
            if length > LARGEST_ITEM {
                let what = format!("the item is larger than {} MiB", LARGEST_ITEM >> 20);
                return Err(ScanError::Syntax(start, what));
            }
            if !self.read_more()? {
                let what = "the file ends inside this item: it is truncated".to_owned();
                return Err(ScanError::Syntax(start, what));
            }
        }
    }

    fn skip_white(&mut self) -> Result<(), ScanError> {
        loop {
            let white =
                self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
            self.consume(white);
            if self.at < self.buffer.len() || !self.read_more()? {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn consume(&mut self, count: usize) {
        let bytes = &self.buffer[self.at..self.at + count];
        if let Some(last) = memrchr(b'\n', bytes) {
            self.position.line += memchr_iter(b'\n', bytes).count() as u64;
            self.position.column = (count - last) as u64;
        } else {
            self.position.column += count as u64;
        }
        self.at += count;
    }

    fn fill(&mut self, count: usize) -> Result<(), ScanError> {
        while self.rest().len() < count && self.read_more()? {}
        Ok(())
    }

    /// Reads another chunk; `false` at the end of the file.
    fn read_more(&mut self) -> Result<bool, ScanError> {
        if self.exhausted {
            return Ok(false);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let count = loop {
            match self.reader.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(ScanError::Read)?,
            }
        };
        self.buffer.truncate(filled + count);
        self.exhausted = count == 0;
        Ok(count > 0)
    }

    fn syntax<T>(&self, what: &str) -> Result<T, ScanError> {
        Err(ScanError::Syntax(self.position, what.to_owned()))
    }
}

/// How deep inside an object a walk over its bytes is.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Goes on over `bytes`; where the object ends among them, how many of them it takes.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if std::mem::take(&mut self.escaped) {
                at += 1;
            } else if self.in_string {
                // Nearly all bytes of a file stand in strings, and are passed many at a time.
                let next = memchr2(b'"', b'\\', rest)?;
                self.escaped = rest[next] == b'\\';
                self.in_string = self.escaped;
                at += next + 1;
            } else {
                let byte = rest[0];
                at += 1;
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return Some(at);
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time, so that every boundary is met.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn scan(text: &str) -> Result<Vec<(u64, u64, String)>, String> {
        let mut scanner = Scanner::new(Trickle(text.as_bytes()));
        let mut items = Vec::new();
        loop {
            match scanner.next_item() {
                Ok(Some((place, bytes))) => {
                    items.push((place.line, place.column, String::from_utf8(bytes.to_vec()).unwrap()));
                }
                Ok(None) => return Ok(items),
                Err(ScanError::Syntax(place, what)) => {
                    return Err(format!("{}:{} {what}", place.line, place.column));
                }
                Err(ScanError::Read(error)) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn arrays_and_lines_are_cut_into_items() {
        let one = |line, column, text: &str| (line, column, text.to_owned());
        let array = "\u{feff} [\n {\"a\": \"]}\\\"\"},\n{\"b\":[{}]} ]\n";
        assert_eq!(scan(array).unwrap(), [one(2, 2, r#"{"a": "]}\""}"#), one(3, 1, r#"{"b":[{}]}"#)]);
        assert_eq!(
            scan("{}\n{\"x\":1}\r\n\n{}").unwrap(),
            [one(1, 1, "{}"), one(2, 1, "{\"x\":1}"), one(4, 1, "{}")]
        );
        assert_eq!(scan("[]").unwrap(), []);
        assert_eq!(scan("").unwrap(), []);
    }

    #[test]
    fn broken_structure_is_named_by_place() {
        for (text, what) in [
            ("[{\"a\":1},{\"b\":", "1:10 the file ends inside"),
            ("[{}", "1:4 the file ends before its array"),
            ("[{},", "1:5 the file ends before its array"),
            ("[{}\n{}]", "2:1 a ',' or ']'"),
            ("[{}] x", "1:6 there is something behind"),
            ("[1]", "1:2 an item must be"),
            ("[{},]", "1:5 an item must be"),
            ("hello", "1:1 an item must be"),
        ] {
            let error = scan(text).unwrap_err();
            assert!(error.starts_with(what), "{text}: {error}");
        }
    }
}
