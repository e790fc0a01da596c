//! The library as an embedding program uses it.

use nivis::{ErrorKind, Evaluator, MemoryHost, Type};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

type Outcome = nivis::Result<()>;

fn evaluator() -> nivis::Result<Evaluator> {
    Evaluator::builder().host(MemoryHost::new()).build()
}

#[test]
fn walking_evaluates_only_what_is_asked_for() -> Outcome {
    let nix = evaluator()?;
    let value =
        nix.eval(r#"{ good = [ 1 (throw "element") ]; bad = throw "attribute"; f = x: x + 1; }"#)?;
    assert_eq!(value.names()?, ["bad", "f", "good"]);
    assert_eq!(value.attr("good")?.index(0)?.as_int()?, 1);
    assert!(!value.attr("bad")?.is_evaluated());
    let error = value
        .attr("good")?
        .index(1)?
        .force()
        .expect_err("it throws");
    assert_eq!(
        (error.kind(), error.diagnostic().message.as_str()),
        (ErrorKind::Throw, "element")
    );
    // It fails the same way again, and nothing else is spoilt.
    assert!(value.attr("bad")?.force().is_err() && value.attr("bad")?.force().is_err());
    let two = value.attr("f")?.call(&[&nix.value(&1)?])?;
    assert_eq!(two.as_int()?, 2);
    assert_eq!(value.select("good.0")?.as_int()?, 1);
    assert!(value.get("missing")?.is_none());
    let error = value.attr("goood").expect_err("there is no such attribute");
    assert_eq!(error.diagnostic().suggestions, ["good"]);
    Ok(())
}

#[test]
fn handles_outlive_their_evaluator_and_each_other() -> Outcome {
    let element = {
        let nix = evaluator()?;
        let list = nix.eval(r#"map (n: { name = "n${toString n}"; }) [ 1 2 3 ]"#)?;
        list.elements()?.pop().expect("three elements")
    };
    let copy = element.clone();
    drop(element);
    assert_eq!(copy.attr("name")?.as_str()?, "n3");
    Ok(())
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Rect { w: u32, h: u32 },
    Line(i64, i64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    flag: bool,
    small: i8,
    large: i64,
    ratio: f64,
    letter: char,
    text: String,
    nothing: Option<String>,
    something: Option<u16>,
    list: Vec<Vec<u8>>,
    map: BTreeMap<String, i32>,
    pair: (String, bool),
    shapes: Vec<Shape>,
}

#[test]
fn conversion_both_ways() -> Outcome {
    let everything = Everything {
        flag: true,
        small: -8,
        // The least integer has no literal.
        large: i64::MIN + 1,
        ratio: 0.1,
        letter: 'é',
        text: "a \"quoted\" ${text}\n".to_string(),
        nothing: None,
        something: Some(7),
        list: vec![vec![], vec![1, 2]],
        map: BTreeMap::from([("x y".to_string(), 1), ("z".to_string(), -2)]),
        pair: ("p".to_string(), false),
        shapes: vec![
            Shape::Point,
            Shape::Circle(1.5),
            Shape::Rect { w: 1, h: 2 },
            Shape::Line(1, 2),
        ],
    };
    let nix = evaluator()?;
    let value = nix.value(&everything)?;
    assert_eq!(value.to::<Everything>()?, everything);
    // Through text, as a program would write it.
    let text = nix.eval_with("value", &[("value", &value)])?;
    text.force_deep()?;
    assert_eq!(nix.eval(&text.print())?.to::<Everything>()?, everything);
    Ok(())
}

#[test]
fn conversion_leaves_what_it_ignores() -> Outcome {
    #[derive(Deserialize)]
    struct Part {
        wanted: i32,
    }
    let nix = evaluator()?;
    let value = nix.eval(r#"{ wanted = 1 + 1; other = throw "not looked at"; }"#)?;
    assert_eq!(value.to::<Part>()?.wanted, 2);
    Ok(())
}

#[test]
fn conversion_errors_say_where() -> Outcome {
    let nix = evaluator()?;
    let value = nix.eval(r#"{ a = [ 1 "two" ]; }"#)?;
    let error = value
        .to::<BTreeMap<String, Vec<i32>>>()
        .expect_err("a string is no number");
    let steps: Vec<&str> = error
        .diagnostic()
        .trace
        .iter()
        .map(|t| t.message.as_str())
        .collect();
    assert_eq!(
        steps,
        [
            "while converting the element at index 1",
            "while converting the attribute 'a'"
        ]
    );
    assert!(nix.eval("x: x")?.to::<i32>().is_err());
    assert!(nix.value(&u64::MAX).is_err());
    Ok(())
}

#[test]
fn deep_values_are_an_error_and_no_overflow() -> Outcome {
    let nix = evaluator()?;
    let value = nix.eval("let f = n: if n == 0 then null else [ (f (n - 1)) ]; in f 5000")?;
    value.force_deep()?;
    #[derive(Deserialize)]
    struct Nested(#[allow(dead_code)] Vec<Nested>);
    let error = value.to::<Nested>().map(|_| ()).expect_err("too deep");
    assert!(
        error.diagnostic().message.contains("nested deeper"),
        "{error}"
    );
    let cyclic = nix.eval("let x = { inherit x; }; in x")?;
    assert!(cyclic.to::<serde::de::IgnoredAny>().is_ok());
    #[derive(Deserialize)]
    struct Cycle {
        #[allow(dead_code)]
        x: Box<Cycle>,
    }
    assert!(cyclic.to::<Cycle>().is_err());
    assert!(cyclic.json().is_err());
    Ok(())
}

#[test]
fn functions_of_the_program() -> Outcome {
    #[derive(Deserialize)]
    struct Person {
        name: String,
        age: u32,
    }
    let nix = Evaluator::builder()
        .host(MemoryHost::new())
        .function("describe", "Describes a person.", |p: Person| {
            if p.age > 150 {
                Err(format!("{} is too old", p.name))
            } else {
                Ok(format!("{}, {}", p.name, p.age))
            }
        })
        .function2("power", "A power.", |x: i64, n: u32| {
            x.checked_pow(n).ok_or("integer overflow")
        })
        .build()?;
    assert_eq!(
        nix.eval(r#"describe { name = "A" + "da"; age = 6 * 6; }"#)?
            .as_str()?,
        "Ada, 36"
    );
    assert_eq!(
        nix.eval("map (builtins.power 2) [ 1 2 10 ]")?
            .to::<Vec<i64>>()?,
        [2, 4, 1024]
    );
    let error = nix
        .eval(r#"describe { name = "Old"; age = 151; }"#)
        .expect_err("the function fails");
    assert_eq!(error.diagnostic().message, "Old is too old");
    assert!(
        error
            .diagnostic()
            .trace
            .iter()
            .any(|t| t.message.contains("'describe'"))
    );
    assert!(
        nix.eval(r#"(builtins.tryEval (describe { name = "Old"; age = 151; })).success"#)?
            .as_bool()
            .is_ok_and(|b| !b)
    );
    assert!(nix.eval("describe 1").is_err());
    assert_eq!(
        nix.eval("builtins ? power && builtins.builtins ? power")?
            .kind()?,
        Type::Bool
    );
    Ok(())
}

#[test]
fn functions_of_the_program_survive_stress() -> Outcome {
    let nix = Evaluator::builder()
        .host(MemoryHost::new())
        .function("sum", "A sum.", |xs: Vec<i64>| {
            Ok::<_, String>(xs.iter().sum::<i64>())
        })
        .stress(true)
        .build()?;
    let value = nix.eval(
        r#"let xs = map (n: n * n) [ 1 2 3 ]; in { s = sum xs; t = "${toString (sum [ ])}"; }"#,
    )?;
    assert_eq!(value.attr("s")?.as_int()?, 14);
    assert_eq!(value.attr("t")?.as_str()?, "0");
    Ok(())
}

#[test]
fn an_error_has_places() -> Outcome {
    let host = MemoryHost::new().with_file("/etc/a.nix", "{ x }:\n  x.y\n");
    let nix = Evaluator::builder().host(host).build()?;
    let error = nix
        .eval("import /etc/a.nix { x = { }; }")
        .expect_err("there is no y");
    let span = error.diagnostic().span.clone().expect("a place");
    assert_eq!(span.location(), "/etc/a.nix:2:5");
    assert_eq!(span.text(), Some(&b"y"[..]));
    let error = nix
        .eval("{ a = 1;\n  a = 2; }")
        .expect_err("a is bound twice");
    assert_eq!(error.kind(), ErrorKind::Syntax);
    // Errors are plain data: they can be sent elsewhere.
    let moved = std::thread::spawn(move || error.to_string())
        .join()
        .expect("no panic");
    assert!(moved.contains("«text»:2:3"), "{moved}");
    Ok(())
}

#[test]
fn limits() -> Outcome {
    let nix = Evaluator::builder()
        .host(MemoryHost::new())
        .fuel(10_000)
        .max_call_depth(100)
        .build()?;
    let forever = "let f = n: if n == 0 then 0 else f (n - 1); in builtins.foldl' (a: b: b) 0 (builtins.genList (n: f 50) 100000)";
    assert_eq!(
        nix.eval(forever).expect_err("out of steps").kind(),
        ErrorKind::Cancelled
    );
    nix.set_fuel(None);
    assert_eq!(
        nix.eval("let f = n: 1 + f n; in f 1")
            .expect_err("too deep")
            .kind(),
        ErrorKind::CallDepth
    );
    let nix = Evaluator::builder()
        .host(MemoryHost::new())
        .memory_limit(16 << 20)
        .build()?;
    let large = "builtins.length (builtins.genList (n: n) 100000000)";
    assert_eq!(
        nix.eval(large).expect_err("too large").kind(),
        ErrorKind::Memory
    );
    assert_eq!(nix.eval("1 + 1")?.as_int()?, 2);
    Ok(())
}

#[test]
fn cancellation_from_another_thread() -> Outcome {
    let nix = evaluator()?;
    let token = nix.cancel_token();
    let canceller = token.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        canceller.cancel();
    });
    let value = nix.eval("let f = n: if n == 0 then 0 else f (n - 1); in builtins.foldl' (a: b: f 50) 0 (builtins.genList (n: n) 1000000)");
    thread.join().expect("no panic");
    match value {
        Err(e) => assert_eq!(e.kind(), ErrorKind::Cancelled),
        // A very fast machine was done before.
        Ok(v) => assert_eq!(v.as_int()?, 0),
    }
    token.reset();
    assert_eq!(nix.eval("1")?.as_int()?, 1);
    Ok(())
}

#[test]
fn evaluators_do_not_share_values() -> Outcome {
    let (a, b) = (evaluator()?, evaluator()?);
    let f = a.eval("x: x")?;
    let x = b.eval("1")?;
    assert!(f.call(&[&x]).is_err());
    assert!(a.eval_with("x", &[("x", &x)]).is_err());
    Ok(())
}

#[test]
fn derivations() -> Outcome {
    let nix = evaluator()?;
    let drv = nix.eval(r#"derivation { name = "d"; system = "x"; builder = "/b"; }"#)?;
    assert!(drv.drv_path()?.ends_with("-d.drv"));
    assert_eq!(drv.attr("outPath")?.context()?, [drv.drv_path()?]);
    assert!(nix.eval("{ }")?.drv_path().is_err());
    // A derivation is a string to whom asks for one, a set to whom asks for that.
    assert!(drv.to::<String>()?.starts_with("/nix/store/"));
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    assert_eq!(drv.to::<Named>()?.name, "d");
    Ok(())
}

/// Printing, writing and searching a value evaluates its parts one after the other. When an earlier part evaluates a later one
/// and garbage is collected then, only the container still knows the later one's value.
#[test]
fn parts_that_are_evaluated_meanwhile_survive_stress() -> Outcome {
    let nix = Evaluator::builder()
        .host(MemoryHost::new())
        .stress(true)
        .build()?;
    let used = "builtins.foldl' (a: i: builtins.length [ a i (builtins.concatStringsSep \"\" [ \"x\" \"y\" ]) ]) 0 \
                (builtins.genList (i: i) 50)";
    let set = format!(
        "let s = {{ a = builtins.seq s.c ({used}); b = [ (builtins.seq s.d ({used})) 1 ]; c = [ {{ x = \"c${{\"1\"}}\"; }} ]; \
         d = {{ e = \"d\" + \"2\"; f = builtins.seq s.g ({used}); }}; g = \"g\" + \"3\"; }}; in s"
    );
    let json = r#"{"a":3,"b":[3,1],"c":[{"x":"c1"}],"d":{"e":"d2","f":3},"g":"g3"}"#;
    assert_eq!(nix.eval(&set)?.json()?, json);
    let printed = nix.with_machine(|m| {
        let value = m
            .load_text(
                set.as_bytes(),
                nivis::eval::Origin::Text("test".into()),
                std::path::Path::new("/"),
            )
            .and_then(|v| m.force(v))?;
        nivis::output::print_forced(m, value)
    });
    let printed = printed.map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(
        printed.as_deref().ok(),
        Some(
            "{ a = 3; b = [ 3 1 ]; c = [ { x = \"c1\"; } ]; d = { e = \"d2\"; f = 3; }; g = \"g3\"; }"
        )
    );

    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Inner {
        e: String,
        f: i64,
    }
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Outer {
        a: i64,
        b: Vec<i64>,
        d: Inner,
        g: String,
    }
    let typed: Outer = nix.eval(&set)?.to()?;
    assert_eq!((typed.a, typed.b, typed.g.as_str()), (3, vec![3, 1], "g3"));
    assert_eq!((typed.d.e.as_str(), typed.d.f), ("d2", 3));

    let drvs = format!(
        "let drv = name: derivation {{ inherit name; builder = \"b\"; system = \"s\"; }}; \
         s = {{ a = builtins.seq s.c (builtins.seq ({used}) (drv \"a\")); b = {{ recurseForDerivations = true; x = drv \"x\"; }}; \
         c = drv (\"c\" + \"1\"); d = [ (drv \"ignored\") ]; }}; in s"
    );
    let found = nix.with_machine(|m| {
        let value = m.load_text(
            drvs.as_bytes(),
            nivis::eval::Origin::Text("test".into()),
            std::path::Path::new("/"),
        )?;
        let args = nivis::select::AutoArgs::new(m, Vec::new());
        let found = nivis::packages::find_packages(m, args, value)?;
        Ok::<_, nivis::eval::Error>(found.into_iter().map(|p| p.attr_path).collect::<Vec<_>>())
    });
    assert_eq!(
        found.ok(),
        Some(["a", "b.x", "c"].map(String::from).to_vec())
    );
    Ok(())
}
