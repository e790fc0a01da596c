//! The command line of `nivis`.

use crate::instantiate::{Instantiate, Output};
use crate::session::{Arg, Common, Failure, Session, print, report_plain};
use crate::settings::{MEMORY_LIMIT, Source, UsageError};
use clap::{Args, CommandFactory, Parser, Subcommand};
use nivis::eval::{Value, ops};
use nivis::output::{JsonOptions, json, print_forced};
use nivis::select::find_along;
use std::path::Path;

#[derive(Parser)]
#[command(
    name = "nivis",
    version,
    about = "The Nix language",
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
    /// Print the syntax tree of an expression
    Parse(ParseArgs),
    /// Print a script that completes this command's flags
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Clone)]
struct CommonArgs {
    /// Call functions with this argument, the value of an expression
    #[arg(long = "arg", num_args = 2, value_names = ["NAME", "EXPR"])]
    arg: Vec<String>,
    /// Call functions with this argument, a string
    #[arg(long = "argstr", num_args = 2, value_names = ["NAME", "STRING"])]
    argstr: Vec<String>,
    /// Call functions with this argument, the contents of a file
    #[arg(long = "arg-from-file", num_args = 2, value_names = ["NAME", "PATH"])]
    arg_from_file: Vec<String>,
    /// Call functions with this argument, the contents of standard input
    #[arg(long = "arg-from-stdin", value_name = "NAME")]
    arg_from_stdin: Vec<String>,
    /// Put a folder, or PREFIX=FOLDER, in front of the search path
    #[arg(short = 'I', long = "include", value_name = "PATH")]
    include: Vec<String>,
    /// Set a setting of nix.conf
    #[arg(long = "option", num_args = 2, value_names = ["NAME", "VALUE"])]
    option: Vec<String>,
    /// Show everything that was being evaluated when an error happened
    #[arg(long, overrides_with = "no_show_trace")]
    show_trace: bool,
    /// Show only the nearest of that
    #[arg(long)]
    no_show_trace: bool,
    /// Write nothing to the store
    #[arg(long)]
    read_only: bool,
    /// Write to the store while evaluating
    #[arg(long)]
    read_write_mode: bool,
    /// Allow the environment, the time and any file to be seen
    #[arg(long, overrides_with = "pure_eval")]
    impure: bool,
    /// Allow only what the expression itself determines
    #[arg(long)]
    pure_eval: bool,
    /// Allow only files of the search path
    #[arg(long)]
    restrict_eval: bool,
    /// Switch on further experimental features
    #[arg(long, value_name = "FEATURES")]
    extra_experimental_features: Vec<String>,
    /// The experimental features that are on
    #[arg(long, value_name = "FEATURES")]
    experimental_features: Option<String>,
    /// Nested calls that are allowed
    #[arg(long, value_name = "N")]
    max_call_depth: Option<String>,
    /// Bytes that evaluation may use (suffixes K, M, G, T)
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<String>,
    /// Show what builtins.traceVerbose traces
    #[arg(long)]
    trace_verbose: bool,
    /// Make warnings errors
    #[arg(long)]
    abort_on_warn: bool,
    /// The value of builtins.currentSystem
    #[arg(long)]
    system: Option<String>,
    /// The store to write to: a folder that holds nix/store
    #[arg(long)]
    store: Option<String>,
    /// Accepted and ignored
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Accepted and ignored
    #[arg(short, long, action = clap::ArgAction::Count)]
    quiet: u8,
}

#[derive(Args)]
struct EvalArgs {
    /// An expression
    #[arg(short = 'E', long, value_name = "EXPR", conflicts_with = "file")]
    expr: Option<String>,
    /// A file, a folder, `<NAME>` of the search path, or - for standard input
    #[arg(short, long)]
    file: Option<String>,
    /// Attribute paths; without --expr and --file the first one is the file
    #[arg(value_name = "ATTRIBUTE")]
    attrs: Vec<String>,
    /// An attribute path
    #[arg(short = 'A', long = "attr", value_name = "ATTRIBUTE")]
    attr: Vec<String>,
    /// Call this function with the value
    #[arg(long, value_name = "EXPR")]
    apply: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["raw", "write_to"])]
    json: bool,
    /// Print a string as it is
    #[arg(long, conflicts_with = "write_to")]
    raw: bool,
    /// Write a string to a file, or a set of strings to a folder
    #[arg(long, value_name = "PATH")]
    write_to: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
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
    #[arg(long, alias = "readonly-mode")]
    dry_run: bool,
    /// Make a symbolic link to the result
    #[arg(long, value_name = "PATH")]
    add_root: Option<String>,
    /// Accepted and ignored
    #[arg(long)]
    indirect: bool,
    #[command(flatten)]
    common: CommonArgs,
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
    /// Switch on experimental features
    #[arg(long, value_name = "FEATURES")]
    extra_experimental_features: Vec<String>,
}

