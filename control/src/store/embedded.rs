//! Generations in one file of the state folder: a `redb` database, which keeps the last committed transaction whole whenever
//! the process or the machine dies. A file beside it is locked while it is open, so that a second appliance is refused at once;
//! not the folder itself, which others have their reasons to lock (the control socket may be in it).
//!
//! After an error of the disk the database is closed, and opened anew for the next call: a disk that was full and is not any
//! more needs no restart. Whatever the file holds, the answer is what was written or a sentence.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{Builder, Database, DatabaseError, ReadableTable, TableDefinition};
use rustix::fs::{FlockOperation, flock};

use super::sealed::{seal, unseal};
use super::{Store, StoreError, in_order, surplus};
use crate::status::{AppliedPolicy, Standing};

/// What was put in force, as JSON, by generation. The names carry the version of what is stored.
const GENERATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("generations-1");
/// The texts, by generation.
const TEXTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("texts-1");

/// The database in the state folder.
const FILE: &str = "generations.redb";
/// Locked by whoever has the folder.
const LOCK_FILE: &str = "lock";
/// A new one, until it is whole.
const NEW_FILE: &str = "generations.redb.new";
/// The folder and the file hold policies: the owner's, and for the group to look into the folder.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o600;
/// Bytes of pages kept in memory. Generations are read at the start and by `rollback`.
const CACHE_BYTES: usize = 1 << 20;

/// What the database says is wrong: large, and rare.
struct Fault(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Generations in a file.
pub struct Embedded {
    path: PathBuf,
    /// Closed after an error, until the next call.
    database: Mutex<Option<Database>>,
    open: Opener,
    /// Locked as long as this lives.
    _lock: Option<File>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in `folder`, and makes both where they are not there.
    ///
    /// # Errors
    /// [`StoreError`]: somebody else has it, it cannot be made, or what is there is damaged.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(failed)?;
        let locked =
            OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(folder.join(LOCK_FILE));
        let lock = locked.map_err(failed)?;
        flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            match io::Error::from(errno) {
                taken if taken.kind() == io::ErrorKind::WouldBlock => StoreError::Busy { path: folder.to_owned() },
                source => failed(source),
            }
        })?;
        let path = folder.join(FILE);
        if !path.try_exists().map_err(failed)? {
            make(folder, &path)?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let file = path.clone();
        let open = move || builder().open(&file);
        Self::with(path, Box::new(open), Some(lock))
    }

    /// Opens a store by this opener; `path` names it in what is said of it.
    pub(super) fn with(path: PathBuf, open: Opener, lock: Option<File>) -> Result<Self, StoreError> {
        let store = Self { path, database: Mutex::new(None), open, _lock: lock };
        let whole = store.work(|database| Ok(database.check_integrity()?))?;
        if !whole {
            log::warn!("{} was damaged and has been mended; the last change may be missing", store.path.display());
        }
        Ok(store)
    }

    /// Does something with the database, and closes it when that fails.
    fn work<T>(&self, work: impl FnOnce(&mut Database) -> Result<T, Fault>) -> Result<T, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        // The database takes some damages of its file for faults of its own, and stops with a panic.
        let done = catch_unwind(AssertUnwindSafe(|| {
            let open = match &mut *database {
                Some(open) => open,
                closed => closed.insert((self.open)()?),
            };
            work(open)
        }));
        let error = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Fault(error))) => self.explained(&error),
            Err(_) => self.damaged(&"its structure contradicts itself"),
        };
        close(&mut database);
        Err(error)
    }

    fn damaged(&self, what: &impl ToString) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    fn explained(&self, error: &redb::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::Busy { path },
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => self.damaged(source),
            redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                self.damaged(&"it ends too early")
            }
            redb::Error::Io(source) => StoreError::Failed { path, what: source.to_string() },
            redb::Error::PreviousIo => StoreError::Failed { path, what: error.to_string() },
            other => self.damaged(other),
        }
    }

    /// A record that was read, or that it is damaged.
    fn record(&self, generation: u64, stored: &[u8]) -> Result<AppliedPolicy, StoreError> {
        let bytes = unseal(generation, stored);
        let record = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
        record.ok_or_else(|| self.damaged(&format!("the record of generation {generation} is not what was written")))
    }
}

