//! Expressions and what they evaluate to, by theme, in `cases/*.txt`.
//!
//! A case is an expression in one line (or several) that begin at the margin, followed by an indented line: `= ` and the
//! printed value, or `! ` and the error's message. Lines that begin with `#` are comments. Every case
//! is evaluated twice: plainly, and with a collection at every safepoint that overwrites whatever is not reachable
//! from the machine's roots.

use nivis_builtins::host::MemoryHost;
use nivis_eval::print::PrintOptions;
use nivis_eval::{Machine, Origin, Settings, ops};
use std::path::Path;
use std::rc::Rc;

fn files() -> MemoryHost {
    MemoryHost::new()
        .with_file("/t/a.nix", "{ a = 1; f = ./a.nix; }")
        .with_file("/t/default.nix", "\"default\"")
        .with_link("/t/link", "a.nix")
        .with_file("/t/scoped.nix", "[ x y (x + y) ]")
        .with_file("/t/scoped2.nix", "[ true builtins x y ]")
        .with_file("/t/lazy.nix", "y")
        .with_file("/t/fn.nix", "{ x,\n  y ? 2, ... }: x")
        .with_file("/t/list.nix", "[ { name = \"x\";\n   value = 1; } ]")
        .with_file(
            "/t/set.nix",
            "let e = 1; in\n{\n  a = 1;\n    b = 2;\n  c.x = 1;\n  \"d\" = 3; inherit e;\n}\n",
        )
}

fn evaluate(expression: &str, stress: bool) -> String {
    let mut m = Machine::new(Rc::new(files()), Settings::default());
    nivis_builtins::install(&mut m);
    if stress {
        m.set_stress();
    }
    let value = m
        .load_text(
            expression.as_bytes(),
            Origin::Text("case".into()),
            Path::new("/t"),
        )
        .and_then(|v| m.force(v))
        .and_then(|v| m.run_native(ops::force_deep, &[v]));
    match value {
        Ok(v) => {
            let text = m.print(v, &PrintOptions::CLASSIC);
            format!("= {}", String::from_utf8_lossy(&text))
        }
        Err(e) => format!("! {}", e.message()),
    }
}

fn run(theme: &str, cases: &str) {
    let mut expression = String::new();
    let mut failed = Vec::new();
    let mut count = 0;
    for (number, line) in cases.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if !line.starts_with(' ') {
            expression.push_str(line);
            expression.push('\n');
            continue;
        }
        count += 1;
        for stress in [false, true] {
            let found = evaluate(&expression, stress);
            if found != line.trim() {
                let number = number + 1;
                failed.push(format!(
                    "{theme}.txt:{number} (stress: {stress})\n{expression}  expected {}\n  found    {found}",
                    line.trim()
                ));
            }
        }
        expression.clear();
    }
    assert!(count > 0, "no cases in {theme}.txt");
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

macro_rules! themes {
    ($($theme:ident)*) => {
        $(
            #[test]
            fn $theme() {
                run(stringify!($theme), include_str!(concat!("cases/", stringify!($theme), ".txt")));
            }
        )*
    };
}

themes!(attrs closure control functions lists numbers sort types);

/// What evaluating a text (and all it contains) shows to the user.
fn messages(text: &str, settings: Settings) -> (bool, Vec<String>) {
    let host = Rc::new(
        files()
            .with_file("/t/noisy.nix", "builtins.trace \"evaluated\" { a = 1; }")
            .with_link("/t/other.nix", "noisy.nix"),
    );
    let mut m = Machine::new(Rc::clone(&host) as Rc<dyn nivis_eval::Host>, settings);
    nivis_builtins::install(&mut m);
    let value = m
        .load_text(
            text.as_bytes(),
            Origin::Text("case".into()),
            Path::new("/t"),
        )
        .and_then(|v| m.force(v))
        .and_then(|v| m.run_native(ops::force_deep, &[v]));
    let shown = host
        .messages()
        .iter()
        .map(|b| String::from_utf8_lossy(b).into_owned())
        .collect();
    (value.is_ok(), shown)
}

#[test]
fn traces_show_strings_bare_and_values_as_far_as_they_are_evaluated() {
    let (ok, shown) = messages(
        "builtins.trace \"a\\nb\" (builtins.trace (let s = { x = 1 + 1; y = s.x; }; in builtins.seq s.x s) 1)",
        Settings::default(),
    );
    assert!(ok);
    assert_eq!(shown, ["trace: a\nb", "trace: { x = 2; y = «thunk»; }"]);
}

#[test]
fn verbose_traces_appear_on_request() {
    let text = "builtins.traceVerbose \"a\" 1";
    assert_eq!(messages(text, Settings::default()), (true, vec![]));
    let settings = Settings {
        trace_verbose: true,
        ..Settings::default()
    };
    assert_eq!(
        messages(text, settings),
        (true, vec!["trace: a".to_string()])
    );
}

#[test]
fn warnings_can_end_the_evaluation() {
    let text = "builtins.tryEval (builtins.warn \"a\" 1)";
    let warning = vec!["evaluation warning: a".to_string()];
    assert_eq!(messages(text, Settings::default()), (true, warning.clone()));
    let settings = Settings {
        abort_on_warn: true,
        ..Settings::default()
    };
    assert_eq!(messages(text, settings), (false, warning));
}

#[test]
fn a_file_is_evaluated_once_however_it_is_named() {
    let text = "[ (import ./noisy.nix) (import /t/x/../noisy.nix) (import \"/t/noisy.nix\") (import ./other.nix) ]";
    assert_eq!(
        messages(text, Settings::default()),
        (true, vec!["trace: evaluated".to_string()])
    );
}

#[test]
fn scoped_imports_are_evaluated_each_time() {
    let text = "[ (scopedImport { } ./noisy.nix) (scopedImport { } ./noisy.nix) ]";
    let (ok, shown) = messages(text, Settings::default());
    assert!(ok);
    assert_eq!(shown.len(), 2);
}

#[test]
fn every_builtin_is_documented() {
    for (_, table) in nivis_builtins::tables() {
        for builtin in table {
            assert!(builtin.doc.len() > 20, "{}", builtin.name);
            assert!(builtin.doc.ends_with(['.', '`']), "{}", builtin.name);
        }
    }
}
