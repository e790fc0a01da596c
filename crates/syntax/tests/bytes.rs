//! Sources that are not text.

use nivis_syntax::ast::Expr;
use nivis_syntax::{ParseOptions, SyntaxErrorKind, parse, parse_tree};

fn kind(source: &[u8]) -> Option<SyntaxErrorKind> {
    let errors = parse(source, &ParseOptions::default()).err()?;
    errors.first().map(|error| error.kind)
}

fn string(source: &[u8]) -> Vec<u8> {
    let ast = parse(source, &ParseOptions::default()).expect("a valid source");
    match ast.root.map(|root| ast.expr(root)) {
        Some(Expr::Str(range)) => ast.text[range.indices()].to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn not_utf8() {
    assert_eq!(string(b"\"a\xff\xfe\\\xc3\""), b"a\xff\xfe\xc3");
    assert_eq!(string(b"''\n  a\xff\n  b''"), b"a\xff\nb");
    assert_eq!(string(b"/* \xff */ \"a\" # \xff"), b"a");
    assert_eq!(kind(b"\xff"), Some(SyntaxErrorKind::UnknownCharacter));
    assert_eq!(kind(b"a \xc3\xa9"), Some(SyntaxErrorKind::UnknownCharacter));
    // Names are text where they have to be known; elsewhere they are computed.
    assert_eq!(kind(b"{ \"\xff\" = 1; }.\"\xff\""), None);
    assert_eq!(
        kind(b"let \"\xff\" = 1; in 1"),
        Some(SyntaxErrorKind::InvalidName)
    );
    assert_eq!(
        kind(b"{ inherit \"\xff\"; }"),
        Some(SyntaxErrorKind::InvalidName)
    );
}

#[test]
fn nul() {
    assert_eq!(kind(b"\"a\0b\""), Some(SyntaxErrorKind::NulByte));
    assert_eq!(kind(b"\"\\\0\""), Some(SyntaxErrorKind::NulByte));
    assert_eq!(kind(b"''a\0b''"), Some(SyntaxErrorKind::NulByte));
    assert_eq!(kind(b"''''\\\0''"), Some(SyntaxErrorKind::NulByte));
    assert_eq!(kind(b"1\0"), Some(SyntaxErrorKind::UnknownCharacter));
    assert_eq!(kind(b"1 # \0"), None);
    assert_eq!(kind(b"/* \0 */ 1"), None);
}

#[test]
fn pairs_of_bytes() {
    let special = b"\0 \n\r\"$'()*+,-./09:;<=>?@[\\]_`a{|}~\x7f\x80\xc3\xa9\xff";
    for first in 0..=255u8 {
        for second in *special {
            for source in [
                vec![first, second],
                vec![b'"', first, second, b'"'],
                vec![b'\'', b'\'', first, second, b'\'', b'\''],
            ] {
                let parsed = parse(&source, &ParseOptions::default());
                if let Ok(text) = std::str::from_utf8(&source) {
                    let tree = parse_tree(text, &ParseOptions::default());
                    assert_eq!(tree.syntax().text(), text);
                    assert_eq!(tree.errors().is_empty(), parsed.is_ok(), "{text:?}");
                }
            }
        }
    }
}
