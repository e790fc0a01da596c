//! Any bytes: no crash, the tree is lossless, and both sinks see the same errors.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_syntax::{LineIndex, ParseOptions, parse, parse_tree};

fuzz_target!(|source: &[u8]| {
    let options = ParseOptions {
        pipe_operators: true,
    };
    let parsed = parse(source, &options);
    if let Ok(ast) = &parsed {
        let printed = ast.to_nix_parse_bytes("/base", "/home");
        assert!(!printed.is_empty());
        assert!(!ast.to_sexpr().is_empty());
    }
    let lines = LineIndex::new(source);
    if let Ok(text) = std::str::from_utf8(source) {
        let tree = parse_tree(text, &options);
        assert_eq!(tree.syntax().text(), text);
        let errors = parsed.as_ref().err().map_or(&[][..], Vec::as_slice);
        assert_eq!(tree.errors(), errors);
        for error in tree.errors() {
            assert!(text.get(error.span.start as usize..error.span.end as usize).is_some());
            assert!(lines.line_column(error.span.start).line <= lines.lines());
        }
    }
});