impl CommonArgs {
    fn resolve(self) -> Result<Common, UsageError> {
        let mut common = Common::load()?;
        let pairs = |v: Vec<String>| -> Vec<(String, String)> {
            v.chunks_exact(2)
                .map(|p| (p[0].clone(), p[1].clone()))
                .collect()
        };
        let s = &mut common.settings;
        let mut set = |name: &str, value: &str| s.set(name, value, Source::Flag);
        if let Some(features) = &self.experimental_features {
            set("experimental-features", features)?;
        }
        for features in &self.extra_experimental_features {
            set("extra-experimental-features", features)?;
        }
        if let Some(n) = &self.max_call_depth {
            set("max-call-depth", n)?;
        }
        if let Some(n) = &self.max_memory {
            set(MEMORY_LIMIT, n)?;
        }
        if let Some(system) = &self.system {
            set("system", system)?;
        }
        if let Some(store) = &self.store {
            set("store", store)?;
        }
        let switches = [
            (self.show_trace, "show-trace", "true"),
            (
                self.no_show_trace && !self.show_trace,
                "show-trace",
                "false",
            ),
            (self.trace_verbose, "trace-verbose", "true"),
            (self.abort_on_warn, "abort-on-warn", "true"),
            (self.restrict_eval, "restrict-eval", "true"),
            (self.pure_eval, "pure-eval", "true"),
            (self.impure, "pure-eval", "false"),
        ];
        for (given, name, value) in switches {
            if given {
                set(name, value)?;
            }
        }
        for (name, value) in pairs(self.option) {
            if let Err(UsageError(m)) = s.set(&name, &value, Source::Flag) {
                s.warnings.push(m);
            }
        }
        let named = |kind: fn(String) -> Arg, v: Vec<String>| {
            pairs(v).into_iter().map(move |(n, v)| (n, kind(v)))
        };
        common.args.extend(named(Arg::Expr, self.arg));
        common.args.extend(named(Arg::Text, self.argstr));
        common.args.extend(named(Arg::File, self.arg_from_file));
        common
            .args
            .extend(self.arg_from_stdin.into_iter().map(|n| (n, Arg::Stdin)));
        common.include = self.include;
        common.read_only = self.read_only;
        Ok(common)
    }
}

/// Runs the command; what failed is reported here. Whether it succeeded.
pub fn run(args: impl Iterator<Item = String>) -> bool {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no failures; clap knows where each goes.
            let _ = e.print();
            return !e.use_stderr();
        }
    };
    let result = match cli.command {
        Command::Eval(args) => return eval(args),
        Command::Instantiate(args) => instantiate_options(args).map(crate::instantiate::run),
        Command::Parse(args) => parse(args).map(|()| true),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "nivis", &mut std::io::stdout());
            Ok(true)
        }
    };
    result.unwrap_or_else(|e| {
        report_plain(&e, "nivis");
        false
    })
}

/// The help of `nivis instantiate`, which `nix-instantiate --help` shows.
pub fn instantiate_help() -> String {
    let mut command = Cli::command();
    match command.find_subcommand_mut("instantiate") {
        Some(c) => c
            .clone()
            .bin_name("nix-instantiate")
            .render_help()
            .to_string(),
        None => String::new(),
    }
}

fn instantiate_options(args: InstantiateArgs) -> Result<Instantiate, Failure> {
    let read_write = args.common.read_write_mode;
    let mut common = args.common.resolve()?;
    common.read_only |= args.dry_run;
    let output = match (args.json, args.raw, args.xml) {
        (true, ..) => Output::Json,
        (_, true, _) => Output::Raw,
        (_, _, true) => Output::Xml,
        _ => Output::Plain,
    };
    let read_stdin = args.files.iter().any(|f| f == "-");
    Ok(Instantiate {
        common,
        files: args.files.into_iter().filter(|f| f != "-").collect(),
        read_stdin,
        from_args: args.expr,
        find_file: args.find_file,
        eval_only: args.eval || args.parse,
        parse_only: args.parse,
        read_write,
        output,
        location: !args.no_location,
        strict: args.strict,
        attrs: args.attrs,
        gc_root: args.add_root,
        // There is no garbage collector that could remove anything.
        no_gc_warning: true,
    })
}

