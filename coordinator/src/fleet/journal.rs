//! The entries of a fleet in the store, and who may write them.
//!
//! Entries are numbered, and a number is written once ([`Store::put_new`]): whoever writes the next one has
//! read all before it. So two launchers cannot both rent: the one that was overtaken finds its number taken, reads what
//! stands there, and stops.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::store::{Listed, Store, StoreError, StoreErrorKind, layout};

use super::event::{ENTRY_VERSION, Entry, Event};
use super::state::Fleet;

/// Entries read together.
const READ_AT_ONCE: usize = 16;

/// The entries could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry is none.
    #[error("{key} is no entry of a fleet: {message}")]
    Entry {
        /// Its key.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// An entry is missing among others.
    #[error("{0} is missing, and entries after it are there: the fleet's record is damaged")]
    Gap(String),
    /// Another launcher has the fleet now.
    #[error(
        "another launcher ({by}, since {at:.0}) has taken this fleet over; this one stops and leaves all boxes to it"
    )]
    Overtaken {
        /// Which one.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// The fleet was ended elsewhere.
    #[error("this fleet was ended by {by} at {at:.0}; this launcher stops")]
    Ended {
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
}

impl JournalError {
    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Entry { .. } | Self::Gap(_) => ExitCode::Input,
            Self::Overtaken { .. } | Self::Ended { .. } => ExitCode::Unexpected,
        }
    }
}

/// A fleet as its entries tell it, for whoever only reads.
#[derive(Debug)]
pub struct Record {
    store: Store,
    run: RunId,
    /// The number of the next entry.
    next: u64,
    fleet: Fleet,
}

impl Record {
    /// Reads all entries of a run's fleet.
    pub async fn open(store: &Store, run: &RunId) -> Result<Self, JournalError> {
        let listed: Vec<Listed> = store.list(&layout::fleet_folder(run)).try_collect().await?;
        let keys = (0..listed.len() as u64).map(|number| layout::fleet_entry_key(run, number));
        let mut record = Self { store: store.clone(), run: run.clone(), next: 0, fleet: Fleet::default() };
        let mut entries = stream::iter(keys).map(|key| read(store, key)).buffered(READ_AT_ONCE);
        while let Some((key, entry)) = entries.try_next().await? {
            record.take(&entry.ok_or(JournalError::Gap(key))?);
        }
        Ok(record)
    }

    /// The fleet as far as it is read.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// Reads what was written since.
    pub async fn read_on(&mut self) -> Result<(), JournalError> {
        while let Some(entry) = self.next_entry().await? {
            self.take(&entry);
        }
        Ok(())
    }

    fn next_key(&self) -> String {
        layout::fleet_entry_key(&self.run, self.next)
    }

    async fn next_entry(&self) -> Result<Option<Entry>, JournalError> {
        Ok(read(&self.store, self.next_key()).await?.1)
    }

    fn take(&mut self, entry: &Entry) {
        self.fleet.apply(entry);
        self.next += 1;
    }
}

/// The record of whoever writes it.
#[derive(Debug)]
pub struct Journal {
    record: Record,
    /// Who we are.
    me: String,
}

impl Journal {
    /// Reads all entries of a run's fleet.
    pub async fn open(store: &Store, run: &RunId, me: String) -> Result<Self, JournalError> {
        Ok(Self { record: Record::open(store, run).await?, me })
    }

    /// The fleet as far as it is read.
    pub fn fleet(&self) -> &Fleet {
        self.record.fleet()
    }

    /// Reads what others wrote; an error where they took the fleet.
    pub async fn refresh(&mut self) -> Result<(), JournalError> {
        while let Some(entry) = self.record.next_entry().await? {
            self.take_foreign(&entry)?;
        }
        Ok(())
    }

