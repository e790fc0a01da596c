//! What `docs/compatibility.md` and `docs/builtins.md` say is true.
//!
//! The first lists the known differences from C++ Nix 2.34.8; those that the library shows are pinned here, one test a
//! theme, and fail when a difference disappears or grows, so that the page is corrected with it. The second is
//! rendered from the table; `NIVIS_BLESS=1 cargo test -p nivis-builtins --test compatibility` writes it anew.

mod common;

use nivis_builtins::host::MemoryHost;
use nivis_builtins::{CONSTANTS, tables};
use nivis_eval::Settings;
use std::fmt::Write;
use std::rc::Rc;

/// The value, completely evaluated and printed, or the error's message after `! `.
fn evaluate(expression: impl AsRef<[u8]>) -> String {
    let settings = Settings {
        memory_limit: 512 << 20,
        ..Settings::default()
    };
    evaluate_with(settings, expression.as_ref())
}

fn evaluate_with(settings: Settings, expression: &[u8]) -> String {
    let found = common::evaluate(Rc::new(MemoryHost::new()), settings, expression, false);
    match found.strip_prefix("= ") {
        Some(value) => value.to_string(),
        None => found,
    }
}

/// Fails unless each expression gives what is expected, which is *not* what C++ Nix gives.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (expression, expected) in cases {
        assert_eq!(evaluate(expression), *expected, "{expression}");
    }
}

#[test]
fn fetchers_flakes_and_native_code_are_absent() {
    for name in [
        "fetchGit",
        "fetchMercurial",
        "fetchTarball",
        "fetchTree",
        "fetchurl",
        "flakeRefToString",
        "getFlake",
        "parseFlakeRef",
        "exec",
        "importNative",
    ] {
        assert_eq!(evaluate(format!("builtins ? {name}")), "false", "{name}");
        // What is not evaluated does no harm.
        assert_eq!(
            evaluate(format!("if true then 1 else builtins.{name} {{ }}")),
            "1",
            "{name}"
        );
        assert_eq!(
            evaluate(format!("builtins.{name} {{ }}")),
            format!("! attribute '{name}' missing")
        );
    }
    for name in [
        "fetchGit",
        "fetchMercurial",
        "fetchTarball",
        "fetchTree",
        "__fetchurl",
        "__getFlake",
    ] {
        let absent = format!("! undefined variable '{name}' (this evaluator does not provide it)");
        assert_eq!(
            evaluate(format!("if true then 1 else {name} {{ }}")),
            "1",
            "{name}"
        );
        assert_eq!(evaluate(format!("{name} {{ }}")), absent);
    }
}

#[test]
fn files_of_nix_itself_are_not_copied() {
    check(&[
        (
            "\"${<nix/fetchurl.nix>}\"",
            "! cannot copy '<nix/fetchurl.nix>' to the store: it is a part of this evaluator",
        ),
        (
            "builtins.unsafeGetAttrPos \"url\" (builtins.functionArgs (import <nix/fetchurl.nix>))",
            "null",
        ),
    ]);
}

#[test]
fn what_is_the_same_object_is_equal() {
    check(&[
        // Functions are as in C++ Nix: a copy is another one, and compared directly all differ.
        (
            "let f = x: x; id = y: y; in [ ([ (id f) ] == [ f ]) ([ f ] == [ f ]) (f == f) ]",
            "[ false true false ]",
        ),
        (
            "let nan = 1.0e308 * 10 - 1.0e308 * 10; id = y: y; in [ (id nan) ] == [ nan ]",
            "true",
        ),
        (
            "let l = [ (throw \"not looked at\") ]; id = y: y; in [ (id l) ] == [ l ]",
            "true",
        ),
    ]);
}

#[test]
fn a_list_may_be_printed_once_more() {
    check(&[(
        "let f = x: [ x ]; l = f 1; s = { q = (z: [ z l ]) 1; }; in [ l s.q l ]",
        "[ [ 1 ] [ 1 [ 1 ] ] «repeated» ]",
    )]);
}

