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
            Err(e) => {
                return e
                    .message()
                    .replace("[json.exception.parse_error.101] parse error ", "");
            }
        }
    }
}

#[test]
fn values() {
    assert_eq!(
        read(r#" {"a":[1,-0,-0.0,1e2,true,false,null,"x\u00e9\ud83d\ude00\n"],"b":{}, "c":[]} "#),
        "{ a: [ 1 0 -0.0 100.0 true false null \"xé😀\\n\" ] b: { } c: [ ] }"
    );
    assert_eq!(read("18446744073709551616"), "1.8446744073709552e19");
    assert_eq!(read("-9223372036854775808"), "-9223372036854775808");
    assert_eq!(read("-9223372036854775809"), "-9.223372036854776e18");
    assert_eq!(
        read("18446744073709551615"),
        "unsigned json number 18446744073709551615 outside of Nix integer range"
    );
    assert_eq!(
        read("1e999"),
        "[json.exception.out_of_range.406] number overflow parsing '1e999'"
    );
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

/// Invalid texts, and what C++ Nix 2.34 says about them.
#[rustfmt::skip]
const ERRORS: &[(&str, &str)] = &[
    ("", "at line 1, column 1: attempting to parse an empty input; check that your input string or stream contains the expected JSON"),
    ("  ", "at line 1, column 3: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"),
    ("[", "at line 1, column 2: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"),
    ("[1,", "at line 1, column 4: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"),
    ("[1 2]", "at line 1, column 4: syntax error while parsing array - unexpected number literal; expected ']'"),
    ("{", "at line 1, column 2: syntax error while parsing object key - unexpected end of input; expected string literal"),
    ("{\"a\"", "at line 1, column 5: syntax error while parsing object separator - unexpected end of input; expected ':'"),
    ("{\"a\":", "at line 1, column 6: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"),
    ("{\"a\":1", "at line 1, column 7: syntax error while parsing object - unexpected end of input; expected '}'"),
    ("{\"a\" 1}", "at line 1, column 6: syntax error while parsing object separator - unexpected number literal; expected ':'"),
    ("{\"a\":1,}", "at line 1, column 8: syntax error while parsing object key - unexpected '}'; expected string literal"),
    ("{1:2}", "at line 1, column 2: syntax error while parsing object key - unexpected number literal; expected string literal"),
    ("[1,]", "at line 1, column 4: syntax error while parsing value - unexpected ']'; expected '[', '{', or a literal"),
    ("[,1]", "at line 1, column 2: syntax error while parsing value - unexpected ','; expected '[', '{', or a literal"),
    ("nul", "at line 1, column 4: syntax error while parsing value - invalid literal; last read: 'nul'"),
    ("nulx", "at line 1, column 4: syntax error while parsing value - invalid literal; last read: 'nulx'"),
    ("tru", "at line 1, column 4: syntax error while parsing value - invalid literal; last read: 'tru'"),
    ("truex", "at line 1, column 5: syntax error while parsing value - invalid literal; last read: 'truex'; expected end of input"),
    ("true false", "at line 1, column 10: syntax error while parsing value - unexpected false literal; expected end of input"),
    ("1 2", "at line 1, column 3: syntax error while parsing value - unexpected number literal; expected end of input"),
    ("-", "at line 1, column 2: syntax error while parsing value - invalid number; expected digit after '-'; last read: '-'"),
    ("-a", "at line 1, column 2: syntax error while parsing value - invalid number; expected digit after '-'; last read: '-a'"),
    ("1.", "at line 1, column 3: syntax error while parsing value - invalid number; expected digit after '.'; last read: '1.'"),
    ("1.a", "at line 1, column 3: syntax error while parsing value - invalid number; expected digit after '.'; last read: '1.a'"),
    ("1e", "at line 1, column 3: syntax error while parsing value - invalid number; expected '+', '-', or digit after exponent; last read: '1e'"),
    ("1ea", "at line 1, column 3: syntax error while parsing value - invalid number; expected '+', '-', or digit after exponent; last read: '1ea'"),
    ("1e+", "at line 1, column 4: syntax error while parsing value - invalid number; expected digit after exponent sign; last read: '1e+'"),
    ("1e+a", "at line 1, column 4: syntax error while parsing value - invalid number; expected digit after exponent sign; last read: '1e+a'"),
    ("01", "at line 1, column 2: syntax error while parsing value - unexpected number literal; expected end of input"),
    (".5", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '.'"),
    ("+1", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '+'"),
    ("\"abc", "at line 1, column 5: syntax error while parsing value - invalid string: missing closing quote; last read: '\"abc'"),
    ("\"a\nb\"", "at line 2, column 0: syntax error while parsing value - invalid string: control character U+000A (LF) must be escaped to \\u000A or \\n; last read: '\"a<U+000A>'"),
    ("\"a\tb\"", "at line 1, column 3: syntax error while parsing value - invalid string: control character U+0009 (HT) must be escaped to \\u0009 or \\t; last read: '\"a<U+0009>'"),
    ("\"\\x\"", "at line 1, column 3: syntax error while parsing value - invalid string: forbidden character after backslash; last read: '\"\\x'"),
    ("\"\\u12\"", "at line 1, column 6: syntax error while parsing value - invalid string: '\\u' must be followed by 4 hex digits; last read: '\"\\u12\"'"),
    ("\"\\u12g4\"", "at line 1, column 6: syntax error while parsing value - invalid string: '\\u' must be followed by 4 hex digits; last read: '\"\\u12g'"),
    ("\"\\ud800\"", "at line 1, column 8: syntax error while parsing value - invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF; last read: '\"\\ud800\"'"),
    ("\"\\ud800\\u0041\"", "at line 1, column 13: syntax error while parsing value - invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF; last read: '\"\\ud800\\u0041'"),
    ("\"\\udc00\"", "at line 1, column 7: syntax error while parsing value - invalid string: surrogate U+DC00..U+DFFF must follow U+D800..U+DBFF; last read: '\"\\udc00'"),
    ("\"\\ud800x\"", "at line 1, column 8: syntax error while parsing value - invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF; last read: '\"\\ud800x'"),
    ("'a'", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '''"),
    ("[1}", "at line 1, column 3: syntax error while parsing array - unexpected '}'; expected ']'"),
    ("{\"a\":1]", "at line 1, column 7: syntax error while parsing object - unexpected ']'; expected '}'"),
    ("}", "at line 1, column 1: syntax error while parsing value - unexpected '}'; expected '[', '{', or a literal"),
    ("]", "at line 1, column 1: syntax error while parsing value - unexpected ']'; expected '[', '{', or a literal"),
    (",", "at line 1, column 1: syntax error while parsing value - unexpected ','; expected '[', '{', or a literal"),
    (":", "at line 1, column 1: syntax error while parsing value - unexpected ':'; expected '[', '{', or a literal"),
    ("[1\n2]", "at line 2, column 1: syntax error while parsing array - unexpected number literal; expected ']'"),
    ("[1\n,\n2\n}", "at line 4, column 1: syntax error while parsing array - unexpected '}'; expected ']'"),
    ("{\"a\":1\n\"b\":2}", "at line 2, column 3: syntax error while parsing object - unexpected string literal; expected '}'"),
    ("\"a\" \"b\"", "at line 1, column 7: syntax error while parsing value - unexpected string literal; expected end of input"),
    ("[[[", "at line 1, column 4: syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"),
    ("[[]", "at line 1, column 4: syntax error while parsing array - unexpected end of input; expected ']'"),
    ("// c", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '/'"),
    ("/* */ 1", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '/'"),
    ("1 // c", "at line 1, column 3: syntax error while parsing value - invalid literal; last read: '1 /'; expected end of input"),
    ("nan", "at line 1, column 2: syntax error while parsing value - invalid literal; last read: 'na'"),
    ("Infinity", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: 'I'"),
    ("-Infinity", "at line 1, column 2: syntax error while parsing value - invalid number; expected digit after '-'; last read: '-I'"),
    ("[1,2,\"a]", "at line 1, column 9: syntax error while parsing value - invalid string: missing closing quote; last read: '\"a]'"),
    ("{\"a\":tru}", "at line 1, column 9: syntax error while parsing value - invalid literal; last read: '\"a\":tru}'"),
    ("{\"a\" : 1, b}", "at line 1, column 11: syntax error while parsing object key - invalid literal; last read: '1, b'; expected string literal"),
    ("{\"a\":{\"b\":1}", "at line 1, column 13: syntax error while parsing object - unexpected end of input; expected '}'"),
    ("\u{b}1", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '<U+000B>'"),
    ("\"\u{1}\"", "at line 1, column 2: syntax error while parsing value - invalid string: control character U+0001 (SOH) must be escaped to \\u0001; last read: '\"<U+0001>'"),
    ("\"\u{1f}\"", "at line 1, column 2: syntax error while parsing value - invalid string: control character U+001F (US) must be escaped to \\u001F; last read: '\"<U+001F>'"),
    ("\"\u{7f}", "at line 1, column 3: syntax error while parsing value - invalid string: missing closing quote; last read: '\"\u{7f}'"),
    ("é", "at line 1, column 1: syntax error while parsing value - invalid literal; last read: '�'"),
    ("\"é", "at line 1, column 4: syntax error while parsing value - invalid string: missing closing quote; last read: '\"é'"),
    ("[€]", "at line 1, column 2: syntax error while parsing value - invalid literal; last read: '[�'"),
    ("0x10", "at line 1, column 2: syntax error while parsing value - invalid literal; last read: '0x'; expected end of input"),
    ("1_000", "at line 1, column 2: syntax error while parsing value - invalid literal; last read: '1_'; expected end of input"),
    ("--1", "at line 1, column 2: syntax error while parsing value - invalid number; expected digit after '-'; last read: '--'"),
    ("-01", "at line 1, column 3: syntax error while parsing value - unexpected number literal; expected end of input"),
    ("1.5.5", "at line 1, column 4: syntax error while parsing value - invalid literal; last read: '1.5.'; expected end of input"),
    ("1e5e5", "at line 1, column 4: syntax error while parsing value - invalid literal; last read: '1e5e'; expected end of input"),
    ("[1,,2]", "at line 1, column 4: syntax error while parsing value - unexpected ','; expected '[', '{', or a literal"),
    ("{,}", "at line 1, column 2: syntax error while parsing object key - unexpected ','; expected string literal"),
    ("{\"a\",1}", "at line 1, column 5: syntax error while parsing object separator - unexpected ','; expected ':'"),
    ("{\"a\"::1}", "at line 1, column 6: syntax error while parsing value - unexpected ':'; expected '[', '{', or a literal"),
    ("{\"a\":1:2}", "at line 1, column 7: syntax error while parsing object - unexpected ':'; expected '}'"),
    ("\"\\", "at line 1, column 3: syntax error while parsing value - invalid string: forbidden character after backslash; last read: '\"\\'"),
    ("\"\\u", "at line 1, column 4: syntax error while parsing value - invalid string: '\\u' must be followed by 4 hex digits; last read: '\"\\u'"),
    ("\n\n  ]", "at line 3, column 3: syntax error while parsing value - unexpected ']'; expected '[', '{', or a literal"),
    ("[\n1,\n x]", "at line 3, column 2: syntax error while parsing value - invalid literal; last read: '1,<U+000A> x'"),
    ("{\"a\":1}}", "at line 1, column 8: syntax error while parsing value - unexpected '}'; expected end of input"),
    ("[]]", "at line 1, column 3: syntax error while parsing value - unexpected ']'; expected end of input"),
    ("1e400", "[json.exception.out_of_range.406] number overflow parsing '1e400'"),
    ("-1e400", "[json.exception.out_of_range.406] number overflow parsing '-1e400'"),
    ("9223372036854775808", "unsigned json number 9223372036854775808 outside of Nix integer range"),
    ("{\"\\u0000\":1}", "input string '␀' cannot be represented as Nix string because it contains null bytes"),
    ("\"\u{8}\"", "at line 1, column 2: syntax error while parsing value - invalid string: control character U+0008 (BS) must be escaped to \\u0008 or \\b; last read: '\"<U+0008>'"),
    ("\"\u{c}\"", "at line 1, column 2: syntax error while parsing value - invalid string: control character U+000C (FF) must be escaped to \\u000C or \\f; last read: '\"<U+000C>'"),
    ("truE", "at line 1, column 4: syntax error while parsing value - invalid literal; last read: 'truE'"),
    ("{\"a\":1,\"b\"}", "at line 1, column 11: syntax error while parsing object separator - unexpected '}'; expected ':'"),
    ("{\"a\":1 ,\n 2}", "at line 2, column 2: syntax error while parsing object key - unexpected number literal; expected string literal"),
    ("[true\nfalse]", "at line 2, column 5: syntax error while parsing array - unexpected false literal; expected ']'"),
    ("[1.5\ntrue]", "at line 2, column 4: syntax error while parsing array - unexpected true literal; expected ']'"),
    ("[1.5\n]x", "at line 2, column 2: syntax error while parsing value - invalid literal; last read: '1.5<U+000A>]x'; expected end of input"),
    ("12\nx", "at line 2, column 1: syntax error while parsing value - invalid literal; last read: '12<U+000A>x'; expected end of input"),
    ("1\n\n2", "at line 3, column 1: syntax error while parsing value - unexpected number literal; expected end of input"),
    ("\"x\"\n1", "at line 2, column 1: syntax error while parsing value - unexpected number literal; expected end of input"),
];

#[test]
fn errors() {
    for (text, message) in ERRORS {
        assert_eq!(&read(text), message, "{text}");
    }
}

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
