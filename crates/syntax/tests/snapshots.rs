//! What trees, evaluation's syntax and diagnostics look like.

use std::fmt::Write;

use nivis_syntax::{LineIndex, ParseOptions, SyntaxError, parse, parse_tree};

const OPTIONS: ParseOptions = ParseOptions {
    pipe_operators: true,
};

fn sexprs(sources: &[&str]) -> String {
    let mut out = String::new();
    for source in sources {
        let _ = writeln!(out, "{source}");
        match parse(source.as_bytes(), &OPTIONS) {
            Ok(ast) => {
                let _ = writeln!(out, "  {}", ast.to_sexpr());
            }
            Err(errors) => describe(&mut out, source, &errors),
        }
    }
    out
}

fn describe(out: &mut String, source: &str, errors: &[SyntaxError]) {
    let index = LineIndex::new(source.as_bytes());
    for error in errors {
        let start = index.line_column(error.span.start);
        let end = index.line_column(error.span.end);
        let _ = write!(
            out,
            "  {}:{}-{}:{} {:?}: {error}",
            start.line, start.column, end.line, end.column, error.kind
        );
        if let Some((span, what)) = error.related {
            let at = index.line_column(span.start);
            let _ = write!(out, " ({what}: {}:{})", at.line, at.column);
        }
        out.push('\n');
    }
}

fn diagnostics(sources: &[&str]) -> String {
    let mut out = String::new();
    for source in sources {
        let tree = parse_tree(source, &OPTIONS);
        assert_eq!(tree.syntax().text(), *source);
        for line in source.lines() {
            let _ = writeln!(out, "| {line}");
        }
        describe(&mut out, source, tree.errors());
        // Evaluation sees the same errors.
        assert_eq!(
            parse(source.as_bytes(), &OPTIONS).err().unwrap_or_default(),
            tree.errors()
        );
    }
    out
}

fn tree(source: &str) -> String {
    let tree = parse_tree(source, &OPTIONS);
    assert_eq!(tree.syntax().text(), source);
    let mut out = format!("{:#?}", tree.syntax());
    describe(&mut out, source, tree.errors());
    out
}

#[test]
fn expressions() {
    insta::assert_snapshot!(sexprs(&[
        "1",
        "1.50",
        "\"a\\n${x}b\"",
        "''\n  a\n    ${x}\n''",
        "./a",
        "~/a/${b}c",
        "<nixpkgs/lib>",
        "http://example.org",
        "__curPos",
        "f a (g b) [ 1 2 ]",
        "a.b.\"c d\".${e}",
        "a.b or c",
        "a.b.${c} or (d e)",
        "a ? b.${c}",
        "f or",
        "!a && -b < c",
        "a |> f b",
        "f <| a",
        "if a then b else c",
        "with a; assert b; c",
        "x: y",
        "{ }: x",
        "{ a, b ? a, ... }@c: b",
        "c@{ ... }: c",
    ]));
}

#[test]
fn bindings() {
    insta::assert_snapshot!(sexprs(&[
        "{ }",
        "rec { }",
        "{ a = 1; \"b c\" = 2; ${d} = 3; \"${e}f\" = 4; }",
        "rec { inherit a; inherit (b) c d; e = c; inherit (f) g; }",
        "let a = 1; in a",
        "let in a",
        "let { body = 1; }",
        "{ a.b = 1; a.c.d = 2; a = rec { e = 3; }; }",
        "{ a = rec { inherit (x) b; }; a = { inherit (y) c; ${z} = 1; }; a.${w}.v = 2; }",
    ]));
}

#[test]
fn errors_of_names() {
    insta::assert_snapshot!(diagnostics(&[
        "{ a = 1;\n  a = 2; }",
        "{ a.b.c = 1;\n  a.b = 2; a.b.c.d = 3; }",
        "{ a = { b = { c = 1; d = 2; }; };\n  a.b = { c = 3; }; }",
        "{ inherit a; inherit (b) a; a.c = 1; }",
        "{ a = 1; a = 2; a = 3; }",
        "{ a, b, a }: 1",
        "a@{ a }: 1",
        "let ${a} = 1; b = 2; b = 3; in 1",
        "{ inherit ${a} \"b${c}\"; }",
    ]));
}

#[test]
fn errors_of_literals() {
    insta::assert_snapshot!(diagnostics(&[
        "[ 9223372036854775808 1.0e999 ./a/ ]",
        "{ a = 9223372036854775808; a = 2; }",
        "1 /* never",
        "\"never",
        "''never ${",
        "[ \"a\u{0}b\" ]",
        "a # fine\n\u{0}",
    ]));
}

#[test]
fn errors_of_structure() {
    insta::assert_snapshot!(diagnostics(&[
        "",
        "{ a = 1 }",
        "{ a = 1\n  b = 2;\n  c = 3; }",
        "{ a = ; b = 2; c }",
        "{ a = [ 1 2;\n  b = (f x;\n  c = 3; }",
        "let a = 1 in a",
        "let a = 1; b in a",
        "if a then b",
        "if then else",
        "f (a b",
        "[ 1, 2 ]",
        "a == b == c",
        "(a < b < c) && ( )",
        "{ a, b: a",
        "x: { y }, z",
        "a b ]",
        "a é b",
        "{ a = \"x\"; ! = 2; b = @; }",
        "with a b",
        "{ if = 1; }",
        "a.b.",
        "a ? ",
        "inherit a;",
        "a/b//c",
        "a:",
        "{ inherit a.b; c = 1; }",
        "\"${a b;}\"",
        "1 +",
        "$a",
    ]));
}

#[test]
fn pipes_have_to_be_enabled() {
    let errors = parse(b"a |> f", &ParseOptions::default()).expect_err("not enabled");
    let mut out = String::new();
    describe(&mut out, "a |> f", &errors);
    insta::assert_snapshot!(out.trim(), @"1:3-1:5 FeatureDisabled: experimental Nix feature 'pipe-operators' is disabled; add '--extra-experimental-features pipe-operators' to enable it");
}

#[test]
fn tree_of_a_file() {
    insta::assert_snapshot!(tree(
        "# A package.\n{ lib, stdenv ? null, ... }@args:\n\n/** The thing. */\nrec {\n  inherit (lib) id;\n  a.\"b\" = \"x${id 1}\\n\"; # why\n  /** Doubles. */\n  f = x: x * 2 + -1;\n  p = ./a/${a.b or \"c\"}.nix;\n  t = ''\n    ${f}\n  '';\n}\n"
    ));
}

#[test]
fn tree_of_a_broken_file() {
    insta::assert_snapshot!(tree(
        "{ pkgs, ... }:\n{\n  a = [ 1 2\n  ;\n  b = ;\n  c d = 3;\n  e = (x: x;\n  f = \"${g}\";\n  h\n}\n"
    ));
}

#[test]
fn tree_of_every_kind() {
    insta::assert_snapshot!(tree(
        "let { a = f or; b = x: with y; assert !z; if a ? b then c else d.e or f; \
         c = 1 |> g; inherit d; inherit (e) \"f\" ${\"g\"}; body = <a> (let in 1) {} http://a.b; }"
    ));
}
