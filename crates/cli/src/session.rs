//! One run of a command: settings, the machine, what is evaluated, and how failures end it.

use crate::progress::{self, LogFormat, reporter};
use crate::settings::{Settings, Source, UsageError};
use crate::surroundings::surroundings;
use nivis::diagnostic::Diagnostic;
use nivis::eval::{Error, Machine, Origin, Symbol, Value};
use nivis::keeper::LazyStore;
use nivis::render::{RenderOptions, render};
use nivis::select::AutoArgs;
use nivis_store::build::events::Level;
use nivis_store::io_text;
use std::cell::Cell;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

/// Why a command did not succeed. All of these but the last two end the process with status 1.
#[derive(Debug)]
pub enum Failure {
    /// The command line cannot be used.
    Usage(String),
    /// Evaluation failed.
    Eval(Error),
    /// Something else, with its message.
    Other(String),
    /// An error that is rendered already.
    Shown(String, Box<Diagnostic>),
    /// Builds failed; the message and the status that tells how.
    Build(String, i32),
    /// All is said; the process ends with this status.
    Exit(i32),
}

impl Failure {
    /// The process's status.
    pub fn status(&self) -> i32 {
        match self {
            Failure::Build(_, status) | Failure::Exit(status) => *status,
            _ => 1,
        }
    }
}

impl From<nivis_store::Error> for Failure {
    fn from(e: nivis_store::Error) -> Self {
        Failure::Other(e.to_string())
    }
}

impl From<UsageError> for Failure {
    fn from(e: UsageError) -> Self {
        Failure::Usage(e.0)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Eval(e)
    }
}

/// A value for automatic calls.
#[derive(Clone, Debug)]
pub enum Arg {
    /// `--arg NAME EXPR`
    Expr(String),
    /// `--argstr NAME TEXT`
    Text(String),
    /// `--arg-from-file NAME PATH`
    File(String),
    /// `--arg-from-stdin NAME`
    Stdin,
}

/// What both commands that evaluate take from flags.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Settings of files and flags.
    pub settings: Settings,
    /// `-I`, in order.
    pub include: Vec<String>,
    /// `--arg` and relatives, in order; later ones replace earlier ones.
    pub args: Vec<(String, Arg)>,
    /// Nothing is written to the store.
    pub read_only: bool,
    /// `--read-write-mode`
    pub read_write: bool,
    /// Whether builders' output is shown; as the command likes without a flag.
    pub build_logs: Option<bool>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
    /// How much more than usual is shown.
    pub louder: i8,
    /// Nothing is said about results without roots.
    pub no_gc_warning: bool,
    /// Whether JSON is printed for people; by default on a terminal.
    pub pretty: Option<bool>,
    /// `--eval-store`
    pub eval_store: Option<String>,
    /// Whether evaluation is pure when no setting says so.
    pub pure_by_default: bool,
    /// The command that shows logs, if it is not one of Nix's.
    pub log_command: Option<&'static str>,
    /// Becomes true when evaluation needs something built whose derivation it may not write.
    pub lacking: Rc<Cell<bool>>,
}

impl Common {
    /// With the settings of the configuration files.
    ///
    /// # Errors
    /// When one of them cannot be understood.
    pub fn load() -> Result<Common, UsageError> {
        Ok(Common {
            settings: Settings::load()?,
            ..Common::default()
        })
    }

    /// Sets how messages and progress are shown: as the flags say, else as the command likes.
    pub fn start_reporter(&self, usual: LogFormat) {
        use LogFormat::*;
        let format = match (self.log_format.unwrap_or(usual), self.build_logs) {
            (Bar | BarWithLogs, Some(true)) => BarWithLogs,
            (Bar | BarWithLogs, Some(false)) => Bar,
            (Raw | RawWithLogs, Some(true)) => RawWithLogs,
            (Raw | RawWithLogs, Some(false)) => Raw,
            (format, _) => format,
        };
        // Bars say it all, so less is printed between them.
        let bars = matches!(format, Bar | BarWithLogs) && std::io::stderr().is_terminal();
        let usual = if bars { Level::Notice } else { Level::Info };
        let level = (usual as i8).saturating_add(self.louder);
        let path = self.settings.get("json-log-path").filter(|p| !p.is_empty());
        let log = path.map(|path| progress::open_log(Path::new(path)));
        let (log, failed) = match log {
            Some(Err(e)) => (None, Some(io_text(&e))),
            Some(Ok(log)) => (Some(log), None),
            None => (None, None),
        };
        progress::start(format, progress::level_of(level), log);
        if let Some(failed) = failed {
            warn(&format!("cannot open 'json-log-path': {failed}"));
        }
        for warning in &self.settings.warnings {
            warn(warning);
        }
        for (name, feature, by_flag) in self.settings.in_vain() {
            if !by_flag {
                warn(&format!(
                    "Ignoring setting '{name}' because experimental feature '{feature}' is not enabled"
                ));
            }
        }
    }

