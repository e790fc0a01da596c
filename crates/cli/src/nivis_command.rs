//! The command line of `nivis`.

use crate::build_command::{self, BuildArgs};
use crate::common::{self, Arguments};
use crate::complete;
use crate::config_command::{self, ConfigArgs, ConfigCommand};
use crate::copy_command::{self, CopyArgs};
use crate::derivation_command::{self, DerivationCommand, ShowArgs};
use crate::eval_command::{self, EvalArgs};
use crate::gc_command::{self, GcArgs};
use crate::hash_command::{self, HashCommand};
use crate::instantiate::{Instantiate, Output};
use crate::log_command::{self, LogArgs};
use crate::nar_command::{self, NarCommand};
use crate::path_info::{self, PathInfoArgs};
use crate::progress::LogFormat;
use crate::session::{Common, Failure, print, report_plain, warn};
use crate::store_command::{self, StoreCommand};
use crate::usage;
use crate::why_depends::{self, WhyArgs};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::Path;

#[derive(Parser)]
#[command(
    name = "nivis",
    version,
    about = "The Nix language and its store",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Evaluate an expression and print its value
    Eval(EvalArgs),
    /// Make .drv files of the derivations in a value and print their paths
    Instantiate(InstantiateArgs),
    /// Build derivations
    Build(BuildArgs),
    /// Show what a build printed
    Log(LogArgs),
    /// Delete everything in the store that nothing keeps alive
    Gc(GcArgs),
    /// Look at derivations, or make one
    #[command(subcommand)]
    Derivation(DerivationCommand),
    /// Look at the store, or change it
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print what is known about store paths
    #[command(name = "path-info")]
    PathInfo(PathInfoArgs),
    /// Copy paths to another store on this machine
    Copy(CopyArgs),
    /// Show why something is in the closure of something else
    #[command(name = "why-depends")]
    WhyDepends(WhyArgs),
    /// Print derivations as JSON
    #[command(name = "show-derivation", hide = true)]
    ShowDerivation(ShowArgs),
    /// Show the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the settings
    #[command(name = "show-config", hide = true)]
    ShowConfig(ConfigArgs),
    /// Compute and convert hashes
    #[command(subcommand)]
    Hash(HashCommand),
    /// Look into archives (NAR files)
    #[command(subcommand)]
    Nar(NarCommand),
    /// Print the syntax tree of an expression
    Parse(ParseArgs),
    /// Print a script that completes this command's flags
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct InstantiateArgs {
    /// Files, or expressions with --expr; ./default.nix if there are none, - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// Take the arguments as expressions
    #[arg(short = 'E', long)]
    expr: bool,
    /// An attribute path
    #[arg(short = 'A', long = "attr", value_name = "ATTRIBUTE")]
    attrs: Vec<String>,
    /// Print the value; make no .drv files
    #[arg(long, alias = "eval-only")]
    eval: bool,
    /// Evaluate everything in the value
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print a string as it is
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print XML
    #[arg(long, conflicts_with_all = ["json", "raw"])]
    xml: bool,
    /// Leave positions out of XML
    #[arg(long)]
    no_location: bool,
    /// Print syntax trees
    #[arg(long, alias = "parse-only")]
    parse: bool,
    /// Look the arguments up in the search path
    #[arg(long)]
    find_file: bool,
    /// Write nothing to the store
    #[arg(long)]
    dry_run: bool,
    /// Make a symbolic link to the result
    #[arg(long, value_name = "PATH")]
    add_root: Option<String>,
    /// Accepted and ignored
    #[arg(long)]
    indirect: bool,
}

#[derive(Args)]
struct ParseArgs {
    /// Files, or - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// An expression
    #[arg(short = 'E', long, value_name = "EXPR")]
    expr: Vec<String>,
    /// Print an S-expression
    #[arg(long)]
    sexpr: bool,
}

/// The whole command line, the common flags included.
pub fn command() -> clap::Command {
    Cli::command().args(common::clap_args())
}

/// Runs the command under the name `nivis` or `nix`; what failed is reported here. The process's status.
pub fn run(args: impl Iterator<Item = String>, name: &'static str) -> i32 {
    let nix = name == "nix";
    let args: Vec<String> = args.collect();
    let asked = std::env::var("NIX_GET_COMPLETIONS").ok();
    if let Some(number) = asked.and_then(|n| n.parse().ok()) {
        let mut command = command();
        // Common flags reach subcommands only when the whole is built.
        command.build();
        return match complete::run(&command, &args, number) {
            Ok(()) => 0,
            Err(e) => failed(&e, name),
        };
    }
    if nix && args.iter().any(|a| a == "--version") {
        return crate::legacy::version(name, args);
    }
    let mut common = match Common::load() {
        Ok(common) => common,
        Err(e) => return failed(&e.into(), name),
    };
    if !nix {
        common.log_command = Some("nivis log");
    }
    let rest = match Arguments::new(args).all(&mut common) {
        Ok(rest) => rest,
        Err(e) => return failed(&e.into(), name),
    };
    common.start_reporter(LogFormat::Bar);
    if nix {
        old_names(&rest);
    }
    let words = std::iter::once(name.to_string()).chain(rest.iter().cloned());
    let parsed = command()
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help and version are no failures, nor is nivis alone without a word.
        Err(e) if !e.use_stderr() || (rest.is_empty() && !nix) => {
            let _ = e.print();
            return i32::from(e.use_stderr());
        }
        Err(e) => {
            let command = command().name(name);
            return failed(&Failure::Usage(usage::message(&e, &command, &rest)), name);
        }
    };
    if let Some((_, feature, _)) = common.settings.in_vain().find(|(_, _, by_flag)| *by_flag)
        && let Err(e) = common.needs_feature(feature)
    {
        return failed(&e, name);
    }
    match dispatch(cli.command, common, nix) {
        Ok(()) => 0,
        Err(e) => failed(&e, name),
    }
}

