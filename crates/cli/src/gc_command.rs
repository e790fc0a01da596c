//! `nivis gc` and `nix-collect-garbage`.

use crate::common::Arguments;
use crate::progress::LogFormat;
use crate::session::{Common, Failure, print};
use crate::store_access::{self, info};
use clap::Args;
use nivis_store::io_text;
use nivis_store::local::{GcAction, GcOptions, GcStage, LocalStore, StageHook, render_size};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Args)]
pub struct GcArgs {
    /// Stop once so many bytes were freed
    #[arg(long = "max", alias = "max-freed", value_name = "BYTES")]
    max_freed: Option<String>,
    /// Delete old generations of all profiles first
    #[arg(short, long)]
    delete_old: bool,
    /// Delete generations of all profiles that are older than so many days (30d) first
    #[arg(long, value_name = "AGE")]
    delete_older_than: Option<String>,
    /// Only say how much would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Print what keeps paths alive
    #[arg(long)]
    print_roots: bool,
    /// Print the paths that are alive
    #[arg(long)]
    print_live: bool,
    /// Print the paths that would be deleted
    #[arg(long)]
    print_dead: bool,
}

/// Runs `nivis gc`.
///
/// # Errors
/// When something cannot be deleted.
pub fn run(common: &Common, args: &GcArgs) -> Result<(), Failure> {
    let store = store_access::open(common)?;
    if args.print_roots {
        for (target, places) in store.find_roots(false)? {
            for place in places {
                print(format!("{place} -> {}\n", store.print(&target)).as_bytes())?;
            }
        }
        return Ok(());
    }
    let mut options = GcOptions::default();
    if let Some(text) = &args.max_freed {
        options.max_freed = number_of("--max", text)?;
    }
    if args.print_live {
        options.action = GcAction::ReturnLive;
    } else if args.print_dead || args.dry_run {
        options.action = GcAction::ReturnDead;
    } else if args.delete_old || args.delete_older_than.is_some() {
        delete_generations(&store, args.delete_older_than.as_deref(), args.dry_run)?;
    }
    collect(&store, &options, args.dry_run)
}

/// Runs `nix-collect-garbage`.
///
/// # Errors
/// Wrong usage; when something cannot be deleted.
pub fn nix_collect_garbage(arguments: &mut Arguments, mut common: Common) -> Result<(), Failure> {
    let mut delete_old = false;
    let mut older_than = None;
    let mut dry_run = false;
    let mut options = GcOptions::default();
    let mut limited = false;
    while let Some(arg) = arguments.next(&mut common)? {
        match arg.as_str() {
            "--delete-old" | "-d" => delete_old = true,
            "--delete-older-than" => {
                delete_old = true;
                older_than = Some(arguments.value(&arg)?);
            }
            "--dry-run" => dry_run = true,
            "--max-freed" => {
                options.max_freed = number_of(&arg, &arguments.value(&arg)?)?;
                limited = true;
            }
            _ if arg.starts_with('-') => {
                return Err(Failure::Usage(format!("unrecognised flag '{arg}'")));
            }
            _ => return Err(Failure::Usage(format!("unexpected argument '{arg}'"))),
        }
    }
    if limited && dry_run {
        return Err(Failure::Usage(
            "options --max-freed and --dry-run cannot be combined".to_string(),
        ));
    }
    common.start_reporter(LogFormat::RawWithLogs);
    let store = store_access::open(&common)?;
    if delete_old {
        delete_generations(&store, older_than.as_deref(), dry_run)?;
    }
    if dry_run {
        options.action = GcAction::ReturnDead;
    }
    collect(&store, &options, dry_run)
}

/// A number of bytes; less than nothing means nothing.
///
/// # Errors
/// When it is no number.
pub fn number_of(flag: &str, text: &str) -> Result<u64, Failure> {
    if let Some(rest) = text.strip_prefix('-')
        && crate::settings::bytes_of(rest).is_some()
    {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(Failure::Usage(format!("'{flag}' requires an argument")));
    }
    Ok(crate::settings::number_of(text)?)
}

/// Collects garbage and says what came of it, on standard output.
///
/// # Errors
/// When something cannot be deleted.
pub fn collect(store: &LocalStore, options: &GcOptions, count_only: bool) -> Result<(), Failure> {
    let mut options = options.clone();
    options.stage = stage_hook();
    let deletes = !matches!(options.action, GcAction::ReturnLive | GcAction::ReturnDead);
    let results = match store.collect_garbage(&options) {
        Ok(results) => results,
        Err(e) => {
            if let GcAction::DeleteSpecific(_) = options.action {
                print(b"0 store paths deleted, 0.0 KiB freed\n")?;
            }
            return Err(e.into());
        }
    };
    let text = if deletes {
        format!(
            "{} store paths deleted, {} freed\n",
            results.paths.len(),
            render_size(results.bytes_freed.into())
        )
    } else if count_only {
        format!("{} store paths would be deleted\n", results.paths.len())
    } else {
        results.paths.iter().map(|p| format!("{p}\n")).collect()
    };
    print(text.as_bytes())
}