    /// Refuses what is an experiment that was not switched on.
    ///
    /// # Errors
    /// When it was not.
    pub fn needs_feature(&self, feature: &str) -> Result<(), Failure> {
        let on = self.settings.list("experimental-features");
        if on.iter().any(|f| f == feature) {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "experimental Nix feature '{feature}' is disabled; add '--extra-experimental-features {feature}' to enable it"
        )))
    }

    /// Prints JSON: a line, or indented where people read it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print_json(&self, compact: &[u8]) -> Result<(), Failure> {
        let mut text = match self
            .pretty
            .unwrap_or_else(|| std::io::stdout().is_terminal())
        {
            true => crate::listing::indented(compact),
            false => compact.to_vec(),
        };
        text.push(b'\n');
        print(&text)
    }

    /// Whether a store that keeps nothing may be written to all the same: `dummy://?read-only=false`.
    pub fn keeps_nothing(&self) -> bool {
        let given = self
            .eval_store
            .as_deref()
            .or_else(|| self.settings.get("store"));
        given.is_some_and(|uri| uri.contains("read-only=false"))
    }

    /// `--impure`
    pub fn impure(&mut self) -> Result<(), UsageError> {
        self.settings.set("pure-eval", "false", Source::Flag)
    }
}

/// A machine at work.
pub struct Session {
    pub machine: Machine,
    pub args: AutoArgs,
    /// Whether the warning about missing roots was given.
    pub gc_warned: bool,
    /// The store, unless it is one that keeps nothing.
    pub store: Option<Rc<LazyStore>>,
    show_trace: bool,
    cwd: PathBuf,
    profile: crate::profile::Running,
}

