//! Deep and long sources, and sources that are expensive to a naive parser: a result or an error, soon.

use nivis_syntax::{ParseOptions, parse, parse_tree};

const MANY: usize = 100_000;

/// Deep enough to overflow the stack of whatever recurses, and not as slow without optimisation.
const FEWER: usize = 25_000;

/// Parses both ways and walks over what comes out. Whether the source is valid.
fn check(source: &str) -> bool {
    let options = ParseOptions {
        pipe_operators: true,
    };
    let tree = parse_tree(source, &options);
    assert_eq!(tree.syntax().text().len(), (source.len() as u32).into());
    let ok = match parse(source.as_bytes(), &options) {
        Ok(ast) => {
            assert!(!ast.to_sexpr().is_empty());
            assert!(!ast.to_nix_parse_bytes("/", "/").is_empty());
            true
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            false
        }
    };
    assert_eq!(ok, tree.errors().is_empty());
    ok
}

fn nest(open: &str, inner: &str, close: &str) -> String {
    open.repeat(MANY) + inner + &close.repeat(MANY)
}

#[test]
fn brackets() {
    assert!(check(&nest("[", "", "]")));
    assert!(check(&nest("(", "1", ")")));
    assert!(check(&nest("{ a = ", "1", "; }")));
    assert!(check(&nest("\"${", "a", "}\"")));
    assert!(check(&nest("''${", "a", "}''")));
    assert!(check(&nest("a/${", "b", "}")));
    assert!(check(&nest("(", "f", " a)")));
    assert!(!check(&nest("[(", "", "])")));
}

#[test]
fn unfinished() {
    for open in [
        "[",
        "(",
        "{",
        "{ a = ",
        "\"${",
        "''${",
        "a/${",
        "let ",
        "let a = ",
        "if ",
        "x: ",
        "a ++ ",
        "[ a = ",
        "{ a b = 1; ",
        "with ",
        "f ( a; ",
        "<a",
        "a/",
        "1.",
        "~/",
        "''$",
        "/*",
        "\\",
    ] {
        assert!(!check(&open.repeat(FEWER)), "{open}");
    }
    for close in ["]", ")", "}", ";", "= ", "a == "] {
        assert!(!check(&close.repeat(FEWER)), "{close}");
    }
}

#[test]
fn chains() {
    for (first, more) in [
        ("1", "+1"),
        ("a", "++a"),
        ("a", " -> a"),
        ("a", "//a"),
        ("a", " && a"),
        ("a", " ? b"),
        ("a", ".b"),
        ("a", ".b or a"),
        ("f", " a"),
        ("a", " |> f"),
        ("a", " <| f"),
        ("a", "/b"),
        ("", "''a''"),
    ] {
        assert!(check(&(first.to_owned() + &more.repeat(FEWER))), "{more}");
    }
    for before in [
        "!",
        "-",
        "x: ",
        "{ x }: ",
        "let a = 1; in ",
        "with a; ",
        "assert a; ",
        "if a then b else ",
        "a: { b ? c }: ",
    ] {
        assert!(check(&(before.repeat(FEWER) + "a")), "{before}");
    }
}

#[test]
fn attribute_paths() {
    let path = vec!["a"; FEWER].join(".");
    assert!(check(&format!("{{ {path} = 1; }}")));
    assert!(!check(&format!("{{ {path} = 1; {path} = 2; }}")));
    assert!(!check(&format!("{{ {path} = 1; {path}.b = 2; }}")));
    assert!(check(&format!("{{ {path}.b = 1; {path}.c = 2; }}")));
    assert!(check(&format!("a ? {path}")));
    let nested = nest("{ a = ", "{ }", "; }");
    assert!(check(&format!("{{ x = {nested}; x = {nested}; }}")));
    let many: String = (0..FEWER).map(|index| format!("a.b{index} = 1;")).collect();
    assert!(check(&format!("{{ {many} }}")));
    let same = "a = 1;".repeat(FEWER);
    assert!(!check(&format!("{{ {same} }}")));
    let formals: String = (0..FEWER).map(|index| format!("a{index},")).collect();
    assert!(check(&format!("{{ {formals} }}: 1")));
}