#[test]
fn everything_is_evaluated_in_the_order_of_names() {
    check(&[
        ("{ b = throw \"b\"; a = throw \"a\"; }", "! a"),
        (
            "builtins.deepSeq { b = throw \"b\"; a = throw \"a\"; } 1",
            "! a",
        ),
    ]);
}

#[test]
fn tail_results_of_builtins_nest_deeper() {
    let through =
        |call: &str, n: u32| evaluate(format!("let f = n: if n == 0 then 0 else {call}; in f {n}"));
    let overflow = "! stack overflow; max-call-depth exceeded";
    for call in [
        "builtins.seq n (f (n - 1))",
        "builtins.getAttr \"a\" { a = f (n - 1); }",
        "builtins.head [ (f (n - 1)) ]",
    ] {
        assert_eq!(through(call, 7_000), "0", "{call}");
        assert_eq!(through(call, 10_005), overflow, "{call}");
    }
    let list = "builtins.elemAt a";
    let chain = |n: u32| {
        evaluate(format!(
            "let a = builtins.genList (i: if i == 0 then 0 else 1 + {list} (i - 1)) {n}; in {list} ({n} - 1)"
        ))
    };
    assert_eq!(chain(9_990), "9989");
    assert_eq!(chain(15_000), overflow);
}

#[test]
fn conversions_nest_a_few_levels_deeper() {
    let overflow = "! stack overflow; max-call-depth exceeded";
    for write in ["toJSON", "toXML"] {
        let written = |n: u32| {
            evaluate(format!(
                "let f = n: if n == 0 then 0 else [ (f (n - 1)) ]; in builtins.seq (builtins.{write} (f {n})) 1"
            ))
        };
        assert_eq!(written(9_998), "1", "{write}");
        assert_eq!(written(10_010), overflow, "{write}");
    }
    let text = |n: u32| {
        evaluate(format!(
            "let f = n: if n == 0 then \"\" else {{ __toString = _: toString (f (n - 1)); }}; in toString (f {n})"
        ))
    };
    assert_eq!(text(3_333), "\"\"");
    assert_eq!(text(5_000), overflow);
}

#[test]
fn chains_of_thunks_do_not_overflow() {
    check(&[
        (
            "(builtins.foldl' (a: b: { x = a.x + 1; }) { x = 0; } (builtins.genList (i: i) 60000)).x",
            "60000",
        ),
        (
            "builtins.head (builtins.foldl' (a: b: [ (builtins.head a + 1) ]) [ 0 ] (builtins.genList (x: x) 30000))",
            "30000",
        ),
    ]);
}

#[test]
fn limits_are_errors() {
    let long = evaluate("builtins.length (builtins.genList (x: x) 1000000000000)");
    assert!(long.starts_with("! out of memory"), "{long}");
    // Refused before any memory is taken for it.
    let text = "let s = builtins.foldl' (a: b: a + a) \"x\" (builtins.genList (x: x) 20); in \
                builtins.concatStringsSep \"\" (builtins.genList (x: s) 5000)";
    assert_eq!(
        evaluate_with(Settings::default(), text.as_bytes()),
        "! a string longer than 4 GiB"
    );
}

#[test]
fn regular_expressions_end() {
    let many = "a".repeat(40);
    assert_eq!(
        evaluate(format!("builtins.match \"(a*)*b\" \"{many}\"")),
        "null"
    );
    let nested = format!("{}a*{}b", "(".repeat(30), ")*".repeat(30));
    assert_eq!(
        evaluate(format!("builtins.match \"{nested}\" \"{many}\"")),
        format!("! memory limit exceeded by regular expression '{nested}'")
    );
}

