//! What builders print: kept compressed, cut into lines for whoever watches, the last ones for errors.

use super::settings::BuildSettings;
use crate::error::{Error, Result};
use crate::events::{Activity, ActivityId, ActivityKind, Field, Level, Observer, ResultKind};
use crate::json::Json;
use crate::local::LocalStore;
use crate::store_path::StorePath;
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// How long a line may get. Longer ones are cut in two, so that a builder cannot fill the memory.
const MAX_LINE: usize = 1 << 20;

/// How many activities a builder may have at a time, for the same reason.
const MAX_STARTED: usize = 10_000;

/// Where the log of a derivation is kept: `drvs/xx/REST` below the store's folder for logs, with `.bz2` if it is
/// compressed.
pub fn log_path(store: &LocalStore, drv: &StorePath, compressed: bool) -> PathBuf {
    let (first, rest) = drv
        .base_name()
        .split_at_checked(2)
        .unwrap_or(("", drv.base_name()));
    let name = match compressed {
        true => format!("{rest}.bz2"),
        false => rest.to_owned(),
    };
    store.config().log_dir.join("drvs").join(first).join(name)
}

/// The log of a build, as far as it was kept; `None` if there is none. It is decompressed while it is read.
pub fn open_log(store: &LocalStore, drv: &StorePath) -> Result<Option<Box<dyn std::io::Read>>> {
    for compressed in [false, true] {
        let path = log_path(store, drv, compressed);
        match File::open(&path) {
            Ok(file) if compressed => {
                return Ok(Some(Box::new(bzip2::read::MultiBzDecoder::new(file))));
            }
            Ok(file) => return Ok(Some(Box::new(file))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(format_args!("opening '{}'", path.display()), e)),
        }
    }
    Ok(None)
}

/// The file that a build's output is written to.
pub(super) enum LogFile {
    /// As `keep-build-log = false` has it.
    None,
    /// As it is.
    Plain(BufWriter<File>),
    /// What will be compressed, as long as it is short; the file is empty.
    Short(File, Vec<u8>),
    /// With bzip2.
    Compressed(Box<bzip2::write::BzEncoder<File>>),
}

/// Logs up to this size are compressed at their end, as one small block: most are short, and preparing large blocks
/// takes longer than many a build. It is the size of bzip2's smallest blocks, so that nothing is lost.
const SHORT_LOG: usize = 100_000;

impl LogFile {
    /// Begins the log of a derivation; an older one is replaced.
    pub fn create(
        store: &LocalStore,
        settings: &BuildSettings,
        drv: &StorePath,
    ) -> Result<LogFile> {
        if !settings.keep_log {
            return Ok(LogFile::None);
        }
        let path = log_path(store, drv, settings.compress_log);
        let fail = |e| Error::io(format_args!("creating log file '{}'", path.display()), e);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(fail)?;
        }
        let file = File::create(&path).map_err(fail)?;
        Ok(match settings.compress_log {
            true => LogFile::Short(file, Vec::new()),
            false => LogFile::Plain(BufWriter::new(file)),
        })
    }

    /// Adds output. When that fails, on a full disk, say, the log ends here, which is the error; the build need not.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        let written = match self {
            LogFile::None => Ok(()),
            LogFile::Short(_, start) if start.len() + data.len() <= SHORT_LOG => {
                start.extend_from_slice(data);
                Ok(())
            }
            LogFile::Short(..) => self.write_long(data),
            LogFile::Plain(file) => file.write_all(data),
            LogFile::Compressed(file) => file.write_all(data),
        };
        written.map_err(|e| {
            *self = LogFile::None;
            Error::io("writing the build's log", e)
        })
    }

    fn write_long(&mut self, data: &[u8]) -> std::io::Result<()> {
        if let LogFile::Short(file, start) = std::mem::replace(self, LogFile::None) {
            let mut encoder = bzip2::write::BzEncoder::new(file, bzip2::Compression::best());
            encoder.write_all(&start)?;
            encoder.write_all(data)?;
            *self = LogFile::Compressed(Box::new(encoder));
        }
        Ok(())
    }

    /// Ends the file.
    pub fn finish(self) -> Result<()> {
        match self {
            LogFile::None => Ok(()),
            LogFile::Plain(mut file) => file.flush(),
            LogFile::Short(file, text) => {
                let mut encoder = bzip2::write::BzEncoder::new(file, bzip2::Compression::fast());
                encoder
                    .write_all(&text)
                    .and_then(|()| encoder.finish().map(|_| ()))
            }
            LogFile::Compressed(file) => file.finish().map(|_| ()),
        }
        .map_err(|e| Error::io("writing the build's log", e))
    }
}