/// Warns of names that commands had before.
fn old_names(words: &[String]) {
    let mut words = words.iter().filter(|w| !w.starts_with('-'));
    let (first, second) = (words.next(), words.next());
    let (old, new) = match (first.map(String::as_str), second.map(String::as_str)) {
        (Some("show-derivation"), _) => ("show-derivation", "derivation show"),
        (Some("show-config"), _) => ("show-config", "config show"),
        (Some("store"), Some("ping")) => ("ping", "info"),
        (Some("nar"), Some("dump-path")) => ("nix nar dump-path", "nix nar pack"),
        _ => return,
    };
    warn(&format!("'{old}' is a deprecated alias for '{new}'"));
}

fn failed(failure: &Failure, name: &str) -> i32 {
    report_plain(failure, name);
    failure.status()
}

fn dispatch(command: Command, common: Common, nix: bool) -> Result<(), Failure> {
    match command {
        Command::Eval(args) => eval_command::run(common, args, nix),
        Command::Instantiate(args) => crate::instantiate::run(instantiate_options(common, args)),
        Command::Parse(args) => parse(&common, args),
        Command::Build(args) => build_command::run(common, &args),
        Command::Log(args) => log_command::run(common, &args),
        Command::Gc(args) => gc_command::run(&common, &args),
        Command::Derivation(args) => derivation_command::run(common, args),
        Command::ShowDerivation(args) => derivation_command::show(common, &args),
        Command::Store(args) => store_command::run(common, args),
        Command::PathInfo(args) => path_info::run(common, &args),
        Command::Copy(args) => copy_command::run(&common, &args),
        Command::WhyDepends(args) => why_depends::run(common, &args),
        Command::Config(args) => config_command::run(&common, args),
        Command::ShowConfig(args) => config_command::run(&common, ConfigCommand::Show(args)),
        Command::Hash(args) => hash_command::run(&common, args),
        Command::Nar(args) => nar_command::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut self::command(), "nivis", &mut script);
            print(&script)
        }
    }
}

/// The help of a subcommand, which an older command shows as its own.
pub fn help_of(subcommand: &str, name: &'static str) -> String {
    let mut command = command();
    // Common flags reach subcommands only when the whole is built.
    command.build();
    match command.find_subcommand_mut(subcommand) {
        Some(c) => c.clone().bin_name(name).render_help().to_string(),
        None => String::new(),
    }
}

fn instantiate_options(mut common: Common, args: InstantiateArgs) -> Instantiate {
    common.read_only |= args.dry_run;
    // Results of this command are looked at or built, not kept.
    common.no_gc_warning = true;
    let output = match (args.json, args.raw, args.xml) {
        (true, ..) => Output::Json,
        (_, true, _) => Output::Raw,
        (_, _, true) => Output::Xml,
        _ => Output::Plain,
    };
    let read_stdin = args.files.iter().any(|f| f == "-");
    Instantiate {
        common,
        files: args.files.into_iter().filter(|f| f != "-").collect(),
        read_stdin,
        from_args: args.expr,
        find_file: args.find_file,
        eval_only: args.eval || args.parse,
        parse_only: args.parse,
        repair: false,
        output,
        location: !args.no_location,
        strict: args.strict,
        attrs: args.attrs,
        gc_root: args.add_root,
    }
}

fn parse(common: &Common, args: ParseArgs) -> Result<(), Failure> {
    let cwd = crate::session::current_dir()?;
    let features = common.settings.list("experimental-features");
    let features: Vec<&str> = features.iter().map(String::as_str).collect();
    let one = |text: &[u8], origin: &str, dir: &Path| {
        crate::parse::print_tree(text, origin, dir, &features, args.sexpr)
    };
    for expr in &args.expr {
        one(expr.as_bytes(), "«string»", &cwd)?;
    }
    for file in &args.files {
        if file == "-" {
            one(&crate::session::read_stdin()?, "«stdin»", &cwd)?;
            continue;
        }
        let path = crate::parse::resolve(&cwd, file);
        let text = std::fs::read(&path).map_err(|e| crate::parse::unreadable(&path, &e))?;
        one(
            &text,
            &path.display().to_string(),
            path.parent().unwrap_or(&cwd),
        )?;
    }
    Ok(())
}
