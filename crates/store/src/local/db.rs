//! The database: opening, schema, transactions.
//!
//! One connection per store, behind a mutex. Writing transactions begin as `immediate`, so that they
//! wait for other writers at their start and cannot fail half way for having read an old state. Readers
//! never wait, as the journal is a write-ahead log. Every process that shares a store does the same
//! with the same file, so a killed one leaves at worst a log whose last transaction nobody sees.

use super::config::{StoreConfig, percent_encode};
use crate::error::{Error, ErrorKind, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::time::Duration;

/// The schema that is written and read.
pub(super) const SCHEMA: u32 = 10;

/// The name under which the database remembers that it has the tables for content-addressed outputs.
const CA_MIGRATION: &str = "20220326-ca-derivations";

/// How long to wait for other writers. Someone may copy gigabytes within a transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3600);

/// Makes our error of SQLite's.
pub(super) fn db_error(what: &str) -> impl Fn(rusqlite::Error) -> Error + '_ {
    move |e| {
        let kind = match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Busy,
            Some(ErrorCode::ReadOnly) => ErrorKind::ReadOnly,
            Some(ErrorCode::DiskFull) => ErrorKind::Io(std::io::ErrorKind::StorageFull),
            _ => ErrorKind::Database,
        };
        Error::new(kind, format!("{what}: {e}"))
    }
}

/// Opens the database of a store, making it where `create` is set.
pub(super) fn open(config: &StoreConfig, create: bool) -> Result<Connection> {
    let path = config.state_dir.join("db/db.sqlite");
    let fail = |e: rusqlite::Error| {
        db_error(&format!("cannot open SQLite database '{}'", path.display()))(e)
    };
    let connection = if config.read_only {
        let uri = format!("file:{}?immutable=1", percent_encode(&path));
        Connection::open_with_flags(
            uri,
            OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
    } else {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        match config.settings.use_sqlite_wal {
            true => Connection::open_with_flags(&path, flags),
            // Without shared memory (network file systems), locks are files.
            false => Connection::open_with_flags_and_vfs(&path, flags, c"unix-dotfile"),
        }
    }
    .map_err(fail)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(64);
    retry(|| connection.execute_batch("pragma foreign_keys = 1")).map_err(fail)?;
    if config.read_only {
        return Ok(connection);
    }
    let synchronous = match config.settings.fsync_metadata {
        true => "normal",
        false => "off",
    };
    connection
        .pragma_update(None, "synchronous", synchronous)
        .map_err(fail)?;
    let mode = match config.settings.use_sqlite_wal {
        true => "wal",
        false => "truncate",
    };
    let current: String =
        retry(|| connection.query_row("pragma main.journal_mode", [], |row| row.get(0)))
            .map_err(fail)?;
    if current != mode {
        retry(|| {
            connection.query_row(&format!("pragma main.journal_mode = {mode}"), [], |row| {
                row.get::<_, String>(0)
            })
        })
        .map_err(fail)?;
    }
    if mode == "wal" {
        // The log stays when the last connection closes, so that readers without the right to write to
        // the folder can go on; closing empties it.
        if connection
            .execute_batch("pragma main.journal_size_limit = 1099511627776")
            .is_ok()
        {
            persist_wal(&connection);
        }
        // Large transactions are moved into the database seldom, with one sync for many of them.
        connection
            .execute_batch("pragma wal_autocheckpoint = 40000")
            .map_err(fail)?;
    }
    Ok(connection)
}

fn persist_wal(connection: &Connection) {
    let mut enable: libc::c_int = 1;
    // SAFETY: the handle is that of an open connection, which nobody else uses meanwhile; the operation
    // reads and writes the one int that the pointer leads to, and a null name means the main database.
    // Failure only means that the log is removed when the last connection closes.
    unsafe {
        rusqlite::ffi::sqlite3_file_control(
            connection.handle(),
            std::ptr::null(),
            rusqlite::ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut enable).cast(),
        );
    }
}

