//! Rendering of any diagnostic, however odd its places are.

use nivis::diagnostic::{Diagnostic, Related, SourceFile, Span, TraceItem};
use nivis::render::{RenderOptions, render};
use nivis::{ErrorKind, Evaluator, MemoryHost};
use std::sync::Arc;

/// Xorshift: the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

const PIECES: [&[u8]; 16] = [
    b"a",
    b" ",
    b"\n",
    b"\r\n",
    b"\r",
    b"\t",
    "é".as_bytes(),
    "日".as_bytes(),
    "e\u{301}".as_bytes(),
    "👩‍👩‍👧".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{85}".as_bytes(),
    b"\x0b\x0c\x00\x1b[31m",
    b"\xff\xfe",
    b"\xe6\x97",
    "\u{202e}".as_bytes(),
];

fn text(n: &mut Numbers) -> Arc<[u8]> {
    let pieces = n.below(40);
    let mut bytes = Vec::new();
    for _ in 0..pieces {
        let piece = PIECES[n.below(PIECES.len())];
        // Long runs, so that lines are cut.
        let times = if n.below(20) == 0 { 300 } else { 1 };
        for _ in 0..times {
            bytes.extend_from_slice(piece);
        }
    }
    bytes.into()
}

fn span(n: &mut Numbers, text: &Arc<[u8]>) -> Span {
    let len = text.len();
    let start = n.below(len + 2);
    // Mostly consistent, as resolved spans are; sometimes nonsense.
    let before = &text[..start.min(len)];
    let line_start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |i| i + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() as u32 + 1;
    let column = (start.saturating_sub(line_start) + 1) as u32;
    let nonsense = n.below(8) == 0;
    Span {
        file: Arc::new(SourceFile {
            name: "a\u{1}name\n".to_string(),
            path: None,
            text: (n.below(10) != 0).then(|| Arc::clone(text)),
        }),
        start,
        end: if nonsense {
            n.below(len + 500)
        } else {
            (start + n.below(30)).min(len)
        },
        line: if nonsense {
            n.below(5) as u32 * 1_000_000_007
        } else {
            line
        },
        column: if nonsense {
            n.below(5) as u32 * 1_000_000_007
        } else {
            column
        },
    }
}

#[test]
fn nothing_makes_it_fail() {
    let mut n = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..3000 {
        let (one, other) = (text(&mut n), text(&mut n));
        let mut d = Diagnostic::message(ErrorKind::Other, String::from_utf8_lossy(&other));
        d.span = Some(span(&mut n, &one));
        for i in 0..n.below(4) {
            let in_text = if n.below(2) == 0 { &one } else { &other };
            let place = span(&mut n, in_text);
            d.trace.push(TraceItem {
                message: format!("step {i}"),
                span: Some(place.clone()),
                explicit: n.below(2) == 0,
            });
            d.related.push(Related {
                message: "related".to_string(),
                span: place,
            });
        }
        let options = RenderOptions {
            colours: n.below(2) == 0,
            show_trace: n.below(2) == 0,
        };
        let shown = render(&d, &options);
        assert!(shown.ends_with('\n'), "round {round}");
        assert!(shown.contains("error:"), "round {round}");
        if !options.colours {
            let bad = |c: char| c.is_control() && c != '\n' && c != '\t';
            assert!(!shown.contains(bad), "round {round}: {shown:?}");
        }
    }
}

#[test]
fn the_first_line_is_the_message() -> nivis::Result<()> {
    let nix = Evaluator::builder().host(MemoryHost::new()).build()?;
    let error = nix.eval("throw \"it is broken\"").expect_err("it throws");
    let plain = error.render(&RenderOptions::default());
    assert!(plain.starts_with("error: it is broken\n"), "{plain}");
    let coloured = error.render(&RenderOptions {
        colours: true,
        show_trace: false,
    });
    assert!(
        coloured.starts_with("\x1b[31merror:\x1b[0m it is broken\n"),
        "{coloured:?}"
    );
    Ok(())
}

/// The place of the error in `text`, as line and column; then the messages of the related places and of the trace.
fn explained(text: &str) -> (String, Vec<String>) {
    let nix = Evaluator::builder().host(MemoryHost::new()).build();
    let nix = nix.expect("a host in memory needs nothing");
    let error = nix
        .eval(text)
        .and_then(|v| v.force_deep())
        .expect_err("the texts are erroneous");
    let d = error.into_diagnostic();
    let place = d.span.map_or(String::new(), |s| {
        assert!(s.file.name.starts_with("«text"), "{}", s.file.name);
        format!("{}:{}", s.line, s.column)
    });
    let related = d.related.into_iter().map(|r| r.message);
    let steps = related.chain(d.trace.into_iter().map(|t| t.message));
    (place, steps.collect())
}