    /// Writes an entry, after those that others wrote meanwhile; an error where they took the fleet.
    pub async fn append(&mut self, event: Event) -> Result<(), JournalError> {
        loop {
            let entry = Entry {
                version: ENTRY_VERSION,
                at: Timestamp::now(),
                by: self.me.clone(),
                event: event.clone(),
            };
            let key = self.record.next_key();
            let json = serde_json::to_vec(&entry)
                .map_err(|error| JournalError::Entry { key: key.clone(), message: error.to_string() })?;
            match self.record.store.put_new(&key, json.into()).await {
                Ok(_) => {
                    self.record.take(&entry);
                    return Ok(());
                }
                Err(error) if error.kind == StoreErrorKind::Conflict => {
                    let entry = self.record.next_entry().await?.ok_or(JournalError::Gap(key))?;
                    if matches!(event, Event::Opened(_)) {
                        self.record.take(&entry);
                    } else {
                        self.take_foreign(&entry)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take_foreign(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.record.take(entry);
        let (by, at) = (entry.by.clone(), entry.at);
        match &entry.event {
            Event::Opened(_) if by != self.me => Err(JournalError::Overtaken { by, at }),
            Event::Closed(_) if by != self.me => Err(JournalError::Ended { by, at }),
            _ => Ok(()),
        }
    }
}

async fn read(store: &Store, key: String) -> Result<(String, Option<Entry>), JournalError> {
    let Some(bytes) = store.get_if_exists(&key).await? else { return Ok((key, None)) };
    let wrong = |message: String| JournalError::Entry { key: store.url_of(&key), message };
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    if entry.version != ENTRY_VERSION {
        return Err(wrong(format!("version {}, this program knows {ENTRY_VERSION}", entry.version)));
    }
    Ok((key, Some(entry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dollars::Dollars;
    use crate::fleet::event::{Closed, Opened};

    fn opened() -> Event {
        Event::Opened(Opened {
            provider: "local".into(),
            workers: 2,
            budget: Some(Dollars(6.0)),
            until: Timestamp::UNIX_EPOCH,
        })
    }

    fn drained(why: &str) -> Event {
        Event::Drained { why: why.into() }
    }

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        let (store, run) = (Store::memory(), "r".parse().unwrap());
        let mut journal = Journal::open(&store, &run, "a:1".into()).await.unwrap();
        assert!(journal.record.is_empty());
        journal.append(opened()).await.unwrap();
        journal.append(drained("why")).await.unwrap();
        let again = Journal::open(&store, &run, "b:2".into()).await.unwrap();
        assert_eq!(again.fleet(), journal.fleet());
        assert_eq!(again.fleet().drained.as_ref().unwrap().1, "why");
    }

    #[tokio::test]
    async fn a_launcher_that_was_overtaken_writes_nothing_more() {
        let (store, run) = (Store::memory(), "r".parse().unwrap());
        let mut first = Journal::open(&store, &run, "a:1".into()).await.unwrap();
        first.append(opened()).await.unwrap();
        let mut second = Journal::open(&store, &run, "b:2".into()).await.unwrap();
        // Another's word that takes nothing over is read and followed.
        second.append(drained("by b")).await.unwrap();
        first.append(drained("by a")).await.unwrap();
        second.append(opened()).await.unwrap();
        assert_eq!(second.fleet().drained, None);
        let error = first.append(drained("late")).await.unwrap_err();
        assert!(matches!(&error, JournalError::Overtaken { by, .. } if by == "b:2"), "{error}");
        second.append(Event::Closed(Closed { why: "done".into(), billed: None })).await.unwrap();
        let third = Journal::open(&store, &run, "c:3".into()).await.unwrap();
        assert_eq!(third.fleet().closed.as_ref().unwrap().1.why, "done");
        assert!(first.refresh().await.is_err());
    }

    #[tokio::test]
    async fn a_damaged_record_is_named() {
        let (store, run) = (Store::memory(), "r".parse().unwrap());
        store.put_new(&layout::fleet_entry_key(&run, 0), "{}".into()).await.unwrap();
        let error = Journal::open(&store, &run, "a:1".into()).await.unwrap_err();
        assert!(error.to_string().contains("runs/r/fleet/00000000.json"), "{error}");
    }
}