/// Cuts a builder's output into lines.
///
/// A carriage return goes back to the beginning of the line, as on a terminal. Lines `@nix {…}` are messages: what
/// the builder does, which phase it is in.
pub(super) struct LogLines {
    activity: Activity,
    observer: Arc<dyn Observer>,
    line: Vec<u8>,
    position: usize,
    tail: VecDeque<String>,
    max_tail: usize,
    /// Activities that the builder has started, by its numbers.
    started: HashMap<u64, Activity>,
}

impl LogLines {
    /// Lines are reported as results of `activity`; the last `max_tail` are kept.
    pub fn new(activity: Activity, observer: Arc<dyn Observer>, max_tail: usize) -> LogLines {
        LogLines {
            activity,
            observer,
            line: Vec::new(),
            position: 0,
            tail: VecDeque::new(),
            max_tail,
            started: HashMap::new(),
        }
    }

    /// Takes output.
    pub fn write(&mut self, data: &[u8]) {
        for part in data.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            let (text, end) = match part.split_last() {
                Some((end @ (b'\r' | b'\n'), text)) => (text, Some(*end)),
                _ => (part, None),
            };
            let overwritten = (self.line.len() - self.position).min(text.len());
            let (over, rest) = text.split_at_checked(overwritten).unwrap_or((text, &[]));
            if let Some(place) = self.line.get_mut(self.position..self.position + over.len()) {
                place.copy_from_slice(over);
            }
            self.line.extend_from_slice(rest);
            self.position += text.len();
            match end {
                Some(b'\r') => self.position = 0,
                Some(_) => self.end_line(),
                None if self.position > MAX_LINE => self.end_line(),
                None => {}
            }
        }
    }

    /// Ends the last line, if it was not.
    pub fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    /// The last lines.
    pub fn tail(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn end_line(&mut self) {
        self.line.truncate(self.position);
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        self.position = 0;
        if self.handle_message(&line) {
            return;
        }
        self.activity
            .result(ResultKind::BuildLogLine, vec![line.as_str().into()]);
        if self.max_tail > 0 {
            if self.tail.len() == self.max_tail {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }

    fn handle_message(&mut self, line: &str) -> bool {
        let Some(json) = line.strip_prefix("@nix ") else {
            return false;
        };
        let parsed = match Json::parse(json) {
            Ok(parsed) => parsed,
            Err(e) => {
                let text = format!(
                    "bad JSON log message from the derivation builder: {}",
                    e.message()
                );
                self.observer.finding(text);
                return false;
            }
        };
        if self.act(&parsed).is_some() {
            return true;
        }
        let text = format!(
            "Unable to handle a JSON message from the derivation builder: {}",
            parsed.to_text()
        );
        self.observer.message(Level::Warn, text);
        false
    }

    fn act(&mut self, message: &Json) -> Option<()> {
        let Json::Object(map) = message else {
            return None;
        };
        let number = |name: &str| match map.get(name) {
            Some(Json::Number(text)) => text.parse::<u64>().ok(),
            _ => None,
        };
        let text = |name: &str| match map.get(name) {
            Some(Json::String(text)) => Some(text.clone()),
            _ => None,
        };
        let fields = || match map.get("fields") {
            Some(Json::Array(list)) => list.iter().filter_map(field).collect(),
            _ => Vec::new(),
        };
        match text("action")?.as_str() {
            "start" => {
                // Builders are not trusted to speak for anything else.
                let kind = ActivityKind::from_number(number("type")?);
                let id = number("id")?;
                if kind == ActivityKind::FileTransfer && self.started.len() < MAX_STARTED {
                    let activity = Activity::start(
                        &self.observer,
                        self.activity.id(),
                        level(number("level")?),
                        kind,
                        text("text")?,
                        fields(),
                    );
                    self.started.insert(id, activity);
                }
            }
            "stop" => {
                self.started.remove(&number("id")?);
            }
            "result" => {
                let kind = ResultKind::from_number(number("type")?)?;
                if let Some(activity) = self.started.get(&number("id")?) {
                    activity.result(kind, fields());
                }
            }
            "setPhase" => self
                .activity
                .result(ResultKind::SetPhase, vec![text("phase")?.into()]),
            // Errors and warnings say so themselves.
            "msg" => match level(number("level")?) {
                Level::Error | Level::Warn => self.observer.finding(text("msg")?),
                level => self.observer.message(level, text("msg")?),
            },
            _ => {}
        }
        Some(())
    }

    /// The number of the build's activity.
    pub fn activity_id(&self) -> ActivityId {
        self.activity.id()
    }
}

fn field(value: &Json) -> Option<Field> {
    match value {
        Json::Number(text) => text.parse::<u64>().ok().map(Field::Int),
        Json::String(text) => Some(Field::Text(text.clone())),
        _ => None,
    }
}

fn level(number: u64) -> Level {
    [
        Level::Error,
        Level::Warn,
        Level::Notice,
        Level::Info,
        Level::Talkative,
        Level::Chatty,
        Level::Debug,
    ]
    .into_iter()
    .find(|level| *level as u64 == number)
    .unwrap_or(Level::Vomit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Event;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Observer for Recorder {
        fn event(&self, event: Event) {
            let text = match event {
                Event::Result { kind, fields, .. } => format!("{kind:?} {fields:?}"),
                Event::Start { kind, text, .. } => format!("start {kind:?} {text}"),
                Event::Stop { .. } => "stop".into(),
                Event::Message { text, .. } | Event::Finding { text } => format!("message {text}"),
            };
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn lines_carriage_returns_and_messages() {
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = recorder.clone();
        let activity = Activity::start(
            &observer,
            0,
            Level::Info,
            ActivityKind::Build,
            "b",
            Vec::new(),
        );
        let mut lines = LogLines::new(activity, observer, 2);
        lines.write(b"one\n10%\r20%\r");
        lines.write(b"done\nlonger\rab\n");
        lines.write(b"@nix {\"action\":\"setPhase\",\"phase\":\"buildPhase\"}\n");
        lines.write(b"@nix {\"action\":\"msg\",\"level\":3,\"msg\":\"hi\"}\nlast");
        lines.finish();
        assert_eq!(lines.tail().collect::<Vec<_>>(), ["ab", "last"]);
        drop(lines);
        let line = |text: &str| format!("BuildLogLine [Text({text:?})]");
        assert_eq!(
            *recorder.0.lock().unwrap(),
            [
                "start Build b".to_owned(),
                line("one"),
                line("done"),
                line("ab"),
                "SetPhase [Text(\"buildPhase\")]".into(),
                "message hi".into(),
                line("last"),
                "stop".into(),
            ]
        );
    }

    fn tail_of(parts: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = recorder.clone();
        let kind = ActivityKind::Build;
        let activity = Activity::start(&observer, 0, Level::Info, kind, "b", Vec::new());
        let mut lines = LogLines::new(activity, observer, 5);
        for part in parts {
            lines.write(part);
        }
        lines.finish();
        let tail = lines.tail().map(str::to_owned).collect();
        drop(lines);
        let events = recorder.0.lock().unwrap().clone();
        (tail, events)
    }

    const MESSAGES: &str = "(@nix |\\{\"action\":\"(start|stop|result|msg|setPhase)\",|\"(id|type|level)\":[0-9]{1,3},\
                            |\"fields\":\\[1,\"x\"\\],|\"(text|msg|phase)\":\"x\"\\}|a|\\xff|\r|\n){0,20}";

    proptest! {
        /// However output arrives, it is the same, and nothing that builders say is too much.
        #[test]
        fn pieces_do_not_matter(
            text in prop_oneof![MESSAGES.prop_map(String::into_bytes), any::<Vec<u8>>()],
            cut: prop::sample::Index,
        ) {
            let (start, end) = text.split_at(cut.index(text.len() + 1));
            prop_assert_eq!(tail_of(&[&text]), tail_of(&[start, end]));
        }
    }
}
