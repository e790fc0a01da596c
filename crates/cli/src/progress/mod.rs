//! Messages and progress on standard error: plain lines, Nix's JSON lines, or bars on a terminal.
//!
//! There is one [`Reporter`] a process, made when the flags are known. Whatever the command says goes through it, so
//! that lines and bars do not overwrite each other.

mod bars;
mod json;

use nivis::diagnostic::Diagnostic;
use nivis::eval::Note;
use nivis_store::build::events::{
    ActivityId, ActivityKind, Event, Field, Level, Observer, ResultKind,
};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How messages and progress are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// Plain lines.
    Raw,
    /// Plain lines, and those of the builders.
    #[default]
    RawWithLogs,
    /// Nix's protocol: lines that start with `@nix` and hold JSON.
    InternalJson,
    /// Progress bars on a terminal, else plain lines.
    Bar,
    /// The same, and the builders' lines behind the name of what they build.
    BarWithLogs,
}

impl LogFormat {
    /// The format that `--log-format` names.
    pub fn parse(name: &str) -> Option<LogFormat> {
        Some(match name {
            "raw" => LogFormat::Raw,
            "raw-with-logs" => LogFormat::RawWithLogs,
            "internal-json" => LogFormat::InternalJson,
            "bar" => LogFormat::Bar,
            "bar-with-logs" => LogFormat::BarWithLogs,
            _ => return None,
        })
    }
}

/// Shows what happens on standard error.
pub struct Reporter {
    format: LogFormat,
    verbosity: Level,
    colours: bool,
    /// Where everything is written as JSON besides (`json-log-path`).
    log: Option<Mutex<Box<dyn Write + Send>>>,
    state: Mutex<State>,
    /// How often evaluation said something, and how much of that is not to be shown again.
    said: AtomicUsize,
    known: AtomicUsize,
}

#[derive(Default)]
struct State {
    bars: Option<bars::Bars>,
    /// Names of what is being built, for lines of builders.
    names: HashMap<ActivityId, String>,
}

static REPORTER: OnceLock<Arc<Reporter>> = OnceLock::new();

/// Sets how everything is shown from now on; only the first call counts.
pub fn start(format: LogFormat, verbosity: Level, log: Option<Box<dyn Write + Send>>) {
    let mut reporter = Reporter::new(format, verbosity);
    reporter.log = log.map(Mutex::new);
    let _ = REPORTER.set(Arc::new(reporter));
}

/// Opens what `json-log-path` names: a file to append to, or a socket.
///
/// # Errors
/// What the system reports.
pub fn open_log(path: &std::path::Path) -> std::io::Result<Box<dyn Write + Send>> {
    use std::os::unix::fs::FileTypeExt;
    if path.metadata().is_ok_and(|m| m.file_type().is_socket()) {
        return Ok(Box::new(std::os::unix::net::UnixStream::connect(path)?));
    }
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)?;
    Ok(Box::new(file))
}

/// The level with a number; beyond the last one the last one.
pub fn level_of(number: i8) -> Level {
    use Level::*;
    const ALL: [Level; 8] = [Error, Warn, Notice, Info, Talkative, Chatty, Debug, Vomit];
    let index = usize::try_from(number).unwrap_or(0);
    ALL.get(index).copied().unwrap_or(Vomit)
}

/// The process's reporter.
pub fn reporter() -> &'static Arc<Reporter> {
    REPORTER.get_or_init(|| Arc::new(Reporter::new(LogFormat::Raw, Level::Info)))
}

