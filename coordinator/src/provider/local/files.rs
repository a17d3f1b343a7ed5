//! The folders of local boxes.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::provider::{InstanceId, MachineId, ProviderError, ProviderErrorKind};

/// The version of `box.json`.
const VERSION: u32 = 1;

/// `box.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxFile {
    version: u32,
    /// Which box.
    pub id: InstanceId,
    /// Its label.
    pub label: String,
    /// Its GPU's number, or one of the CPU's places.
    pub machine: MachineId,
    /// When it was made.
    pub made_at: Timestamp,
}

/// All boxes of this machine.
#[derive(Debug)]
pub struct Boxes {
    folder: PathBuf,
}

impl Boxes {
    /// The boxes in a folder, which is made where it is missing.
    pub fn open(folder: &Path) -> Result<Self, ProviderError> {
        fs::create_dir_all(folder).map_err(|error| unusable(folder, error))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder of all boxes.
    pub fn place(&self) -> &Path {
        &self.folder
    }

    /// The folder of a box.
    pub fn folder(&self, id: InstanceId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Makes the folder of a new box. `box.json` appears whole.
    pub fn add(&self, machine: MachineId, label: &str) -> Result<InstanceId, ProviderError> {
        // A number is given out once: what another run remembers of it must not become this box.
        let (counter, new) = (self.folder.join("last"), self.folder.join("last.new"));
        let last = fs::read_to_string(&counter).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut id = self.ids()?.last().map_or(0, |last| last.0).max(last) + 1;
        while let Err(error) = fs::create_dir(self.folder(InstanceId(id))) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(unusable(&self.folder, error));
            }
            id += 1;
        }
        fs::write(&new, id.to_string())
            .and_then(|()| fs::rename(&new, &counter))
            .map_err(|error| unusable(&counter, error))?;
        let id = InstanceId(id);
        let file =
            BoxFile { version: VERSION, id, label: label.to_owned(), machine, made_at: Timestamp::now() };
        let (path, new) = (self.folder(id).join("box.json"), self.folder(id).join("box.new"));
        let written = serde_json::to_vec(&file)
            .map_err(io::Error::other)
            .and_then(|json| fs::write(&new, json))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| unusable(&path, error))?;
        Ok(id)
    }

    /// A box; `None` once it is gone.
    pub fn read(&self, id: InstanceId) -> Result<Option<BoxFile>, ProviderError> {
        let path = self.folder(id).join("box.json");
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|error| unusable(&path, io::Error::other(error))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&path, error)),
        }
    }

    /// All boxes, the oldest first.
    pub fn all(&self) -> Result<Vec<BoxFile>, ProviderError> {
        let mut all = Vec::new();
        for id in self.ids()? {
            all.extend(self.read(id)?);
        }
        Ok(all)
    }

    fn ids(&self) -> Result<Vec<InstanceId>, ProviderError> {
        let entries = fs::read_dir(&self.folder).map_err(|error| unusable(&self.folder, error))?;
        let mut ids: Vec<InstanceId> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// How the worker of a box ended, once it has.
    pub fn exit(&self, id: InstanceId) -> Option<i32> {
        fs::read_to_string(self.folder(id).join("exit")).ok()?.trim().parse().ok()
    }

    /// Notes that a box was asked to end; when it was asked first.
    pub fn ask_to_end(&self, id: InstanceId) -> Result<Timestamp, ProviderError> {
        let path = self.folder(id).join("asked-to-end");
        if let Some(asked) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(asked);
        }
        let now = Timestamp::now();
        fs::write(&path, now.to_string()).map_err(|error| unusable(&path, error))?;
        Ok(now)
    }

    /// Removes a box that has no process any more.
    pub fn remove(&self, id: InstanceId) -> Result<(), ProviderError> {
        let folder = self.folder(id);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(unusable(&folder, error)),
            _ => Ok(()),
        }
    }

    /// The last lines of a box's log.
    pub fn log(&self, id: InstanceId, lines: usize) -> Result<String, ProviderError> {
        let path = self.folder(id).join("log");
        let text = fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                ProviderError::new(ProviderErrorKind::NoInstance, format!("there is no box {id}"))
            }
            _ => unusable(&path, error),
        })?;
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        Ok(all[all.len().saturating_sub(lines)..].join("\n"))
    }
}

fn unusable(path: &Path, error: io::Error) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unreachable, format!("cannot use {}", path.display()))
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_kept_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let boxes = Boxes::open(folder.path()).unwrap();
        let first = boxes.add(MachineId(0), "fleet-r-0-ab").unwrap();
        let second = boxes.add(MachineId(1), "fleet-r-1-cd").unwrap();
        assert_eq!((first, second), (InstanceId(1), InstanceId(2)));
        assert_eq!(boxes.all().unwrap().len(), 2);
        fs::write(boxes.folder(first).join("log"), "a\nb\nc\n").unwrap();
        assert_eq!(boxes.log(first, 2).unwrap(), "b\nc");
        assert_eq!(boxes.ask_to_end(first).unwrap(), boxes.ask_to_end(first).unwrap());
        boxes.remove(first).unwrap();
        boxes.remove(first).unwrap();
        assert_eq!(boxes.read(first).unwrap(), None);
        boxes.remove(second).unwrap();
        assert_eq!(boxes.add(MachineId(0), "fleet-r-0-ef").unwrap(), InstanceId(3));
        assert_eq!(boxes.log(first, 2).unwrap_err().kind, ProviderErrorKind::NoInstance);
    }
}
