//! Starting the builder of a derivation that is ready to be built, and what is said when it fails.

use super::Failed;
use super::builtins;
use super::environment::{InputRewrites, has_network, rewrite};
use super::job::Build;
use super::log::{LogFile, LogLines};
use super::request::{BuildMode, BuildStatus};
use super::run::{Ended, run};
use super::sandbox::{ExitStatus, Launch, LaunchError, Support, launch};
use super::settings::ExternalBuilder;
use crate::error::Error;
use crate::events::{Activity, ActivityKind, Level};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

impl Build<'_> {
    /// Runs the builder until it has ended; an error unless it has succeeded.
    pub(super) fn execute(
        &mut self,
        sandbox: bool,
        external: Option<&ExternalBuilder>,
        dir: &Path,
        variables: &BTreeMap<Vec<u8>, Vec<u8>>,
        rewrites: &InputRewrites,
    ) -> Result<(), Failed> {
        let shared = self.shared;
        let drv_text = shared.store.print(&self.job.drv_path);
        let mut log = LogFile::create(&shared.store, &shared.settings, &self.job.drv_path)?;
        let text = match self.job.mode {
            BuildMode::Normal => format!("building '{drv_text}'"),
            BuildMode::Repair => format!("repairing outputs of '{drv_text}'"),
            BuildMode::Check => format!("checking outputs of '{drv_text}'"),
        };
        let activity = Activity::start(
            &shared.observer,
            shared.activity,
            Level::Info,
            ActivityKind::Build,
            text,
            vec![drv_text.as_str().into(), "".into(), 1.into(), 1.into()],
        );
        let mut lines = LogLines::new(activity, shared.observer.clone(), shared.settings.log_lines);
        let ended = if self.drv.is_builtin() {
            builtins::run(self, rewrites, &mut lines, &mut log)
        } else {
            shared.observer.message(
                Level::Chatty,
                format!(
                    "executing builder '{}'",
                    String::from_utf8_lossy(&self.drv.builder)
                ),
            );
            let env: Vec<Vec<u8>> = variables
                .iter()
                .map(|(name, value)| {
                    let mut pair = name.clone();
                    pair.push(b'=');
                    pair.extend_from_slice(value);
                    rewrite(&pair, rewrites)
                })
                .collect();
            let mut args = vec![base_name(&self.drv.builder)];
            args.extend(self.drv.args.iter().map(|arg| rewrite(arg, rewrites)));
            let view = match sandbox {
                true => Some(self.view()?),
                false => None,
            };
            let mut spec = Launch {
                settings: &shared.settings,
                view,
                user_namespace: sandbox && shared.sandbox_support() == Support::Full,
                network: has_network(self.kind),
                user: self.user().cloned(),
                build_dir: &self.tmp_dir,
                build_dir_inside: match external {
                    None => dir,
                    Some(_) => &self.tmp_dir,
                },
                platform: &self.drv.platform,
                program: self.drv.builder.to_vec(),
                args,
                env,
            };
            if let Some(external) = external {
                self.launch_external(external, dir, variables, rewrites, &mut spec)?;
            }
            match launch(&spec) {
                Ok(mut running) => run(shared, &mut running, &mut lines, &mut log),
                Err(LaunchError::Exec(e)) => {
                    // As the reference has it, this is something that the builder says.
                    let mut text = format!(
                        "error: executing '{}': {}\n",
                        String::from_utf8_lossy(&self.drv.builder),
                        super::os_message(&e)
                    );
                    if sandbox
                        && self.drv.builder == b"/bin/sh"
                        && e.kind() == std::io::ErrorKind::NotFound
                    {
                        text += "note: the sandbox has no shell of its own; the setting 'sandbox-paths' can show it one ('/bin/sh=PATH')\n";
                    }
                    lines.write(text.as_bytes());
                    shared.tell_warning(log.write(text.as_bytes()));
                    Ok(Ended::Status(ExitStatus::Code(1)))
                }
                Err(LaunchError::Setup(e)) => Err(e.into()),
            }
        };
        shared.tell_warning(log.finish());
        lines.finish();
        match ended? {
            Ended::Status(ExitStatus::Code(0)) => Ok(()),
            Ended::Status(status) => Err(self.builder_failed(&status.describe(), &lines)),
            Ended::TimedOut(limit) => Err(Failed::new(
                BuildStatus::TimedOut,
                format!("timed out after {} seconds", limit.as_secs()),
            )),
            Ended::TooMuchOutput => Err(Failed::new(
                BuildStatus::LogLimitExceeded,
                format!(
                    "building derivation '{drv_text}' killed after writing more than {} bytes of log output",
                    shared.settings.max_log_size.unwrap_or(0)
                ),
            )),
            Ended::Cancelled => Err(Failed::cancelled()),
        }
    }

    /// A program that is told by a file what to build.
    fn launch_external(
        &self,
        external: &ExternalBuilder,
        dir: &Path,
        variables: &BTreeMap<Vec<u8>, Vec<u8>>,
        rewrites: &InputRewrites,
        spec: &mut Launch<'_>,
    ) -> Result<(), Failed> {
        use crate::json::Json;
        let text = |bytes: &[u8]| {
            Json::string(String::from_utf8_lossy(&rewrite(bytes, rewrites)).into_owned())
        };
        let path = |path: &Path| Json::string(path.to_string_lossy());
        let store = self.store();
        let top = self.top_dir.clone().unwrap_or_default();
        let json = Json::object([
            ("version", Json::Number("1".into())),
            (
                "builder",
                Json::string(String::from_utf8_lossy(&self.drv.builder)),
            ),
            (
                "args",
                Json::Array(self.drv.args.iter().map(|arg| text(arg)).collect()),
            ),
            (
                "env",
                Json::object(
                    variables
                        .iter()
                        .map(|(k, v)| (String::from_utf8_lossy(k).into_owned(), text(v))),
                ),
            ),
            ("topTmpDir", path(&top)),
            ("tmpDir", path(&self.tmp_dir)),
            ("tmpDirInSandbox", path(dir)),
            ("storeDir", Json::string(store.store_dir().as_str())),
            ("realStoreDir", path(&store.config().real_store_dir)),
            (
                "system",
                Json::string(String::from_utf8_lossy(&self.drv.platform)),
            ),
            (
                "inputPaths",
                Json::Array(
                    self.inputs
                        .iter()
                        .map(|path| Json::string(store.print(path)))
                        .collect(),
                ),
            ),
            (
                "outputs",
                Json::object(
                    self.scratch
                        .iter()
                        .map(|(name, path)| (name.as_str(), Json::string(store.print(path)))),
                ),
            ),
        ]);
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let file = top.join("build.json");
        fs::write(&file, json.to_text())
            .map_err(|e| Error::io(format_args!("writing '{}'", file.display()), e))?;
        self.give_to_builder(&top)?;
        spec.program = external.program.as_os_str().as_bytes().to_vec();
        spec.args = vec![spec.program.clone()];
        spec.args
            .extend(external.args.iter().map(|arg| arg.clone().into_bytes()));
        spec.args.push(file.into_os_string().into_vec());
        spec.env = std::env::vars_os()
            .map(|(name, value)| {
                let mut pair = name.into_vec();
                pair.push(b'=');
                pair.extend(value.into_vec());
                pair
            })
            .collect();
        Ok(())
    }

    /// The error for a builder that has failed.
    fn builder_failed(&self, how: &str, lines: &LogLines) -> Failed {
        let shared = self.shared;
        let drv = shared.store.print(&self.job.drv_path);
        let disk_full = self.disk_full();
        let mut message = format!("Cannot build '{drv}'.\nReason: builder {how}.");
        message += &shared.known_outputs(&self.drv);
        let tail = lines.tail();
        if !shared.settings.print_build_logs && tail.len() > 0 {
            message += &format!("\nLast {} log lines:\n", tail.len());
            for line in tail {
                message += &format!("> {line}\n");
            }
            let command = match &shared.settings.log_command {
                Some(command) => command.as_str(),
                None if shared.settings.feature("nix-command") => "nix log",
                None => "nix-store -l",
            };
            message += &format!("For full logs, run:\n  {command} {drv}");
        }
        if disk_full {
            message += "\nnote: build failure may have been caused by lack of free disk space";
        }
        let status = match has_network(self.kind) || disk_full {
            true => BuildStatus::TransientFailure,
            false => BuildStatus::PermanentFailure,
        };
        Failed::new(status, message)
    }

    /// Whether there is (nearly) no space left where the build has written.
    fn disk_full(&self) -> bool {
        const REQUIRED: u64 = 8 << 20;
        let store = &self.store().config().real_store_dir;
        [store, &self.tmp_dir]
            .into_iter()
            .any(|path| crate::local::free_space(path).is_ok_and(|free| free < REQUIRED))
    }
}

fn base_name(path: &[u8]) -> Vec<u8> {
    path.rsplit(|b| *b == b'/')
        .find(|part| !part.is_empty())
        .unwrap_or(path)
        .to_vec()
}