impl Reporter {
    fn new(format: LogFormat, verbosity: Level) -> Reporter {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var("TERM") != Ok("dumb".into());
        let bars = terminal && matches!(format, LogFormat::Bar | LogFormat::BarWithLogs);
        Reporter {
            format,
            verbosity,
            colours: terminal && std::env::var_os("NO_COLOR").is_none(),
            log: None,
            state: Mutex::new(State {
                bars: bars.then(bars::Bars::new),
                names: HashMap::new(),
            }),
            said: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether builders' output is shown line by line, so that errors need not repeat it.
    pub fn shows_build_logs(&self) -> bool {
        matches!(
            self.format,
            LogFormat::RawWithLogs | LogFormat::BarWithLogs | LogFormat::InternalJson
        )
    }

    /// Writes an event to the log that is kept besides.
    fn keep(&self, line: &str) {
        if let Some(log) = &self.log {
            let line = line.strip_prefix("@nix ").unwrap_or(line);
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            // Builds go on when the log cannot be written.
            let _ = log.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Shows a line or more, if they matter enough.
    pub fn message(&self, level: Level, text: &str) {
        // Activities are told at any level to those who read JSON, messages are not.
        if level > self.verbosity {
            return;
        }
        let raw = text;
        // Further lines of an error stand under its first one.
        let text = &match level {
            Level::Error => raw
                .replace('\n', "\n       ")
                .replace("\n       \n", "\n\n"),
            _ => raw.to_string(),
        };
        if self.log.is_some() || self.format == LogFormat::InternalJson {
            let marked = match level {
                Level::Error if !text.starts_with("error") => {
                    format!("\x1b[31;1merror:\x1b[0m {text}")
                }
                Level::Warn => format!("\x1b[35;1mwarning:\x1b[0m {text}"),
                _ => text.clone(),
            };
            let line = match level {
                Level::Error => json::error(&marked, raw, None),
                _ => json::message(level, &marked),
            };
            self.keep(&line);
            if self.format == LogFormat::InternalJson {
                return self.json_line(&line);
            }
        }
        let line = match (level, self.colours) {
            (Level::Error, true) => format!("\x1b[1;31merror:\x1b[0m {text}"),
            (Level::Error, false) => format!("error: {text}"),
            (Level::Warn, true) => format!("\x1b[1;35mwarning:\x1b[0m {text}"),
            (Level::Warn, false) => format!("warning: {text}"),
            _ => text.to_string(),
        };
        self.line(&line);
    }

    /// Shows text that is complete as it is.
    pub fn rendered(&self, text: &str) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        self.as_it_is(text, || json::error(text, text, None));
    }

    /// Shows an error that was rendered.
    pub fn diagnostic(&self, text: &str, diagnostic: &Diagnostic) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let place = diagnostic.span.as_ref().filter(|span| span.line > 0);
        self.as_it_is(text, || json::error(text, &diagnostic.message, place));
    }

    /// Shows something that matters as much as an error, but is none.
    pub fn finding(&self, text: &str) {
        self.as_it_is(text, || json::message(Level::Error, text));
    }

    fn as_it_is(&self, text: &str, line: impl FnOnce() -> String) {
        if self.log.is_some() || self.format == LogFormat::InternalJson {
            let line = line();
            self.keep(&line);
            if self.format == LogFormat::InternalJson {
                return self.json_line(&line);
            }
        }
        self.line(text);
    }

    /// Evaluation begins again: what it said already will not be shown once more.
    pub fn repeat_evaluation(&self) {
        let said = self.said.swap(0, Ordering::Relaxed);
        self.known.store(said, Ordering::Relaxed);
    }

    /// Shows what evaluation says: traces and warnings, as they are.
    pub fn evaluation(&self, text: &[u8]) {
        if self.said.fetch_add(1, Ordering::Relaxed) < self.known.load(Ordering::Relaxed) {
            return;
        }
        if self.log.is_some() || self.format == LogFormat::InternalJson {
            let text = String::from_utf8_lossy(text);
            let level = match text.contains("warning:") {
                true => Level::Warn,
                false => Level::Error,
            };
            let line = json::message(level, &text);
            self.keep(&line);
            if self.format == LogFormat::InternalJson {
                return self.json_line(&line);
            }
        }
        self.suspend(|| {
            let mut err = std::io::stderr().lock();
            // Nobody can be told when this fails.
            let _ = err.write_all(text).and_then(|()| err.write_all(b"\n"));
        });
    }

    /// Tells what evaluation does, if that is to be shown.
    pub fn note(&self, note: Note<'_>) {
        let level = match note {
            Note::File(_) => Level::Talkative,
            Note::Source { .. } | Note::Derivation { .. } => Level::Chatty,
        };
        if level > self.verbosity {
            return;
        }
        let text = match note {
            Note::File(path) => format!("evaluating file '{}'", path.display()),
            Note::Source { path, store_path } => format!(
                "copied source '{}' -> '{}'",
                path.display(),
                String::from_utf8_lossy(store_path)
            ),
            Note::Derivation { name, store_path } => format!(
                "instantiated '{name}' -> '{}'",
                String::from_utf8_lossy(store_path)
            ),
        };
        self.message(level, &text);
    }

    /// A line at a moment when no bar is drawn.
    fn line(&self, text: &str) {
        let state = self.state();
        let text = if self.colours {
            text.to_string()
        } else {
            without_escapes(text)
        };
        match &state.bars {
            Some(bars) => bars.line(&text),
            None => write_line(&text),
        }
    }

    fn json_line(&self, line: &str) {
        let _one_at_a_time = self.state();
        write_line(line);
    }

    /// Runs something that writes to the terminal, without bars in its way.
    pub fn suspend<T>(&self, f: impl FnOnce() -> T) -> T {
        let bars = self.state().bars.clone();
        match bars {
            Some(bars) => bars.suspend(f),
            None => f(),
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        if let Some(bars) = &self.state().bars {
            bars.clear();
        }
    }

    /// Takes the bars away without waiting for whoever shows something: the process is about to end.
    pub fn abandon(&self) {
        if let Ok(state) = self.state.try_lock()
            && let Some(bars) = &state.bars
        {
            bars.clear();
        }
    }

    fn log_line(&self, id: ActivityId, line: &str, hook: bool) {
        match self.format {
            LogFormat::RawWithLogs if hook => self.line(&format!("post-build-hook: {line}")),
            LogFormat::RawWithLogs => self.line(line),
            LogFormat::BarWithLogs => {
                let name = self.state().names.get(&id).cloned();
                let name = name.unwrap_or_else(|| "unnamed".into());
                let mark = if hook { " (post)> " } else { "> " };
                // However little else is to be shown.
                self.line(&format!("\x1b[2m{name}{mark}\x1b[0m{}", line.trim_end()));
            }
            _ => {
                if let Some(bars) = &mut self.state().bars {
                    bars.last_line(id, line);
                }
            }
        }
    }
}

impl Observer for Reporter {
    fn event(&self, event: Event) {
        if self.log.is_some() && !matches!(event, Event::Message { .. } | Event::Finding { .. }) {
            self.keep(&json::event(&event));
        }
        if self.format == LogFormat::InternalJson {
            match event {
                Event::Message { level, text } => self.message(level, &text),
                Event::Finding { text } => self.finding(&text),
                other => self.json_line(&json::event(&other)),
            }
            return;
        }
        match event {
            Event::Message { level, text } => self.message(level, &text),
            Event::Finding { text } => self.finding(&text),
            Event::Start {
                id,
                level,
                kind,
                text,
                fields,
                ..
            } => {
                // Bars tell what is waited for themselves.
                let bars = matches!(self.format, LogFormat::Bar | LogFormat::BarWithLogs);
                let told = bars && kind == ActivityKind::BuildWaiting;
                if level <= self.verbosity && !text.is_empty() && !told {
                    self.line(&format!("{text}..."));
                }
                let name = match (kind, fields.first()) {
                    (
                        ActivityKind::Build | ActivityKind::PostBuildHook,
                        Some(Field::Text(path)),
                    ) => Some(name_of(path).to_string()),
                    (ActivityKind::CopyPath, Some(Field::Text(path))) => {
                        Some(name_of(path).to_string())
                    }
                    _ => None,
                };
                let mut state = self.state();
                if let Some(bars) = &mut state.bars {
                    bars.start(id, kind, name.as_deref(), &text);
                }
                if let Some(name) = name {
                    state
                        .names
                        .insert(id, name_without_version(&name).to_string());
                }
            }
            Event::Stop { id } => {
                let mut state = self.state();
                state.names.remove(&id);
                if let Some(bars) = &mut state.bars {
                    bars.stop(id);
                }
            }
            Event::Result { id, kind, fields } => match (kind, fields.as_slice()) {
                (ResultKind::BuildLogLine, [Field::Text(line), ..]) => {
                    self.log_line(id, line, false)
                }
                (ResultKind::PostBuildLogLine, [Field::Text(line), ..]) => {
                    self.log_line(id, line, true);
                }
                (kind, fields) => {
                    if let Some(bars) = &mut self.state().bars {
                        bars.result(id, kind, fields);
                    }
                }
            },
        }
    }
}

fn write_line(text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody can be told when this fails.
    let _ = err.write_all(format!("{text}\n").as_bytes());
}

/// The name in a store path, of derivations without `.drv`.
fn name_of(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    let name = base.split_once('-').map_or("", |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

/// The part of a name before the first dash that no letter follows.
fn name_without_version(name: &str) -> &str {
    let bytes = name.as_bytes();
    let end = (0..bytes.len())
        .find(|&i| bytes[i] == b'-' && bytes.get(i + 1).is_some_and(|b| !b.is_ascii_alphabetic()));
    name.get(..end.unwrap_or(name.len())).unwrap_or(name)
}

/// Text without the terminal's control sequences.
fn without_escapes(text: &str) -> String {
    if !text.contains(['\x1b', '\r', '\x07']) {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.peek() {
                Some('[') => {
                    chars.next();
                    // Parameters, then a final character.
                    while chars.next_if(|c| ('\x20'..='\x3f').contains(c)).is_some() {}
                    chars.next_if(|c| ('\x40'..='\x7e').contains(c));
                }
                Some(']') => {
                    // An operating system command ends with a bell or ESC \.
                    while let Some(c) = chars.next() {
                        if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {
                    chars.next();
                }
            },
            '\r' | '\x07' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name_of("/nix/store/abc-hello-2.12.drv"), "hello-2.12");
        assert_eq!(name_without_version("hello-2.12"), "hello");
        assert_eq!(name_without_version("gtk-doc-1"), "gtk-doc");
        assert_eq!(name_without_version("x"), "x");
    }

    #[test]
    fn escapes_are_removed() {
        assert_eq!(without_escapes("\x1b[1;31mred\x1b[0m\r x"), "red x");
        assert_eq!(
            without_escapes("\x1b]8;;http://a\x1b\\link\x1b]8;;\x07"),
            "link"
        );
        assert_eq!(without_escapes("a\x1b"), "a");
    }
}