#[test]
fn wrong_arguments_are_shown_at_the_call() {
    let defined = "the function is defined here".to_string();
    for (text, place) in [
        ("let f = { a, b ? 1 }: a; in f { }", "1:29"),
        ("let f = { a }: a; in f { a = 1; c = 2; }", "1:22"),
        ("let f = { a }: a; in f null", "1:22"),
        ("{ a = { b }: b; }.a { }", "1:1"),
        // Nothing but the function itself has a place.
        ("let g = { a, b }: a; in map g [ { a = 1; } ]", "1:9"),
    ] {
        let (found, steps) = explained(text);
        assert_eq!(found, place, "{text}");
        assert_eq!(steps.first(), Some(&defined), "{text}");
        assert!(!steps.iter().any(|s| s.contains("calling")), "{steps:?}");
    }
    // What is given and wanted is not what was meant.
    let nix = Evaluator::builder().host(MemoryHost::new()).build();
    let error = nix.and_then(|nix| nix.eval("({ a, b ? 1 }: a) { b = 2; }"));
    let suggestions = error.map_err(|e| e.into_diagnostic().suggestions);
    assert_eq!(suggestions.err(), Some(Vec::new()));
}

#[test]
fn the_parts_of_a_value_are_named() {
    let (_, steps) = explained("{ a = [ 1 { b = throw \"deep\"; } ]; }");
    let parts = [
        "while evaluating the attribute 'b'",
        "while evaluating list element at index 1",
        "while evaluating the attribute 'a'",
    ];
    assert_eq!(&steps[steps.len() - 3..], parts);
    let (place, steps) = explained("builtins.toJSON { a = [ 1 (x: x) ]; }");
    assert_eq!(place, "1:19");
    assert!(steps.contains(&"while evaluating list element at index 1".to_string()));
    // No place in the evaluator's own files, and what is wrong with a derivation is said.
    let text = "(derivation { name = \"a\"; system = \"b\"; builder = \"c\"; x = { }; }).drvPath";
    let (place, steps) = explained(text);
    assert_eq!(place, "1:56");
    let step = "while evaluating attribute 'x' of derivation 'a'".to_string();
    assert_eq!(steps.first(), Some(&step));
    let (_, steps) = explained("(derivation { name = \"a\"; }).drvPath");
    let step = "while evaluating derivation 'a'";
    assert!(steps.iter().any(|s| s.starts_with(step)), "{steps:?}");
}

#[test]
fn odd_names_are_quoted() {
    let (_, steps) = explained("{ \"a b\" = { c = throw \"x\"; }; }");
    assert_eq!(
        steps.last().map(String::as_str),
        Some("while evaluating the attribute '\"a b\"'")
    );
    let (_, steps) =
        explained("assert [ 1 { \"a b\" = 2; c = 1; } ] == [ 1 { \"a b\" = 3; c = 1; } ]; 1");
    assert_eq!(
        steps,
        [
            "while comparing attribute '\"a b\"'",
            "while comparing list element 1"
        ]
    );
    let (_, steps) = explained("let s = { a = 1; }; in assert s == { a = 2; }; 1");
    assert_eq!(steps, ["while comparing attribute 'a'"]);
    let drv =
        "(derivation { name = \"a\"; system = \"b\"; builder = \"c\"; \"x y\" = { }; }).drvPath";
    let (_, steps) = explained(drv);
    let step = "while evaluating attribute '\"x y\"' of derivation 'a'".to_string();
    assert!(steps.contains(&step), "{steps:?}");
}

#[test]
fn values_in_messages_are_abbreviated() {
    for (text, message) in [
        (
            "let l = builtins.genList (i: i) 12; in builtins.deepSeq l (1 + l.a)",
            "expected a set but found a list: [ 0 1 2 3 4 5 6 7 8 9 «2 items elided» ]",
        ),
        (
            "let s = { a = [ [ 1 2 ] [ 3 ] ]; type = \"t\"; }; in builtins.deepSeq s (s + 1)",
            "cannot coerce a set to a string: { type = \"t\"; a = [ [ 1 2 ] [ 3 ] ]; }",
        ),
        (
            "builtins.head { \"a b\" = { x }: x; }.\"a b\"",
            "expected a list but found a function: «lambda \"a b\" @ «text»:1:25»",
        ),
        (
            "({ x }: x) { x = 1; \"c d\" = 2; }",
            "function 'anonymous lambda' called with unexpected argument '\"c d\"'",
        ),
        (
            "1 + builtins.add",
            "cannot add the built-in function 'add' to an integer",
        ),
        (
            "1 + (builtins.add 2)",
            "cannot add the partially applied built-in function 'add' to an integer",
        ),
        (
            "builtins.head ((x: y: z: x) 1)",
            "expected a list but found a function: «lambda @ «text»:1:20»",
        ),
    ] {
        let nix = Evaluator::builder().host(MemoryHost::new()).build();
        let error = nix.and_then(|nix| nix.eval(text).and_then(|v| v.force()));
        let found = error.map_err(|e| e.into_diagnostic().message);
        assert_eq!(found.err().as_deref(), Some(message), "{text}");
    }
}
