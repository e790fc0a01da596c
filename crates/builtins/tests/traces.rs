//! What the traces of errors say of the arguments of builtins and operators, with facts from C++ Nix 2.34.8.

mod common;

use nivis_builtins::host::MemoryHost;
use nivis_eval::Settings;
use std::rc::Rc;

/// The trace of an error from the innermost step on, or the value.
fn trace(expression: &str) -> Vec<String> {
    let mut m = common::machine(Rc::new(MemoryHost::new()), Settings::default());
    match common::value(&mut m, expression.as_bytes()) {
        Ok(_) => vec!["no error".to_string()],
        Err(e) => e.trace().iter().map(|item| item.message.clone()).collect(),
    }
}

#[track_caller]
fn check(cases: &[(&str, &[&str])]) {
    for (expression, expected) in cases {
        assert_eq!(trace(expression), *expected, "{expression}");
    }
}

#[test]
fn arguments_that_fail_are_named() {
    check(&[
        (
            "builtins.bitAnd 1 (1 / 0)",
            &[
                "while evaluating the second argument passed to builtins.bitAnd",
                "while calling the 'bitAnd' builtin",
            ],
        ),
        (
            "builtins.stringLength (throw \"x\")",
            &[
                "while calling the 'throw' builtin",
                "while calling the 'stringLength' builtin",
            ],
        ),
        (
            "builtins.compareVersions (1 / 0) \"1\"",
            &[
                "while evaluating the first argument passed to builtins.compareVersions",
                "while calling the 'compareVersions' builtin",
            ],
        ),
        (
            "builtins.head (builtins.map (builtins.substring 0 (1 / 0)) [ \"a\" ])",
            &[
                "while evaluating the second argument (the substring length) passed to builtins.substring",
                "while calling the 'substring' builtin",
            ],
        ),
        (
            "builtins.foldl' (a: b: a) 0 (1 / 0)",
            &["while calling the 'foldl'' builtin"],
        ),
    ]);
}

#[test]
fn arguments_that_are_refused_are_named() {
    check(&[
        (
            "builtins.add 1 null",
            &[
                "while evaluating the second argument of the addition",
                "while calling the 'add' builtin",
            ],
        ),
        (
            "builtins.foldl' (a: b: a) 0 1",
            &[
                "while evaluating the third argument passed to builtins.foldlStrict",
                "while calling the 'foldl'' builtin",
            ],
        ),
        (
            "builtins.stringLength 1",
            &[
                "while evaluating the argument passed to builtins.stringLength",
                "while calling the 'stringLength' builtin",
            ],
        ),
        (
            "builtins.match \"a\" 1",
            &[
                "while evaluating the second argument passed to builtins.match",
                "while calling the 'match' builtin",
            ],
        ),
        (
            "builtins.removeAttrs { } [ 1 ]",
            &[
                "while evaluating the values of the second argument passed to builtins.removeAttrs",
                "while calling the 'removeAttrs' builtin",
            ],
        ),
        // What functions return was never an argument.
        (
            "builtins.elemAt [ 1 ] 5",
            &["while calling the 'elemAt' builtin"],
        ),
    ]);
}

#[test]
fn operands_that_are_refused_are_named() {
    check(&[
        (
            "if 1 then 2 else 3",
            &["while evaluating a branch condition"],
        ),
        ("!1", &["in the argument of the not operator"]),
        ("assert 1; 2", &["in the condition of the assert statement"]),
        (
            "{ } // 1",
            &["in the right operand of the update (//) operator"],
        ),
        (
            "1 // { }",
            &["in the left operand of the update (//) operator"],
        ),
        (
            "[ ] ++ 1",
            &["while evaluating one of the elements to concatenate"],
        ),
        (
            "with 1; a",
            &["while evaluating the first subexpression of a with expression"],
        ),
        ("\"${1}\"", &["while evaluating a path segment"]),
        ("{ a = 1; }.${1}", &["while evaluating an attribute name"]),
        (
            "{ ${1} = 1; }",
            &["while evaluating the name of a dynamic attribute"],
        ),
    ]);
}
