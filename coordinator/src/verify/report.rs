//! What a verification found.

use std::fmt;

use serde::Serialize;
use shared::exit::ExitCode;

/// The most ranges of rows that a finding names one by one.
const MOST_RANGES: usize = 1000;

/// Whether a finding makes the file wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file must not be used.
    Wrong,
    /// Rows of the run are missing, as `merge --partial` says.
    Incomplete,
    /// Worth knowing.
    Note,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The bytes: zip, arrays, checksums.
    Readable,
    /// The metadata object, and that it counts what is there.
    Metadata,
    /// Ids: legal and unique.
    Ids,
    /// Components are finite and norms 1.
    Norm,
    /// Rows equal to the vector of an empty item.
    Null,
    /// Rows equal to each other.
    Identical,
    /// Image counts.
    ImageCounts,
    /// Ids, order and counts against the plan.
    Plan,
}

/// Rows, as ranges with both ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rows {
    /// How many rows.
    pub count: u64,
    /// First and last row of each range, ascending; the first thousand ranges.
    pub ranges: Vec<[u64; 2]>,
}

impl Rows {
    /// Adds the next row; rows come in ascending order.
    pub(super) fn push(&mut self, row: u64) {
        self.push_range(row, row);
    }

    /// Adds the next rows, `last` among them.
    pub(super) fn push_range(&mut self, first: u64, last: u64) {
        self.count += last - first + 1;
        let room = self.ranges.len() < MOST_RANGES;
        match self.ranges.last_mut() {
            Some(range) if range[1] + 1 == first => range[1] = last,
            _ if room => self.ranges.push([first, last]),
            _ => {}
        }
    }
}

impl FromIterator<u64> for Rows {
    fn from_iter<I: IntoIterator<Item = u64>>(rows: I) -> Self {
        let mut all = Self::default();
        rows.into_iter().for_each(|row| all.push(row));
        all
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.ranges.iter().take(10);
        let ranges: Vec<String> = shown
            .map(|[first, last]| if first == last { first.to_string() } else { format!("{first} to {last}") })
            .collect();
        write!(f, "{} {} {}", self.count, if self.count == 1 { "row:" } else { "rows:" }, ranges.join(", "))?;
        if self.ranges.len() > 10 { f.write_str(", ...") } else { Ok(()) }
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it makes the file wrong.
    pub severity: Severity,
    /// What was looked at.
    pub check: Check,
    /// For a person.
    pub message: String,
    /// The rows it is about, counted over all files; empty where it is about the whole.
    pub rows: Rows,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct VerifyReport {
    /// The files, as a person knows them.
    pub files: Vec<String>,
    /// Rows read.
    pub rows: u64,
    /// Components of a row.
    pub dim: u64,
    /// Rows with an image.
    pub with_image: u64,
    /// Items without a row, as the metadata says.
    pub failed: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// Everything found, the most severe first.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_right(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Wrong)
    }

    /// How the command ends.
    pub fn exit_code(&self) -> ExitCode {
        let any = |severity| self.findings.iter().any(|finding| finding.severity == severity);
        if any(Severity::Wrong) {
            ExitCode::Verification
        } else if any(Severity::Incomplete) {
            ExitCode::Incomplete
        } else {
            ExitCode::Done
        }
    }

    pub(super) fn add(&mut self, severity: Severity, check: Check, message: impl Into<String>, rows: Rows) {
        self.findings.push(Finding { severity, check, message: message.into(), rows });
    }

    pub(super) fn wrong(&mut self, check: Check, message: impl Into<String>, rows: Rows) {
        self.add(Severity::Wrong, check, message, rows);
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} rows of {} components, {} with an image, {} items without a row",
            self.files.join(", "),
            self.rows,
            self.dim,
            self.with_image,
            self.failed
        )?;
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Wrong => "wrong",
                Severity::Incomplete => "incomplete",
                Severity::Note => "note",
            };
            write!(f, "{severity}: {}", finding.message)?;
            if finding.rows.count > 0 {
                write!(f, " ({})", finding.rows)?;
            }
            writeln!(f)?;
        }
        f.write_str(if self.is_right() { "nothing is wrong" } else { "the file is wrong" })
    }
}
