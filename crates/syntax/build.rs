//! Generates the parsers from `grammar/nix.lalrpop`.
//!
//! The one grammar is processed twice: `strict` without the lines marked `// recovery`, for evaluation,
//! and `tolerant` with them, for the lossless tree of a file with errors.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let here = PathBuf::from(
        std::env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?,
    );
    let grammar = here.join("../../grammar/nix.lalrpop");
    println!("cargo:rerun-if-changed={}", grammar.display());
    println!("cargo:rerun-if-changed=build.rs");
    let text = std::fs::read_to_string(&grammar)
        .map_err(|error| format!("cannot read {}: {error}", grammar.display()))?;
    let strict: String = text
        .split_inclusive('\n')
        .filter(|line| !line.trim_end().ends_with("// recovery"))
        .collect();
    generate(&strict, &out, "strict")?;
    generate(&text, &out, "tolerant")
}

fn generate(text: &str, out: &Path, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let source = out.join(name);
    std::fs::create_dir_all(&source)?;
    let file = source.join(format!("{name}.lalrpop"));
    std::fs::write(&file, text)?;
    lalrpop::Configuration::new()
        .emit_rerun_directives(false)
        .force_build(true)
        .set_out_dir(out)
        .process_file(&file)
}
