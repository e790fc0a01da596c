//! Collecting garbage when the disk is getting full.

use super::{GcOptions, LocalStore};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Level;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// When to collect by itself, and how much.
#[derive(Debug, Clone)]
pub struct AutoGc {
    /// Collect if fewer bytes than this are free; 0 for never.
    pub min_free: u64,
    /// Until so many bytes are free.
    pub max_free: u64,
    /// How often to look, at most.
    pub check_interval: Duration,
    /// A file to read the number of free bytes from, instead of asking the file system.
    pub free_space_file: Option<PathBuf>,
}

/// What is remembered between looks.
#[derive(Debug, Default)]
pub(super) struct LastLook {
    at: Option<Instant>,
    /// Bytes that were free after the last collection: collecting again is in vain until they are fewer.
    free_after: Option<u64>,
}

impl LocalStore {
    /// Collects garbage if the disk is getting full. Does nothing if it looked a moment ago, if another process collects
    /// or verifies, or if another thread is at it and `wait` is false.
    pub fn auto_gc(&self, auto: &AutoGc, wait: bool) -> Result<()> {
        if auto.min_free == 0 || self.config.read_only {
            return Ok(());
        }
        let mut last = match wait {
            true => self
                .last_look
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            false => match self.last_look.try_lock() {
                Ok(last) => last,
                Err(_) => return Ok(()),
            },
        };
        if last.at.is_some_and(|at| at.elapsed() < auto.check_interval) {
            return Ok(());
        }
        let free = self.free_space(auto)?;
        last.at = Some(Instant::now());
        if free >= auto.min_free || free >= auto.max_free {
            return Ok(());
        }
        if last.free_after.is_some_and(|after| free > after / 100 * 97) {
            return Ok(());
        }
        let wanted = auto.max_free - free;
        self.say(
            Level::Info,
            format!("running auto-GC to free {wanted} bytes"),
        );
        let collected = self.collect_garbage(&GcOptions {
            max_freed: wanted,
            // Who keeps collectors away may be waiting for whoever asks: repairs build, and builds come here.
            wait: false,
            ..GcOptions::default()
        });
        match collected {
            Err(e) if e.kind() == ErrorKind::Busy => return Ok(()),
            collected => collected.map(drop)?,
        }
        last.free_after = Some(self.free_space(auto)?);
        last.at = Some(Instant::now());
        Ok(())
    }

    fn free_space(&self, auto: &AutoGc) -> Result<u64> {
        if let Some(file) = &auto.free_space_file {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Error::io(format_args!("'{}'", file.display()), e))?;
            // Being written just now.
            return Ok(text.trim().parse().unwrap_or(u64::MAX));
        }
        super::files::free_space(&self.config.real_store_dir)
    }
}
