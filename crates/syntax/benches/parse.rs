//! How fast sources are read: tokens, evaluation's syntax, lossless trees.
//!
//! The input is put together from this crate's own test cases. With `NIVIS_BENCH_DIR` set to a folder, all
//! `.nix` files below it are a second input.

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use nivis_syntax::{ParseOptions, lexer, parse, parse_tree};

/// About 400 kB of sources that are all different.
fn own_cases() -> Vec<String> {
    let mut cases = Vec::new();
    let mut source = "";
    for line in include_str!("../tests/reference.txt").lines() {
        if let Some(text) = line.strip_prefix("< ") {
            source = text;
        } else if let Some(expected) = line.strip_prefix("> ")
            && expected != "error"
            && !source.contains(['\\', '#'])
        {
            cases.push(source);
        }
    }
    let mut out = String::from("{ lib, stdenv, fetchurl, ... }@args:\n\nrec {\n");
    for round in 0..20 {
        for (index, case) in cases.iter().enumerate() {
            out += &format!(
                "  # Attribute {index} of round {round}.\n  attr{index}.of-round-{round} = [\n    ({case})\n  ];\n"
            );
        }
        out += &format!(
            "  script{round} = ''\n    mkdir -p $out/bin\n    cp ${{attr0}} $out/bin/''${{name}}\n  '';\n"
        );
    }
    out += "}\n";
    vec![out]
}

fn walk(path: &Path, out: &mut Vec<String>) {
    if path.is_symlink() {
        return;
    }
    if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
        entries.sort();
        for entry in entries {
            walk(&entry, out);
        }
    } else if path.extension().is_some_and(|extension| extension == "nix") {
        out.extend(std::fs::read_to_string(path));
    }
}

fn measure(criterion: &mut Criterion, name: &str, sources: &[String]) {
    let options = ParseOptions {
        pipe_operators: true,
    };
    for source in sources {
        if let Err(errors) = parse(source.as_bytes(), &options) {
            panic!("{}", errors[0]);
        }
    }
    let bytes = sources.iter().map(|source| source.len() as u64).sum();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes));
    group.sample_size(10);
    let mut each = |name: &str, one: &dyn Fn(&str)| bench(&mut group, name, sources, one);
    each("tokens", &|source| {
        black_box(lexer::lex(source.as_bytes(), false));
    });
    each("code", &|source| {
        black_box(parse(source.as_bytes(), &options)).ok();
    });
    each("tree", &|source| {
        black_box(parse_tree(source, &options));
    });
    group.finish();
}

fn bench(
    group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    sources: &[String],
    one: &dyn Fn(&str),
) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for source in sources {
                one(black_box(source));
            }
        });
    });
}

fn all(criterion: &mut Criterion) {
    measure(criterion, "cases", &own_cases());
    if let Some(folder) = std::env::var_os("NIVIS_BENCH_DIR") {
        let mut sources = Vec::new();
        walk(Path::new(&folder), &mut sources);
        measure(criterion, "folder", &sources);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
