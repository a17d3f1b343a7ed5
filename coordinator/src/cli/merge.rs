//! `merge`: the parts of a run to one file, or several.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use shared::exit::ExitCode;
use shared::settings::FileSettings;
use shared::store::Store;
use tokio_util::sync::CancellationToken;

use super::args::StoreArgs;
use super::unless_stopped;
use crate::context::planned_run;
use crate::failure::Failure;
use crate::merge::{
    Destination, MergeProgress, MergeReport, MergeRequest, OutputType, Run, merge as merge_parts,
};
use crate::progress::Progress;

/// What to write and how.
#[derive(Debug, Args)]
pub struct MergeArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The type of the vectors in the file
    #[arg(long, default_value = "f32", value_enum)]
    dtype: MergedDtype,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// How a merged file looks.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// The file to write: a path ending in .npz, or a store URL
    #[arg(long, value_name = "FILE|URL")]
    pub out: String,
    /// Deflate the members
    #[arg(long)]
    pub compress: bool,
    /// Write what exists although shards are missing; the rest is listed in failed.jsonl, and the exit code is still 4
    #[arg(long)]
    pub partial: bool,
    /// Failed items are an error too (exit code 4)
    #[arg(long)]
    pub strict: bool,
    /// Several files of at most so many rows: F-00000.npz, F-00001.npz, ...
    #[arg(long, value_name = "N")]
    pub rows_per_file: Option<u64>,
}

/// The type of the merged vectors, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MergedDtype {
    /// Single precision, the bytes of the parts.
    F32,
    /// Half precision, rounded to nearest.
    F16,
}

impl OutputArgs {
    /// Defaults for a file.
    #[cfg(feature = "local")]
    pub fn of(file: &std::path::Path) -> Self {
        let out = file.display().to_string();
        Self { out, compress: false, partial: false, strict: false, rows_per_file: None }
    }

    /// Where the file goes.
    fn destination(&self) -> Result<Destination, Failure> {
        let destination = if let Some((folder, name)) = object(&self.out)? {
            Destination::Object { store: Store::open_or_create(folder)?, key: name.to_owned() }
        } else {
            let path = PathBuf::from(&self.out);
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if parent.is_some_and(|parent| !parent.is_dir()) || path.file_name().is_none() {
                return Err(Failure::usage(format!("--out {}: its folder does not exist", self.out)));
            }
            Destination::File(path)
        };
        // Several files have names of their own.
        if self.rows_per_file.is_none() && destination.path().is_some_and(|path| path.is_dir()) {
            return Err(Failure::usage(format!("--out {}: it is a folder; name a file in it", self.out)));
        }
        Ok(destination)
    }

    /// The request of a merge.
    pub fn request(&self, output: OutputType) -> Result<MergeRequest, Failure> {
        Ok(MergeRequest {
            destination: self.destination()?,
            output,
            compress: self.compress,
            partial: self.partial,
            rows_per_file: self.rows_per_file,
        })
    }
}

/// A store URL taken apart into its folder and the object's name; `None` for a path.
pub fn object(url: &str) -> Result<Option<(&str, &str)>, Failure> {
    let Some((scheme, place)) = url.split_once("://") else { return Ok(None) };
    // What stands first is a bucket, but for a folder of this machine.
    let named = place.rsplit_once('/').filter(|(folder, _)| scheme == "file" || !folder.is_empty());
    match named {
        Some((_, name)) if !name.is_empty() => Ok(Some((&url[..url.len() - name.len()], name))),
        // Not shown: a URL may hold a secret in the wrong place.
        _ => Err(Failure::usage(
            "the URL names no object; a file in a store has the form s3://bucket/folder/F.npz",
        )),
    }
}

/// Merges the parts of a run.
pub async fn merge(
    args: MergeArgs,
    file: &FileSettings,
    stop: CancellationToken,
) -> Result<ExitCode, Failure> {
    let output = match args.dtype {
        MergedDtype::F32 => OutputType::F32,
        MergedDtype::F16 => OutputType::F16,
    };
    let request = args.output.request(output)?;
    let store = args.store.open(file)?;
    let run = unless_stopped(&stop, planned_run(store, args.store.run(file))).await?;
    let report = merge_with_progress(Arc::new(run), &request, &stop).await?;
    if args.json {
        let json =
            serde_json::to_string(&report).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
        println!("{json}");
    } else {
        print!("{}", render(&report));
    }
    Ok(report.exit_code(args.output.strict))
}

/// Merges with progress on standard error.
pub async fn merge_with_progress(
    run: Arc<Run>,
    request: &MergeRequest,
    stop: &CancellationToken,
) -> Result<MergeReport, Failure> {
    let progress = Progress::start("merge", "shards", run.shards().len() as u64);
    let show = move |now: MergeProgress| progress.set(now.shards_done, now.shards);
    let merged = merge_parts(run, request, stop, &show).await;
    merged.map_err(|error| Failure::new(error.exit_code(), error))
}

/// The report for a person.
pub fn render(report: &MergeReport) -> String {
    let mut text = format!(
        "merged {} rows into {} ({:.1} MB, {:.1} s)\n",
        report.rows,
        report.files.join(", "),
        report.bytes as f64 / 1e6,
        report.seconds
    );
    let incomplete = report.failed + report.partial + report.text_only;
    if incomplete > 0 {
        text += &format!(
            "{} items failed, {} by some of their images, {} by text alone; all are listed in {}\n",
            report.failed, report.partial, report.text_only, report.failed_list
        );
        for line in &report.examples {
            text += &format!("  {line}\n");
        }
    }
    for damaged in &report.damaged {
        text += &format!("damaged, left out: {damaged}\n");
    }
    for earlier in &report.earlier {
        text +=
            &format!("warning: {earlier} is left of an earlier merge and no part of this one; remove it\n");
    }
    for missing in &report.missing {
        text += &format!("missing: {missing}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_a_bucket_and_a_name() {
        let found = |url| object(url).unwrap();
        assert_eq!(found("s3://bucket/F.npz"), Some(("s3://bucket/", "F.npz")));
        assert_eq!(found("gs://bucket/a/b/F.npz"), Some(("gs://bucket/a/b/", "F.npz")));
        assert_eq!(found("file:///F.npz"), Some(("file:///", "F.npz")));
        assert_eq!(found("file:///a/F.npz"), Some(("file:///a/", "F.npz")));
        assert_eq!((found("F.npz"), found("a/F.npz")), (None, None));
        for url in ["s3://bucket", "s3://bucket/", "s3://", "s3:///F.npz", "file://", "file:///a/"] {
            assert_eq!(object(url).unwrap_err().code, ExitCode::Usage, "{url}");
        }
    }

    #[test]
    fn a_folder_is_no_file_to_write_but_may_have_the_name_of_several() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        for out in [path.clone(), format!("file://{path}")] {
            let one = OutputArgs { out, compress: false, partial: false, strict: false, rows_per_file: None };
            let failure = one.destination().unwrap_err();
            assert_eq!(failure.code, ExitCode::Usage);
            assert!(failure.error.to_string().contains("is a folder"), "{:?}", failure.error);
            assert!(OutputArgs { rows_per_file: Some(1), ..one }.destination().is_ok());
        }
    }
}
