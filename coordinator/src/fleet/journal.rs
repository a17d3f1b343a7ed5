//! The entries of a fleet in the store, and who may write them.
//!
//! Entries are numbered, and a number is written once ([`Store::put_new`]): whoever writes the next one has
//! read all before it. So two launchers cannot both rent: the one that was overtaken finds its number taken, reads what
//! stands there, and stops.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use shared::exit::ExitCode;
use shared::ids::RunId;
use shared::store::{Listed, Store, StoreError, StoreErrorKind, layout};

use super::event::{ENTRY_VERSION, Entry, Event};
use super::state::Fleet;

/// How long a launcher waits for the store.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// The store takes too long.
    #[error("the store does not answer")]
    Late,
    /// The store writes over what is there.
    #[error(
        "{0} writes over objects that exist: a launcher needs a store with conditional writes (If-None-Match), or two \
         launchers could rent the same boxes"
    )]
    Overwrites(String),
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
    /// Whether the store may answer the next time: also one that refuses our rights, while boxes cost money.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Store(error) => {
                matches!(
                    error.kind,
                    StoreErrorKind::Unreachable | StoreErrorKind::Denied | StoreErrorKind::LocalFile
                )
            }
            _ => false,
        }
    }

    /// How a command that meets this failure ends.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Store(error) => error.exit_code(),
            Self::Late => ExitCode::Unreachable,
            Self::Overwrites(_) => ExitCode::Usage,
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
///
/// What has happened is taken in at once and written as soon as the store answers, in order: a store that is away
/// must not keep a launcher from ending boxes. What is about to be done is written first, or not done.
#[derive(Debug)]
pub struct Journal {
    record: Record,
    /// Who we are.
    me: String,
    /// Taken in, and not written yet.
    pending: VecDeque<Entry>,
}

impl Journal {
    /// Reads all entries of a run's fleet.
    pub async fn open(store: &Store, run: &RunId, me: String) -> Result<Self, JournalError> {
        Ok(Self { record: Record::open(store, run).await?, me, pending: VecDeque::new() })
    }

    /// The fleet as far as it is read, with what is not written yet.
    pub fn fleet(&self) -> &Fleet {
        self.record.fleet()
    }

    /// Reads what others wrote; an error where they took the fleet.
    pub async fn refresh(&mut self) -> Result<(), JournalError> {
        while let Some(entry) = in_time(self.record.next_entry()).await? {
            self.take_foreign(&entry)?;
        }
        self.flush().await
    }

    /// Writes what has happened. Where the store fails that is an error, and the event stands all the same.
    pub async fn happened(&mut self, event: Event) -> Result<(), JournalError> {
        let entry = self.entry(event);
        self.record.fleet.apply(&entry);
        self.pending.push_back(entry);
        self.flush().await
    }

    /// Writes what is about to be done, after everything else. Where that fails it must not be done.
    pub async fn intend(&mut self, event: Event) -> Result<(), JournalError> {
        self.flush().await?;
        let entry = self.entry(event);
        self.write(&entry).await?;
        self.record.fleet.apply(&entry);
        Ok(())
    }

