//! `nivis store verify`: whether paths are as they were made, and whether somebody who is trusted made them.

use crate::progress::reporter;
use crate::session::{Common, Failure, warn};
use crate::store_access;
use crate::store_command::PathsArgs;
use clap::Args;
use nivis_store::build::events::{Activity, ActivityKind, Level, Observer, ResultKind};
use nivis_store::local::{LocalStore, PathInfo};
use nivis_store::nar::FileSystem;
use nivis_store::signature::PublicKeys;
use nivis_store::{ErrorKind, HashFormat, StorePath, ingest};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    paths: PathsArgs,
    /// Do not look at contents
    #[arg(long)]
    no_contents: bool,
    /// Do not look at who made them
    #[arg(long)]
    no_trust: bool,
    /// Another store whose signatures count as well
    #[arg(short, long, value_name = "STORE")]
    substituter: Vec<String>,
    /// Signatures that each path needs, even if it was made here
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0)]
    sigs_needed: usize,
}

/// What is wrong with a path.
#[derive(Clone, Copy, Default)]
struct Found {
    corrupted: bool,
    untrusted: bool,
}

/// Runs the command.
///
/// # Errors
/// Keys that are none; paths that nobody trusts or that are damaged, as an exit status.
pub fn run(mut common: Common, args: &VerifyArgs) -> Result<(), Failure> {
    let (store, paths) = args.paths.resolve(&mut common)?;
    let others = args.substituter.iter();
    let others = others.map(|uri| store_access::open(&store_access::at(&common, Some(uri))?));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    let keys = public_keys(&common)?;
    let observer: Arc<dyn Observer> = reporter().clone();
    let whole = Activity::start(
        &observer,
        0,
        Level::Error,
        ActivityKind::VerifyPaths,
        "",
        Vec::new(),
    );
    let mut found = Found::default();
    let (mut done, mut failed) = (0, 0);
    for path in &paths {
        whole.progress(done, paths.len() as u64, 1, failed);
        match verify(args, &store, &others, &keys, path, &observer, &mut found) {
            Ok(()) => done += 1,
            Err(failure) => {
                let text = crate::session::message_of(&failure);
                reporter().message(Level::Error, &text);
                failed += 1;
            }
        }
    }
    whole.progress(done, paths.len() as u64, 0, failed);
    drop(whole);
    let failed = failed > 0;
    match i32::from(found.corrupted) | i32::from(found.untrusted) << 1 | i32::from(failed) << 2 {
        0 => Ok(()),
        status => Err(Failure::Exit(status)),
    }
}

/// The keys that settings trust, with those of the secret keys that can be read.
///
/// # Errors
/// Keys that are none.
pub fn public_keys(common: &Common) -> Result<PublicKeys, Failure> {
    let mut keys = PublicKeys::default();
    for key in common.settings.list_or_default("trusted-public-keys") {
        keys.add(&key)?;
    }
    for file in common.settings.list("secret-key-files") {
        // Where several people share a store, not everybody may read them.
        if let Ok(text) = std::fs::read_to_string(file) {
            keys.add_of_secret(&text)?;
        }
    }
    Ok(keys)
}

/// Looks at one path. What is found is no failure of the command.
fn verify(
    args: &VerifyArgs,
    store: &LocalStore,
    others: &[Arc<LocalStore>],
    keys: &PublicKeys,
    path: &StorePath,
    observer: &Arc<dyn Observer>,
    found: &mut Found,
) -> Result<(), Failure> {
    let known = store.query_path_info(path)?;
    let text = store.print(path);
    let activity = Activity::start(
        observer,
        0,
        Level::Info,
        ActivityKind::Unknown,
        format!("checking '{text}'"),
        Vec::new(),
    );
    if !args.no_contents {
        let node = FileSystem::node(store.real_path(path));
        let hashed = ingest::nar_hash(&mut FileSystem, &node, known.nar_hash.algorithm());
        let (hash, _) = hashed.map_err(|e| match e.kind() {
            ErrorKind::Io(std::io::ErrorKind::NotFound) => {
                Failure::Other(format!("path '{text}' does not exist"))
            }
            _ => e.into(),
        })?;
        if hash != known.nar_hash {
            found.corrupted = true;
            activity.result(ResultKind::CorruptedPath, vec![text.as_str().into()]);
            observer.finding(format!(
                "path '{text}' was modified! expected hash '{}', got '{}'",
                known.nar_hash.encode_with_algorithm(HashFormat::Nix32),
                hash.encode_with_algorithm(HashFormat::Nix32)
            ));
        }
    }
    if !args.no_trust && !is_trusted(args, store, others, keys, &known)? {
        found.untrusted = true;
        activity.result(ResultKind::UntrustedPath, vec![text.as_str().into()]);
        observer.finding(format!("path '{text}' is untrusted"));
    }
    Ok(())
}

/// Whether a path was made here, has a content address, or as many good signatures as are needed.
fn is_trusted(
    args: &VerifyArgs,
    store: &LocalStore,
    others: &[Arc<LocalStore>],
    keys: &PublicKeys,
    known: &PathInfo,
) -> Result<bool, Failure> {
    if known.ultimate && args.sigs_needed == 0 {
        return Ok(true);
    }
    let has_address = |info: &PathInfo| {
        let has = info.has_content_address(store.store_dir());
        if has == Some(false) {
            warn(&format!(
                "path '{}' claims to be content-addressed but isn't",
                store.print(&info.path)
            ));
        }
        has == Some(true)
    };
    if has_address(known) {
        return Ok(true);
    }
    let needed = args.sigs_needed.max(1);
    let good = |info: &PathInfo| -> Result<BTreeSet<String>, Failure> {
        let good = known.good_signatures(store.store_dir(), keys, &info.signatures)?;
        Ok(good.into_iter().map(String::from).collect())
    };
    let mut signatures = good(known)?;
    for other in others {
        if signatures.len() >= needed {
            break;
        }
        let Some(info) = other.find_path_info(&known.path)? else {
            continue;
        };
        if has_address(&info) {
            return Ok(true);
        }
        signatures.extend(good(&info)?);
    }
    Ok(signatures.len() >= needed)
}
