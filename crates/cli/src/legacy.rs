//! The command line of `nix-instantiate`, parsed as that command does: any order, `-abc` means `-a -b -c`, a
//! negative form for every switch among the settings.

use crate::instantiate::{Instantiate, Output};
use crate::session::{Arg, Common};
use crate::settings::{Source, UsageError};
use std::collections::VecDeque;

/// What the command line asks for.
pub enum Parsed {
    /// Run.
    Run(Box<Instantiate>),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// Parses the arguments after the command's name.
///
/// # Errors
/// Unknown flags, missing values, values that do not fit.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Parsed, UsageError> {
    let mut rest: VecDeque<String> = args.into_iter().collect();
    let mut o = Instantiate {
        common: Common::load()?,
        location: true,
        ..Instantiate::default()
    };
    while let Some(arg) = rest.pop_front() {
        // What follows is parsed all the same, by the original too.
        if arg == "--" {
            continue;
        }
        if let Some(first) = expand(&arg, &mut rest) {
            rest.push_front(first);
            continue;
        }
        if !one(&mut o, &arg, &mut rest)? {
            match arg.as_str() {
                "--help" => return Ok(Parsed::Help),
                "--version" => return Ok(Parsed::Version),
                _ => {}
            }
            if arg.starts_with('-') {
                return Err(UsageError(format!("unrecognised flag '{arg}'")));
            }
            o.files.push(arg);
        }
    }
    Ok(Parsed::Run(Box::new(o)))
}

/// Splits `-abc` into single letters; from the first character that is no letter on it is a value. The first part
/// is returned, the others are put in front of the rest.
fn expand(arg: &str, rest: &mut VecDeque<String>) -> Option<String> {
    let letters = arg.strip_prefix('-')?;
    if letters.chars().nth(1).is_none() || !letters.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let end = letters
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(letters.len());
    if end < letters.len() {
        rest.push_front(letters[end..].to_string());
    }
    for letter in letters[1..end].chars().rev() {
        rest.push_front(format!("-{letter}"));
    }
    letters.chars().next().map(|c| format!("-{c}"))
}

/// Takes the values of a flag.
fn values(
    flag: &str,
    count: usize,
    rest: &mut VecDeque<String>,
) -> Result<Vec<String>, UsageError> {
    if rest.len() < count {
        return Err(UsageError(format!(
            "flag '{flag}' requires {count} argument(s), but only {} were given",
            rest.len()
        )));
    }
    Ok(rest.drain(..count).collect())
}

/// Takes the value of one of the command's own flags.
fn value(flag: &str, rest: &mut VecDeque<String>) -> Result<String, UsageError> {
    rest.pop_front()
        .ok_or_else(|| UsageError(format!("'{flag}' requires an argument")))
}

fn pair(flag: &str, rest: &mut VecDeque<String>) -> Result<(String, String), UsageError> {
    let mut both = values(flag, 2, rest)?.into_iter();
    Ok((
        both.next().unwrap_or_default(),
        both.next().unwrap_or_default(),
    ))
}

fn one(o: &mut Instantiate, arg: &str, rest: &mut VecDeque<String>) -> Result<bool, UsageError> {
    match arg {
        // Common to all commands.
        "--verbose" | "-v" | "--quiet" | "--debug" | "--no-build-output" | "-Q"
        | "--keep-failed" | "-K" | "--keep-going" | "-k" | "--fallback" | "--repair" => {}
        "--log-format" | "--max-jobs" | "-j" | "--cores" | "--max-silent-time" | "--timeout"
        | "--eval-store" => {
            values(arg, 1, rest)?;
        }
        "--store" => {
            let mut store = values(arg, 1, rest)?;
            o.common
                .settings
                .set("store", &store.pop().unwrap_or_default(), Source::Flag)?;
        }
        "--override-flake" => {
            values(arg, 2, rest)?;
        }
        "--readonly-mode" | "--dry-run" => o.common.read_only = true,
        "--no-gc-warning" => o.no_gc_warning = true,
        "--option" => {
            let (name, value) = pair(arg, rest)?;
            if let Err(UsageError(m)) = o.common.settings.set(&name, &value, Source::Flag) {
                o.common.settings.warnings.push(m);
            }
        }
        "--arg" => {
            let (name, value) = pair(arg, rest)?;
            o.common.args.push((name, Arg::Expr(value)));
        }
        "--argstr" => {
            let (name, value) = pair(arg, rest)?;
            o.common.args.push((name, Arg::Text(value)));
        }
        "--arg-from-file" => {
            let (name, value) = pair(arg, rest)?;
            o.common.args.push((name, Arg::File(value)));
        }
        "--arg-from-stdin" => {
            let name = values(arg, 1, rest)?.pop().unwrap_or_default();
            o.common.args.push((name, Arg::Stdin));
        }
        "--include" | "-I" => {
            let path = values(arg, 1, rest)?.pop().unwrap_or_default();
            o.common.include.push(path);
        }
        "--impure" => o.common.impure()?,
        // The command's own.
        "-" => o.read_stdin = true,
        "--expr" | "-E" => o.from_args = true,
        "--eval" | "--eval-only" => o.eval_only = true,
        "--read-write-mode" => o.read_write = true,
        "--parse" | "--parse-only" => {
            o.parse_only = true;
            o.eval_only = true;
        }
        "--find-file" => o.find_file = true,
        "--attr" | "-A" => o.attrs.push(value(arg, rest)?),
        "--add-root" => o.gc_root = Some(value(arg, rest)?),
        "--indirect" => {}
        "--raw" => o.output = Output::Raw,
        "--xml" => o.output = Output::Xml,
        "--json" => o.output = Output::Json,
        "--no-location" => o.location = false,
        "--strict" => o.strict = true,
        _ => {
            let mut next = |flag: &str, count: usize| values(flag, count, rest);
            return o.common.settings.flag(arg, &mut next);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arg: &str) -> Vec<String> {
        let mut rest = VecDeque::new();
        let first = expand(arg, &mut rest).unwrap_or_else(|| arg.to_string());
        std::iter::once(first).chain(rest).collect()
    }

    #[test]
    fn short_flags_may_be_joined() {
        assert_eq!(expanded("-vvv"), ["-v", "-v", "-v"]);
        assert_eq!(expanded("-j4"), ["-j", "4"]);
        assert_eq!(expanded("-A"), ["-A"]);
        assert_eq!(expanded("--attr"), ["--attr"]);
        assert_eq!(expanded("-"), ["-"]);
    }
}
