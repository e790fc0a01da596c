//! Flags that all commands take, wherever they stand on the command line: one table for parsing, help and
//! completion. Settings of `nix.conf` are flags as well.

use crate::progress::LogFormat;
use crate::session::{Arg, Common};
use crate::settings::{MEMORY_LIMIT, Source, UsageError};
use nivis_store::build::events::Level;
use std::collections::VecDeque;

/// A flag that all commands take.
struct Flag {
    long: &'static str,
    short: Option<char>,
    values: &'static [&'static str],
    /// Flags without help are there for compatibility.
    help: &'static str,
    apply: fn(&mut Common, &[String]) -> Result<(), UsageError>,
}

const fn flag(
    long: &'static str,
    short: Option<char>,
    values: &'static [&'static str],
    help: &'static str,
    apply: fn(&mut Common, &[String]) -> Result<(), UsageError>,
) -> Flag {
    Flag {
        long,
        short,
        values,
        help,
        apply,
    }
}

fn first(values: &[String]) -> String {
    values.first().cloned().unwrap_or_default()
}

fn second(values: &[String]) -> String {
    values.get(1).cloned().unwrap_or_default()
}

fn set(c: &mut Common, name: &str, value: &str) -> Result<(), UsageError> {
    c.settings.set(name, value, Source::Flag)
}

/// Numbers may have a suffix for units of 1024.
fn set_number(c: &mut Common, name: &str, value: &str) -> Result<(), UsageError> {
    set(c, name, &crate::settings::number_of(value)?.to_string())
}

const NAME_EXPR: &[&str] = &["NAME", "EXPR"];
const NAME_STRING: &[&str] = &["NAME", "STRING"];
const NAME_PATH: &[&str] = &["NAME", "PATH"];

const FLAGS: &[Flag] = &[
    flag(
        "arg",
        None,
        NAME_EXPR,
        "Call functions with this argument, the value of an expression",
        |c, v| {
            c.args.push((first(v), Arg::Expr(second(v))));
            Ok(())
        },
    ),
    flag(
        "argstr",
        None,
        NAME_STRING,
        "Call functions with this argument, a string",
        |c, v| {
            c.args.push((first(v), Arg::Text(second(v))));
            Ok(())
        },
    ),
    flag(
        "arg-from-file",
        None,
        NAME_PATH,
        "Call functions with this argument, the contents of a file",
        |c, v| {
            c.args.push((first(v), Arg::File(second(v))));
            Ok(())
        },
    ),
    flag(
        "arg-from-stdin",
        None,
        &["NAME"],
        "Call functions with this argument, the contents of standard input",
        |c, v| {
            c.args.push((first(v), Arg::Stdin));
            Ok(())
        },
    ),
    flag(
        "include",
        Some('I'),
        &["PATH"],
        "Put a folder, or PREFIX=FOLDER, in front of the search path",
        |c, v| {
            c.include.push(first(v));
            Ok(())
        },
    ),
    flag(
        "impure",
        None,
        &[],
        "Allow the environment, the time and any file to be seen",
        |c, _| c.impure(),
    ),
    flag(
        "option",
        None,
        &["NAME", "VALUE"],
        "Set a setting of nix.conf; --NAME VALUE does the same",
        |c, v| {
            c.settings.set_option(&first(v), &second(v));
            Ok(())
        },
    ),
    flag(
        "max-memory",
        None,
        &["BYTES"],
        "Bytes that evaluation may use (suffixes K, M, G, T)",
        |c, v| set(c, MEMORY_LIMIT, &first(v)),
    ),
    flag(
        "read-only",
        None,
        &[],
        "Write nothing to the store while evaluating",
        |c, _| {
            c.read_only = true;
            Ok(())
        },
    ),
    flag("readonly-mode", None, &[], "", |c, _| {
        c.read_only = true;
        Ok(())
    }),
    flag(
        "read-write-mode",
        None,
        &[],
        "Write to the store while evaluating",
        |c, _| {
            c.read_write = true;
            Ok(())
        },
    ),
    flag(
        "max-jobs",
        Some('j'),
        &["N"],
        "Builds that run at the same time",
        |c, v| set(c, "max-jobs", &first(v)),
    ),
    flag(
        "cores",
        None,
        &["N"],
        "Processor cores that one build should use; 0 for all",
        |c, v| set_number(c, "cores", &first(v)),
    ),
    flag(
        "timeout",
        None,
        &["SECONDS"],
        "End builds that take longer",
        |c, v| set_number(c, "timeout", &first(v)),
    ),
    flag(
        "max-silent-time",
        None,
        &["SECONDS"],
        "End builds that print nothing for longer",
        |c, v| set_number(c, "max-silent-time", &first(v)),
    ),
    flag(
        "keep-failed",
        Some('K'),
        &[],
        "Keep the folders of failed builds",
        |c, _| set(c, "keep-failed", "true"),
    ),
    flag(
        "keep-going",
        Some('k'),
        &[],
        "Go on with other builds when one fails",
        |c, _| set(c, "keep-going", "true"),
    ),
    flag("fallback", None, &[], "", |c, _| set(c, "fallback", "true")),
    flag("offline", None, &[], "", |_, _| Ok(())),
    flag("refresh", None, &[], "", |_, _| Ok(())),
    flag(
        "print-build-logs",
        Some('L'),
        &[],
        "Show the output of builds",
        |c, _| {
            c.build_logs = Some(true);
            Ok(())
        },
    ),
    flag(
        "no-build-output",
        Some('Q'),
        &[],
        "Do not show the output of builds",
        |c, _| {
            c.build_logs = Some(false);
            Ok(())
        },
    ),
    flag(
        "log-format",
        None,
        &["FORMAT"],
        "raw, raw-with-logs, internal-json, bar or bar-with-logs",
        |c, v| {
            let name = first(v);
            c.log_format = Some(LogFormat::parse(&name).ok_or_else(|| {
                UsageError(format!("option 'log-format' has an invalid value '{name}'"))
            })?);
            Ok(())
        },
    ),
    flag(
        "verbose",
        Some('v'),
        &[],
        "Show more; can be repeated",
        |c, _| {
            c.louder = c.louder.saturating_add(1);
            Ok(())
        },
    ),
    flag("quiet", None, &[], "Show less; can be repeated", |c, _| {
        c.louder = c.louder.saturating_sub(1);
        Ok(())
    }),
    flag("debug", None, &[], "", |c, _| {
        c.louder = Level::Debug as i8;
        Ok(())
    }),
    flag(
        "pretty",
        None,
        &[],
        "Print JSON in lines that are indented, as on a terminal",
        |c, _| {
            c.pretty = Some(true);
            Ok(())
        },
    ),
    flag("no-pretty", None, &[], "Print JSON as one line", |c, _| {
        c.pretty = Some(false);
        Ok(())
    }),
    flag("no-gc-warning", None, &[], "", |c, _| {
        c.no_gc_warning = true;
        Ok(())
    }),
    flag(
        "eval-store",
        None,
        &["STORE"],
        "The store that evaluation uses, if it is not the one that builds",
        |c, v| {
            c.eval_store = Some(first(v));
            Ok(())
        },
    ),
    flag(
        "override-flake",
        None,
        &["ORIGINAL", "RESOLVED"],
        "",
        |_, _| Ok(()),
    ),
];

