//! `trace-function-calls` and `eval-profiler = flamegraph`: what evaluation calls, as lines, or as samples of stacks
//! that flame graphs are made of.

use crate::progress::reporter;
use crate::session::Failure;
use crate::settings::Settings;
use nivis::eval::Machine;
use nivis::eval::calls::{Call, CallObserver};
use nivis_store::build::events::Level;
use nivis_store::io_text;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Calls in the samples that are kept before they are written out.
const KEPT: usize = 1 << 22;

/// Samples of the stack of calls.
struct Profile {
    path: String,
    file: File,
    /// Time between two samples; none for one at every call.
    interval: Option<Duration>,
    last: Instant,
    stack: Vec<Call>,
    samples: BTreeMap<Vec<Call>, u64>,
    kept: usize,
    failed: Option<std::io::Error>,
}

/// What was asked for.
struct Watch {
    trace: bool,
    profile: Option<Rc<RefCell<Profile>>>,
}

/// A profile that is being made.
pub struct Running(Option<Rc<RefCell<Profile>>>);

/// Begins to trace and to profile, as far as settings ask for it.
///
/// # Errors
/// Settings that cannot be understood; a profile that cannot be written.
pub fn start(settings: &Settings, m: &mut Machine) -> Result<Running, Failure> {
    let trace = settings.switch("trace-function-calls").unwrap_or(false);
    let profile = match settings.get("eval-profiler") {
        None | Some("disabled") => None,
        Some("flamegraph") => Some(Rc::new(RefCell::new(Profile::new(settings)?))),
        Some(other) => {
            return Err(Failure::Usage(format!(
                "option 'eval-profiler' has an unrecognized value '{other}'"
            )));
        }
    };
    let running = Running(profile.clone());
    if trace || profile.is_some() {
        m.observe_calls(Box::new(Watch { trace, profile }));
    }
    Ok(running)
}

impl Running {
    /// Writes what is left of the profile.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self, m: &Machine) -> Result<(), Failure> {
        let Some(profile) = &self.0 else {
            return Ok(());
        };
        let mut profile = profile.borrow_mut();
        profile.write(m);
        match profile.failed.take() {
            Some(e) => Err(Failure::Other(format!(
                "cannot write '{}': {}",
                profile.path,
                io_text(&e)
            ))),
            None => Ok(()),
        }
    }
}

impl Profile {
    fn new(settings: &Settings) -> Result<Profile, Failure> {
        let path = settings.get("eval-profile-file").unwrap_or("nix.profile");
        let file = File::create(path)
            .map_err(|e| Failure::Other(format!("opening file '{path}': {}", io_text(&e))))?;
        let frequency = settings.number("eval-profiler-frequency").unwrap_or(99);
        Ok(Profile {
            path: path.to_string(),
            file,
            interval: 1_000_000_000u64
                .checked_div(frequency)
                .map(Duration::from_nanos),
            last: Instant::now(),
            stack: Vec::new(),
            samples: BTreeMap::new(),
            kept: 0,
            failed: None,
        })
    }

    fn entered(&mut self, m: &Machine, call: Call) {
        self.stack.push(call);
        if let Some(interval) = self.interval {
            if self.last.elapsed() < interval {
                return;
            }
            self.last = Instant::now();
        }
        match self.samples.get_mut(&self.stack) {
            Some(count) => *count += 1,
            None => {
                self.kept += self.stack.len();
                self.samples.insert(self.stack.clone(), 1);
            }
        }
        if self.kept > KEPT {
            self.write(m);
        }
    }

    /// Writes all samples: the calls of a stack, outermost first, and how often it was seen.
    fn write(&mut self, m: &Machine) {
        let mut shown: BTreeMap<Call, String> = BTreeMap::new();
        let mut text = String::new();
        for (stack, count) in std::mem::take(&mut self.samples) {
            for (i, call) in stack.into_iter().enumerate() {
                if i > 0 {
                    text.push(';');
                }
                text.push_str(shown.entry(call).or_insert_with(|| show(m, call)));
            }
            text.push_str(&format!(" {count}\n"));
            if text.len() > 1 << 20 {
                self.write_text(&mut text);
            }
        }
        self.write_text(&mut text);
        self.kept = 0;
    }

    fn write_text(&mut self, text: &mut String) {
        if let Err(e) = self.file.write_all(text.as_bytes()) {
            self.failed.get_or_insert(e);
        }
        text.clear();
    }
}

fn show(m: &Machine, call: Call) -> String {
    match (m.place_of_call(call), m.name_of_call(call)) {
        (Some(place), Some(name)) => format!("{place}:{name}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => "«none»".to_string(),
    }
}

impl Watch {
    fn say(&self, what: &str, m: &Machine, call: Call) {
        if !self.trace {
            return;
        }
        let place = m.place_of_call(call);
        let place = place.as_deref().unwrap_or("undefined position");
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanoseconds = since.map_or(0, |d| d.as_nanos());
        let text = format!("function-trace {what} {place} at {nanoseconds}");
        reporter().message(Level::Info, &text);
    }
}

impl CallObserver for Watch {
    fn entered(&mut self, m: &Machine, call: Call) {
        self.say("entered", m, call);
        if let Some(profile) = &self.profile {
            profile.borrow_mut().entered(m, call);
        }
    }

    fn left(&mut self, m: &Machine, call: Call) {
        self.say("exited", m, call);
        if let Some(profile) = &self.profile {
            profile.borrow_mut().stack.pop();
        }
    }
}