#[test]
fn messages_of_our_own() {
    check(&[
        (
            "builtins.ceil 9007199254740993",
            "! NixInt argument 9007199254740993 cannot be held exactly by a float",
        ),
        (
            "builtins.floor 9223372036854775807",
            "! NixInt argument 9223372036854775807 cannot be held exactly by a float",
        ),
        (
            "builtins.fromTOML \"a = 1\\na = 2\"",
            "! while parsing TOML: 'a' is already defined (line 2, column 1)",
        ),
        (
            "9223372036854775808",
            "! invalid integer '9223372036854775808': it does not fit into 64 bits",
        ),
        (
            "1 +",
            "! unexpected end of the file, expected an expression",
        ),
        ("{ a = ; }", "! unexpected `;`, expected an expression"),
        (
            "builtins.readFile \"${derivation { name = \"a\"; builder = \"b\"; system = \"c\"; }}\"",
            "! cannot build '/nix/store/arhvjaf6zmlyn8vh8fgn55rpwnxq0n7l-a.drv^out' during evaluation: this evaluator builds nothing",
        ),
    ]);
}

/// 2^-1074 and 2^-1023, written out, are the few subnormal numbers that C++ Nix reads.
#[test]
fn subnormal_literals_are_refused() {
    for exponent in [1074, 1023] {
        let mut digits = vec![0u8; exponent + 1];
        digits[0] = 1;
        for _ in 0..exponent {
            // Half of a fraction, digit by digit.
            let mut rest = 0;
            for digit in &mut digits {
                let value = rest * 10 + *digit;
                (*digit, rest) = (value / 2, value % 2);
            }
        }
        let text: String = digits[1..].iter().map(|d| char::from(b'0' + d)).collect();
        let found = evaluate(format!("0.{text}"));
        assert_eq!(
            found,
            format!("! invalid float '0.{text}': it is out of range")
        );
    }
}

#[test]
fn sources() {
    assert_eq!(
        evaluate(b"1\0((("),
        "! unexpected character U+0000, expected the end of the file"
    );
    assert_eq!(
        evaluate(b"let \"\xff\" = 1; in 1"),
        "! an attribute name in `let` has to be UTF-8"
    );
    assert_eq!(
        evaluate(b"{ inherit ({ \"\xff\" = 1; }) \"\xff\"; }"),
        "! an attribute name in `inherit` has to be UTF-8"
    );
    assert!(evaluate(b"{ \"\xff\".a = 1; \"\xff\".b = 2; }").contains("already defined"));
    check(&[(
        "let x.p = 1; y = { q = 2; r = 3; }; in { a = { inherit (x) p; }; a = { inherit (y) q r; }; }",
        "{ a = { p = 1; q = 2; r = 3; }; }",
    )]);
}

#[test]
fn the_old_meaning_of_or_gives_no_warning() {
    let host = Rc::new(MemoryHost::new());
    let mut m = common::machine(host.clone(), Settings::default());
    let value = common::value(&mut m, b"let or = 1; f = x: x; in builtins.head [ f or ]");
    assert_eq!(value.ok().and_then(|v| v.as_int()), Some(1));
    assert!(host.messages().is_empty());
}

#[test]
fn a_platform_with_a_quote_is_no_obstacle() {
    check(&[(
        "(derivation { name = \"a\"; builder = \"b\"; system = \"c\\\"d\"; }).outPath",
        "\"/nix/store/2xj7krx9vn6dbkjgy7y5yplrb3mnf132-a\"",
    )]);
}

#[test]
fn search_path_entries_are_not_downloaded() {
    let host = Rc::new(MemoryHost::new());
    let mut m = common::machine(host.clone(), Settings::default());
    for entry in ["https://localhost:1/x.tar.gz", "channel:a", "flake:b"] {
        let text = format!("builtins.findFile [ {{ prefix = \"x\"; path = \"{entry}\"; }} ] \"x\"");
        let found = common::value(&mut m, text.as_bytes()).map_err(|e| e.message().to_string());
        let missing =
            "file 'x' was not found in the Nix search path (add it using $NIX_PATH or -I)";
        assert_eq!(found.err().as_deref(), Some(missing));
        let warning =
            format!("warning: Nix search path entry '{entry}' cannot be downloaded, ignoring");
        assert_eq!(host.messages().last(), Some(&warning.into_bytes()));
    }
}

