//! Any text: an error, or a document in which every node is reached from the root once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_builtins::pure::toml::{Node, Timestamps, parse};

fuzz_target!(|input: &[u8]| {
    let refused = parse(input, Timestamps::Refuse);
    let Ok(document) = parse(input, Timestamps::Parse) else {
        assert!(refused.is_err());
        return;
    };
    let mut todo = vec![document.root()];
    let mut seen = std::collections::BTreeSet::new();
    let mut dates = false;
    while let Some(id) = todo.pop() {
        assert!(seen.insert(id));
        match document.get(id).expect("ids lead to nodes") {
            Node::Table(entries) => todo.extend(entries.values().copied()),
            Node::List(items) => todo.extend(items.iter().copied()),
            Node::String(text) => assert!(std::str::from_utf8(text).is_ok()),
            Node::Timestamp(_) => dates = true,
            Node::Int(_) | Node::Float(_) | Node::Bool(_) => {}
        }
    }
    assert_eq!(refused.is_err(), dates);
});
