//! Speed of completing derivations and of hashing archives.
#![allow(missing_docs, reason = "criterion makes functions without any")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nivis_store::derivation::{Derivation, DerivationOutput, DrvHashMemo};
use nivis_store::ingest::nar_hash;
use nivis_store::nar::NarWriter;
use nivis_store::{HashAlgorithm, Hasher, Result, StoreDir, StorePath};
use std::hint::black_box;

/// A derivation as large as usual in package sets: 60 variables in 5 KiB, with the inputs given.
fn typical(inputs: &[StorePath]) -> Derivation {
    let mut drv = Derivation::new("typical-1.2.3");
    drv.platform = "x86_64-linux".into();
    drv.builder = "/nix/store/razasrvdg7ckplfmvdxv4ia3wbayr94s-bootstrap-tools/bin/bash".into();
    drv.args = vec!["-e".into(), "/nix/store/builder.sh".into()];
    for i in 0..58 {
        let value = format!("value \"{i}\" of a variable\n").repeat(i % 7);
        drv.env.insert(format!("variable{i}").into(), value.into());
    }
    for output in ["out", "dev"] {
        drv.outputs
            .insert(output.into(), DerivationOutput::Deferred);
        drv.env.insert(output.into(), "".into());
    }
    for input in inputs {
        drv.input_drvs
            .insert(input.clone(), ["out"].into_iter().collect());
    }
    drv
}

fn derivations(c: &mut Criterion) {
    let store = StoreDir::default();
    let mut memo = DrvHashMemo::new();
    let inputs: Vec<StorePath> = (0..20)
        .map(|i| {
            let mut drv = typical(&[]);
            drv.env.insert("i".into(), i.to_string().into());
            drv.finish(&store, &mut memo)
        })
        .collect::<Result<_>>()
        .unwrap_or_default();
    let drv = typical(&inputs);
    let mut done = drv.clone();
    let mut text = Vec::new();
    let finished = done.finish_with_text(&store, &mut memo, &mut text);
    assert!(finished.is_ok(), "the sample can be completed");

    let mut group = c.benchmark_group("derivation");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("finish", |b| {
        b.iter_batched_ref(
            || drv.clone(),
            |drv| drv.finish(&store, &mut memo),
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("write_aterm", |b| {
        b.iter(|| black_box(&done).to_aterm(&store));
    });
    group.bench_function("drv_path", |b| b.iter(|| black_box(&done).drv_path(&store)));
    group.bench_function("parse_aterm", |b| {
        b.iter(|| Derivation::parse_aterm(&store, &done.name, black_box(&text)));
    });
    group.finish();
}

fn archive(out: Hasher, data: &[u8], files: usize) -> Result<Hasher> {
    let mut nar = NarWriter::new(out)?;
    nar.begin_directory()?;
    for i in 0..files {
        nar.entry(format!("{i:08}").as_bytes())?;
        nar.regular(i % 2 == 0, data)?;
    }
    nar.end_directory()?;
    nar.finish()
}

fn archives(c: &mut Criterion) {
    let mut group = c.benchmark_group("nar");
    for (name, size, files) in [("one_large", 16 << 20, 1), ("many_small", 500, 10_000)] {
        let data = vec![b'x'; size];
        group.throughput(Throughput::Bytes((size * files) as u64));
        group.bench_function(name, |b| {
            b.iter(|| archive(Hasher::new(HashAlgorithm::Sha256), black_box(&data), files));
        });
    }
    #[cfg(unix)]
    {
        use nivis_store::nar::FileSystem;
        let root = FileSystem::node(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("own_sources", |b| {
            b.iter(|| nar_hash(&mut FileSystem, &root, HashAlgorithm::Sha256));
        });
    }
    group.finish();
}

criterion_group!(benches, derivations, archives);
criterion_main!(benches);
