//! One download of a model at a time on a machine: eight workers that start together share one.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::ModelError;

/// How often a waiting worker looks whether the other has finished.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits for the lock and holds it until the file is dropped. A file system without locks gives none:
/// then two workers may both download, and each still verifies what it uses.
pub(super) async fn lock(path: &Path) -> Result<Option<File>, ModelError> {
    let file = File::create(path).map_err(|error| ModelError::local("write", path, error))?;
    let mut waiting = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => {
                if !waiting {
                    tracing::info!("waiting for another process that fetches the same model");
                    waiting = true;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}
