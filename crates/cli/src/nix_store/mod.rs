//! `nix-store`: one operation, its flags and arguments in any order.

pub mod contents;
mod garbage;
mod query;
mod realise;
mod registration;

use crate::common::Arguments;
use crate::progress::LogFormat;
use crate::session::{Common, Failure, print};
use crate::store_access::{self, follow_links};
use nivis_store::build::BuildSettings;
use nivis_store::local::LocalStore;
use nivis_store::{Hash, StorePath};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Realise,
    Add,
    AddFixed,
    PrintFixedPath,
    Delete,
    Query,
    PrintEnv,
    ReadLog,
    DumpDb,
    LoadDb,
    RegisterValidity,
    CheckValidity,
    Gc,
    Dump,
    Restore,
    Export,
    Import,
    Init,
    Verify,
    VerifyPath,
    RepairPath,
    Optimise,
}

const OPERATIONS: &[(&str, Operation)] = &[
    ("--realise", Operation::Realise),
    ("--realize", Operation::Realise),
    ("-r", Operation::Realise),
    ("--add", Operation::Add),
    ("-A", Operation::Add),
    ("--add-fixed", Operation::AddFixed),
    ("--print-fixed-path", Operation::PrintFixedPath),
    ("--delete", Operation::Delete),
    ("--query", Operation::Query),
    ("-q", Operation::Query),
    ("--print-env", Operation::PrintEnv),
    ("--read-log", Operation::ReadLog),
    ("-l", Operation::ReadLog),
    ("--dump-db", Operation::DumpDb),
    ("--load-db", Operation::LoadDb),
    ("--register-validity", Operation::RegisterValidity),
    ("--check-validity", Operation::CheckValidity),
    ("--gc", Operation::Gc),
    ("--dump", Operation::Dump),
    ("--restore", Operation::Restore),
    ("--export", Operation::Export),
    ("--import", Operation::Import),
    ("--init", Operation::Init),
    ("--verify", Operation::Verify),
    ("--verify-path", Operation::VerifyPath),
    ("--repair-path", Operation::RepairPath),
    ("--optimise", Operation::Optimise),
    ("--optimize", Operation::Optimise),
];

/// One run of `nix-store`.
struct Run {
    common: Common,
    store: Arc<LocalStore>,
    settings: BuildSettings,
    flags: Vec<String>,
    args: Vec<String>,
    root: Option<PathBuf>,
    roots: u32,
    no_output: bool,
    no_gc_warning: bool,
    print_missing: bool,
}

/// Runs `nix-store`.
///
/// # Errors
/// Wrong usage, and whatever the operation fails with.
pub fn run(arguments: &mut Arguments, mut common: Common) -> Result<(), Failure> {
    let mut operation = None;
    let mut flags = Vec::new();
    let mut args = Vec::new();
    let mut root = None;
    let mut no_output = false;
    let mut from_stdin = false;
    while let Some(arg) = arguments.next(&mut common)? {
        if let Some((_, found)) = OPERATIONS.iter().find(|(flag, _)| *flag == arg) {
            if operation.is_some_and(|o| o != *found) {
                return Err(usage("only one operation may be specified"));
            }
            operation = Some(*found);
            continue;
        }
        match arg.as_str() {
            "--add-root" => {
                let path = arguments.value(&arg)?;
                root = Some(crate::session::current_dir()?.join(path));
            }
            "--stdin" if !std::io::stdin().is_terminal() => from_stdin = true,
            "--indirect" => {}
            "--no-output" => no_output = true,
            "--max-freed" | "--max-links" | "--max-atime" => {
                let value = arguments.value(&arg)?;
                flags.extend([arg, value]);
            }
            _ if arg.starts_with('-') => flags.push(arg),
            _ => args.push(arg),
        }
    }
    let operation = operation.ok_or_else(|| usage("no operation specified"))?;
    if from_stdin && !matches!(operation, Operation::Import | Operation::Restore) {
        args.extend(crate::installable::from_stdin()?);
    }
    common.start_reporter(LogFormat::RawWithLogs);
    // These two need no store.
    match operation {
        Operation::Dump | Operation::Restore => {
            let [path] = args.as_slice() else {
                return Err(usage("only one argument allowed"));
            };
            let case_hack = common.settings.switch("use-case-hack") == Some(true);
            return match operation {
                Operation::Dump => crate::nar_command::dump(path.as_ref(), case_hack),
                _ => crate::nar_command::restore(path.as_ref(), case_hack),
            };
        }
        _ => {}
    }
    let run = Run {
        store: store_access::open(&common)?,
        settings: store_access::build_settings(&common)?,
        flags,
        args,
        root,
        roots: 0,
        no_output,
        no_gc_warning: common.no_gc_warning,
        print_missing: common.settings.switch("print-missing").unwrap_or(true),
        common,
    };
    run.operate(operation)
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::Usage(message.into())
}

