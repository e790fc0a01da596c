use super::*;

/// The events of a text in a short form, or the message after `…: `.
fn read(text: &str) -> String {
    read_bytes(text.as_bytes())
}

fn read_bytes(text: &[u8]) -> String {
    let mut parser = Parser::new(text);
    let mut out = Vec::new();
    loop {
        match parser.next_event() {
            Ok(None) => return out.join(" "),
            Ok(Some(event)) => out.push(match event {
                Event::Null => "null".into(),
                Event::Bool(b) => b.to_string(),
                Event::Int(i) => i.to_string(),
                Event::Float(f) => format!("{f:?}"),
                Event::String(s) => format!("{:?}", String::from_utf8(s.into_owned()).unwrap()),
                Event::Key(s) => format!("{}:", String::from_utf8(s.into_owned()).unwrap()),
                Event::ListStart => "[".into(),
                Event::ListEnd => "]".into(),
                Event::ObjectStart => "{".into(),
                Event::ObjectEnd => "}".into(),
            }),
            Err(e) => return e.message().replace("[json.exception.parse_error.101] parse error ", ""),
        }
    }
}

#[test]
fn values() {
    assert_eq!(read(r#" {"a":[1,-0,-0.0,1e2,true,false,null,"x\u00e9\ud83d\ude00\n"],"b":{}, "c":[]} "#), "{ a: [ 1 0 -0.0 100.0 true false null \"xé😀\\n\" ] b: { } c: [ ] }");
    assert_eq!(read("18446744073709551616"), "1.8446744073709552e19");
    assert_eq!(read("-9223372036854775808"), "-9223372036854775808");
    assert_eq!(read("-9223372036854775809"), "-9.223372036854776e18");
    assert_eq!(read("18446744073709551615"), "unsigned json number 18446744073709551615 outside of Nix integer range");
    assert_eq!(read("1e999"), "[json.exception.out_of_range.406] number overflow parsing '1e999'");
    assert_eq!(read("\u{feff}1"), "1");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(&deep).len(), 400_000 - 1);
}

#[test]
fn nul_bytes() {
    assert_eq!(
        read(r#""a\u0000""#),
        "input string 'a␀' cannot be represented as Nix string because it contains null bytes"
    );
}

include!("errors.in");

proptest::proptest! {
    #[test]
    fn any_bytes_are_fine(text: Vec<u8>) {
        read_bytes(&text);
    }

    #[test]
    fn strings_survive(text: String) {
        let mut out = Vec::new();
        write_string(text.as_bytes(), &mut out).unwrap();
        let mut parser = Parser::new(&out);
        if text.contains('\0') {
            proptest::prop_assert!(parser.next_event().is_err());
        } else {
            proptest::prop_assert_eq!(parser.next_event().unwrap(), Some(Event::String(text.into_bytes().into())));
            proptest::prop_assert_eq!(parser.next_event().unwrap(), None);
        }
    }
}