/// Settings that deserve a place in the help.
const SHOWN_SETTINGS: &[(&str, &[&str], &str)] = &[
    (
        "store",
        &["STORE"],
        "The store: a folder that holds nix/store, or a store URI",
    ),
    (
        "show-trace",
        &[],
        "Show everything that was being evaluated when an error happened",
    ),
    (
        "pure-eval",
        &[],
        "Allow only what the expression itself determines",
    ),
    ("restrict-eval", &[], "Allow only files of the search path"),
    (
        "extra-experimental-features",
        &["FEATURES"],
        "Switch on further experimental features",
    ),
    (
        "experimental-features",
        &["FEATURES"],
        "The experimental features that are on",
    ),
    ("max-call-depth", &["N"], "Nested calls that are allowed"),
    (
        "trace-verbose",
        &[],
        "Show what builtins.traceVerbose traces",
    ),
    ("abort-on-warn", &[], "Make warnings errors"),
    ("system", &["SYSTEM"], "The value of builtins.currentSystem"),
];

/// The flags for the help and for completion; they are parsed before clap sees the command line.
pub fn clap_args() -> impl Iterator<Item = clap::Arg> {
    let own = FLAGS.iter().map(|f| (f.long, f.short, f.values, f.help));
    let settings = SHOWN_SETTINGS.iter().map(|(n, v, h)| (*n, None, *v, *h));
    own.chain(settings).map(|(long, short, values, help)| {
        let mut arg = clap::Arg::new(long)
            .long(long)
            .help(help)
            .help_heading("Common options")
            .global(true)
            .hide(help.is_empty());
        if let Some(short) = short {
            arg = arg.short(short);
        }
        match values {
            [] => arg.action(clap::ArgAction::SetTrue),
            names => arg
                .num_args(names.len())
                .value_names(names.iter().copied())
                .action(clap::ArgAction::Append),
        }
    })
}

