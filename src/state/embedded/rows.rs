//! Rows on disk: one file, written at checkpoints and read for users that are not in memory.
//!
//! Every value is `crc u32 | lsn u64 | row`. The checksum covers the key as well, so that a read detects damage.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};

use crate::state::journal::{LedgerId, OpenError};
use crate::state::resident::{Counts, StoredRow};
use crate::state::row::Sort;
use crate::state::{StoreError, UserKey, readable};

/// Rows of users that have evidence or answered questions, ascending by key.
const ROWS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("rows");
/// Rows of users that were merged into accounts.
const REDIRECTS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("redirects");
/// Rows of users that were erased, or have only retracted.
const TOMBSTONES: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("tombstones");
/// Users that were erased and whose events are still in the journal, each with the position of the erasure.
const ERASED: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("erased");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Bytes of pages in memory: few, as the rows in use are in the map.
const CACHE_BYTES: usize = 16 << 20;

const HEAD: usize = 4 + 8;

/// The file of rows.
#[derive(Debug)]
pub(super) struct Rows {
    path: PathBuf,
    /// None after an error, until the file can be opened again: the library refuses a file once a write has failed.
    open: RwLock<Option<Open>>,
}

/// The file, and its tables as the last commit left them: opening them takes longer than reading a row.
#[derive(Debug)]
struct Open {
    database: Database,
    tables: Tables,
}

#[derive(Debug)]
struct Tables {
    rows: ReadOnlyTable<[u8; 16], &'static [u8]>,
    tombstones: ReadOnlyTable<[u8; 16], &'static [u8]>,
    redirects: ReadOnlyTable<[u8; 16], &'static [u8]>,
}

impl Tables {
    fn all(&self) -> [&ReadOnlyTable<[u8; 16], &'static [u8]>; 3] {
        [&self.rows, &self.tombstones, &self.redirects]
    }
}

/// State of the file at the last checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Every change up to this position is in the rows.
    pub(super) lsn: u64,
    /// Numbers of rows in the file.
    pub(super) counts: Counts,
}

/// A row to be written.
pub(super) struct Saved {
    pub(super) user: UserKey,
    pub(super) held: StoredRow,
    pub(super) sort: Sort,
}

impl Rows {
    /// Opens the file, or creates it for these heads.
    pub(super) fn open(path: &Path, ledger_id: LedgerId) -> Result<(Self, Checkpoint), OpenError> {
        let (rows, found, checkpoint) = Self::prepared(path, ledger_id)?;
        if found != ledger_id {
            return Err(OpenError::OtherLedgerId { path: path.to_owned(), found, expected: ledger_id });
        }
        Ok((rows, checkpoint))
    }

    /// Opens a file that exists, whatever its heads.
    pub(super) fn open_any(path: &Path) -> Result<(Self, LedgerId), OpenError> {
        let (rows, found, _) = Self::prepared(path, LedgerId { n_heads: 0, key: 0 })?;
        Ok((rows, found))
    }

    fn prepared(path: &Path, ledger_id: LedgerId) -> Result<(Self, LedgerId, Checkpoint), OpenError> {
        let failed =
            |source: redb::Error| OpenError::Rows { path: path.to_owned(), source: Box::new(source) };
        let database = open(path).map_err(failed)?;
        let (found, checkpoint) = prepare(&database, ledger_id).map_err(failed)?;
        let tables = tables(&database).map_err(failed)?;
        let rows = Self { path: path.to_owned(), open: RwLock::new(Some(Open { database, tables })) };
        Ok((rows, found, checkpoint))
    }

    /// Reads the row of a user.
    pub(super) fn get(&self, user: UserKey) -> Result<Option<StoredRow>, StoreError> {
        let value = self.read(|tables| {
            for table in tables.all() {
                if let Some(value) = table.get(user.as_bytes())? {
                    return Ok(Some(value.value().to_vec()));
                }
            }
            Ok(None)
        })?;
        value.map(|value| self.held(user, &value)).transpose()
    }

    /// Reads the first `n` rows of users that have evidence or answered questions, except damaged ones.
    pub(super) fn first(&self, n: usize) -> Result<Vec<(UserKey, StoredRow)>, StoreError> {
        self.first_of(|tables| &tables.rows, n)
    }

