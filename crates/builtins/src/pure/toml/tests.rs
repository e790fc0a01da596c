use super::*;

/// A document in a short form, or the message.
fn read(text: &str) -> String {
    match parse(text.as_bytes(), Timestamps::Parse) {
        Ok(document) => {
            let mut out = String::new();
            show(&document, document.root(), &mut out);
            out
        }
        Err(e) => e.message().to_owned(),
    }
}

fn show(document: &Document, id: NodeId, out: &mut String) {
    match document.get(id).unwrap() {
        Node::String(s) => out.push_str(&format!("{:?}", String::from_utf8(s.clone()).unwrap())),
        Node::Int(i) => out.push_str(&i.to_string()),
        Node::Float(f) => out.push_str(&format!("{f:?}")),
        Node::Bool(b) => out.push_str(&b.to_string()),
        Node::Timestamp(t) => out.push_str(t),
        Node::List(items) => {
            out.push('[');
            for item in items {
                show(document, *item, out);
                out.push(' ');
            }
            out.push(']');
        }
        Node::Table(entries) => {
            out.push('{');
            for (name, value) in entries {
                out.push_str(&format!("{}=", String::from_utf8(name.clone()).unwrap()));
                show(document, *value, out);
                out.push(' ');
            }
            out.push('}');
        }
    }
}

#[test]
fn depth_is_not_limited() {
    let deep = format!("a={}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(deep.as_bytes(), Timestamps::Refuse).is_ok());
    let deep = format!("{}=1", vec!["a"; 100_000].join("."));
    assert!(parse(deep.as_bytes(), Timestamps::Refuse).is_ok());
    let deep = "a={a=".repeat(100_000);
    assert!(parse(deep.as_bytes(), Timestamps::Refuse).is_err());
}

#[test]
fn timestamps_are_a_feature() {
    let error = parse(b"a = 1979-05-27", Timestamps::Refuse).unwrap_err();
    assert!(error.message().contains("Dates and times are not supported"));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_fine(text: Vec<u8>) {
        let _ = parse(&text, Timestamps::Parse);
    }

    #[test]
    fn tomlish_text_is_fine(text in r#"([ab=\[\]{},."'# \n0-9:TZ+-]|true|"""|'''|\\|\\u){0,30}"#) {
        let _ = parse(text.as_bytes(), Timestamps::Parse);
    }
}
