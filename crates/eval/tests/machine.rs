//! The machine through its public interface, with no builtin but what a test adds.

use nivis_eval::print::PrintOptions;
use nivis_eval::{
    Body, Builtin, ErrorKind, FileType, Host, Machine, Origin, Result, Settings, Value, ops,
};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

struct NoFiles;

impl Host for NoFiles {
    fn read_file(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn read_dir(&self, _: &Path) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn file_type(&self, _: &Path) -> io::Result<Option<FileType>> {
        Ok(None)
    }
    fn read_link(&self, _: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn env(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn now(&self) -> i64 {
        0
    }
    fn message(&self, _: &[u8]) {}
    fn copy_to_store(&self, _: &Path, _: &[u8]) -> io::Result<Vec<u8>> {
        Err(io::Error::other("there is no store"))
    }
}

fn machine(settings: Settings) -> Machine {
    let mut m = Machine::new(Rc::new(NoFiles), settings);
    for (name, v) in [
        ("true", Value::TRUE),
        ("false", Value::FALSE),
        ("null", Value::NULL),
    ] {
        m.bind_global(name, v);
    }
    m
}

fn load(m: &mut Machine, text: &str) -> Result<Value> {
    m.load_text(text.as_bytes(), Origin::Text("test".into()), Path::new("/"))
}

fn deep(m: &mut Machine, text: &str) -> Result<String> {
    let v = load(m, text)?;
    let v = m.run_native(ops::force_deep, &[v])?;
    Ok(String::from_utf8_lossy(&m.print(v, &PrintOptions::CLASSIC)).into_owned())
}

fn eval(text: &str) -> Result<String> {
    let plain = deep(&mut machine(Settings::default()), text);
    // Everything must come out the same when each safepoint destroys what it believes to be garbage …
    let mut stressed = machine(Settings {
        max_call_depth: 300,
        ..Settings::default()
    });
    stressed.set_stress();
    let under_stress = deep(&mut stressed, text);
    assert_eq!(
        plain.as_ref().ok(),
        under_stress.as_ref().ok(),
        "under stress: {text}"
    );
    // … and when it really frees it.
    let mut small = machine(Settings {
        collect_after: 1,
        ..Settings::default()
    });
    let collected = deep(&mut small, text);
    assert_eq!(
        plain.as_ref().ok(),
        collected.as_ref().ok(),
        "with collections: {text}"
    );
    plain
}

#[track_caller]
fn gives(text: &str, expected: &str) {
    match eval(text) {
        Ok(got) => assert_eq!(got, expected, "{text}"),
        Err(e) => panic!("{text}: {e}"),
    }
}

#[track_caller]
fn fails(text: &str, kind: ErrorKind, message: &str) {
    match eval(text) {
        Ok(got) => panic!("{text} gave {got}"),
        Err(e) => {
            assert_eq!(e.kind(), kind, "{text}: {e}");
            assert!(e.message().contains(message), "{text}: {e}");
        }
    }
}

#[test]
fn what_is_not_needed_is_not_evaluated() {
    gives("let x = x; in 1", "1");
    gives("{ a = 1; b = 1 + null; }.a", "1");
    gives("(x: 2) (1 + null)", "2");
    gives("false && (1 + null)", "false");
    gives("true || (1 + null)", "true");
    gives("false -> (1 + null)", "true");
    gives("({ a, b ? 1 + null }: a) { a = 3; }", "3");
}

#[test]
fn variables_of_one_group_see_each_other_in_any_order() {
    gives("let a = b; b = c; c = 1; in [ a b c ]", "[ 1 1 1 ]");
    gives(
        "let a = [ b ]; b = { inherit c; }; c = 1; in a",
        "[ { c = 1; } ]",
    );
    gives(
        "rec { a = s.x; s = { x = 1; }; b = [ a ]; }",
        "{ a = 1; b = [ 1 ]; s = { x = 1; }; }",
    );
    gives("let inherit (s) x; s = { x = y; }; y = 2; in x", "2");
    gives(
        "let s = { a = 1; }; in { inherit (s) a; inherit s; }",
        "{ a = 1; s = { a = 1; }; }",
    );
    gives("let x = 1; in let inherit x; in x", "1");
}

#[test]
fn with_is_weaker_than_bindings_and_inner_ones_are_stronger() {
    gives("let a = 1; in with { a = 2; b = 3; }; [ a b ]", "[ 1 3 ]");
    gives("with { a = 1; }; with { a = 2; }; a", "2");
    gives("with { a = 1; }; with { b = 2; }; a", "1");
    fails(
        "with { a = 1; }; b",
        ErrorKind::UndefinedVariable,
        "undefined variable 'b'",
    );
    fails(
        "with 1; b",
        ErrorKind::Type,
        "expected a set but found an integer: 1",
    );
}

#[test]
fn curried_functions_take_their_arguments_one_by_one_or_together() {
    gives("(a: b: c: [ a b c ]) 1 2 3", "[ 1 2 3 ]");
    gives(
        "let f = a: b: c: [ a b c ]; g = f 1; h = g 2; in [ (h 3) (g 4 5) ]",
        "[ [ 1 2 3 ] [ 1 4 5 ] ]",
    );
    gives("(a: { b }: c: [ a b c ]) 1 { b = 2; } 3", "[ 1 2 3 ]");
    gives("(f: f 1 2) (a: b: [ a b ])", "[ 1 2 ]");
    gives(
        "{ __functor = self: x: y: [ self.z x y ]; z = 0; } 1 2",
        "[ 0 1 2 ]",
    );
    fails(
        "(a: { b }: b) 1 { c = 2; }",
        ErrorKind::Arguments,
        "without required argument 'b'",
    );
    fails(
        "({ a }: a) { a = 1; b = 2; }",
        ErrorKind::Arguments,
        "unexpected argument 'b'",
    );
    fails(
        "1 2",
        ErrorKind::Type,
        "attempt to call something which is not a function but an integer: 1",
    );
}

#[test]
fn sets_merge_with_the_right_side_winning() {
    gives(
        "{ a = 1; b = 2; } // { b = 3; c = 4; }",
        "{ a = 1; b = 3; c = 4; }",
    );
    gives("{ } // { a = 1; }", "{ a = 1; }");
    gives("{ a = 1; } // { }", "{ a = 1; }");
    // A small set on the right of a large one takes another way.
    let large: String = (0..40).map(|i| format!("k{i} = {i}; ")).collect();
    gives(
        &format!("({{ {large} }} // {{ k0 = 100; zz = 1; k39 = 101; aa = 2; }}).k0"),
        "100",
    );
    gives(
        &format!("let s = {{ {large} }} // {{ k0 = 100; zz = 1; }}; in [ s.k0 s.k1 s.zz s.k39 ]"),
        "[ 100 1 1 39 ]",
    );
}

#[test]
fn layered_sets_behave_like_flat_ones() {
    let large: String = (0..300).map(|i| format!("k{i} = {i}; ")).collect();
    let grow = (0..20)
        .map(|i| format!(" // {{ k{i} = \"new{i}\"; n{i} = {i}; }}"))
        .collect::<String>();
    let text = |tail: &str| {
        format!(
            "let s = {{ {large} }}; l = (s{grow}); t = l // {{ z = 1; }}; f = {{ k0, n19, ... }}@all: [ k0 n19 all.k299 ]; in {tail}"
        )
    };
    gives(
        &text("[ l.k0 l.k19 l.k20 l.n0 l.n19 (l ? n3) (l ? n20) t.z t.n5 ]"),
        "[ \"new0\" \"new19\" 20 0 19 true false 1 5 ]",
    );
    gives(&text("f l"), "[ \"new0\" 19 299 ]");
    gives(
        &text(
            "[ (l == l) (l == t) (t == l // { z = 1; }) (l // { z = 1; } == t // { k0 = \"new0\"; }) ]",
        ),
        "[ true false true true ]",
    );
    gives(&text("with t; [ z k1 n2 ]"), "[ 1 \"new1\" 2 ]");
    gives(&text("(l // t // { q = 7; } // l).q"), "7");
}

#[test]
fn values_that_need_themselves_are_reported() {
    fails(
        "let x = x; in x",
        ErrorKind::InfiniteRecursion,
        "infinite recursion encountered",
    );
    fails(
        "rec { a = b + 1; b = a + 1; }.a",
        ErrorKind::InfiniteRecursion,
        "infinite recursion",
    );
    fails(
        "let f = x: f x; in f 1",
        ErrorKind::CallDepth,
        "max-call-depth",
    );
}

#[test]
fn what_failed_once_fails_again_the_same_way() {
    let mut m = machine(Settings::default());
    let v = load(&mut m, "let x = 1 + null; in [ x x ]")
        .and_then(|v| m.force(v))
        .unwrap();
    let root = m.root(v);
    let first = m
        .force(m.rooted(root).as_list().unwrap().get(0).unwrap())
        .unwrap_err();
    let second = m
        .force(m.rooted(root).as_list().unwrap().get(1).unwrap())
        .unwrap_err();
    assert_eq!(first.message(), second.message());
}

#[test]
fn a_million_frames_are_no_trouble_when_allowed() {
    let mut m = machine(Settings {
        max_call_depth: 2_000_000,
        ..Settings::default()
    });
    let text = "let f = n: if n == 0 then 0 else 1 + f (n - 1); in f 1000000";
    assert_eq!(deep(&mut m, text).unwrap(), "1000000");
}

#[test]
fn the_memory_limit_is_an_error_and_the_machine_lives_on() {
    let mut m = machine(Settings {
        max_call_depth: u32::MAX,
        memory_limit: 64 << 20,
        ..Settings::default()
    });
    let error = deep(&mut m, "let f = n: [ n ] ++ f (n + 1); in f 0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory);
    let error = deep(&mut m, "let f = s: f (s + s); in f \"0123456789\"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Memory);
    assert_eq!(deep(&mut m, "1 + 1").unwrap(), "2");
}

#[test]
fn garbage_is_reused() {
    let mut m = machine(Settings {
        max_call_depth: u32::MAX,
        memory_limit: 64 << 20,
        collect_after: 4 << 20,
        ..Settings::default()
    });
    // Allocates several hundred megabytes, of which next to nothing is alive at any time.
    let text = "let f = n: acc: if n == 0 then acc.x else f (n - 1) { x = n; y = [ n acc.x ]; };
                g = n: if n == 0 then 0 else f 1000 { x = 0; } + g (n - 1); in g 1000";
    assert_eq!(deep(&mut m, text).unwrap(), "1000");
}

#[test]
fn cancelled_evaluations_can_be_taken_up_again() {
    let mut m = machine(Settings::default());
    let text = "let f = n: if n < 2 then n else f (n - 1) + f (n - 2); x = f 22; in x";
    let v = load(&mut m, text).unwrap();
    let root = m.root(v);
    let token = m.cancel_token();
    token.cancel();
    assert_eq!(
        m.force(m.rooted(root)).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    token.reset();
    m.set_fuel(Some(2000));
    assert_eq!(
        m.force(m.rooted(root)).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    m.set_fuel(None);
    let v = m.force(m.rooted(root)).unwrap();
    assert_eq!(v.as_int(), Some(17711));
}

#[test]
fn strings_built_piece_by_piece_are_right() {
    gives(
        r#"let f = n: s: if n == 0 then s else f (n - 1) (s + "${s2 n}"); s2 = n: if n / 2 * 2 == n then "ab" else "c"; in f 6 """#,
        "\"abcabcabc\"",
    );
    // Two strings grown from one must not see each other's end.
    let long = "x".repeat(300);
    gives(
        &format!(
            "let a = \"{long}\" + \"{long}\"; b = a + \"b\"; c = a + \"c\"; in [ (b == c) (a + \"b\" == b) (a + \"c\" == c) ]"
        ),
        "[ false true true ]",
    );
}

#[test]
fn native_functions_of_an_embedder_work() {
    let mut m = machine(Settings::default());
    let f = m.add_builtin(Builtin {
        name: "double",
        args: &["x"],
        strict: 1,
        global: true,
        body: Body::Closure(std::sync::Arc::new(|m: &mut Machine, args: &[Value]| {
            let i = m.want_int(args[0])?;
            Ok(m.heap.int(i * 2))
        })),
        doc: "Twice its argument.",
    });
    m.bind_global("double", f);
    assert_eq!(deep(&mut m, "double (double 5)").unwrap(), "20");
    let error = deep(&mut m, "double \"a\"").unwrap_err();
    assert_eq!(
        error.message(),
        "expected an integer but found a string: \"a\""
    );
}

#[test]
fn integers_keep_all_their_bits() {
    gives(
        "[ 9223372036854775807 (-9223372036854775807 - 1) 2305843009213693952 (-2305843009213693953) ]",
        "[ 9223372036854775807 -9223372036854775808 2305843009213693952 -2305843009213693953 ]",
    );
    fails(
        "9223372036854775807 + 1",
        ErrorKind::Arithmetic,
        "integer overflow in adding 9223372036854775807 + 1",
    );
    fails(
        "(-9223372036854775807 - 1) / (-1)",
        ErrorKind::Arithmetic,
        "integer overflow",
    );
    fails("1 / 0", ErrorKind::Arithmetic, "division by zero");
}

#[test]
fn equality_looks_inside() {
    gives("[ 1 { a = \"x\"; } ] == [ 1.0 { a = \"x\"; } ]", "true");
    gives("{ a = 1; } == { b = 1; }", "false");
    gives("(x: x) == (x: x)", "false");
    gives("let f = x: x; in [ f ] == [ f ]", "true");
    gives(
        "{ type = \"derivation\"; outPath = \"o\"; a = 1; } == { type = \"derivation\"; outPath = \"o\"; }",
        "true",
    );
    fails(
        "assert { a = [ 1 2 ]; } == { a = [ 1 3 ]; }; 1",
        ErrorKind::Assertion,
        "an integer with value '2' is not equal to an integer with value '3'",
    );
    fails(
        "assert 1 != 1; 1",
        ErrorKind::Assertion,
        "assertion '(1 != 1)' failed",
    );
}

#[test]
fn deep_sources_compile() {
    let n = 20_000;
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("[", "", "]"),
        ("{ a = ", "1", "; }"),
        ("x: ", "1", ""),
    ] {
        let text = format!("{}{middle}{}", open.repeat(n), close.repeat(n));
        let mut m = machine(Settings {
            max_call_depth: 100_000,
            ..Settings::default()
        });
        deep(&mut m, &text).unwrap();
    }
}

#[test]
fn deep_values_are_nested_no_deeper_than_calls() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let mut m = machine(Settings::default());
    deep(&mut m, &nested(10_000)).unwrap();
    let error = deep(&mut m, &nested(10_100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CallDepth);
    let n = nested(10_100);
    fails(
        &format!("{n} == {n}"),
        ErrorKind::CallDepth,
        "stack overflow",
    );
}

/// `{ a0 = VALUE 0; a1 = VALUE 1; … }` with enough names to be sparse.
fn large_set(value: impl Fn(usize) -> String) -> String {
    let attrs: String = (0..300).map(|i| format!("a{i} = {}; ", value(i))).collect();
    format!("{{ {attrs}}}")
}

#[test]
fn thunks_of_large_sets_are_made_when_asked_for() {
    let set = large_set(|i| format!("f {i}"));
    let text =
        |rest: &str| format!("let f = x: if x == 7 then y else x * 2; y = 1; s = {set}; in {rest}");
    gives(&text("[ s.a0 s.a7 s.a299 s.a0 ]"), "[ 0 1 598 0 ]");
    gives(&text("(s // { a3 = 5; }).a4 + (s // { a3 = 5; }).a3"), "13");
    gives(&text("(s // s) == s"), "true");
    gives(&text("s ? a5 && !(s ? b)"), "true");
    gives(&text("with s; [ a1 a2 ]"), "[ 2 4 ]");
    gives(&text("let inherit (s) a1 a2; in a1 + a2"), "6");
    gives(&text("({ a9, ... }: a9) s"), "18");
    fails(
        &text("s.a300"),
        ErrorKind::MissingAttribute,
        "attribute 'a300' missing",
    );
    // Values at hand, thunks and selections side by side.
    let mixed = large_set(|i| match i % 4 {
        0 => i.to_string(),
        1 => "z".to_string(),
        2 => format!("(x: x + {i})"),
        _ => format!("z + {i}"),
    });
    gives(
        &format!("let z = 1; s = {mixed}; in [ s.a4 s.a5 (s.a6 1) s.a7 s.a7 ]"),
        "[ 4 1 7 8 8 ]",
    );
}

#[test]
fn thunks_of_large_sets_see_the_right_environment_and_fail_alike() {
    let set = large_set(|i| match i {
        3 => "s.a3".to_string(),
        4 => "1 / 0".to_string(),
        _ => format!("n + {i}"),
    });
    let text = |rest: &str| format!("let make = n: let s = {set}; in s; in {rest}");
    gives(
        &text("[ (make 1).a1 (make 10).a1 ((make 2) // (make 3)).a2 ]"),
        "[ 2 11 5 ]",
    );
    fails(
        &text("(make 1).a3"),
        ErrorKind::InfiniteRecursion,
        "infinite recursion",
    );
    fails(
        &text("(make 1).a4"),
        ErrorKind::Arithmetic,
        "division by zero",
    );
}

/// Fills what collections have freed, so that values that should be alive are not there by luck.
fn overwrite(m: &mut Machine) {
    for i in 0..200_000 {
        let i = m.heap.int(i);
        m.heap.list(&[i, i, i, i]);
    }
}

#[test]
fn chains_of_any_length_survive_collections() {
    let mut m = machine(Settings::default());
    let mut chain = m.heap.list(&[]);
    for i in 0..50_000 {
        let i = m.heap.int(i);
        chain = m.heap.list(&[i, chain]);
    }
    let root = m.root(chain);
    for _ in 0..3 {
        m.collect();
        overwrite(&mut m);
    }
    let mut rest = m.rooted(root);
    for i in (0..50_000).rev() {
        let pair = rest.as_list().unwrap();
        assert_eq!(pair.get(0).unwrap().as_int(), Some(i));
        rest = pair.get(1).unwrap();
    }
    assert!(rest.as_list().unwrap().is_empty());
}

#[test]
fn long_rows_survive_collections_wherever_they_are() {
    let mut m = machine(Settings::default());
    // In the rest of a block, in one of their own, and longer than a block's marks.
    let lengths = [3, 2_000, 15_000, 20_000, 20_000, 300_000, 700_000];
    let mut roots = Vec::new();
    for len in lengths {
        let mut items = Vec::new();
        for i in 0..len {
            let i = m.heap.int(i);
            items.push(m.heap.list(&[i]));
        }
        let list = m.heap.list(&items);
        roots.push(m.root(list));
    }
    for _ in 0..2 {
        m.collect();
        overwrite(&mut m);
    }
    for (root, len) in roots.iter().zip(lengths) {
        let list = m.rooted(*root).as_list().unwrap();
        assert_eq!(list.len(), len as usize);
        for (i, item) in list.iter().enumerate() {
            let number = item.as_list().unwrap().get(0).unwrap().as_int();
            assert_eq!(number, Some(i as i64));
        }
    }
}
