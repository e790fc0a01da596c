//! Any text: an error, or events that balance and, written again, give the same events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nivis_builtins::pure::json::{self, Event, Parser};

fn events(text: &[u8]) -> Option<Vec<Event<'_>>> {
    let mut parser = Parser::new(text);
    let mut events = Vec::new();
    while let Some(event) = parser.next_event().ok()? {
        events.push(event);
    }
    Some(events)
}

fn write(events: &[Event<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    // Whether a separator is due before the next value or key.
    let mut due = false;
    for event in events {
        if due && !matches!(event, Event::ListEnd | Event::ObjectEnd) {
            out.push(b',');
        }
        due = true;
        match event {
            Event::Null => out.extend_from_slice(b"null"),
            Event::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Event::Int(value) => json::write_int(*value, &mut out),
            Event::Float(value) => json::write_float(*value, &mut out),
            Event::String(text) => json::write_string(text, &mut out).expect("strings are UTF-8"),
            Event::Key(text) => {
                json::write_string(text, &mut out).expect("keys are UTF-8");
                out.push(b':');
                due = false;
            }
            Event::ListStart | Event::ObjectStart => {
                out.push(if *event == Event::ListStart {
                    b'['
                } else {
                    b'{'
                });
                due = false;
            }
            Event::ListEnd => out.push(b']'),
            Event::ObjectEnd => out.push(b'}'),
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let Some(first) = events(input) else { return };
    let text = write(&first);
    let second = events(&text).expect("what was written is JSON");
    assert_eq!(first, second);
});