fn parse(args: ParseArgs) -> Result<(), Failure> {
    let cwd = std::env::current_dir()
        .map_err(|e| Failure::Other(format!("cannot get the current folder: {e}")))?;
    let features: Vec<&str> = args
        .extra_experimental_features
        .iter()
        .flat_map(|f| f.split_whitespace())
        .collect();
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

fn eval(mut args: EvalArgs) -> bool {
    let mut common = match args.common.clone().resolve() {
        Ok(common) => common,
        Err(e) => {
            report_plain(&e.into(), "nivis");
            return false;
        }
    };
    if args.file.is_none() && args.expr.is_none() {
        if args.attrs.is_empty() {
            report_plain(
                &Failure::Usage("give a file, or an expression with --expr".to_string()),
                "nivis eval",
            );
            return false;
        }
        args.file = Some(args.attrs.remove(0));
    }
    // Nothing is written unless asked for.
    common.read_only = !args.common.read_write_mode;
    // Evaluation of files is never pure; that of an expression is unless told otherwise.
    if args.file.is_some() {
        if common.settings.by_flag("pure-eval") && common.settings.switch("pure-eval") == Some(true)
        {
            report_plain(
                &Failure::Usage("files are not compatible with '--pure-eval'".to_string()),
                "nivis eval",
            );
            return false;
        }
        common.pure_by_default = false;
    } else {
        common.pure_by_default = true;
    }
    let mut session = match Session::new(&common) {
        Ok(s) => s,
        Err((Some(session), failure)) => {
            session.report(&failure);
            return false;
        }
        Err((None, failure)) => {
            report_plain(&failure, "");
            return false;
        }
    };
    match evaluate(&mut session, &args) {
        Ok(()) => {
            session.finish();
            true
        }
        Err(e) => {
            session.report(&e);
            false
        }
    }
}

fn evaluate(session: &mut Session, args: &EvalArgs) -> Result<(), Failure> {
    let value = match (&args.file, &args.expr) {
        (Some(file), _) if file == "-" => session.stdin()?,
        (Some(file), _) => session.file(file)?,
        (None, Some(expr)) => session.expression(expr)?,
        (None, None) => return Err(Failure::Usage("nothing to evaluate".to_string())),
    };
    let value = session.machine.force(value)?;
    let root = session.machine.root(value);
    let mut paths: Vec<&str> = args
        .attrs
        .iter()
        .chain(&args.attr)
        .map(String::as_str)
        .collect();
    if paths.is_empty() {
        paths.push("");
    }
    for path in paths {
        let m = &mut session.machine;
        let path = if path == "." { "" } else { path };
        let found = find_along(m, session.args, m.rooted(root), path)?;
        let mut value = m.force(found)?;
        if let Some(apply) = &args.apply {
            let kept = m.root(value);
            let function = session.expression(apply)?;
            let m = &mut session.machine;
            value = m.call(function, &[m.rooted(kept)])?;
            m.unroot(kept);
        }
        show(session, args, value)?;
    }
    Ok(())
}

fn show(session: &mut Session, args: &EvalArgs, value: Value) -> Result<(), Failure> {
    let m = &mut session.machine;
    if let Some(path) = &args.write_to {
        return crate::write_to::write_to(m, value, Path::new(path));
    }
    if args.raw {
        let text = m
            .run_native(
                ops::coerce_to_string,
                &[value, ops::Coerce::INTERPOLATION.value()],
            )
            .map_err(|e| {
                e.context(
                    "while generating the eval command output",
                    Default::default(),
                    true,
                )
            })?;
        return print(m.want_string(text)?.bytes());
    }
    let mut text = if args.json {
        json(
            m,
            value,
            JsonOptions {
                strict: true,
                copy_paths: false,
            },
        )?
    } else {
        print_forced(m, value)?
    };
    text.push(b'\n');
    print(&text)
}
