//! `NIX_GET_COMPLETIONS`: how a word of the command line may go on, as the completion scripts of Nix's shells ask. The
//! variable holds the number of the word; what is printed is the kind of completion, then a line for each with a tab and a
//! description.

use crate::session::{Common, Failure, Session, print};
use crate::setting_names::{SWITCHES, VALUED};
use clap::{Arg, ArgAction, Command};
use nivis::select::find_along;

/// Prints completions of the word with that number; the first one after the command's name is 1.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(command: &Command, args: &[String], number: usize) -> Result<(), Failure> {
    let before = args.get(..number.saturating_sub(1)).unwrap_or(args);
    let word = args.get(before.len()).map_or("", String::as_str);
    let (kind, found) = completions(command, before, word);
    let mut text = format!("{kind}\n");
    for (name, description) in found {
        text.push_str(&format!("{name}\t{description}\n"));
    }
    print(text.as_bytes())
}

type Found = Vec<(String, String)>;

fn completions(command: &Command, before: &[String], word: &str) -> (&'static str, Found) {
    let (mut at, mut file) = (command, None);
    let mut words = before.iter();
    while let Some(given) = words.next() {
        let Some(flag) = find_flag(at, given) else {
            if !given.starts_with('-')
                && let Some(below) = at.find_subcommand(given)
            {
                at = below;
            }
            continue;
        };
        let names_file = flag.get_long() == Some("file");
        for i in 0..values_of(flag) {
            match words.next() {
                Some(value) if names_file => file = Some(value.as_str()),
                Some(_) => {}
                None => return value(flag, i, word),
            }
        }
    }
    if word.starts_with('-') {
        let flags = at.get_arguments().filter(|a| !a.is_hide_set());
        let found = flags.filter_map(|a| {
            let help = a.get_help().map(ToString::to_string).unwrap_or_default();
            Some((format!("--{}", a.get_long()?), help))
        });
        return ("normal", starting(found, word));
    }
    if at.has_subcommands() {
        let below = at.get_subcommands().filter(|c| !c.is_hide_set());
        let names = below.map(|c| (c.get_name().to_string(), String::new()));
        return ("normal", starting(names, word));
    }
    match file {
        Some(file) => ("attrs", attributes(file, word)),
        None => ("filenames", files(word)),
    }
}

fn starting(all: impl Iterator<Item = (String, String)>, word: &str) -> Found {
    let mut found: Found = all.filter(|(name, _)| name.starts_with(word)).collect();
    found.sort();
    found
}

fn find_flag<'a>(command: &'a Command, given: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|a| match given.strip_prefix("--") {
            Some(long) => a.get_long() == Some(long),
            None => {
                let short = given.strip_prefix('-').and_then(|s| s.parse().ok());
                short.is_some() && a.get_short() == short
            }
        })
}

/// How many words follow a flag.
fn values_of(flag: &Arg) -> usize {
    match flag.get_action() {
        ArgAction::Set | ArgAction::Append => flag.get_num_args().map_or(1, |n| n.min_values()),
        _ => 0,
    }
}

/// The values that a flag may have.
fn value(flag: &Arg, index: usize, word: &str) -> (&'static str, Found) {
    let names = |names: &[&str]| {
        let all = names.iter().map(|n| (n.to_string(), String::new()));
        ("normal", starting(all, word))
    };
    match (flag.get_long(), index) {
        (Some("option"), 0) => names(&[SWITCHES, VALUED].concat()),
        (Some("log-format"), _) => names(&[
            "bar",
            "bar-with-logs",
            "internal-json",
            "raw",
            "raw-with-logs",
        ]),
        (Some("expr" | "apply" | "arg" | "argstr" | "option" | "name"), _) => {
            ("normal", Found::new())
        }
        _ => ("filenames", files(word)),
    }
}

/// Files and folders whose path begins so.
fn files(word: &str) -> Found {
    let (folder, start) = word.rsplit_once('/').map_or(("", word), |(f, s)| (f, s));
    let (prefix, place) = match word.contains('/') {
        true => (
            format!("{folder}/"),
            if folder.is_empty() { "/" } else { folder },
        ),
        false => (String::new(), "."),
    };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let shown = names.filter(|n| start.starts_with('.') || !n.starts_with('.'));
    let paths = shown.map(|n| (format!("{prefix}{n}"), String::new()));
    starting(paths, word)
}

/// Attributes of a file's value whose path begins so; none when evaluation fails.
fn attributes(file: &str, word: &str) -> Found {
    let mut common = Common::load().unwrap_or_default();
    common.read_only = true;
    let (path, _) = word.rsplit_once('.').unwrap_or(("", word));
    let prefix = match path.is_empty() {
        true => String::new(),
        false => format!("{path}."),
    };
    let found = Session::run(&common, |session| {
        let value = session.file(file)?;
        let m = &mut session.machine;
        let value = m.force(value)?;
        let value = find_along(m, session.args, value, path)?;
        let value = m.force(value)?;
        let names: Vec<String> = value.as_attrs().map_or_else(Vec::new, |attrs| {
            attrs.iter().map(|(s, ..)| m.symbols.text(s)).collect()
        });
        Ok(names)
    });
    let names = found.unwrap_or_default().into_iter();
    starting(names.map(|n| (format!("{prefix}{n}"), String::new())), word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &[&str]) -> (&'static str, Vec<String>) {
        let mut words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
        let word = words.pop().unwrap_or_default();
        let mut command = crate::nivis_command::command();
        command.build();
        let (kind, found) = completions(&command, &words, &word);
        (kind, found.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn commands_flags_and_values() {
        let normal = |names: &[&str]| ("normal", names.iter().map(|n| n.to_string()).collect());
        assert_eq!(found(&["buil"]), normal(&["build"]));
        assert_eq!(
            found(&["store", "path-"]),
            normal(&["path-from-hash-part", "path-info"])
        );
        assert_eq!(found(&["build", "--log-form"]), normal(&["--log-format"]));
        assert_eq!(
            found(&["build", "--log-format", "ra"]),
            normal(&["raw", "raw-with-logs"])
        );
        let settings = found(&["build", "--option", "allow-import"]);
        assert_eq!(settings, normal(&["allow-import-from-derivation"]));
        assert_eq!(found(&["build", "-f", "/dev/nul"]).0, "filenames");
        assert_eq!(
            found(&["build", "/dev/nul"]),
            ("filenames", vec!["/dev/null".to_string()])
        );
    }
}
