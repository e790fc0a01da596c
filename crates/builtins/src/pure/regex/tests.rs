use super::*;

fn groups(pattern: &str, text: &str) -> Option<Vec<Option<String>>> {
    let regex = Regex::new(pattern.as_bytes()).unwrap();
    let found = regex.match_whole(text.as_bytes()).unwrap()?;
    Some(
        found
            .into_iter()
            .map(|g| g.map(|r| text[r].to_owned()))
            .collect(),
    )
}

/// A split as Nix prints it, without spaces.
fn split(pattern: &str, text: &str) -> String {
    let regex = Regex::new(pattern.as_bytes()).unwrap();
    let pieces = regex.split(text.as_bytes()).unwrap();
    let shown: Vec<String> = pieces
        .into_iter()
        .map(|p| match p {
            Piece::Text(r) => format!("{:?}", &text[r]),
            Piece::Groups(g) => {
                let g: Vec<_> = g
                    .into_iter()
                    .map(|g| g.map_or("null".to_owned(), |r| format!("{:?}", &text[r])))
                    .collect();
                format!("[{}]", g.join(","))
            }
        })
        .collect();
    format!("[{}]", shown.join(","))
}

fn some(groups: &[&str]) -> Option<Vec<Option<String>>> {
    Some(groups.iter().map(|g| Some((*g).to_owned())).collect())
}

#[test]
fn whole_matches() {
    assert_eq!(groups("ab", "abc"), None);
    assert_eq!(groups("abc", "abc"), some(&[]));
    assert_eq!(groups("a(b)(c)", "abc"), some(&["b", "c"]));
    assert_eq!(
        groups("[[:space:]]+([[:upper:]]+)[[:space:]]+", "  FOO   "),
        some(&["FOO"])
    );
    assert_eq!(groups("(a*)*", "aa"), some(&[""]));
    assert_eq!(groups("(a)|(b)", "b"), Some(vec![None, Some("b".into())]));
    assert_eq!(groups("((a)|b)*", "ab"), some(&["b", "a"]));
    assert_eq!(groups("", ""), some(&[]));
    assert_eq!(groups(".*", "a\nb"), some(&[]));
    assert_eq!(groups("[[=a=]]", "A"), some(&[]));
    assert_eq!(groups("[[.hyphen.]]", "-"), some(&[]));
    assert_eq!(groups("a{2}{3}", "aaaaaa"), some(&[]));
    assert_eq!(groups("(.*)/([^/]*)", "/a/b/c"), some(&["/a/b", "c"]));
}

#[test]
fn splits() {
    assert_eq!(split("(a)b", "abc"), r#"["",["a"],"c"]"#);
    assert_eq!(split("([ac])", "abc"), r#"["",["a"],"b",["c"],""]"#);
    assert_eq!(
        split("(a)|(c)", "abc"),
        r#"["",["a",null],"b",[null,"c"],""]"#
    );
    assert_eq!(
        split("a*(ab)?", "aab"),
        r#"["",[null],"",[null],"b",[null],""]"#
    );
    assert_eq!(
        split("(a|ab)(c|bcd)", "abcdabcd"),
        r#"["",["a","bcd"],"",["a","bcd"],""]"#
    );
    assert_eq!(split("x", "abc"), r#"["abc"]"#);
    assert_eq!(split(",", "a,b,,c"), r#"["a",[],"b",[],"",[],"c"]"#);
}

#[test]
fn refusals() {
    for pattern in [
        "[a",
        "(",
        ")",
        "(a",
        "a)",
        "*",
        "^*",
        "(*a)",
        "a|*b",
        "{",
        "a{",
        "a{,3}",
        "a{3,2}",
        "a{1",
        "\\d",
        "\\",
        "[a-a-z]",
        "[[:foo:]]",
        "[[.-.]]",
        "[b-a]",
        "[]",
        "[^]",
        "[[:alpha:]-z]",
        "a{4294967297}",
        "a\0",
    ] {
        let error = Regex::new(pattern.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRegex, "{pattern}");
        assert_eq!(
            error.message(),
            format!("invalid regular expression '{pattern}'")
        );
    }
    assert!(Regex::new(b"a{99993}").is_ok());
    for pattern in ["a{99994}", "a{1000}{1000}", "(a{0,60000}){2}"] {
        assert_eq!(
            Regex::new(pattern.as_bytes()).unwrap_err().kind(),
            ErrorKind::RegexLimit,
            "{pattern}"
        );
    }
}

#[test]
fn accepted_oddities() {
    for pattern in [
        "]", "}", "a]", "()", "a||b", "|a", "a**", "[]a]", "[^]a]", "[a-]", "[-a]", "[--a]",
        "[[a]", "[\\.]", "a{0}",
    ] {
        assert!(Regex::new(pattern.as_bytes()).is_ok(), "{pattern}");
    }
}

#[test]
fn hard_patterns_end_soon() {
    let text = "a".repeat(20_000);
    let pattern = "(a*)*(a|aa)*b";
    assert_eq!(groups(pattern, &text), None);
    assert_eq!(
        split("(a|aa)*b", &text[..3000]),
        format!("[{:?}]", &text[..3000])
    );
    // Beyond some dozen levels there is an error, but soon.
    for (levels, matches) in [(8, true), (20_000, false)] {
        let nested = format!("{}a{}", "(".repeat(levels), ")*".repeat(levels));
        let nested = Regex::new(nested.as_bytes()).unwrap();
        assert_eq!(nested.match_whole(b"b").is_ok(), matches);
    }
    let open = "(".repeat(90_000);
    assert!(Regex::new(open.as_bytes()).is_err());
}

#[test]
fn long_texts() {
    let text = "x".repeat(3_000_000);
    assert_eq!(
        groups("(.*)x", &text).unwrap()[0].as_ref().unwrap().len(),
        2_999_999
    );
    assert_eq!(groups(".*y.*", &text), None);
    let regex = Regex::new(b"x+y").unwrap();
    assert_eq!(regex.split(text.as_bytes()).unwrap().len(), 1);
}

/// Remembering must not change the result: the same search with and without patience.
fn check_memory(pattern: &str, text: &str) -> Result<(), proptest::test_runner::TestCaseError> {
    let Ok(regex) = Regex::new(pattern.as_bytes()) else {
        return Ok(());
    };
    let mut careful = regex.matches(text.as_bytes());
    careful.machine.remember();
    let careful: Vec<_> = careful.collect();
    let plain: Vec<_> = regex.matches(text.as_bytes()).collect();
    proptest::prop_assert_eq!(plain, careful, "{} {}", pattern, text);
    let plain = exec::Machine::new(
        &regex.program,
        text.as_bytes(),
        exec::Mode::Whole,
        super::MEMORY_LIMIT,
    )
    .match_at(0, false);
    let mut careful = exec::Machine::new(
        &regex.program,
        text.as_bytes(),
        exec::Mode::Whole,
        super::MEMORY_LIMIT,
    );
    careful.remember();
    proptest::prop_assert_eq!(plain, careful.match_at(0, false), "{} {}", pattern, text);
    Ok(())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
    #[test]
    fn memory_changes_nothing(pattern in r"([ab]|\(|\)|\||\*|\+|\?|\.|\{0,2\}|\{1,\}){1,12}", text in "[ab]{0,8}") {
        check_memory(&pattern, &text)?;
    }

    #[test]
    fn any_bytes_are_fine(pattern: Vec<u8>, text: Vec<u8>) {
        if let Ok(regex) = Regex::new(&pattern) {
            let _ = regex.match_whole(&text);
            let _ = regex.split(&text);
        }
    }
}
