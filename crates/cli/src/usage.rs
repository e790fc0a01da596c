//! What is said about command lines that cannot be used: clap's findings in Nix's words.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use nivis::builtins::pure::print::{did_you_mean, suggestions};

/// The message for what clap found. `words` are the arguments without the common flags.
pub fn message(e: &clap::Error, command: &Command, words: &[String]) -> String {
    let text = |kind| match e.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    match e.kind() {
        ErrorKind::UnknownArgument => match text(ContextKind::InvalidArg) {
            Some(flag) if flag.starts_with('-') => format!("unrecognised flag '{flag}'"),
            Some(word) => format!("unexpected argument '{word}'"),
            None => first_line(e),
        },
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let (at, _) = innermost(command, words);
            let names = subcommands(at);
            let message = format!("'{word}' is not a recognised command");
            let near = suggestions(word.as_bytes(), names.iter().map(|n| n.as_bytes()));
            match did_you_mean(&near) {
                Some(hint) => format!("{message}\n{hint}"),
                None => message,
            }
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            match innermost(command, words) {
                (_, path) if path.is_empty() => "no subcommand specified".to_string(),
                (at, path) => {
                    let names = subcommands(at);
                    let list: String = names.iter().map(|n| format!("\n  · {n}")).collect();
                    format!(
                        "{} {} requires a sub-command. Available sub-commands:\n{list}",
                        command.get_name(),
                        path.join(" ")
                    )
                }
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = text(ContextKind::InvalidArg).unwrap_or_default();
            match missing.split_whitespace().next() {
                Some(flag) if flag.starts_with('-') => {
                    format!("required argument '{flag}' is missing")
                }
                _ => "more arguments are required".to_string(),
            }
        }
        ErrorKind::InvalidValue
            if text(ContextKind::InvalidValue).is_some_and(|v| v.is_empty()) =>
        {
            let flag = text(ContextKind::InvalidArg).unwrap_or_default();
            let flag = flag.split_whitespace().next().unwrap_or_default();
            format!("flag '{flag}' requires 1 argument(s), but only 0 were given")
        }
        _ => first_line(e),
    }
}

/// What clap says, without its advice.
fn first_line(e: &clap::Error) -> String {
    let text = e.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_string()
}

/// The command that the words lead to, and its path.
fn innermost<'a>(command: &'a Command, words: &'a [String]) -> (&'a Command, Vec<&'a str>) {
    let (mut at, mut path) = (command, Vec::new());
    for word in words.iter().filter(|w| !w.starts_with('-')) {
        match at.find_subcommand(word) {
            Some(next) => (at, _) = (next, path.push(word.as_str())),
            None => break,
        }
    }
    (at, path)
}

fn subcommands(command: &Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    let mut names: Vec<String> = shown.map(|c| c.get_name().to_string()).collect();
    names.retain(|n| n != "help");
    names.sort();
    names
}
