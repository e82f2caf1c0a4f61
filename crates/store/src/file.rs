//! A redb file that outlives I/O errors: it is opened anew after one, which rolls back to the last commit.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{RwLock, TryLockError},
};

use redb::{Database, ReadableDatabase, WriteTransaction};

use crate::StoreError;

/// Makes the tables; reading a table that was never written is an error in redb.
pub(crate) type MakeTables = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// A file that is open, or will be.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    cache_bytes: usize,
    make_tables: MakeTables,
    /// In place of the file.
    #[cfg(test)]
    disk: Option<crate::disk::Disk>,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// Between an I/O error and the next successful opening: why that fails.
    Broken(String),
    Closed,
}

/// Why there is no database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    Broken(String),
    Closed,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(why) => write!(f, "the file could not be reopened after an error: {why}"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

impl File {
    /// Opens the file, or makes it (mode 0600). Nobody else can have it open.
    pub(crate) fn open(path: &Path, cache_bytes: usize, make_tables: MakeTables) -> Result<Self, StoreError> {
        let mut file = Self {
            path: path.to_owned(),
            cache_bytes,
            make_tables,
            #[cfg(test)]
            disk: None,
            state: RwLock::new(State::Closed),
        };
        file.state = RwLock::new(State::Open(file.open_database()?));
        Ok(file)
    }

    /// As [`File::open`], on a disk of the tests.
    #[cfg(test)]
    pub(crate) fn open_on(
        disk: crate::disk::Disk,
        cache_bytes: usize,
        make_tables: MakeTables,
    ) -> Result<Self, StoreError> {
        let mut file = Self {
            path: PathBuf::from("(memory)"),
            cache_bytes,
            make_tables,
            disk: Some(disk),
            state: RwLock::new(State::Closed),
        };
        file.state = RwLock::new(State::Open(file.open_database()?));
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Works with the database; whoever reopens or closes it waits.
    pub(crate) fn with<T>(&self, run: impl FnOnce(&Database) -> T) -> Result<T, Gone> {
        let state = self.state.read().map_err(|_| Gone::Closed)?;
        match &*state {
            State::Open(database) => Ok(run(database)),
            State::Broken(why) => Err(Gone::Broken(why.clone())),
            State::Closed => Err(Gone::Closed),
        }
    }

    /// As [`File::with`]; nothing where that would wait.
    pub(crate) fn try_with<T>(&self, run: impl FnOnce(&Database) -> T) -> Option<Result<T, Gone>> {
        let state = match self.state.try_read() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Poisoned(_)) => return Some(Err(Gone::Closed)),
        };
        Some(match &*state {
            State::Open(database) => Ok(run(database)),
            State::Broken(why) => Err(Gone::Broken(why.clone())),
            State::Closed => Err(Gone::Closed),
        })
    }

    /// Works with the database alone.
    pub(crate) fn alone<T>(&self, run: impl FnOnce(&mut Database) -> T) -> Result<T, Gone> {
        let mut state = self.state.write().map_err(|_| Gone::Closed)?;
        match &mut *state {
            State::Open(database) => Ok(run(database)),
            State::Broken(why) => Err(Gone::Broken(why.clone())),
            State::Closed => Err(Gone::Closed),
        }
    }

    /// After an I/O error redb refuses everything on that handle: take a new one, which rolls back to the last commit.
    pub(crate) fn reopen(&self) {
        if let Ok(mut state) = self.state.write()
            && !matches!(*state, State::Closed)
        {
            // The lock on the file goes with the old handle.
            *state = State::Broken("it is being opened".to_owned());
            *state = match self.open_database() {
                Ok(database) => State::Open(database),
                Err(error) => State::Broken(error.to_string()),
            };
        }
    }

    /// Whether it could not be reopened after an error.
    pub(crate) fn is_broken(&self) -> bool {
        self.state
            .read()
            .is_ok_and(|state| matches!(*state, State::Broken(_)))
    }

    /// Closes it, when all that is under way is done.
    pub(crate) fn close(&self) {
        if let Ok(mut state) = self.state.write() {
            *state = State::Closed;
        }
    }

    fn fail(&self, why: impl ToString) -> StoreError {
        StoreError::Open {
            path: self.path.clone(),
            why: why.to_string(),
        }
    }

    fn open_database(&self) -> Result<Database, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            let database = builder.create_with_backend(disk.clone());
            return self.with_tables(database.map_err(|error| self.fail(error))?);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| self.fail(error))?;
        // The backend takes the lock on the file.
        let backend = redb::backends::FileBackend::new(file).map_err(|error| self.fail(error))?;
        let database = builder.create_with_backend(backend);
        self.with_tables(database.map_err(|error| self.fail(error))?)
    }

    fn with_tables(&self, database: Database) -> Result<Database, StoreError> {
        let make = || -> Result<(), redb::Error> {
            let fresh = database.begin_read()?.list_tables()?.next().is_none();
            if fresh {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                (self.make_tables)(&transaction)?;
                transaction.commit()?;
            }
            Ok(())
        };
        make().map_err(|error| self.fail(error))?;
        Ok(database)
    }
}
