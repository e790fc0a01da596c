//! The local store: files, database, locks, garbage.