impl Session {
    /// The current folder.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Evaluates with a machine made as the flags and settings say; a failed evaluation comes back rendered.
    ///
    /// # Errors
    /// What the function fails with; when an argument's expression does not parse or its file cannot be read.
    pub fn run<T>(
        common: &Common,
        f: impl FnOnce(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // The process ends soon after: to take the heap down would take time and gain nothing.
        let mut session = std::mem::ManuallyDrop::new(Session::new(common)?);
        let result = session.auto_args(&common.args).and_then(|args| {
            session.args = args;
            f(&mut session)
        });
        if let Some(store) = session.store.as_ref().and_then(|store| store.take()) {
            crate::store_access::keep_open(store);
        }
        let profiled = session.profile.finish(&session.machine);
        match result {
            Ok(value) => {
                profiled?;
                session.finish();
                Ok(value)
            }
            Err(Failure::Eval(e)) if e.kind() == nivis::eval::ErrorKind::Cancelled => {
                Err(Failure::Other("interrupted by the user".to_string()))
            }
            Err(Failure::Eval(e)) => {
                let diagnostic = Diagnostic::resolve(&session.machine, &e);
                let text = render(&diagnostic, &render_options(session.show_trace));
                if common.lacking.get() {
                    // Another evaluation may follow.
                    drop(std::mem::ManuallyDrop::into_inner(session));
                }
                Err(Failure::Shown(text, Box::new(diagnostic)))
            }
            Err(e) => Err(e),
        }
    }

    /// As [`Session::run`], without writing to the store; once evaluation needs something built it begins anew and
    /// writes. What evaluation said the first time is not said again.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_writing_if_needed<T>(
        common: &Common,
        f: impl Fn(&mut Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let reading = Common {
            read_only: true,
            ..common.clone()
        };
        match Session::run(&reading, &f) {
            Err(_) if !common.read_only && common.lacking.get() => {
                reporter().repeat_evaluation();
                Session::run(common, &f)
            }
            result => result,
        }
    }

    fn new(common: &Common) -> Result<Session, Failure> {
        let settings = &common.settings;
        let cwd = current_dir()?;
        let around = surroundings(common, &cwd)?;
        let mut machine = Machine::new(Rc::new(around.host), around.settings);
        nivis::builtins::install(&mut machine);
        let profile = crate::profile::start(settings, &mut machine)?;
        // The first interrupt stops the evaluation cleanly, a second one ends the process.
        let token = machine.cancel_token();
        on_interrupt(move || token.cancel());
        let args = AutoArgs::new(&mut machine, []);
        let show_trace = settings.switch("show-trace").unwrap_or(false);
        Ok(Session {
            machine,
            args,
            gc_warned: false,
            store: around.store,
            show_trace,
            cwd,
            profile,
        })
    }

    fn auto_args(&mut self, args: &[(String, Arg)]) -> Result<AutoArgs, Failure> {
        let mut entries: Vec<(Symbol, Value)> = Vec::new();
        for (name, arg) in args {
            let value = match arg {
                Arg::Text(text) => self.machine.string(text),
                Arg::Expr(text) => self.expression(text)?,
                Arg::File(path) => {
                    let bytes = std::fs::read(path)
                        .map_err(|e| Failure::Other(format!("cannot read '{path}': {e}")))?;
                    self.machine.string(bytes)
                }
                Arg::Stdin => {
                    let bytes = read_stdin()?;
                    self.machine.string(bytes)
                }
            };
            entries.push((self.machine.symbols.intern(name.as_bytes()), value));
        }
        Ok(AutoArgs::new(&mut self.machine, entries))
    }

    /// The unevaluated value of an expression; relative paths start at the current folder.
    pub fn expression(&mut self, text: &str) -> Result<Value, Failure> {
        let cwd = self.cwd.clone();
        Ok(self
            .machine
            .load_text(text.as_bytes(), Origin::Text("string".into()), &cwd)?)
    }

    /// The unevaluated value of standard input.
    pub fn stdin(&mut self) -> Result<Value, Failure> {
        let text = read_stdin()?;
        let cwd = self.cwd.clone();
        Ok(self.machine.load_text(&text, Origin::Stdin, &cwd)?)
    }

    /// The unevaluated value of a file, a folder with `default.nix`, or `<name>` from the search path.
    pub fn file(&mut self, name: &str) -> Result<Value, Failure> {
        let path = self.file_path(name)?;
        if nivis::eval::own::inside(path.as_os_str().as_encoded_bytes()).is_some() {
            // Files of the language itself lie nowhere.
            return self.expression(&format!("import {name}"));
        }
        Ok(self.machine.load_file(&path)?)
    }

    /// What file a command line's argument means.
    pub fn file_path(&mut self, name: &str) -> Result<PathBuf, Failure> {
        if crate::settings::is_pseudo_url(name) || name.starts_with("flake:") {
            return Err(Failure::Other(format!(
                "'{name}' cannot be fetched: fetchers are not available"
            )));
        }
        if let Some(inner) = name.strip_prefix('<').and_then(|n| n.strip_suffix('>'))
            && !inner.is_empty()
        {
            return self.find_file(inner);
        }
        let path = self.cwd.join(name);
        let canonical = nivis::eval::machine::canonical_path(path.as_os_str().as_encoded_bytes());
        Ok(nivis::eval::machine::bytes_path(&canonical).to_path_buf())
    }

    /// Looks a name up in the search path.
    pub fn find_file(&mut self, name: &str) -> Result<PathBuf, Failure> {
        let m = &mut self.machine;
        let text = format!("<{name}>");
        let cwd = self.cwd.clone();
        let value = m.load_text(text.as_bytes(), Origin::Text("string".into()), &cwd)?;
        // The place of the name would be one in a text that nobody wrote.
        let missing = |e: &Error| e.message().contains("was not found in the Nix search path");
        let value = match m.force(value) {
            Err(e) if missing(&e) => return Err(Failure::Other(e.message().to_string())),
            value => value?,
        };
        match value.as_path() {
            Some(p) => Ok(nivis::eval::machine::bytes_path(p.bytes()).to_path_buf()),
            None => Err(Failure::Eval(m.expected(nivis::eval::Type::Path, value))),
        }
    }

    /// Prints statistics if `NIX_SHOW_STATS` asks for them.
    fn finish(&self) {
        if std::env::var_os("NIX_SHOW_STATS").is_none_or(|v| v == "0") {
            return;
        }
        let text = nivis::stats::stats_json(
            &self.machine,
            nivis::stats::ProcessUse {
                cpu_seconds: cpu_seconds(),
            },
        );
        match std::env::var_os("NIX_SHOW_STATS_PATH") {
            Some(path) if path != "-" => {
                if let Err(e) = std::fs::write(&path, text + "\n") {
                    warn(&format!(
                        "cannot write '{}': {e}",
                        Path::new(&path).display()
                    ));
                }
            }
            _ => eprintln!("{text}"),
        }
    }
}

/// How errors are shown: in colours on a terminal, unless `NO_COLOR` says no.
pub fn render_options(show_trace: bool) -> RenderOptions {
    RenderOptions {
        colours: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        show_trace,
    }
}

/// Shows a failure that has nothing to do with an evaluation; `command` is named in the hint on usage.
pub fn report_plain(failure: &Failure, command: &str) {
    match failure {
        Failure::Usage(m) if !command.is_empty() => {
            reporter().message(Level::Error, m);
            reporter().rendered(&format!("Try '{command} --help' for more information."));
        }
        Failure::Exit(_) => {}
        Failure::Usage(m) | Failure::Other(m) | Failure::Build(m, _) => {
            reporter().message(Level::Error, m)
        }
        Failure::Shown(text, diagnostic) => reporter().diagnostic(text, diagnostic),
        Failure::Eval(e) => reporter().message(Level::Error, e.message()),
    }
}

/// Shows a warning.
pub fn warn(message: &str) {
    reporter().message(Level::Warn, message);
}

/// Writes to standard output. A reader that has gone away ends the process quietly.
///
/// # Errors
/// Any other failure to write.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let written = reporter().suspend(|| {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    });
    match written {
        Ok(()) => Ok(()),
        // As if the signal had ended the process.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::Exit(141)),
        Err(e) => Err(Failure::Other(format!(
            "writing to standard output: {}",
            io_text(&e)
        ))),
    }
}

