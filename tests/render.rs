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
