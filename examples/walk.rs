//! Walking a value lazily, in a world of the program's own making, within limits.
//!
//! Run it with `cargo run --example walk`.

use nivis::{ErrorKind, Evaluator, MemoryHost, Type, Value};

fn main() -> nivis::Result<()> {
    let host = MemoryHost::new()
        .with_file(
            "/project/default.nix",
            r#"
              { system ? "x86_64-linux" }:
              let inherit (import ./packages.nix { inherit system; }) hello broken huge; in
              { inherit hello broken huge; docs.recurse = true; docs.manual = "see ${hello.name}"; }
            "#,
        )
        .with_file(
            "/project/packages.nix",
            r#"
              { system }: {
                hello = derivation { name = "hello"; inherit system; builder = "/bin/sh"; args = [ ./build.sh ]; };
                broken = throw "this package is broken";
                huge = builtins.foldl' (a: b: a + b) 0 (builtins.genList (n: n) 1000000000);
              }
            "#,
        )
        .with_file("/project/build.sh", "echo hello > $out\n");
    let nix = Evaluator::builder()
        .host(host)
        .memory_limit(256 << 20)
        .build()?;

    let project = nix.eval_file("/project")?;
    println!("the file gives {}", describe(&project));
    let packages = project.call(&[&nix.value(&arguments())?])?;

    // Names cost nothing: no attribute is evaluated yet.
    for (name, package) in packages.attrs()? {
        println!(
            "{name:8} evaluated: {:5}  {}",
            package.is_evaluated(),
            describe(&package)
        );
    }
    println!("docs say: {}", packages.select("docs.manual")?.as_str()?);
    Ok(())
}

/// Arguments as any type that serde knows.
fn arguments() -> std::collections::BTreeMap<&'static str, &'static str> {
    [("system", "aarch64-linux")].into()
}

/// One bad attribute does not spoil the others.
fn describe(value: &Value) -> String {
    match value.kind() {
        Ok(Type::Attrs) => match value.drv_path() {
            Ok(path) => format!("a derivation, {path}"),
            Err(_) => format!("a set of {:?}", value.names().unwrap_or_default()),
        },
        Ok(kind) => kind.with_article().to_string(),
        Err(e) if e.kind() == ErrorKind::Memory => "more than the memory limit".to_string(),
        Err(e) => format!("an error: {}", e.diagnostic().message),
    }
}