/// All of standard input, however often it is asked for.
pub fn read_stdin() -> Result<Vec<u8>, Failure> {
    static READ: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    std::io::stdin()
        .lock()
        .read_to_end(&mut read)
        .map_err(|e| Failure::Other(format!("cannot read standard input: {e}")))?;
    Ok(read.clone())
}

/// A failure's message alone.
pub fn message_of(failure: &Failure) -> String {
    match failure {
        Failure::Usage(m) | Failure::Other(m) | Failure::Shown(m, _) | Failure::Build(m, _) => {
            m.clone()
        }
        Failure::Eval(e) => e.message().to_string(),
        Failure::Exit(status) => format!("failed with status {status}"),
    }
}

/// The current folder.
///
/// # Errors
/// When it is gone.
pub fn current_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|e| Failure::Other(format!("cannot get the current folder: {e}")))
}

/// Seconds of CPU time so far, of the only thread that evaluates.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds: u64 = text
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default();
    nanoseconds as f64 / 1e9
}

/// What an interrupt does at the moment.
type Interrupt = Box<dyn FnOnce() + Send>;
static INTERRUPT: Mutex<Option<Interrupt>> = Mutex::new(None);

/// Lets the next interrupt (also hang-ups and requests to end) do something instead of ending the process. When nothing
/// is set, or one came already, the process ends.
pub fn on_interrupt(f: impl FnOnce() + Send + 'static) {
    static HANDLER: std::sync::Once = std::sync::Once::new();
    *INTERRUPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(f));
    HANDLER.call_once(|| {
        // Without a handler an interrupt just ends the process.
        let _ = ctrlc::set_handler(|| {
            let action = INTERRUPT
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match action {
                Some(action) => action(),
                None => {
                    reporter().abandon();
                    std::process::exit(130)
                }
            }
        });
    });
}
