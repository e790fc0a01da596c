//! A program's configuration, written in Nix and read into Rust types, with a function that the program adds to the
//! language.
//!
//! Run it with `cargo run --example config`.

use nivis::render::RenderOptions;
use nivis::{Evaluator, MemoryHost};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only printed here")]
struct Config {
    listen: Vec<Listener>,
    #[serde(default)]
    log: Log,
    limits: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only printed here")]
enum Listener {
    Tcp { host: String, port: u16 },
    Unix(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Log {
    #[default]
    Quiet,
    Verbose,
}

const TEXT: &str = r#"
  let
    base = 8000;
    host = "localhost";
    tcp = n: { tcp = { inherit host; port = base + n; }; };
  in {
    listen = map tcp [ 1 2 ] ++ [ { unix = "/run/${host}.sock"; } ];
    log = if base > 1024 then "verbose" else "quiet";
    limits = { body = bytes "16M"; header = bytes "8K"; };
  }
"#;

/// `16M` as a number of bytes.
fn bytes(text: String) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        suffix => return Err(format!("unknown unit '{suffix}' in '{text}'")),
    };
    digits
        .parse::<u64>()
        .map(|n| n * factor)
        .map_err(|e| format!("'{text}': {e}"))
}

fn main() -> nivis::Result<()> {
    let nix = Evaluator::builder()
        // The configuration sees no files and no environment.
        .host(MemoryHost::new())
        .pure(true)
        .memory_limit(64 << 20)
        .fuel(1_000_000)
        .function(
            "bytes",
            "The number of bytes that a text such as `16M` means.",
            bytes,
        )
        .build()?;

    let config: Config = nix.eval_in(TEXT, "config", "/")?.to()?;
    println!("{config:#?}");

    // What goes wrong is data, and can be shown.
    let wrong = TEXT.replace("\"8K\"", "\"8Q\"");
    if let Err(error) = nix
        .eval_in(&wrong, "config", "/")
        .and_then(|v| v.to::<Config>())
    {
        print!("\n{}", error.render(&RenderOptions::default()));
    }
    Ok(())
}