    /// Calls `look` with every row of any sort that is not damaged.
    pub(super) fn for_each(&self, mut look: impl FnMut(UserKey, StoredRow)) -> Result<(), StoreError> {
        self.read(|tables| {
            for table in tables.all() {
                for entry in table.iter()? {
                    let (key, value) = entry?;
                    let user = UserKey::from(key.value());
                    if let Ok(Some(held)) = readable(self.held(user, value.value())) {
                        look(user, held);
                    }
                }
            }
            Ok(())
        })
    }

    /// Reads the tombstones that are not damaged.
    pub(super) fn tombstones(&self) -> Result<Vec<(UserKey, StoredRow)>, StoreError> {
        self.first_of(|tables| &tables.tombstones, usize::MAX)
    }

    /// Reads the redirects that are not damaged.
    pub(super) fn redirects(&self) -> Result<Vec<(UserKey, StoredRow)>, StoreError> {
        self.first_of(|tables| &tables.redirects, usize::MAX)
    }

    fn first_of(
        &self,
        table: impl FnOnce(&Tables) -> &ReadOnlyTable<[u8; 16], &'static [u8]>,
        n: usize,
    ) -> Result<Vec<(UserKey, StoredRow)>, StoreError> {
        let values = self.read(|tables| {
            let mut values = Vec::new();
            for entry in table(tables).iter()?.take(n) {
                let (key, value) = entry?;
                values.push((UserKey::from(key.value()), value.value().to_vec()));
            }
            Ok(values)
        })?;
        let held = |(user, value): (UserKey, Vec<u8>)| {
            readable(self.held(user, &value)).map(|held| Some((user, held?))).transpose()
        };
        values.into_iter().filter_map(held).collect()
    }

    /// Reads the fingerprint of the secret of the user keys in the file, if it is recorded.
    pub(super) fn secret(&self) -> Result<Option<u64>, StoreError> {
        self.with(|open| {
            let meta = open.database.begin_read()?.open_table(META)?;
            Ok(meta.get("secret")?.map(|fingerprint| fingerprint.value()))
        })
    }

    /// Records the fingerprint of the secret.
    pub(super) fn note_secret(&self, fingerprint: u64) -> Result<(), StoreError> {
        self.write_with(|write| {
            write.open_table(META)?.insert("secret", fingerprint)?;
            Ok(())
        })
    }

    /// Reads the erasures that are not yet done in the journal.
    pub(super) fn erased(&self) -> Result<HashMap<UserKey, u64>, StoreError> {
        self.with(|open| {
            let table = open.database.begin_read()?.open_table(ERASED)?;
            let entry = |entry: Result<_, redb::StorageError>| {
                let (user, lsn): (redb::AccessGuard<'_, [u8; 16]>, redb::AccessGuard<'_, u64>) = entry?;
                Ok((UserKey::from(user.value()), lsn.value()))
            };
            table.iter()?.map(entry).collect()
        })
    }

    /// Records pending erasures, and removes those that are done.
    pub(super) fn write_erased(
        &self,
        erased: &HashMap<UserKey, u64>,
        done: &HashMap<UserKey, u64>,
    ) -> Result<(), StoreError> {
        self.write_with(|write| {
            let mut table = write.open_table(ERASED)?;
            for (user, lsn) in erased {
                table.insert(user.as_bytes(), lsn)?;
            }
            for user in done.keys() {
                table.remove(user.as_bytes())?;
            }
            Ok(())
        })
    }

    /// Writes rows, drops spent tombstones, and makes `lsn`, if given, the checkpoint; atomically and durably.
    pub(super) fn write(
        &self,
        saved: &[Saved],
        spent: &[UserKey],
        lsn: Option<u64>,
    ) -> Result<(), StoreError> {
        self.write_with(|write| {
            for (sort, table) in
                [(Sort::User, ROWS), (Sort::Tombstone, TOMBSTONES), (Sort::Redirect, REDIRECTS)]
            {
                let mut table = write.open_table(table)?;
                for saved in saved {
                    match saved.sort == sort {
                        true => _ = table.insert(saved.user.as_bytes(), &*value(saved.user, &saved.held))?,
                        false => _ = table.remove(saved.user.as_bytes())?,
                    }
                }
                for user in spent.iter().filter(|_| sort == Sort::Tombstone) {
                    table.remove(user.as_bytes())?;
                }
            }
            if let Some(lsn) = lsn {
                write.open_table(META)?.insert("lsn", lsn)?;
            }
            Ok(())
        })
    }

