//! Typed views of the tree.

use nivis_syntax::nodes::{AstNode, AttrName, Entry, Expr, Lambda, StrPart};
use nivis_syntax::{ParseOptions, SyntaxKind, Tree, parse_tree};

fn tree(source: &str) -> Tree {
    parse_tree(
        source,
        &ParseOptions {
            pipe_operators: true,
        },
    )
}

fn expr(source: &str) -> Expr {
    let tree = tree(source);
    assert_eq!(tree.errors(), []);
    tree.root().expr().expect("an expression")
}

fn text(node: Option<impl AstNode>) -> String {
    node.map_or_else(|| "-".to_owned(), |node| node.syntax().text().to_string())
}

#[test]
fn expressions() {
    let show = |source: &str| match expr(source) {
        Expr::Variable(e) => format!("variable {}", e.token().expect("a token")),
        Expr::Literal(e) => format!("literal {:?}", e.token().expect("a token").kind()),
        Expr::Path(e) => format!("path {} {}", e.texts().count(), e.interpolations().count()),
        Expr::Str(e) => format!("string {}", e.parts().count()),
        Expr::IndentedStr(e) => format!("indented {}", e.parts().count()),
        Expr::Paren(e) => format!("paren {}", text(e.expr())),
        Expr::List(e) => format!("list {}", e.elements().count()),
        Expr::AttrSet(e) => format!("set {} {}", e.rec_token().is_some(), e.entries().count()),
        Expr::LegacyLet(e) => format!("legacy let {}", e.entries().count()),
        Expr::LetIn(e) => format!("let {} {}", e.entries().count(), text(e.body())),
        Expr::Select(e) => format!(
            "select {} {} {}",
            text(e.set()),
            text(e.path()),
            text(e.default())
        ),
        Expr::ApplyOr(e) => format!("apply or {}", text(e.function())),
        Expr::Apply(e) => {
            let arguments: Vec<_> = e.arguments().map(|e| text(Some(e))).collect();
            format!("apply {} {arguments:?}", text(e.function()))
        }
        Expr::HasAttr(e) => format!("has {} {}", text(e.set()), text(e.path())),
        Expr::Unary(e) => format!("{} {}", e.operator().expect("one"), text(e.operand())),
        Expr::Binary(e) => format!(
            "{} {} {}",
            e.operator().expect("one"),
            text(e.left()),
            text(e.right())
        ),
        Expr::Pipe(e) => format!("pipe {} {}", text(e.function()), text(e.argument())),
        Expr::IfElse(e) => format!(
            "if {} {} {}",
            text(e.condition()),
            text(e.then_branch()),
            text(e.else_branch())
        ),
        Expr::With(e) => format!("with {} {}", text(e.set()), text(e.body())),
        Expr::Assert(e) => format!("assert {} {}", text(e.condition()), text(e.body())),
        Expr::Lambda(e) => format!(
            "lambda {:?} {} {}",
            e.param().map(|token| token.to_string()),
            text(e.pattern()),
            text(e.body())
        ),
        Expr::Error(_) => "error".to_owned(),
    };
    for (source, expected) in [
        ("a", "variable a"),
        ("1.5", "literal FLOAT"),
        ("a:b", "literal URI"),
        ("./a", "path 1 0"),
        ("a/${b}c${d}", "path 2 2"),
        ("\"a${b}c\"", "string 3"),
        ("''a''$b''", "indented 3"),
        ("(a)", "paren a"),
        ("[ a (b c) ]", "list 2"),
        ("rec { a = 1; inherit b; }", "set true 2"),
        ("{ }", "set false 0"),
        ("let { a = 1; }", "legacy let 1"),
        ("let a = 1; in b", "let 1 b"),
        ("a.b.c", "select a b.c -"),
        ("a.b or c", "select a b c"),
        ("a or", "apply or a"),
        ("f a b", "apply f [\"a\", \"b\"]"),
        ("a ? b.c", "has a b.c"),
        ("!a", "! a"),
        ("a - b * c", "- a b * c"),
        ("a |> f", "pipe f a"),
        ("f <| a", "pipe f a"),
        ("if a then b else c", "if a b c"),
        ("with a; b", "with a b"),
        ("assert a; b", "assert a b"),
        ("x: y", "lambda Some(\"x\") - y"),
        ("{ x }@z: y", "lambda Some(\"z\") { x } y"),
    ] {
        assert_eq!(show(source), expected, "{source}");
    }
}

