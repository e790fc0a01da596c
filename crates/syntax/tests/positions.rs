//! Where things are: what `builtins.unsafeGetAttrPos`, `functionArgs` and `__curPos` report.

use nivis_syntax::ast::{Ast, AttrValue, Expr};
use nivis_syntax::{LineColumn, LineIndex, ParseOptions, parse};

fn ast(source: &str) -> Ast {
    parse(source.as_bytes(), &ParseOptions::default()).expect("a valid source")
}

/// `name@line:column` of all attributes, inner sets before outer ones.
fn attrs(source: &str) -> String {
    let ast = ast(source);
    let index = LineIndex::new(source.as_bytes());
    let mut words = Vec::new();
    for bindings in &ast.bindings {
        for attr in &ast.attrs[bindings.attrs.indices()] {
            let at = index.line_column(attr.span.start);
            let name = &ast.names[attr.name.0 as usize];
            words.push(format!("{name}@{}:{}", at.line, at.column));
        }
    }
    words.join(" ")
}

#[test]
fn attributes() {
    assert_eq!(attrs("{ a = 1;\n  b = 2; }"), "a@1:3 b@2:3");
    // All names of a path are where the path begins.
    assert_eq!(attrs("{ a.b.c = 1; }"), "c@1:3 b@1:3 a@1:3");
    assert_eq!(
        attrs("{ a.b = 1;\n  a.c = 2;\n a.d.e = 3; }"),
        "e@3:2 b@1:3 c@2:3 d@3:2 a@1:3"
    );
    assert_eq!(attrs("{ \"a\" = 1; ${\"b\"} = 2; }"), "a@1:3 b@1:12");
    assert_eq!(
        attrs("{ inherit a\n b; inherit ({ }) c \"d\"; }"),
        "a@1:11 b@2:2 c@2:19 d@2:21"
    );
    // What is merged keeps its own place, and the first definition counts.
    assert_eq!(
        attrs("{ a = { b = 1; };\n  a.c = 2;\n  a = { d = 3; }; }"),
        // The two literals as they were, then the result.
        "b@1:9 d@3:9 b@1:9 c@2:3 d@3:9 a@1:3"
    );
}

#[test]
fn formals() {
    let source = "{ a,\n  b ? 1,\n ... }@args: a";
    let ast = ast(source);
    let index = LineIndex::new(source.as_bytes());
    let places: Vec<_> = ast
        .formals
        .iter()
        .map(|formal| index.line_column(formal.span.start))
        .map(|at| (at.line, at.column))
        .collect();
    assert_eq!(places, [(1, 3), (2, 3)]);
    let root = ast.root.expect("a root");
    assert_eq!((ast.span(root).start, ast.span(root).end), (0, 28));
}

#[test]
fn cur_pos() {
    let source = "[ 1\n   __curPos ]";
    let ast = ast(source);
    let at = ast
        .exprs
        .iter()
        .zip(&ast.spans)
        .find(|(expr, _)| **expr == Expr::CurPos)
        .map(|(_, span)| LineIndex::new(source.as_bytes()).line_column(span.start));
    assert_eq!(at, Some(LineColumn { line: 2, column: 4 }));
}

#[test]
fn children_come_before_parents() {
    let ast = ast("{ a = { b = 1; }; a.c = [ x (y.${z} or w) ]; a = { d = \"${e}\"; }; }");
    for (index, expr) in ast.exprs.iter().enumerate() {
        if let Expr::Attrs(bindings) = expr {
            let bindings = ast.bindings[*bindings as usize];
            for attr in &ast.attrs[bindings.attrs.indices()] {
                if let AttrValue::Plain(value) = attr.value {
                    assert!((value.0 as usize) < index);
                }
            }
        }
    }
    assert_eq!(
        ast.root.map(|root| root.0 as usize + 1),
        Some(ast.exprs.len())
    );
}

#[test]
fn lines() {
    let index = LineIndex::new(b"a\nbc\r\nd\re\n\r\n");
    let at = |offset| {
        let at = index.line_column(offset);
        (at.line, at.column)
    };
    assert_eq!(index.lines(), 6);
    assert_eq!(at(0), (1, 1));
    assert_eq!(at(1), (1, 2));
    assert_eq!(at(2), (2, 1));
    assert_eq!(at(4), (2, 3));
    assert_eq!(at(5), (2, 4));
    assert_eq!(at(6), (3, 1));
    assert_eq!(at(8), (4, 1));
    assert_eq!(at(10), (5, 1));
    assert_eq!(at(12), (6, 1));
    assert_eq!(at(13), (6, 2));
    assert_eq!(index.line_start(3), Some(6));
    assert_eq!(index.line_start(0), None);
    assert_eq!(index.line_start(7), None);
    assert_eq!(
        LineIndex::new(b"").line_column(0),
        LineColumn { line: 1, column: 1 }
    );
}

#[test]
fn nodes_are_small() {
    assert!(size_of::<Expr>() <= 16);
}