/// Lets others wait for moments of a collection, as Nix does: a pipe that is named in the environment is read then,
/// which waits until somebody writes to it.
fn stage_hook() -> Option<StageHook> {
    let locked = std::env::var_os("_NIX_TEST_GC_SYNC_1");
    let found = std::env::var_os("_NIX_TEST_GC_SYNC_2");
    if locked.is_none() && found.is_none() {
        return None;
    }
    Some(Arc::new(move |stage| {
        let pipe = match stage {
            GcStage::Locked => &locked,
            GcStage::RootsFound => &found,
        };
        if let Some(pipe) = pipe {
            // What is read does not matter, nor whether it can be.
            let _ = std::fs::read(pipe);
        }
    }))
}

/// Deletes old generations of all profiles: all but the current one of each, or those that were replaced long ago.
fn delete_generations(
    store: &LocalStore,
    older_than: Option<&str>,
    dry_run: bool,
) -> Result<(), Failure> {
    let before = older_than.map(moment).transpose()?;
    let state = &store.config().state_dir;
    let mut dirs = vec![state.join("profiles")];
    if let Some(home) = std::env::var_os("HOME") {
        let own = std::env::var_os("XDG_STATE_HOME")
            .map_or_else(|| PathBuf::from(&home).join(".local/state"), PathBuf::from)
            .join("nix/profiles");
        dirs.push(own);
        // The current profile may be somewhere else.
        if let Ok(profile) = std::fs::read_link(PathBuf::from(&home).join(".nix-profile"))
            && let Some(dir) = profile.parent()
        {
            dirs.push(dir.to_path_buf());
        }
    }
    dirs.sort();
    dirs.dedup();
    for dir in dirs {
        delete_in(&dir, before, dry_run)?;
    }
    Ok(())
}

/// The moment that is so many days ago: `30d`.
fn moment(text: &str) -> Result<SystemTime, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "invalid number of days specifier '{text}', expected something like '14d'"
        ))
    };
    let days: u64 = text
        .strip_suffix('d')
        .and_then(|n| n.parse().ok())
        .filter(|n| *n > 0)
        .ok_or_else(wrong)?;
    let age = days.checked_mul(24 * 3600).map(Duration::from_secs);
    Ok(age
        .and_then(|age| SystemTime::now().checked_sub(age))
        .unwrap_or(UNIX_EPOCH))
}

fn delete_in(dir: &Path, before: Option<SystemTime>, dry_run: bool) -> Result<(), Failure> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(());
    };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        if meta.is_dir() {
            delete_in(&path, before, dry_run)?;
        } else if meta.is_symlink()
            && let Ok(target) = std::fs::read_link(&path)
            && target.to_string_lossy().contains("link")
        {
            info(format!(
                "removing old generations of profile {}",
                path.display()
            ));
            delete_of(&path, before, dry_run)?;
        }
    }
    Ok(())
}

/// Deletes generations of one profile, whose links are `PROFILE-NUMBER-link`.
fn delete_of(profile: &Path, before: Option<SystemTime>, dry_run: bool) -> Result<(), Failure> {
    let (Some(dir), Some(name)) = (profile.parent(), profile.file_name()) else {
        return Ok(());
    };
    let prefix = format!("{}-", name.to_string_lossy());
    let number = |file: &str| -> Option<u64> {
        file.strip_prefix(&prefix)?
            .strip_suffix("-link")?
            .parse()
            .ok()
    };
    let mut generations: Vec<(u64, PathBuf, SystemTime)> = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Some(n) = number(&entry.file_name().to_string_lossy())
            && let Ok(time) = entry.path().symlink_metadata().and_then(|m| m.modified())
        {
            generations.push((n, entry.path(), time));
        }
    }
    generations.sort();
    let current = std::fs::read_link(profile)
        .ok()
        .and_then(|t| number(&t.file_name()?.to_string_lossy()));
    // With an age, the newest generation of that age was the current one then, and stays.
    let limit = match before {
        None => u64::MAX,
        Some(before) => generations
            .iter()
            .rev()
            .find(|(_, _, time)| *time < before)
            .map_or(0, |(n, ..)| *n),
    };
    for (n, path, _) in generations {
        if Some(n) == current || n >= limit {
            continue;
        }
        let name = profile.display();
        if dry_run {
            info(format!("would remove profile version {n}"));
            continue;
        }
        info(format!("removing profile version {n}"));
        std::fs::remove_file(&path).map_err(|e| {
            Failure::Other(format!(
                "cannot remove version {n} of '{name}': {}",
                io_text(&e)
            ))
        })?;
    }
    Ok(())
}
