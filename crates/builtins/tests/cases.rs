//! Expressions and what they evaluate to, by theme, in `cases/*.txt`.
//!
//! `common` has the format.

mod common;

use nivis_builtins::host::MemoryHost;
use nivis_eval::{Host, Settings};
use std::rc::Rc;

fn files() -> MemoryHost {
    MemoryHost::new()
        .with_file("/t/a.nix", "{ a = 1; f = ./a.nix; }")
        .with_file("/t/default.nix", "\"default\"")
        .with_link("/t/link", "a.nix")
        .with_file("/t/scoped.nix", "[ x y (x + y) ]")
        .with_file("/t/scoped2.nix", "[ true builtins x y ]")
        .with_file("/t/lazy.nix", "y")
        .with_file("/t/self.nix", "scopedImport { } ./self.nix")
        .with_file("/t/fn.nix", "{ x,\n  y ? 2, ... }: x")
        .with_file("/t/list.nix", "[ { name = \"x\";\n   value = 1; } ]")
        .with_file(
            "/t/set.nix",
            "let e = 1; in\n{\n  a = 1;\n    b = 2;\n  c.x = 1;\n  \"d\" = 3; inherit e;\n}\n",
        )
}

macro_rules! themes {
    ($($theme:ident)*) => {
        $(
            #[test]
            fn $theme() {
                let cases = include_str!(concat!("cases/", stringify!($theme), ".txt"));
                common::run(stringify!($theme), cases, &Settings::default(), || Rc::new(files()));
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
    let mut m = common::machine(Rc::clone(&host) as Rc<dyn Host>, settings);
    let value = common::value(&mut m, text.as_bytes());
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
fn a_file_that_imports_itself_ends() {
    // Without stress, which would take long: ten thousand times the file.
    let found = common::evaluate(
        Rc::new(files()),
        Settings::default(),
        b"import ./self.nix",
        false,
    );
    assert_eq!(found, "! stack overflow; max-call-depth exceeded");
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