/// The arguments of a command line, without the common flags, which are applied on the way.
pub struct Arguments {
    rest: VecDeque<String>,
}

impl Arguments {
    /// Those after the command's name.
    pub fn new(args: impl IntoIterator<Item = String>) -> Arguments {
        Arguments {
            rest: args.into_iter().collect(),
        }
    }

    /// The next argument that is no common flag.
    ///
    /// # Errors
    /// Values of common flags that are missing or do not fit.
    pub fn next(&mut self, common: &mut Common) -> Result<Option<String>, UsageError> {
        while let Some(arg) = self.rest.pop_front() {
            if let Some(first) = self.expand(&arg) {
                self.rest.push_front(first);
                continue;
            }
            let found = FLAGS.iter().find(|f| match arg.strip_prefix("--") {
                Some(long) => f.long == long,
                None => f.short.is_some_and(|s| {
                    arg.strip_prefix('-')
                        .is_some_and(|a| a.chars().eq(std::iter::once(s)))
                }),
            });
            if let Some(flag) = found {
                let values = self.values(&arg, flag.values.len())?;
                (flag.apply)(common, &values)?;
                continue;
            }
            let mut next = |flag: &str, count: usize| take(&mut self.rest, flag, count);
            if common.settings.flag(&arg, &mut next)? {
                continue;
            }
            return Ok(Some(arg));
        }
        Ok(None)
    }

    /// All the arguments that are no common flags; after `--` there are none.
    ///
    /// # Errors
    /// Values of common flags that are missing or do not fit.
    pub fn all(mut self, common: &mut Common) -> Result<Vec<String>, UsageError> {
        let mut all = Vec::new();
        while let Some(arg) = self.next(common)? {
            let end = arg == "--";
            all.push(arg);
            if end {
                all.extend(self.rest);
                break;
            }
        }
        Ok(all)
    }

    /// The value of one of the command's own flags.
    ///
    /// # Errors
    /// When nothing follows.
    pub fn value(&mut self, flag: &str) -> Result<String, UsageError> {
        self.rest
            .pop_front()
            .ok_or_else(|| UsageError(format!("'{flag}' requires an argument")))
    }

    fn values(&mut self, flag: &str, count: usize) -> Result<Vec<String>, UsageError> {
        take(&mut self.rest, flag, count)
    }

    /// Splits `-abc` into single letters; from the first character that is no letter on it is a value. The first
    /// part is returned, the others are put in front of the rest.
    fn expand(&mut self, arg: &str) -> Option<String> {
        let letters = arg.strip_prefix('-')?;
        if letters.chars().nth(1).is_none()
            || !letters.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            return None;
        }
        let end = letters
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(letters.len());
        if end < letters.len() {
            self.rest.push_front(letters[end..].to_string());
        }
        for letter in letters[1..end].chars().rev() {
            self.rest.push_front(format!("-{letter}"));
        }
        letters.chars().next().map(|c| format!("-{c}"))
    }
}

fn take(rest: &mut VecDeque<String>, flag: &str, count: usize) -> Result<Vec<String>, UsageError> {
    if rest.len() < count {
        return Err(UsageError(format!(
            "flag '{flag}' requires {count} argument(s), but only {} were given",
            rest.len()
        )));
    }
    Ok(rest.drain(..count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arg: &str) -> Vec<String> {
        let mut args = Arguments::new([]);
        let first = args.expand(arg).unwrap_or_else(|| arg.to_string());
        std::iter::once(first).chain(args.rest).collect()
    }

    #[test]
    fn letters_are_split() {
        assert_eq!(expanded("-j4"), ["-j", "4"]);
        assert_eq!(expanded("-kK"), ["-k", "-K"]);
        assert_eq!(expanded("-vj4"), ["-v", "-j", "4"]);
        assert_eq!(expanded("--attr"), ["--attr"]);
        assert_eq!(expanded("-A"), ["-A"]);
        assert_eq!(expanded("-"), ["-"]);
    }

    #[test]
    fn common_flags_stand_anywhere() -> Result<(), UsageError> {
        let mut common = Common::default();
        let args = [
            "build",
            "--no-sandbox",
            "x",
            "-vj",
            "3",
            "--option",
            "cores",
            "2",
            "--",
            "-v",
        ];
        let rest = Arguments::new(args.map(String::from)).all(&mut common)?;
        assert_eq!(rest, ["build", "x", "--", "-v"]);
        assert_eq!(common.settings.get("sandbox"), Some("false"));
        assert_eq!(common.settings.get("max-jobs"), Some("3"));
        assert_eq!(common.settings.get("cores"), Some("2"));
        assert_eq!(common.louder, 1);
        Ok(())
    }
}
