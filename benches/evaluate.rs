//! Whole evaluations through the library: text in, value out.

use criterion::{Criterion, criterion_group, criterion_main};
use nivis::{Evaluator, MemoryHost};
use std::collections::BTreeMap;
use std::hint::black_box;

const PROGRAMS: &[(&str, &str)] = &[
    (
        "calls",
        "let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in fib 18",
    ),
    (
        "fold",
        "builtins.foldl' builtins.add 0 (builtins.genList (n: n * n) 20000)",
    ),
    (
        "sort",
        "builtins.length (builtins.sort (a: b: a < b) (builtins.genList (n: n * 7919 - n / 3 * 10007) 5000))",
    ),
    (
        "sets",
        "builtins.foldl' (s: n: s // { ${toString n} = n; }) { } (builtins.genList (n: n) 500)",
    ),
    (
        "strings",
        "builtins.stringLength (builtins.concatStringsSep \",\" (builtins.genList toString 20000))",
    ),
    (
        "fixed point",
        "let fix = f: let x = f x; in x; in (fix (self: { a = 1; b = self.a + 1; c = self.b + 1; })).c",
    ),
];

fn evaluator() -> Evaluator {
    Evaluator::builder()
        .host(MemoryHost::new())
        .build()
        .expect("an evaluator")
}

fn benches(c: &mut Criterion) {
    c.bench_function("start", |b| b.iter(evaluator));
    for (name, text) in PROGRAMS {
        c.bench_function(name, |b| {
            b.iter_batched(
                evaluator,
                |nix| nix.eval(text).and_then(|v| v.force()).expect("a value"),
                criterion::BatchSize::PerIteration,
            );
        });
    }
    let nix = evaluator();
    let value = nix
        .eval("builtins.listToAttrs (map (n: { name = \"n${toString n}\"; value = [ n (n + 1) ]; }) (builtins.genList (n: n) 1000))")
        .expect("a value");
    c.bench_function("conversion", |b| {
        b.iter(|| {
            black_box(
                value
                    .to::<BTreeMap<String, Vec<i64>>>()
                    .expect("it fits")
                    .len(),
            )
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
