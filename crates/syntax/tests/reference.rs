//! Sources whose normal form is known from C++ Nix.

use nivis_syntax::{ParseOptions, parse, parse_tree};

const OPTIONS: ParseOptions = ParseOptions {
    pipe_operators: true,
};

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        out.push(match chars.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some('f') => '\x0c',
            Some(other) => other,
            None => '\\',
        });
    }
    out
}

/// Group, source, expected.
fn cases() -> Vec<(String, String, String)> {
    let mut group = String::new();
    let mut source = String::new();
    let mut cases = Vec::new();
    for line in include_str!("reference.txt").lines() {
        if let Some(name) = line.strip_prefix("## ") {
            group = name.to_owned();
        } else if let Some(text) = line.strip_prefix("< ") {
            source = unescape(text);
        } else if let Some(text) = line.strip_prefix("> ") {
            cases.push((group.clone(), source.clone(), text.to_owned()));
        }
    }
    cases
}

#[test]
fn normal_forms() {
    let cases = cases();
    assert!(cases.len() > 700);
    for (group, source, expected) in cases {
        let printed = match parse(source.as_bytes(), &OPTIONS) {
            Ok(ast) => ast.to_nix_parse_string("/tmp/nivis", "/root"),
            Err(errors) => {
                assert!(!errors.is_empty(), "{source}");
                "error".to_owned()
            }
        };
        assert_eq!(printed, expected, "{group}: {source}");
    }
}

#[test]
fn trees_agree() {
    for (group, source, expected) in cases() {
        let tree = parse_tree(&source, &OPTIONS);
        assert_eq!(tree.syntax().text(), source.as_str(), "{group}");
        assert_eq!(
            tree.errors().is_empty(),
            expected != "error",
            "{group}: {source}"
        );
    }
}