    fn entry(&self, event: Event) -> Entry {
        Entry { version: ENTRY_VERSION, at: Timestamp::now(), by: self.me.clone(), event }
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        while let Some(entry) = self.pending.front().cloned() {
            self.write(&entry).await?;
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Writes an entry after those that others wrote meanwhile; an error where they took the fleet. A repeat after
    /// a lost answer finds its own bytes.
    async fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        loop {
            let key = self.record.next_key();
            let json = serde_json::to_vec(entry)
                .map_err(|error| JournalError::Entry { key: key.clone(), message: error.to_string() })?;
            let put = async { Ok(self.record.store.put_new(&key, json.into()).await?) };
            match in_time(put).await {
                Ok(_) => {
                    self.record.next += 1;
                    return Ok(());
                }
                Err(JournalError::Store(error)) if error.kind == StoreErrorKind::Conflict => {
                    let foreign = in_time(self.record.next_entry()).await?.ok_or(JournalError::Gap(key))?;
                    if matches!(entry.event, Event::Opened(_)) {
                        self.record.take(&foreign);
                    } else {
                        self.take_foreign(&foreign)?;
                    }
                }
                Err(error) => return Err(error),
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

    /// Whether the store refuses to write what is there already: without that two launchers could both rent.
    pub async fn check_exclusive(&self, probe: &str) -> Result<(), JournalError> {
        let key = layout::fleet_probe_key(&self.record.run, probe);
        self.record.store.put_new(&key, "first".into()).await?;
        match self.record.store.put_new(&key, "second".into()).await {
            Err(error) if error.kind == StoreErrorKind::Conflict => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(JournalError::Overwrites(self.record.store.url().to_owned())),
        }
    }
}

/// A store that is away is tried again at the next look: nothing else may wait for it.
async fn in_time<T>(call: impl Future<Output = Result<T, JournalError>>) -> Result<T, JournalError> {
    tokio::time::timeout(PATIENCE, call).await.unwrap_or(Err(JournalError::Late))
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
            account: "here".into(),
            tag: "0000".to_owned().try_into().unwrap(),
            forget_bans: false,
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
        journal.check_exclusive("probe").await.unwrap();
        journal.intend(opened()).await.unwrap();
        journal.happened(drained("why")).await.unwrap();
        let again = Journal::open(&store, &run, "b:2".into()).await.unwrap();
        assert_eq!(again.fleet(), journal.fleet());
        assert_eq!(again.fleet().drained.as_ref().unwrap().1, "why");
    }

    #[tokio::test]
    async fn a_launcher_that_was_overtaken_writes_nothing_more() {
        let (store, run) = (Store::memory(), "r".parse().unwrap());
        let mut first = Journal::open(&store, &run, "a:1".into()).await.unwrap();
        first.intend(opened()).await.unwrap();
        let mut second = Journal::open(&store, &run, "b:2".into()).await.unwrap();
        // Another's word that takes nothing over is read and followed.
        second.happened(drained("by b")).await.unwrap();
        first.happened(drained("by a")).await.unwrap();
        second.intend(opened()).await.unwrap();
        assert_eq!(second.fleet().drained, None);
        let error = first.happened(drained("late")).await.unwrap_err();
        assert!(matches!(&error, JournalError::Overtaken { by, .. } if by == "b:2"), "{error}");
        second.happened(Event::Closed(Closed { why: "done".into(), billed: None })).await.unwrap();
        let third = Journal::open(&store, &run, "c:3".into()).await.unwrap();
        assert_eq!(third.fleet().closed.as_ref().unwrap().1.why, "done");
        assert!(first.refresh().await.is_err());
    }

    #[tokio::test]
    async fn what_happened_stands_while_the_store_is_away_and_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        let run = "r".parse().unwrap();
        let mut journal = Journal::open(&store, &run, "a:1".into()).await.unwrap();
        journal.intend(opened()).await.unwrap();
        let (entries, away) = (folder.path().join("runs/r/fleet"), folder.path().join("away"));
        std::fs::rename(&entries, &away).unwrap();
        std::fs::write(&entries, "no folder").unwrap();
        assert!(journal.happened(drained("money")).await.unwrap_err().may_pass());
        assert_eq!(journal.fleet().drained.as_ref().unwrap().1, "money");
        assert!(journal.intend(drained("not done")).await.unwrap_err().may_pass());
        assert_eq!(journal.fleet().drained.as_ref().unwrap().1, "money");
        std::fs::remove_file(&entries).unwrap();
        std::fs::rename(&away, &entries).unwrap();
        journal.refresh().await.unwrap();
        let again = Record::open(&store, &run).await.unwrap();
        assert_eq!(again.fleet(), journal.fleet());
        assert_eq!(again.next, 2);
    }

    #[tokio::test]
    async fn a_damaged_record_is_named() {
        let (store, run) = (Store::memory(), "r".parse().unwrap());
        store.put_new(&layout::fleet_entry_key(&run, 0), "{}".into()).await.unwrap();
        let error = Journal::open(&store, &run, "a:1".into()).await.unwrap_err();
        assert!(error.to_string().contains("runs/r/fleet/00000000.json"), "{error}");
    }
}