    fn write_with(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        self.reopen()?;
        let written = self.with(|open| {
            let mut write = open.database.begin_write()?;
            // Quick repair keeps the time to open after a kill independent of the size of the file.
            write.set_quick_repair(true);
            change(&write)?;
            write.commit()?;
            tables(&open.database)
        });
        match written {
            Ok(tables) => {
                if let Some(open) = &mut *self.open.write() {
                    open.tables = tables;
                }
                Ok(())
            }
            Err(error) => {
                *self.open.write() = None;
                self.reopen()?;
                Err(error)
            }
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Tables) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        self.with(|open| read(&open.tables))
    }

    fn with<T>(&self, work: impl FnOnce(&Open) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        match &*self.open.read() {
            Some(open) => work(open).map_err(|source| self.failed(source)),
            None => Err(self.failed(redb::Error::PreviousIo)),
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut place = self.open.write();
        if place.is_none() {
            let database = open(&self.path).map_err(|source| self.failed(source))?;
            let tables = tables(&database).map_err(|source| self.failed(source))?;
            *place = Some(Open { database, tables });
        }
        Ok(())
    }

    fn held(&self, user: UserKey, value: &[u8]) -> Result<StoredRow, StoreError> {
        let (head, bytes) = value.split_at_checked(HEAD).unwrap_or_default();
        let (crc, lsn) = head.split_at_checked(4).unwrap_or_default();
        if crc != checksum(user, lsn, bytes) {
            return Err(StoreError::Damaged { path: self.path.clone(), user });
        }
        let lsn = lsn.first_chunk().map_or(0, |lsn| u64::from_le_bytes(*lsn));
        Ok(StoredRow { lsn, bytes: bytes.into() })
    }

    fn failed(&self, source: redb::Error) -> StoreError {
        StoreError::Rows { path: self.path.clone(), source: Box::new(source) }
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    // A value's checksum can't detect a damaged key, which makes its row look missing.
    Ok(Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path)?)
}

fn tables(database: &Database) -> Result<Tables, redb::Error> {
    let read = database.begin_read()?;
    let [rows, tombstones, redirects] = [ROWS, TOMBSTONES, REDIRECTS].map(|table| read.open_table(table));
    Ok(Tables { rows: rows?, tombstones: tombstones?, redirects: redirects? })
}

/// Reads the heads and the checkpoint of the file; a new file gets these heads.
fn prepare(database: &Database, ledger_id: LedgerId) -> Result<(LedgerId, Checkpoint), redb::Error> {
    let write = database.begin_write()?;
    let (found, checkpoint) = {
        let rows = write.open_table(ROWS)?;
        let tombstones = write.open_table(TOMBSTONES)?;
        let redirects = write.open_table(REDIRECTS)?;
        write.open_table(ERASED)?;
        let mut meta = write.open_table(META)?;
        let number = |meta: &redb::Table<'_, &str, u64>, key: &str| {
            Ok::<_, redb::Error>(meta.get(key)?.map(|number| number.value()))
        };
        if meta.is_empty()? {
            meta.insert("n_heads", ledger_id.n_heads as u64)?;
            meta.insert("heads", ledger_id.key)?;
        }
        let found = LedgerId {
            n_heads: number(&meta, "n_heads")?.unwrap_or_default() as usize,
            key: number(&meta, "heads")?.unwrap_or_default(),
        };
        let lsn = number(&meta, "lsn")?.unwrap_or_default();
        let counts = Counts {
            n_users: rows.len()? as usize,
            n_tombstones: tombstones.len()? as usize,
            n_redirects: redirects.len()? as usize,
        };
        (found, Checkpoint { lsn, counts })
    };
    write.commit()?;
    Ok((found, checkpoint))
}

fn value(user: UserKey, held: &StoredRow) -> Vec<u8> {
    let lsn = held.lsn.to_le_bytes();
    let mut value = Vec::with_capacity(HEAD + held.bytes.len());
    value.extend(checksum(user, &lsn, &held.bytes));
    value.extend(lsn);
    value.extend(&*held.bytes);
    value
}

fn checksum(user: UserKey, lsn: &[u8], bytes: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    [&user.as_bytes()[..], lsn, bytes].into_iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}
