//! One pass over all files: each from front to back, then what only all of them show.

use std::io;

use shared::part::{Metadata, PART_VERSION};
use shared::store::layout;
use tokio::runtime::Handle;

use super::error::VerifyError;
use super::file::{Checks, Stop, read_end};
use super::plan::{Absent, PlanCheck};
use super::report::{Check, Rows, Severity, VerifyReport};
use super::source::{ObjectReader, Source};
use crate::merge::Run;

/// A pass that is under way. Blocks.
pub(super) struct Pass<'a> {
    run: Option<&'a Run>,
    runtime: &'a Handle,
    checks: Checks<'a>,
    report: VerifyReport,
    /// The metadata of the first file.
    first: Option<Metadata>,
    files: u64,
}

/// What a pass gave.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) report: VerifyReport,
    /// Rows equal to the vector of an empty item.
    pub(super) null: Vec<u64>,
    /// The first row of each shard, with the number of rows at the end; empty where ids were not
    /// compared with a plan.
    pub(super) first_rows: Vec<u64>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(run: Option<&'a Run>, runtime: &'a Handle) -> Self {
        let (report, checks) = (VerifyReport::default(), Checks::new());
        Self { run, runtime, checks, report, first: None, files: 0 }
    }

    /// Reads the file of this name, or the files that it was cut into.
    pub(super) fn read(
        mut self,
        source: &Source,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Passed, VerifyError> {
        let files = self.find(source)?;
        self.files = files.len() as u64;
        let total = files.iter().map(|(_, size)| size).sum();
        for (number, (file, size)) in files.iter().enumerate() {
            self.report.files.push(file.describe());
            match self.file(number as u64, file, *size) {
                Ok(()) => {}
                Err(Stop::Io(source)) => {
                    return Err(VerifyError::Read { name: file.describe(), source });
                }
                Err(Stop::Wrong(error)) => {
                    // What was found before still counts, but for what compares with the plan.
                    self.checks.plan = None;
                    let what = format!("{}: {error}", file.describe());
                    self.report.wrong(Check::Readable, what, Rows::default());
                    break;
                }
            }
            self.report.bytes += size;
            progress(self.report.bytes, total);
        }
        self.finish().map_err(|source| VerifyError::Read { name: "failed.jsonl".to_owned(), source })
    }

    /// The file of this name, or the files that it was cut into.
    fn find(&mut self, source: &Source) -> Result<Vec<(Source, u64)>, VerifyError> {
        let size = |file: &Source| {
            let read = |source| VerifyError::Read { name: file.describe(), source };
            file.size(self.runtime).map_err(read)
        };
        if let Some(whole) = size(source)? {
            let volume = source.volume(0);
            if size(&volume)?.is_some() {
                let (one, other) = (source.describe(), volume.describe());
                let what = format!("{other} lies beside it, of another merge: {one} alone was looked at");
                self.report.add(Severity::Note, Check::Readable, what, Rows::default());
            }
            return Ok(vec![(source.clone(), whole)]);
        }
        let mut files = Vec::new();
        loop {
            let file = source.volume(files.len() as u64);
            match size(&file)? {
                Some(size) => files.push((file, size)),
                None if files.is_empty() => return Err(VerifyError::Missing(source.describe())),
                None => return Ok(files),
            }
        }
    }

    fn file(&mut self, number: u64, source: &Source, size: u64) -> Result<(), Stop> {
        let (directory, text) = read_end(source, self.runtime, size)?;
        let metadata: Option<Metadata> = match serde_json::from_str(&text) {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                let what = format!("{}: the metadata cannot be read: {error}", source.describe());
                self.report.wrong(Check::Metadata, what, Rows::default());
                None
            }
        };
        if let Some(metadata) = &metadata {
            self.check_metadata(number, metadata);
        }
        let whole = metadata
            .as_ref()
            .is_some_and(|metadata| metadata.volume.is_none_or(|volume| volume.of == self.files));
        if let (0, true, Some(run)) = (number, whole, self.run) {
            let absent = open_absent(run, self.runtime).map_err(io::Error::other)?;
            self.checks.plan = Some(PlanCheck::new(run, absent));
        }
        let is_last = number + 1 == self.files;
        self.checks.read(source, self.runtime, directory, metadata.as_ref(), is_last, &mut self.report)
    }

    /// What the metadata says of the file as one of several, and of the run.
    fn check_metadata(&mut self, number: u64, metadata: &Metadata) {
        let wrong =
            |report: &mut VerifyReport, what: String| report.wrong(Check::Metadata, what, Rows::default());
        if metadata.version != PART_VERSION {
            wrong(
                &mut self.report,
                format!("the metadata has version {}, not {PART_VERSION}", metadata.version),
            );
        }
        match metadata.volume {
            Some(volume) if self.files == 1 && volume.of > 1 => {
                let what = format!(
                    "this is file {} of {}; only all of them together can be compared with a plan",
                    volume.number, volume.of
                );
                self.report.add(Severity::Note, Check::Plan, what, Rows::default());
            }
            Some(volume) => {
                let expected = (number, self.files, self.checks.rows);
                if (volume.number, volume.of, volume.first_row) != expected {
                    let what = format!(
                        "file {number} of {} says it is file {} of {} and begins at row {}, not {}: another merge left it",
                        self.files, volume.number, volume.of, volume.first_row, self.checks.rows
                    );
                    wrong(&mut self.report, what);
                }
            }
            None if self.files > 1 => {
                wrong(&mut self.report, format!("file {number} of {} is a whole by itself", self.files));
            }
            None => {}
        }
        if let Some((what, found, expected)) = self.run.and_then(|run| metadata.differs_from_plan(&run.plan))
        {
            let what = format!("the metadata says {what} {found:?}, the plan says {expected:?}");
            self.report.wrong(Check::Plan, what, Rows::default());
        }
        let first = self.first.get_or_insert_with(|| metadata.clone());
        if (&first.parts_sha256, &first.fingerprint) != (&metadata.parts_sha256, &metadata.fingerprint) {
            wrong(&mut self.report, format!("file {number} was merged from other parts than the first"));
        }
    }

    fn finish(self) -> io::Result<Passed> {
        let Self { checks, mut report, .. } = self;
        report.rows = checks.rows;
        report.with_image = checks.with_image;
        let first_rows = match checks.plan {
            Some(plan) => plan.finish(report.failed, &mut report)?,
            None => Vec::new(),
        };
        if checks.empty_ids.count > 0 {
            report.wrong(Check::Ids, "ids are empty", checks.empty_ids);
        }
        let ids = checks.equal_ids;
        if ids.count > 0 {
            let what = format!("{} ids occur more than once: {}", ids.count, ids.describe());
            report.wrong(Check::Ids, what, ids.rows());
        }
        let vectors = checks.vectors;
        if vectors.not_finite.count > 0 {
            report.wrong(Check::Norm, "vectors have components that are not finite", vectors.not_finite);
        }
        if vectors.not_unit.count > 0 {
            let what = format!("vectors do not have norm 1, the worst has {}", vectors.worst_norm);
            report.wrong(Check::Norm, what, vectors.not_unit);
        }
        if checks.negative.count > 0 {
            report.wrong(Check::ImageCounts, "image counts are below 0", checks.negative);
        }
        if checks.null_with_images.count > 0 {
            let what = "vectors equal that of an empty item, and their items have images";
            report.wrong(Check::Null, what, checks.null_with_images);
        }
        if !vectors.null.is_empty() {
            let rows = vectors.null.iter().copied().collect();
            report.add(Severity::Note, Check::Null, "vectors equal that of an empty item", rows);
        }
        let identical = vectors.duplicates.groups();
        if identical.count > 0 {
            let what = format!("{} vectors occur more than once: {}", identical.count, identical.describe());
            report.add(Severity::Note, Check::Identical, what, identical.rows());
        }
        Ok(Passed { report, null: vectors.null, first_rows })
    }
}

/// The run's list of failed items, from its start; empty where there is none. Blocks.
pub(super) fn open_absent(run: &Run, runtime: &Handle) -> Result<Absent, VerifyError> {
    let key = layout::failed_key(&run.plan.run);
    if runtime.block_on(run.store.size(&key))?.is_none() {
        return Ok(Absent::new(Box::new(io::empty())));
    }
    let read = |source| VerifyError::Read { name: run.store.url_of(&key), source };
    Ok(Absent::new(Box::new(ObjectReader::open(runtime, &run.store, &key).map_err(read)?)))
}