/// Makes the tables, all or none.
pub(super) fn create_schema(connection: &Connection) -> Result<()> {
    write(connection, "creating the database", |tx| {
        tx.execute_batch(include_str!("schema.sql"))
            .map_err(db_error("creating the database"))
    })
}

/// Brings a database of schema 6 to 9 (Nix 1.0 to 1.11) up to date, all or nothing. Doing so again changes nothing, so
/// that it does not matter when it is interrupted before the new version is written down.
pub(super) fn migrate(connection: &Connection) -> Result<()> {
    let what = "migrating the database";
    write(connection, what, |tx| {
        for (column, kind) in [("ultimate", "integer"), ("sigs", "text"), ("ca", "text")] {
            let there = tx
                .query_row(
                    "select 1 from pragma_table_info('ValidPaths') where name = ?",
                    [column],
                    |_| Ok(()),
                )
                .optional()
                .map_err(db_error(what))?;
            if there.is_none() {
                tx.execute_batch(&format!(
                    "alter table ValidPaths add column {column} {kind}"
                ))
                .map_err(db_error(what))?;
            }
        }
        tx.execute_batch("drop table if exists FailedPaths")
            .map_err(db_error(what))
    })
}

/// Makes the table that remembers changes to the schema since its version was last raised.
pub(super) fn prepare_migrations(connection: &Connection) -> Result<()> {
    let what = "preparing the database";
    let exists = connection
        .query_row(
            "select 1 from sqlite_master where type = 'table' and name = 'SchemaMigrations'",
            [],
            |_| Ok(()),
        )
        .optional()
        .map_err(db_error(what))?;
    if exists.is_some() {
        return Ok(());
    }
    write(connection, what, |tx| {
        tx.execute_batch(
            "create table if not exists SchemaMigrations (migration text primary key not null)",
        )
        .map_err(db_error(what))
    })
}

/// Whether the database has the tables for content-addressed outputs.
pub(super) fn has_ca_schema(connection: &Connection) -> Result<bool> {
    connection
        .prepare_cached(
            "select 1 from sqlite_master where type = 'table' and name = 'Realisations'",
        )
        .and_then(|mut s| s.query_row([], |_| Ok(())).optional())
        .map(|found| found.is_some())
        .map_err(db_error("querying the schema"))
}

/// Adds these tables, within a transaction.
pub(super) fn add_ca_schema(tx: &Connection) -> Result<()> {
    let what = "extending the database";
    tx.execute_batch(include_str!("schema_ca.sql"))
        .and_then(|()| {
            tx.execute(
                "insert or ignore into SchemaMigrations values (?)",
                [CA_MIGRATION],
            )
        })
        .map(|_| ())
        .map_err(db_error(what))
}

/// Runs `body` in a writing transaction, which is undone unless it succeeds.
pub(super) fn write<T>(
    connection: &Connection,
    what: &str,
    body: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    transaction(connection, what, "begin immediate", body)
}

/// Runs `body` in a transaction, so that all that it reads is of one moment.
pub(super) fn read<T>(
    connection: &Connection,
    what: &str,
    body: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    transaction(connection, what, "begin deferred", body)
}

fn transaction<T>(
    connection: &Connection,
    what: &str,
    begin: &str,
    body: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    retry(|| connection.execute_batch(begin)).map_err(db_error(what))?;
    // From here on the transaction is undone when this is dropped, however `body` ends.
    let open = OpenTransaction(connection);
    let value = body(open.0)?;
    retry(|| open.0.execute_batch("commit")).map_err(db_error(what))?;
    Ok(value)
}

struct OpenTransaction<'c>(&'c Connection);

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // If this fails, SQLite has undone the transaction itself.
            let _ = self.0.execute_batch("rollback");
        }
    }
}

/// Tries again while the database is busy. Ordinary waiting is done by SQLite; what comes back here are
/// the seldom cases in which it does not wait, such as several processes that recover the log at once.
fn retry<T>(mut f: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    const TIMES: u32 = 500;
    let mut left = TIMES;
    loop {
        match f() {
            Err(e) if left > 0 && is_busy(&e) => {
                left -= 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::FileLockingProtocolFailed)
    )
}
