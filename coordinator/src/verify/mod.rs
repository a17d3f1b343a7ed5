//! Whether a merged file is right.
//!
//! Needs only the file: it is read from front to back once, and its end before. With a run, ids,
//! order and counts are compared with the plan too. A file that `merge --rows-per-file` cut into
//! several is verified as a whole by the name given to `merge`.
//!
//! | finding | wrong? |
//! |---|---|
//! | bytes that are no npz of this project, a checksum that does not fit | yes |
//! | ids empty, with a NUL inside, or twice | yes |
//! | components that are not finite, norms off 1 by 1e-6 (`<f2`: 2e-3) | yes |
//! | image counts below 0 | yes |
//! | metadata that cannot be read or counts otherwise than the arrays | yes |
//! | a row equal to the vector of an empty item (metadata: `null_embedding`) | when its item is not empty |
//! | rows equal to each other | no |
//! | with a run: ids, order, counts or settings other than the plan's | yes |
//! | with a run: shards left out by `merge --partial` | no: incomplete |
//!
//! An item is empty when it has neither text nor images. The file alone tells its images: such a row
//! that used some is wrong, another is noted. With a run its bundle tells the rest.
//!
//! Memory: 20 bytes for each id and each row (a quarter more while they grow), and a few chunks
//! ([`shared::laws::Law::MemoryIsBounded`]).

mod duplicates;
mod empty;
mod error;
mod file;
mod pass;
mod plan;
mod report;
mod rows;
mod source;

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use crate::merge::Run;
pub use error::VerifyError;
use pass::{Pass, open_absent};
pub use report::{Check, Finding, Rows, Severity, VerifyReport};
pub use source::Source;

/// Verifies a file, and against a run where one is given. `progress` is called with the bytes read
/// and the bytes in all, after each file.
pub async fn verify(
    source: Source,
    run: Option<Arc<Run>>,
    progress: impl Fn(u64, u64) + Send + 'static,
) -> Result<VerifyReport, VerifyError> {
    let started = Instant::now();
    let runtime = Handle::current();
    let work = {
        let (run, runtime) = (run.clone(), runtime.clone());
        move || Pass::new(run.as_deref(), &runtime).read(&source, &progress)
    };
    let read =
        tokio::task::spawn_blocking(work).await.map_err(|error| VerifyError::Thread(error.to_string()))??;
    let mut report = read.report;
    if let Some(run) = run.filter(|_| !read.null.is_empty() && !read.first_rows.is_empty()) {
        let absent = {
            let (run, runtime) = (Arc::clone(&run), runtime);
            let open = move || open_absent(&run, &runtime);
            tokio::task::spawn_blocking(open)
                .await
                .map_err(|error| VerifyError::Thread(error.to_string()))??
        };
        empty::check_empty_items(&run, &read.null, &read.first_rows, absent, &mut report).await?;
    }
    report.findings.sort_by_key(|finding| match finding.severity {
        Severity::Wrong => 0,
        Severity::Incomplete => 1,
        Severity::Note => 2,
    });
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}
