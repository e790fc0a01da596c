//! Bars on a terminal: one line for the whole, one for each build or copy that runs.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nivis_store::build::events::{ActivityId, ActivityKind, Field, ResultKind};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::collections::HashMap;
use std::time::Duration;

/// Lines shown for running things at most; what else runs is only counted.
const MAX_LINES: usize = 12;

#[derive(Clone)]
pub struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    running: HashMap<ActivityId, Running>,
    builds: Option<ActivityId>,
    copies: Option<ActivityId>,
    counts: HashMap<ActivityId, [u64; 4]>,
    /// Bytes that were freed by linking files.
    freed: u64,
    corrupted: u64,
    untrusted: u64,
    /// Whether the terminal has to be told to show control keys again.
    hides_keys: bool,
}

#[derive(Clone)]
struct Running {
    bar: ProgressBar,
    name: String,
    phase: String,
    unit: Unit,
    /// Whether it is shown how far it is.
    counted: bool,
}

/// What an activity counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Paths,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Lets the terminal show `^C` and the like when such keys are pressed, or not: the cursor is where a new line would
/// begin then, and bars would be left on the screen. Whether that was changed.
fn show_control_keys(shown: bool) -> bool {
    let terminal = std::io::stderr();
    // Only the process in the foreground may change how the terminal behaves.
    if nix::unistd::tcgetpgrp(&terminal) != Ok(nix::unistd::getpgrp()) {
        return false;
    }
    let Ok(mut settings) = tcgetattr(&terminal) else {
        return false;
    };
    if settings.local_flags.contains(LocalFlags::ECHOCTL) == shown {
        return false;
    }
    settings.local_flags.set(LocalFlags::ECHOCTL, shown);
    tcsetattr(&terminal, SetArg::TCSANOW, &settings).is_ok()
}

/// Columns for a message beside so many others.
fn room(others: usize) -> usize {
    let (_, columns) = console::Term::stderr().size();
    usize::from(columns).saturating_sub(others + 4).max(4)
}

impl Bars {
    pub fn new() -> Bars {
        let all = MultiProgress::new();
        let total = ProgressBar::hidden();
        Bars {
            all,
            total,
            running: HashMap::new(),
            builds: None,
            copies: None,
            counts: HashMap::new(),
            freed: 0,
            corrupted: 0,
            untrusted: 0,
            hides_keys: show_control_keys(false),
        }
    }

    pub fn line(&self, text: &str) {
        self.all.suspend(|| super::write_line(text));
    }

    pub fn suspend<T>(&self, f: impl FnOnce() -> T) -> T {
        self.all.suspend(f)
    }

    /// Takes everything from the screen, and leaves the terminal as it was.
    pub fn clear(&self) {
        // What cannot be cleared is left on the screen.
        let _ = self.all.clear();
        if self.hides_keys {
            show_control_keys(true);
        }
    }

