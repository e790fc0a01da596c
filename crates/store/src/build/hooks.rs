//! Programs that people have run before and after builds.

use super::job::Build;
use super::settings::SandboxPath;
use super::{Failed, Shared};
use crate::error::{Error, ErrorKind, Result, io_text};
use crate::events::{Activity, ActivityKind, Level, ResultKind};
use crate::store_path::StorePath;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// How a program ended, as errors put it.
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("failed due to signal {signal}"),
        (None, None) => "died abnormally".into(),
    }
}

fn hook_error(program: &str, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Build, format!("program '{program}' {why}"))
}

/// `post-build-hook`: told what was built; a failure fails the build.
pub(super) fn post_build_hook(
    shared: &Shared,
    parent: u64,
    drv: &StorePath,
    outputs: &BTreeSet<StorePath>,
) -> Result<(), Failed> {
    let hook = &shared.settings.post_build_hook;
    if hook.is_empty() {
        return Ok(());
    }
    let drv = shared.store.print(drv);
    let activity = Activity::start(
        &shared.observer,
        parent,
        Level::Talkative,
        ActivityKind::PostBuildHook,
        format!("running post-build-hook '{hook}'"),
        vec![drv.as_str().into()],
    );
    let outputs: Vec<String> = outputs
        .iter()
        .map(|path| shared.store.print(path))
        .collect();
    let (reader, writer) = std::io::pipe().map_err(Error::from)?;
    let mut command = Command::new(hook);
    command
        .env("DRV_PATH", &drv)
        .env("OUT_PATHS", outputs.join(" "))
        .env("NIX_CONFIG", &shared.settings.hook_config)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(Error::from)?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .map_err(|e| Error::io(format_args!("executing '{hook}'"), e))?;
    // It holds copies of our end of the pipe.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(Error::from)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        activity.result(ResultKind::PostBuildLogLine, vec![line.into()]);
    }
    let status = child.wait().map_err(Error::from)?;
    match status.success() {
        true => Ok(()),
        false => Err(hook_error(hook, describe(status)).into()),
    }
}

/// `diff-hook`: told where both versions of an output are. What it prints is shown; its failures too, and
/// have no consequences.
pub(super) fn diff_hook(build: &Build<'_>, hook: &Path, valid: &str, other: &Path, drv: &str) {
    let observer = &build.shared.observer;
    let mut command = Command::new(hook);
    command
        .args([Path::new(valid), other, Path::new(drv), build.tmp_dir()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if let Some(user) = build.user() {
        command.uid(user.uid).gid(user.gid);
    }
    let failed = match command.output() {
        Err(e) => Some(format!("executing '{}': {}", hook.display(), io_text(&e))),
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            if !text.trim_end().is_empty() {
                observer.finding(text.trim_end());
            }
            None
        }
        Ok(output) => Some(format!(
            "diff-hook program '{}' {}",
            hook.display(),
            describe(output.status)
        )),
    };
    if let Some(why) = failed {
        observer.message(Level::Error, format!("diff hook execution failed: {why}"));
    }
}

/// `pre-build-hook`: says what else the sandbox is to show.
pub(super) fn pre_build_hook(
    shared: &Shared,
    drv: &StorePath,
    root: Option<&Path>,
    paths: &mut BTreeMap<PathBuf, SandboxPath>,
) -> Result<(), Failed> {
    let hook = &shared.settings.pre_build_hook;
    if hook.is_empty() {
        return Ok(());
    }
    shared
        .observer
        .message(Level::Chatty, format!("executing pre-build hook '{hook}'"));
    let mut command = Command::new(hook);
    command.arg(shared.store.print(drv));
    if let Some(root) = root {
        command.arg(root);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Error::io(format_args!("executing '{hook}'"), e))?;
    if !output.status.success() {
        return Err(hook_error(hook, describe(output.status)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut in_paths = false;
    for line in text.lines() {
        if !in_paths {
            if !matches!(line, "extra-sandbox-paths" | "extra-chroot-dirs") {
                return Err(Error::new(
                    ErrorKind::Build,
                    format!("unknown pre-build hook command '{line}'"),
                )
                .into());
            }
            in_paths = true;
        } else if line.is_empty() {
            in_paths = false;
        } else {
            let (target, source) = line.split_once('=').unwrap_or((line, line));
            paths.insert(
                target.into(),
                SandboxPath {
                    source: source.into(),
                    optional: false,
                },
            );
        }
    }
    Ok(())
}