impl Store for Embedded {
    fn generations(&self) -> Result<Vec<AppliedPolicy>, StoreError> {
        let stored = self.work(|database| {
            let reading = database.begin_read()?;
            match reading.open_table(GENERATIONS) {
                Ok(table) => rows(&table),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            }
        })?;
        stored.iter().map(|(generation, bytes)| self.record(*generation, bytes)).collect()
    }

    fn text(&self, generation: u64) -> Result<Option<String>, StoreError> {
        let stored = self.work(|database| {
            let reading = database.begin_read()?;
            match reading.open_table(TEXTS) {
                Ok(table) => Ok(table.get(generation)?.map(|stored| stored.value().to_vec())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        let Some(stored) = stored else { return Ok(None) };
        let text = unseal(generation, &stored).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        text.map(Some)
            .ok_or_else(|| self.damaged(&format!("the text of generation {generation} is not what was written")))
    }

    fn intend(&self, policy: &AppliedPolicy, text: &str) -> Result<(), StoreError> {
        let generation = policy.generation;
        let record = sealed(policy);
        self.work(|database| {
            let writing = database.begin_write()?;
            {
                let mut generations = writing.open_table(GENERATIONS)?;
                let last = generations.last()?.map(|(last, _)| last.value());
                if let Err(overtaken) = in_order(generation, last) {
                    return Ok(Err(overtaken));
                }
                generations.insert(generation, &*record)?;
                writing.open_table(TEXTS)?.insert(generation, &*seal(generation, text.as_bytes()))?;
            }
            writing.commit()?;
            Ok(Ok(()))
        })?
    }

    fn settle(&self, generation: u64, standing: Standing) -> Result<(), StoreError> {
        let mut kept = self.generations()?;
        let Some(policy) = kept.iter_mut().find(|policy| policy.generation == generation) else { return Ok(()) };
        policy.standing = standing;
        let record = sealed(policy);
        self.work(|database| {
            let writing = database.begin_write()?;
            {
                let mut generations = writing.open_table(GENERATIONS)?;
                let mut texts = writing.open_table(TEXTS)?;
                generations.insert(generation, &*record)?;
                for old in surplus(&kept) {
                    generations.remove(old)?;
                    texts.remove(old)?;
                }
            }
            Ok(writing.commit()?)
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        close(self.database.get_mut().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Closes the database; of a damaged one, as far as it can be.
fn close(database: &mut Option<Database>) {
    let closed = database.take();
    if catch_unwind(AssertUnwindSafe(|| drop(closed))).is_err() {
        log::error!("the file of the generations is damaged and could not be closed well");
    }
}

fn sealed(policy: &AppliedPolicy) -> Vec<u8> {
    // A plain struct with string keys always has a JSON form.
    seal(policy.generation, &serde_json::to_vec(policy).unwrap_or_default())
}

fn rows(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
    let mut rows = Vec::new();
    for row in table.iter()? {
        let (generation, bytes) = row?;
        rows.push((generation.value(), bytes.value().to_vec()));
    }
    Ok(rows)
}

pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).create_with_file_format_v3(true);
    builder
}

/// Makes an empty database under a name of its own first: one that was cut off half-made is never taken for a damaged one.
fn make(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let new = folder.join(NEW_FILE);
    let made = (|| {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let database = builder().create(&new).map_err(|error| match error {
            DatabaseError::Storage(redb::StorageError::Io(source)) => source,
            other => io::Error::other(other),
        })?;
        drop(database);
        fs::set_permissions(&new, fs::Permissions::from_mode(FILE_MODE))?;
        fs::rename(&new, path)
    })();
    made.map_err(|source| StoreError::Folder { path: path.to_owned(), source })
}