#[test]
fn entries() {
    let Expr::AttrSet(set) = expr("{ a.\"b\".${c} = 1; inherit (x) d \"e\"; inherit f; }") else {
        panic!("not a set");
    };
    let mut seen = Vec::new();
    for entry in set.entries() {
        match entry {
            Entry::Binding(binding) => {
                let path = binding.path().expect("a path");
                for name in path.names() {
                    seen.push(match name {
                        AttrName::Name(name) => format!("name {}", name.syntax()),
                        AttrName::Str(string) => format!("string {}", string.parts().count()),
                        AttrName::Interpolation(e) => format!("computed {}", text(e.expr())),
                    });
                }
                seen.push(format!("= {}", text(binding.value())));
            }
            Entry::Inherit(inherit) => {
                let names: Vec<_> = inherit.names().map(|name| text(Some(name))).collect();
                seen.push(format!("inherit {} {names:?}", text(inherit.source())));
            }
        }
    }
    assert_eq!(
        seen,
        [
            "name a",
            "string 1",
            "computed c",
            "= 1",
            "inherit x [\"d\", \"\\\"e\\\"\"]",
            "inherit - [\"f\"]"
        ]
    );
}

#[test]
fn patterns() {
    let Expr::Lambda(lambda) = expr("{ a, b ? 1, ... }: a") else {
        panic!("not a function");
    };
    let pattern = lambda.pattern().expect("a pattern");
    assert!(pattern.ellipsis().is_some());
    let formals: Vec<_> = pattern
        .formals()
        .map(|formal| {
            let name = formal.name().expect("a name");
            format!("{name} {}", text(formal.default()))
        })
        .collect();
    assert_eq!(formals, ["a -", "b 1"]);
}

#[test]
fn strings() {
    let Expr::Str(string) = expr("\"a\\n${b}\"") else {
        panic!("not a string");
    };
    let parts: Vec<_> = string
        .parts()
        .map(|part| match part {
            StrPart::Text(token) => token.to_string(),
            StrPart::Interpolation(e) => text(e.expr()),
        })
        .collect();
    assert_eq!(parts, ["a\\n", "b"]);
}

#[test]
fn comments() {
    let source = "/** whole */ # and more\nx: {\n  # first\n  /** of a */\n\n  # last\n  a = 1;\n  b = /** of the function */ y: y;\n  /* plain */ c = 2;\n  /**/ d = 3; /*** e */ e = 4;\n}";
    let tree = tree(source);
    let doc = |node: &dyn Fn() -> Option<nivis_syntax::tree::SyntaxToken>| {
        node().map_or_else(|| "-".to_owned(), |token| token.to_string())
    };
    let Some(Expr::Lambda(lambda)) = tree.root().expr() else {
        panic!("not a function");
    };
    assert_eq!(doc(&|| lambda.doc_comment()), "/** whole */");
    assert_eq!(lambda.comments_before().count(), 2);
    let Some(Expr::AttrSet(set)) = lambda.body() else {
        panic!("not a set");
    };
    assert_eq!(set.doc_comment(), None);
    let docs: Vec<_> = set
        .entries()
        .map(|entry| doc(&|| entry.doc_comment()))
        .collect();
    assert_eq!(docs, ["/** of a */", "-", "-", "-", "-"]);
    let function = tree
        .syntax()
        .descendants()
        .filter_map(Lambda::cast)
        .last()
        .expect("the inner function");
    assert_eq!(doc(&|| function.doc_comment()), "/** of the function */");
}

#[test]
fn broken_sources_have_views() {
    let tree = tree("{ a = ; b = f 1; c }");
    assert_eq!(tree.errors().len(), 2);
    let Some(Expr::AttrSet(set)) = tree.root().expr() else {
        panic!("not a set");
    };
    let values: Vec<_> = set
        .entries()
        .map(|entry| match entry {
            Entry::Binding(binding) => text(binding.value()),
            Entry::Inherit(_) => "inherit".to_owned(),
        })
        .collect();
    assert_eq!(values, ["-", "f 1"]);
    let last = set.syntax().last_token().expect("a token");
    assert_eq!(last.kind(), SyntaxKind::R_BRACE);
}