    pub fn start(&mut self, id: ActivityId, kind: ActivityKind, name: Option<&str>, text: &str) {
        let verb = match kind {
            ActivityKind::Builds => {
                self.builds = Some(id);
                return;
            }
            ActivityKind::CopyPaths => {
                self.copies = Some(id);
                return;
            }
            ActivityKind::Build => "building",
            ActivityKind::PostBuildHook => "post-build",
            ActivityKind::CopyPath => "copying",
            ActivityKind::FileTransfer => "downloading",
            ActivityKind::OptimiseStore => "optimising",
            ActivityKind::VerifyPaths => "verifying",
            ActivityKind::BuildWaiting => "",
            _ => return,
        };
        let unit = match kind {
            ActivityKind::OptimiseStore | ActivityKind::VerifyPaths => Unit::Paths,
            _ => Unit::Bytes,
        };
        if self.running.len() >= MAX_LINES {
            return;
        }
        let name = match name {
            Some(name) => format!("{verb} \x1b[1m{name}\x1b[0m"),
            None if text.is_empty() => verb.to_string(),
            None => text.to_string(),
        };
        let bar = self.all.add(ProgressBar::new_spinner());
        bar.set_style(style(&format!(
            "  {{spinner}} {{elapsed:>4}} {{msg:{}!}}",
            room(9)
        )));
        bar.set_message(name.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.insert(
            id,
            Running {
                bar,
                name,
                phase: String::new(),
                unit,
                counted: false,
            },
        );
    }

    pub fn stop(&mut self, id: ActivityId) {
        if let Some(running) = self.running.remove(&id) {
            running.bar.finish_and_clear();
            self.all.remove(&running.bar);
        }
        self.counts.remove(&id);
        if self.builds == Some(id) {
            self.builds = None;
            self.total.finish_and_clear();
        }
        if self.copies == Some(id) {
            self.copies = None;
        }
    }

    pub fn last_line(&mut self, id: ActivityId, line: &str) {
        if let Some(running) = self.running.get(&id) {
            let line = super::without_escapes(line);
            running
                .bar
                .set_message(format!("{}{}: {line}", running.name, running.phase));
        }
    }

    pub fn result(&mut self, id: ActivityId, kind: ResultKind, fields: &[Field]) {
        let number = |i: usize| match fields.get(i) {
            Some(Field::Int(n)) => *n,
            _ => 0,
        };
        match kind {
            ResultKind::SetPhase => {
                if let (Some(running), Some(Field::Text(phase))) =
                    (self.running.get_mut(&id), fields.first())
                {
                    running.phase = format!(" ({phase})");
                    running
                        .bar
                        .set_message(format!("{}{}", running.name, running.phase));
                }
            }
            ResultKind::Progress => {
                self.counts
                    .insert(id, [number(0), number(1), number(2), number(3)]);
                if let Some(running) = self.running.get_mut(&id)
                    && number(1) > 0
                {
                    if !running.counted {
                        running.counted = true;
                        let count = match running.unit {
                            Unit::Bytes => "{bytes}/{total_bytes}",
                            Unit::Paths => "{pos}/{len} paths",
                        };
                        running.bar.set_style(style(&format!(
                            "  {{spinner}} {{elapsed:>4}} {{bar:16}} {count} {{msg:{}!}}",
                            room(50)
                        )));
                    }
                    running.bar.set_length(number(1));
                    running.bar.set_position(number(0));
                }
                self.show_total();
            }
            ResultKind::FileLinked => {
                self.freed += number(0);
                self.show_findings();
            }
            ResultKind::CorruptedPath => {
                self.corrupted += 1;
                self.show_findings();
            }
            ResultKind::UntrustedPath => {
                self.untrusted += 1;
                self.show_findings();
            }
            _ => {}
        }
    }

    /// What optimising or verifying has found so far.
    fn show_findings(&self) {
        let mut running = self.running.values();
        let Some(running) = running.find(|running| running.unit == Unit::Paths) else {
            return;
        };
        let mut text = running.name.clone();
        if self.freed > 0 {
            let freed = nivis_store::local::render_size(self.freed.into());
            text.push_str(&format!(", {freed} freed"));
        }
        for (count, what) in [(self.corrupted, "corrupted"), (self.untrusted, "untrusted")] {
            if count > 0 {
                text.push_str(&format!(", \x1b[31m{count} {what}\x1b[0m"));
            }
        }
        running.bar.set_message(text);
    }

    fn show_total(&mut self) {
        let Some([done, expected, running, failed]) =
            self.builds.and_then(|id| self.counts.get(&id)).copied()
        else {
            return;
        };
        if self.total.is_hidden() {
            self.total = self.all.insert(0, ProgressBar::new(expected));
            self.total.set_style(style(&format!(
                "{{bar:12.cyan}} {{elapsed:>4}} {{msg:{}!}}",
                room(18)
            )));
            self.total.enable_steady_tick(Duration::from_millis(500));
        }
        self.total.set_length(expected.max(1));
        self.total.set_position(done);
        let left = expected.saturating_sub(done + running + failed);
        let mut text = format!("{done} built, {running} running, {left} left");
        if failed > 0 {
            text.push_str(&format!(", \x1b[31m{failed} failed\x1b[0m"));
        }
        self.total.set_message(text);
    }
}
