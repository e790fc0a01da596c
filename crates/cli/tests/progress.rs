//! What builds look like on a terminal.

mod common;

use common::Folder;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A screen as wide as the terminal, as far as bars and lines need one: lines, and where the cursor is.
#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    line: usize,
    column: usize,
    width: usize,
}

impl Screen {
    fn put(&mut self, c: char) {
        if self.column == self.width {
            self.line += 1;
            self.column = 0;
        }
        while self.lines.len() <= self.line {
            self.lines.push(String::new());
        }
        let line = &mut self.lines[self.line];
        let mut chars: Vec<char> = line.chars().collect();
        while chars.len() <= self.column {
            chars.push(' ');
        }
        chars[self.column] = c;
        *line = chars.into_iter().collect();
        self.column += 1;
    }

    fn show(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.line += 1;
                    self.column = 0;
                }
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut number = String::new();
                    let command = loop {
                        match chars.next() {
                            Some(c) if c.is_ascii_digit() || matches!(c, ';' | '?') => {
                                number.push(c)
                            }
                            c => break c,
                        }
                    };
                    let n: usize = number.parse().unwrap_or(1);
                    match command {
                        Some('A') => self.line = self.line.saturating_sub(n),
                        Some('B') => self.line += n,
                        Some('K') => {
                            if let Some(line) = self.lines.get_mut(self.line) {
                                line.clear();
                            }
                        }
                        _ => {}
                    }
                }
                // What a key sends is nothing to be seen.
                '\x03' => {}
                c => self.put(c),
            }
        }
    }

    fn seen(&self) -> Vec<&str> {
        let lines = self.lines.iter().map(|l| l.trim_end());
        lines.filter(|l| !l.is_empty()).collect()
    }
}

/// What was on the screen at any moment, and what is at the end; and the status of the command.
struct Seen {
    moments: Vec<Vec<String>>,
    end: Vec<String>,
    status: Option<i32>,
}

/// Runs a command on a terminal; presses `^C` after that time.
fn on_terminal(
    dir: &Folder,
    width: u16,
    args: &[&str],
    interrupt: Option<Duration>,
) -> Option<Seen> {
    let size = nix::pty::Winsize {
        ws_row: 24,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let Ok(pty) = nix::pty::openpty(Some(&size), None) else {
        eprintln!("skipped: there are no terminals here");
        return None;
    };
    let below = |name: &str| dir.path().join(name);
    let end = || Stdio::from(pty.slave.try_clone().expect("the terminal"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_nivis"));
    command
        .args(args)
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", "/bin:/usr/bin")
        .env("HOME", dir.path())
        .env("TERM", "xterm")
        .env("NIX_CONF_DIR", below("no-configuration"))
        .env("NIX_STORE_DIR", below("store"))
        .env("NIX_STATE_DIR", below("state"))
        .env("NIX_LOG_DIR", below("log"))
        .env("NIX_CONFIG", "build-users-group =\nsandbox = false\n")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .process_group(0);
    let mut child = command.spawn().expect("the program starts");
    drop(command);
    drop(pty.slave);
    let mut screen = Screen {
        width: width.into(),
        ..Screen::default()
    };
    let mut master = std::fs::File::from(pty.master);
    if let Some(after) = interrupt {
        let process = nix::unistd::Pid::from_raw(child.id() as i32);
        std::thread::spawn(move || {
            std::thread::sleep(after);
            // The terminal is nobody's controlling one, so its keys send no signals.
            let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT);
        });
    }
    let mut moments = Vec::new();
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    // The terminal's end is an error once nobody holds its other side.
    while let Ok(n @ 1..) = master.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..n]);
        let whole = match std::str::from_utf8(&pending) {
            Ok(text) => text.len(),
            Err(e) => e.valid_up_to(),
        };
        // Not in the middle of a control sequence either.
        let whole = match pending[..whole].iter().rposition(|b| *b == b'\x1b') {
            Some(at) if !pending[at + 1..whole].iter().any(u8::is_ascii_alphabetic) => at,
            _ => whole,
        };
        let text: Vec<u8> = pending.drain(..whole).collect();
        screen.show(&String::from_utf8_lossy(&text));
        moments.push(screen.seen().into_iter().map(String::from).collect());
    }
    let status = child.wait().expect("the program ends").code();
    Some(Seen {
        moments,
        end: screen.seen().into_iter().map(String::from).collect(),
        status,
    })
}

fn expressions() -> Folder {
    let dir = Folder::new();
    dir.write(
        "default.nix",
        r#"let sh = name: script: more: derivation ({
             inherit name;
             system = builtins.currentSystem;
             builder = "/bin/sh";
             PATH = "/bin:/usr/bin";
             args = [ "-c" script ];
           } // more);
           in rec {
             a = sh "aaa" "echo line of aaa; sleep 1; echo > $out" { };
             b = sh "bbb-with-a-name-that-is-longer-than-the-line" "echo line of bbb; sleep 1; echo > $out" { };
             both = sh "both" "echo > $out" { inherit a b; };
             failing = sh "failing" "echo first; echo last; exit 3" { };
             slow = sh "slow" "echo started; sleep 30; echo > $out" { };
           }"#,
    );
    dir
}

#[test]
fn bars_show_what_runs_and_go_away() {
    let dir = expressions();
    let args = ["build", "-f", ".", "both", "-j2", "--no-link"];
    let Some(seen) = on_terminal(&dir, 60, &args, None) else {
        return;
    };
    assert_eq!((seen.status, &seen.end), (Some(0), &Vec::new()));
    let both = seen.moments.iter().find(|lines| {
        lines
            .iter()
            .any(|l| l.contains("building aaa: line of aaa"))
            && lines.iter().any(|l| l.contains("building bbb-with-a-name"))
    });
    let Some(both) = both else {
        panic!("{:?}", seen.moments);
    };
    // A line for the whole and one for each, none of them wrapped.
    assert_eq!(both.len(), 3, "{both:?}");
    assert!(both[0].contains("0 built, 2 running, 1 left"), "{both:?}");
}

#[test]
fn logs_and_failures_stay_on_the_screen() {
    let dir = expressions();
    let args = ["build", "-f", ".", "a", "-L", "--no-link"];
    let Some(seen) = on_terminal(&dir, 80, &args, None) else {
        return;
    };
    assert_eq!(
        (seen.status, seen.end),
        (Some(0), vec!["aaa> line of aaa".to_string()])
    );
    let args = ["build", "-f", ".", "failing", "--no-link"];
    let Some(seen) = on_terminal(&dir, 200, &args, None) else {
        return;
    };
    assert_eq!(seen.status, Some(1));
    assert!(
        seen.end[0].starts_with("error: Cannot build '"),
        "{:?}",
        seen.end
    );
    assert!(
        seen.end.iter().any(|l| l == "       > last"),
        "{:?}",
        seen.end
    );
}

#[test]
fn interrupts_leave_a_clean_screen_and_nothing_half_built() {
    let dir = expressions();
    let args = ["build", "-f", ".", "slow", "--no-link"];
    let Some(seen) = on_terminal(&dir, 80, &args, Some(Duration::from_millis(1500))) else {
        return;
    };
    assert_eq!(seen.status, Some(1));
    assert_eq!(seen.end, ["error: interrupted by the user"]);
    let shown = |lines: &Vec<String>| lines.iter().any(|l| l.contains("building slow"));
    assert!(seen.moments.iter().any(shown), "{:?}", seen.moments);
    let entries = std::fs::read_dir(dir.path().join("store"));
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name());
    let names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|n| n.ends_with("-slow")), "{names:?}");
}
