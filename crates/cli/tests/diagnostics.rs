//! What errors look like.

mod common;

use common::Folder;

fn shown(files: &[(&str, &str)], args: &[&str]) -> String {
    let dir = Folder::new();
    for (name, text) in files {
        dir.write(name, text);
    }
    let outcome = dir.nix_instantiate(&[&["--eval", "--strict"], args].concat());
    assert_eq!(
        (outcome.status, outcome.out.as_str()),
        (1, ""),
        "{outcome:?}"
    );
    outcome.err
}

#[test]
fn missing_attribute() {
    insta::assert_snapshot!(shown(
        &[],
        &["-E", "let set = { name = 1; }; in\n  set.nam"]
    ));
}

#[test]
fn undefined_variable() {
    insta::assert_snapshot!(shown(&[], &["-E", "let value = 1; in [ valeu ]"]));
}

#[test]
fn wrong_argument_shows_both_places() {
    let files = [
        ("f.nix", "{ first, second ? 1 }:\nfirst\n"),
        ("main.nix", "import ./f.nix { frist = 1; }\n"),
    ];
    insta::assert_snapshot!(shown(&files, &["main.nix"]));
}

#[test]
fn calls_and_contexts_in_short() {
    insta::assert_snapshot!(shown(&[("main.nix", DEEP)], &["main.nix"]));
}

#[test]
fn calls_and_contexts_in_full() {
    insta::assert_snapshot!(shown(&[("main.nix", DEEP)], &["main.nix", "--show-trace"]));
}

const DEEP: &str = r#"let
  inner = n: if n == 0 then 1 + "a" else inner (n - 1) + 0;
  middle = x: builtins.head (map inner [ 5 ]);
  outer = x: builtins.addErrorContext "while looking at the answer" (middle x);
in
{ answer = outer 1; }
"#;

#[test]
fn infinite_recursion() {
    insta::assert_snapshot!(shown(&[], &["-E", "let a = b;\n    b = a + 1;\nin a"]));
}

#[test]
fn syntax_errors() {
    insta::assert_snapshot!("end", shown(&[], &["-E", "{ a = 1"]));
    insta::assert_snapshot!("string", shown(&[], &["-E", "[ \"abc"]));
    insta::assert_snapshot!(
        "twice",
        shown(&[], &["-E", "{ a = 1;\n  b = 2;\n  a = 3; }"])
    );
    insta::assert_snapshot!("empty", shown(&[], &["-E", ""]));
}

#[test]
fn spans_are_measured_in_what_is_seen() {
    // Wide and combining characters, tabs, line ends of other systems, bytes that are no text.
    insta::assert_snapshot!("wide", shown(&[], &["-E", "\"日本語é\" + \"→\" + 1"]));
    insta::assert_snapshot!("tabs", shown(&[], &["-E", "[\n\t\t(1 + \"a\")\n]"]));
    insta::assert_snapshot!("crlf", shown(&[], &["-E", "[\r\n  (1 + \"a\")\r\n]"]));
    insta::assert_snapshot!(
        "separators",
        shown(&[], &["-E", "\"\u{2028}\u{85}\u{b}\" + 1"])
    );
    insta::assert_snapshot!("lines", shown(&[], &["-E", "1 +\n{\n  a = 1;\n}"]));
    let long = format!("[ {} (1 + \"a\") {} ]", "1 ".repeat(500), "2 ".repeat(500));
    insta::assert_snapshot!("long", shown(&[], &["-E", &long]));
}

#[test]
fn colours_only_on_a_terminal() {
    assert!(!shown(&[], &["-E", "throw \"x\""]).contains('\x1b'));
}

#[test]
fn control_characters_of_a_program_do_not_reach_the_terminal() {
    let text = shown(&[], &["-E", "throw \"\u{1b}[31mred\u{7}\""]);
    assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
}