fn unknown_flag(flag: &str) -> Failure {
    usage(format!("unknown flag '{flag}'"))
}

impl Run {
    fn operate(mut self, operation: Operation) -> Result<(), Failure> {
        match operation {
            Operation::Realise => self.realise(),
            Operation::Query => self.query(),
            Operation::Add => self.add(),
            Operation::AddFixed => self.add_fixed(),
            Operation::PrintFixedPath => self.print_fixed_path(),
            Operation::Delete => self.delete(),
            Operation::Gc => self.gc(),
            Operation::PrintEnv => self.print_env(),
            Operation::ReadLog => self.read_log(),
            Operation::DumpDb => self.dump_db(),
            Operation::LoadDb => self.load_db(),
            Operation::RegisterValidity => self.register_validity(),
            Operation::CheckValidity => self.check_validity(),
            Operation::Export => self.export(),
            Operation::Import => self.import(),
            Operation::Verify => self.verify(),
            Operation::VerifyPath => self.verify_path(),
            Operation::RepairPath => self.repair_path(),
            Operation::Optimise => {
                self.no_flags()?;
                self.no_args()?;
                self.optimise()
            }
            Operation::Init => {
                self.no_flags()?;
                self.no_args()
            }
            Operation::Dump | Operation::Restore => Ok(()),
        }
    }

    fn no_flags(&self) -> Result<(), Failure> {
        self.flags.first().map_or(Ok(()), |f| Err(unknown_flag(f)))
    }

    fn no_args(&self) -> Result<(), Failure> {
        match self.args.is_empty() {
            true => Ok(()),
            false => Err(usage("no arguments expected")),
        }
    }

    fn say(&self, path: &StorePath) -> Result<(), Failure> {
        print(format!("{}\n", self.store.print(path)).as_bytes())
    }

    fn follow(&self, path: &str) -> Result<StorePath, Failure> {
        Ok(follow_links(self.store.store_dir(), path)?.0)
    }

    fn all_args(&self) -> Result<Vec<StorePath>, Failure> {
        self.args.iter().map(|a| self.follow(a)).collect()
    }

    fn print_fixed_path(&self) -> Result<(), Failure> {
        let mut method = nivis_store::ContentAddressMethod::Flat;
        for flag in &self.flags {
            match flag.as_str() {
                "--recursive" => method = nivis_store::ContentAddressMethod::Nar,
                _ => return Err(unknown_flag(flag)),
            }
        }
        let [algorithm, hash, name] = self.args.as_slice() else {
            return Err(usage("'--print-fixed-path' requires three arguments"));
        };
        let algorithm = crate::hash_command::algorithm(&self.common, algorithm)?;
        let hash = Hash::parse_any(hash, Some(algorithm))?;
        let content = nivis_store::ContentAddress { method, hash };
        self.say(
            &self
                .store
                .store_dir()
                .make_fixed_output_path(name, &content)?,
        )
    }

    fn print_env(&self) -> Result<(), Failure> {
        self.no_flags()?;
        let [path] = self.args.as_slice() else {
            return Err(usage("'--print-env' requires one derivation store path"));
        };
        let path = self.store.store_dir().parse(path)?;
        let drv = self.store.read_derivation(&path)?;
        let mut out = Vec::new();
        let mut assign = |name: &[u8], value: &[u8]| {
            out.extend(b"export ");
            out.extend(name);
            out.extend(b"; ");
            out.extend(name);
            out.extend(b"='");
            for &byte in value {
                match byte {
                    b'\'' => out.extend(b"'\\''"),
                    byte => out.push(byte),
                }
            }
            out.extend(b"'\n");
        };
        for (name, value) in &drv.env {
            assign(name, value);
        }
        let args: Vec<&[u8]> = drv.args.iter().map(|a| a.as_slice()).collect();
        assign(b"_args", &args.join(&b' '));
        print(&out)
    }

    fn read_log(&self) -> Result<(), Failure> {
        self.no_flags()?;
        for path in self.all_args()? {
            print(&crate::log_command::log_of(&self.store, &path)?)?;
        }
        Ok(())
    }
}
