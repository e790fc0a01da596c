//! Properties of all sources.

use nivis_syntax::{ParseOptions, parse, parse_tree};
use proptest::prelude::*;

const OPTIONS: ParseOptions = ParseOptions {
    pipe_operators: true,
};

/// Pieces that mean something to the lexer.
const PIECES: &[&str] = &[
    "a",
    "b'",
    "or",
    "if",
    "then",
    "else",
    "let",
    "in",
    "with",
    "assert",
    "rec",
    "inherit",
    "1",
    "1.5",
    ".5",
    "9999999999999999999",
    "\"",
    "''",
    "${",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ":",
    ",",
    "@",
    ".",
    "...",
    "?",
    "=",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "->",
    "!",
    "+",
    "-",
    "*",
    "/",
    "++",
    "//",
    "|>",
    "<|",
    " ",
    "\n",
    "\r\n",
    "\t",
    "# c\n",
    "/* c */",
    "/** d */",
    "/*",
    "./a",
    "/b",
    "~/",
    "<c>",
    "x:y",
    "$",
    "$$",
    "\\",
    "'",
    "''$",
    "'''",
    "''\\n",
    "é",
    "\0",
    "a = 1;",
    "{ a }: ",
    "x: ",
    "inherit (a) b;",
    "__curPos",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

fn check_any(source: &str) -> Result<(), TestCaseError> {
    let tree = parse_tree(source, &OPTIONS);
    prop_assert_eq!(tree.syntax().text().to_string(), source);
    let parsed = parse(source.as_bytes(), &OPTIONS);
    prop_assert_eq!(
        parsed.as_ref().err().map_or(&[][..], Vec::as_slice),
        tree.errors()
    );
    for error in tree.errors() {
        prop_assert!(error.span.start <= error.span.end);
        prop_assert!(error.span.end as usize <= source.len());
        prop_assert!(source.is_char_boundary(error.span.start as usize));
        prop_assert!(source.is_char_boundary(error.span.end as usize));
    }
    if let Ok(ast) = parsed {
        for (index, span) in ast.spans.iter().enumerate() {
            prop_assert!(
                span.start <= span.end && span.end as usize <= source.len(),
                "{}",
                index
            );
        }
    }
    Ok(())
}

/// An expression of which both source and meaning are known.
#[derive(Clone, Debug)]
enum Known {
    Int(u32),
    Var(&'static str),
    Str(Vec<(String, Option<Known>)>),
    List(Vec<Known>),
    Set(bool, Vec<(usize, Known)>),
    Call(Box<Known>, Vec<Known>),
    Select(Box<Known>, &'static str, Option<Box<Known>>),
    Has(Box<Known>, &'static str),
    Not(Box<Known>),
    Negate(Box<Known>),
    Binary(&'static str, Box<Known>, Box<Known>),
    If(Box<Known>, Box<Known>, Box<Known>),
    With(Box<Known>, Box<Known>),
    Let(Vec<(usize, Known)>, Box<Known>),
    Lambda(&'static str, Box<Known>),
    Pattern(Vec<(usize, Option<Known>)>, bool, Box<Known>),
}

const NAMES: &[&str] = &["a", "b", "c", "foo", "x'", "y-z", "_1"];

/// Operators with how tightly they bind, and whether they group to the left, to the right or not at all.
const OPERATORS: &[(&str, u8, char)] = &[
    ("->", 1, 'r'),
    ("||", 2, 'l'),
    ("&&", 3, 'l'),
    ("==", 4, 'n'),
    ("!=", 4, 'n'),
    ("<", 5, 'n'),
    ("<=", 5, 'n'),
    (">", 5, 'n'),
    (">=", 5, 'n'),
    ("//", 6, 'r'),
    ("+", 8, 'l'),
    ("-", 8, 'l'),
    ("*", 9, 'l'),
    ("/", 9, 'l'),
    ("++", 10, 'r'),
];
const NOT: u8 = 7;
const HAS: u8 = 11;
const NEGATE: u8 = 12;
const CALL: u8 = 13;
const SELECT: u8 = 14;
const SIMPLE: u8 = 15;

fn known() -> impl Strategy<Value = Known> {
    let name = || prop::sample::select(NAMES);
    let leaf = prop_oneof![
        any::<u32>().prop_map(Known::Int),
        name().prop_map(Known::Var),
    ];
    leaf.prop_recursive(6, 60, 4, move |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let entries = || {
            prop::collection::btree_map(0..NAMES.len(), inner.clone(), 0..3)
                .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        };
        prop_oneof![
            prop::collection::vec(
                ("[a-z \"$\\\\\n{}']{0,6}", prop::option::of(inner.clone())),
                0..3
            )
            .prop_map(Known::Str),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Known::List),
            (any::<bool>(), entries()).prop_map(|(rec, entries)| Known::Set(rec, entries)),
            (boxed(), prop::collection::vec(inner.clone(), 1..3))
                .prop_map(|(function, args)| Known::Call(function, args)),
            (boxed(), name(), prop::option::of(boxed()))
                .prop_map(|(set, name, default)| Known::Select(set, name, default)),
            (boxed(), name()).prop_map(|(set, name)| Known::Has(set, name)),
            boxed().prop_map(Known::Not),
            boxed().prop_map(Known::Negate),
            (prop::sample::select(OPERATORS), boxed(), boxed())
                .prop_map(|(op, left, right)| Known::Binary(op.0, left, right)),
            (prop::sample::select(OPERATORS), boxed(), boxed())
                .prop_map(|(op, left, right)| Known::Binary(op.0, left, right)),
            (boxed(), boxed(), boxed()).prop_map(|(a, b, c)| Known::If(a, b, c)),
            (boxed(), boxed()).prop_map(|(set, body)| Known::With(set, body)),
            (entries(), boxed()).prop_map(|(entries, body)| Known::Let(entries, body)),
            (name(), boxed()).prop_map(|(name, body)| Known::Lambda(name, body)),
            (
                prop::collection::btree_map(0..NAMES.len(), prop::option::of(inner.clone()), 0..3),
                any::<bool>(),
                boxed()
            )
                .prop_map(|(formals, ellipsis, body)| {
                    Known::Pattern(formals.into_iter().collect(), ellipsis, body)
                }),
        ]
    })
}

impl Known {
    /// How tightly the outermost operator binds.
    fn level(&self) -> u8 {
        match self {
            Known::If(..) | Known::With(..) | Known::Let(..) | Known::Lambda(..) => 0,
            Known::Pattern(..) => 0,
            Known::Binary(op, ..) => operator(op).0,
            Known::Not(_) => NOT,
            Known::Has(..) => HAS,
            Known::Negate(_) => NEGATE,
            Known::Call(..) => CALL,
            Known::Select(..) => SELECT,
            _ => SIMPLE,
        }
    }

    /// The source, in parentheses if its outermost operator binds less tightly than `level`.
    fn source(&self, level: u8) -> String {
        if self.level() < level {
            return format!("({})", self.source(0));
        }
        match self {
            Known::Int(value) => value.to_string(),
            Known::Var(name) => (*name).to_owned(),
            Known::Str(parts) => {
                let mut out = "\"".to_owned();
                for (text, hole) in parts {
                    for char in text.chars() {
                        if matches!(char, '"' | '\\' | '$') {
                            out.push('\\');
                        }
                        out.push(char);
                    }
                    if let Some(hole) = hole {
                        out += &format!("${{{}}}", hole.source(0));
                    }
                }
                out + "\""
            }
            Known::List(elements) => {
                let elements: Vec<_> = elements.iter().map(|e| e.source(SELECT)).collect();
                format!("[ {} ]", elements.join(" "))
            }
            Known::Set(rec, entries) => format!(
                "{}{{ {} }}",
                if *rec { "rec " } else { "" },
                entries_source(entries)
            ),
            Known::Call(function, args) => {
                let args: Vec<_> = args.iter().map(|arg| arg.source(SELECT)).collect();
                format!("{} {}", function.source(SELECT), args.join(" "))
            }
            Known::Select(set, name, default) => {
                let mut out = format!("{} . {name}", set.source(SIMPLE));
                if let Some(default) = default {
                    out += &format!(" or {}", default.source(SELECT));
                }
                out
            }
            Known::Has(set, name) => format!("{} ? {name}", set.source(HAS)),
            Known::Not(operand) => format!("!{}", operand.source(NOT)),
            Known::Negate(operand) => format!("- {}", operand.source(NEGATE)),
            Known::Binary(op, left, right) => {
                let (level, side) = operator(op);
                let left_level = if side == 'l' { level } else { level + 1 };
                let right_level = if side == 'r' { level } else { level + 1 };
                format!(
                    "{} {op} {}",
                    left.source(left_level),
                    right.source(right_level)
                )
            }
            Known::If(a, b, c) => {
                format!(
                    "if {} then {} else {}",
                    a.source(0),
                    b.source(0),
                    c.source(0)
                )
            }
            Known::With(set, body) => format!("with {}; {}", set.source(0), body.source(0)),
            Known::Let(entries, body) => {
                format!("let {} in {}", entries_source(entries), body.source(0))
            }
            Known::Lambda(name, body) => format!("{name}: {}", body.source(0)),
            Known::Pattern(formals, ellipsis, body) => {
                let mut words: Vec<_> = formals
                    .iter()
                    .map(|(name, default)| match default {
                        Some(default) => format!("{} ? {}", NAMES[*name], default.source(0)),
                        None => NAMES[*name].to_owned(),
                    })
                    .collect();
                if *ellipsis {
                    words.push("...".to_owned());
                }
                format!("{{ {} }}: {}", words.join(", "), body.source(0))
            }
        }
    }

    fn sexpr(&self) -> String {
        match self {
            Known::Int(value) => value.to_string(),
            Known::Var(name) => (*name).to_owned(),
            Known::Str(parts) => {
                // Neighbouring texts are one.
                let mut words: Vec<String> = Vec::new();
                let mut text = String::new();
                for (more, hole) in parts {
                    text += more;
                    if let Some(hole) = hole {
                        if !text.is_empty() {
                            words.push(literal(&std::mem::take(&mut text)));
                        }
                        words.push(hole.sexpr());
                    }
                }
                if words.is_empty() {
                    return literal(&text);
                }
                if !text.is_empty() {
                    words.push(literal(&text));
                }
                format!("(str {})", words.join(" "))
            }
            Known::List(elements) => form("list", elements.iter().map(Known::sexpr)),
            Known::Set(rec, entries) => form(
                if *rec { "rec" } else { "attrs" },
                entries.iter().map(entry_sexpr),
            ),
            Known::Call(function, args) => {
                let mut words = Vec::new();
                // An application of an application is one.
                let mut function = function.as_ref();
                let mut before = Vec::new();
                while let Known::Call(inner, args) = function {
                    before.push(args);
                    function = inner;
                }
                words.push(function.sexpr());
                words.extend(before.into_iter().rev().flatten().map(Known::sexpr));
                words.extend(args.iter().map(Known::sexpr));
                form("call", words.into_iter())
            }
            Known::Select(set, name, default) => {
                let mut words = vec![set.sexpr(), (*name).to_owned()];
                if let Some(default) = default {
                    words.extend(["or".to_owned(), default.sexpr()]);
                }
                form("select", words.into_iter())
            }
            Known::Has(set, name) => format!("(? {} {name})", set.sexpr()),
            Known::Not(operand) => format!("(! {})", operand.sexpr()),
            Known::Negate(operand) => format!("(- {})", operand.sexpr()),
            Known::Binary(op, left, right) => format!("({op} {} {})", left.sexpr(), right.sexpr()),
            Known::If(a, b, c) => format!("(if {} {} {})", a.sexpr(), b.sexpr(), c.sexpr()),
            Known::With(set, body) => format!("(with {} {})", set.sexpr(), body.sexpr()),
            Known::Let(entries, body) => {
                form("let", entries.iter().map(entry_sexpr).chain([body.sexpr()]))
            }
            Known::Lambda(name, body) => format!("(lambda {name} {})", body.sexpr()),
            Known::Pattern(formals, ellipsis, body) => {
                let mut words: Vec<_> = formals
                    .iter()
                    .map(|(name, default)| match default {
                        Some(default) => format!("(? {} {})", NAMES[*name], default.sexpr()),
                        None => NAMES[*name].to_owned(),
                    })
                    .collect();
                if *ellipsis {
                    words.push("...".to_owned());
                }
                format!("(lambda ({}) {})", words.join(" "), body.sexpr())
            }
        }
    }
}

fn operator(op: &str) -> (u8, char) {
    let found = OPERATORS.iter().find(|operator| operator.0 == op);
    found
        .map(|operator| (operator.1, operator.2))
        .expect("an operator")
}

fn entries_source(entries: &[(usize, Known)]) -> String {
    let entry = |(name, value): &(usize, Known)| format!("{} = {};", NAMES[*name], value.source(0));
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn entry_sexpr((name, value): &(usize, Known)) -> String {
    format!("(= {} {})", NAMES[*name], value.sexpr())
}

fn form(head: &str, words: impl Iterator<Item = String>) -> String {
    let mut out = format!("({head}");
    for word in words {
        out += " ";
        out += &word;
    }
    out + ")"
}

fn literal(text: &str) -> String {
    let mut out = "\"".to_owned();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out += "\\n",
            '$' if chars.peek() == Some(&'{') => out += "\\$",
            _ => out.push(char),
        }
    }
    out + "\""
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(source in any::<String>()) {
        check_any(&source)?;
    }

    #[test]
    fn any_tokens(source in soup()) {
        check_any(&source)?;
    }

    #[test]
    fn any_bytes(source in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&source, &OPTIONS);
    }

    #[test]
    fn strings_of_any_tokens(source in soup()) {
        check_any(&format!("\"{source}\""))?;
        check_any(&format!("''{source}''"))?;
    }

    #[test]
    fn what_is_printed_is_read(known in known()) {
        let source = known.source(0);
        let ast = parse(source.as_bytes(), &OPTIONS).map_err(|errors| {
            TestCaseError::fail(format!("{source}: {}", errors[0]))
        })?;
        prop_assert_eq!(ast.to_sexpr(), known.sexpr(), "{}", source);
        check_any(&source)?;
    }
}