#[test]
fn sources_have_four_gigabytes_of_positions() {
    let mut m = common::machine(Rc::new(MemoryHost::new()), Settings::default());
    let origin = || nivis_eval::Origin::Text("large".into());
    assert!(m.sources.add(origin(), 3 << 30, None).is_some());
    assert!(m.sources.add(origin(), 3 << 30, None).is_none());
    let rest = u32::MAX as usize - (3 << 30) - 1000;
    assert!(m.sources.add(origin(), rest, None).is_some());
    let text = format!("\"{}\"", "x".repeat(2000));
    let error = common::value(&mut m, text.as_bytes()).unwrap_err();
    assert_eq!(error.message(), "more than 4 GiB of source files");
}

/// What is objected to, and how; the second message is the one of refused files.
const LINTS: &[(&str, [&str; 2])] = &[
    (
        "http://a.b",
        [
            "URL literals are discouraged. Consider using a string literal \"http://a.b\" instead (lint-url-literals)",
            "URL literals are disallowed. Consider using a string literal \"http://a.b\" instead (lint-url-literals)",
        ],
    ),
    (
        "a/b",
        ["relative path literal 'a/b' should be prefixed with '.' for clarity: './a/b' (lint-short-path-literals)";
            2],
    ),
    (
        "/a/b/${\"c\"}",
        ["absolute path literals are not portable. Consider replacing path literal '/a/b/' by a string, relative path, or parameter (lint-absolute-path-literals)";
            2],
    ),
];

#[test]
fn literals_are_objected_to() {
    use nivis_eval::lint::{Lint, Lints};
    for (text, messages) in LINTS {
        for (lint, message) in [Lint::Warn, Lint::Fatal].into_iter().zip(messages) {
            let host = Rc::new(MemoryHost::new());
            let settings = Settings {
                lints: Lints {
                    url_literals: lint,
                    short_path_literals: lint,
                    absolute_path_literals: lint,
                },
                ..Settings::default()
            };
            let mut m = common::machine(host.clone(), settings);
            let found = common::value(&mut m, text.as_bytes()).map_err(|e| e.message().to_string());
            if lint == Lint::Fatal {
                assert_eq!(found.err().as_deref(), Some(*message));
            } else {
                assert!(found.is_ok());
                let shown = host.messages().concat();
                let shown = String::from_utf8_lossy(&shown);
                assert!(shown.contains(message), "{shown}");
            }
        }
    }
}

#[test]
fn values_in_messages_may_be_evaluated_or_not() {
    check(&[
        // `[ «thunk» «thunk» ]` in C++ Nix.
        (
            "builtins.ceil [ [ 1 ] (x: x) ]",
            "! expected a float but found a list: [ [ 1 ] «lambda @ «case»:1:24» ]",
        ),
        // And a thunk in both.
        (
            "builtins.ceil [ (1 + 1) ]",
            "! expected a float but found a list: [ «thunk» ]",
        ),
    ]);
}

#[test]
fn values_printed_as_they_are_may_be_evaluated_or_not() {
    let mut m = common::machine(Rc::new(MemoryHost::new()), Settings::default());
    let origin = nivis_eval::Origin::Text("case".into());
    let text = b"[ (x: x) { } [ 1 ] (1 + 1) { a = x: x; } ]";
    let value = m
        .load_text(text, origin, std::path::Path::new("/"))
        .and_then(|v| m.force(v))
        .unwrap();
    // `[ <CODE> <CODE> <CODE> <CODE> <CODE> ]` in C++ Nix.
    assert_eq!(
        String::from_utf8_lossy(&m.print(value, &nivis_eval::print::PrintOptions::CLASSIC)),
        "[ <LAMBDA> { } [ 1 ] <CODE> <CODE> ]"
    );
}

#[test]
fn what_derivation_adds_has_no_position() {
    check(&[(
        "builtins.unsafeGetAttrPos \"out\" (derivation { name = \"a\"; builder = \"b\"; system = \"c\"; })",
        "null",
    )]);
}

/// The page about the builtins.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/builtins.md");

const BEFORE: &str = "\
# Builtins

Every function and constant of `builtins`, by theme, as this version has them. Those marked *global* are visible
without `builtins.` under the same name, all others with `__` in front (`__length`). Arguments are curried.
Those marked *experimental* are there only when their feature is switched on. What C++ Nix 2.34 has besides
(fetchers, flakes) and does otherwise is in [compatibility.md](compatibility.md).

This page is made from the table in `crates/builtins`; after a change there,
`NIVIS_BLESS=1 cargo test -p nivis-builtins --test compatibility` writes it anew.
";

/// `text` in lines of at most 116 characters where it has spaces, indented but for the first line.
fn wrapped(text: &str) -> String {
    let (mut out, mut width) = (String::new(), 0);
    for word in text.split_whitespace() {
        // Words that would begin a list, a quotation or a heading stay where they are.
        let special = word.starts_with(['-', '+', '*', '>', '#', '='])
            || word.starts_with(|c: char| c.is_ascii_digit());
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 116 && !special {
            out.push_str("\n  ");
            width = 2;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += length;
    }
    out
}

/// What `docs/builtins.md` has to be.
fn page() -> String {
    let mut page = BEFORE.to_string();
    let there = |name: &str| evaluate(format!("builtins ? {name}")) == "true";
    let mut section = |title: &str, mut entries: Vec<(&str, String)>| {
        entries.sort();
        let mut letters = title.chars();
        let capital = letters.next().map(|c| c.to_ascii_uppercase());
        let _ = write!(
            page,
            "\n## {}{}\n\n",
            capital.unwrap_or_default(),
            letters.as_str()
        );
        for (_, entry) in entries {
            let _ = writeln!(page, "{}", wrapped(&entry));
        }
    };
    for (theme, table) in tables() {
        let entries = table.iter().map(|builtin| {
            let feature = if there(builtin.name) {
                ""
            } else {
                " *(experimental)*"
            };
            let global = if builtin.global { " *(global)*" } else { "" };
            let (name, args) = (builtin.name, builtin.args.join(" "));
            (
                name,
                format!("- **`{name} {args}`**{global}{feature}: {}", builtin.doc),
            )
        });
        section(theme, entries.collect());
    }
    let entries = CONSTANTS.iter().map(|constant| {
        let global = if constant.global { " *(global)*" } else { "" };
        (
            constant.name,
            format!("- **`{}`**{global}: {}", constant.name, constant.doc),
        )
    });
    let itself = "- **`builtins`** *(global)*: This set, which contains itself.".to_string();
    section("constants", entries.chain([("builtins", itself)]).collect());
    page
}

#[test]
fn the_page_about_builtins_is_that_of_the_table() {
    let page = page();
    if std::env::var_os("NIVIS_BLESS").is_some() {
        std::fs::write(PAGE, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        found == page,
        "docs/builtins.md is not that of the table: run this with NIVIS_BLESS=1"
    );
}

#[test]
fn every_builtin_is_documented() {
    for (_, table) in tables() {
        for builtin in table {
            assert!(
                builtin.doc.ends_with('.') && builtin.doc.len() > 20,
                "{}: {}",
                builtin.name,
                builtin.doc
            );
        }
    }
    for constant in CONSTANTS {
        assert!(
            constant.doc.ends_with('.'),
            "{}: {}",
            constant.name,
            constant.doc
        );
    }
}
