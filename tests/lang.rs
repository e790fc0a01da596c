//! The language cases in `tests/lang/THEME/CASE.nix`, evaluated in this process.
//!
//! Beside a case lies either `CASE.out`, the value as `nix-instantiate --eval --strict` prints it, or `CASE.err`,
//! one line that the message of the error, or a step of its trace, must contain; `syntax error` means any error of that
//! kind, since every implementation words them in its own way. The folder of the cases reads `/lang` in both. Every case runs twice: as it is, and, if it is small, with an evaluator that at every step
//! overwrites what it believes to be garbage.
//!
//! `LANG_ONLY=text` runs the cases whose name contains the text.

use nivis::{Error, ErrorKind, Evaluator, SystemHost, store::StoreDir};
use std::path::{Path, PathBuf};

/// Cases with files larger than this do not run under stress.
const SMALL: usize = 2_000;
/// Steps after which the pass under stress gives up: it takes time in proportion to their square.
const STRESS_STEPS: u64 = 20_000;

struct Case {
    name: String,
    file: PathBuf,
    expected: Expected,
}

enum Expected {
    Out(String),
    Err(String),
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lang")
}

fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .map(|entries| entries.filter_map(|e| e.ok().map(|e| e.path())).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

/// All cases; a `.nix` file with neither expectation is one that others import.
fn cases() -> Vec<Case> {
    let only = std::env::var("LANG_ONLY").unwrap_or_default();
    let mut cases = Vec::new();
    for theme in sorted_entries(&root()) {
        for file in sorted_entries(&theme) {
            if file.extension().is_none_or(|e| e != "nix") {
                continue;
            }
            let name = file
                .strip_prefix(root())
                .unwrap_or(&file)
                .with_extension("")
                .display()
                .to_string();
            let read = |extension| std::fs::read_to_string(file.with_extension(extension));
            let expected = match (read("out"), read("err")) {
                (Ok(out), _) => Expected::Out(out),
                (_, Ok(err)) => Expected::Err(err),
                _ => continue,
            };
            if name.contains(&only) {
                cases.push(Case {
                    name,
                    file,
                    expected,
                });
            }
        }
    }
    cases
}

fn evaluate(case: &Case, stress: bool) -> Result<String, Error> {
    let dir =
        StoreDir::new("/nix/store").map_err(|e| Error::new(ErrorKind::Store, e.to_string()))?;
    let mut builder = Evaluator::builder()
        .host(SystemHost::new(dir))
        .search_path("lang", root().display().to_string())
        .memory_limit(1 << 30)
        .stress(stress);
    for feature in features(case) {
        builder = builder.feature(feature);
    }
    if stress {
        builder = builder.fuel(STRESS_STEPS);
    }
    let nix = builder.build()?;
    let run = || {
        let value = nix.eval_file(&case.file)?;
        value.force_deep()?;
        Ok(value.print_classic())
    };
    run()
}

/// A first line `# features: a b` switches experimental features on.
fn features(case: &Case) -> Vec<String> {
    let text = std::fs::read(&case.file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default();
    let names = first.strip_prefix("# features:").unwrap_or_default();
    names.split_whitespace().map(String::from).collect()
}

fn normal(text: &str) -> String {
    text.replace(&root().display().to_string(), "/lang")
        .trim_end()
        .to_string()
}

/// What is wrong with a result, if anything.
fn judge(case: &Case, result: &Result<String, Error>) -> Option<String> {
    match (&case.expected, result) {
        (Expected::Out(want), Ok(got)) if normal(want) == normal(got) => None,
        (Expected::Out(want), Ok(got)) => Some(format!(
            "expected\n    {}\n  got\n    {}",
            normal(want),
            normal(got)
        )),
        (Expected::Out(_), Err(e)) => Some(format!("failed: {}", normal(&e.to_string()))),
        (Expected::Err(want), Ok(got)) => Some(format!(
            "expected the error\n    {}\n  got\n    {}",
            normal(want),
            normal(got)
        )),
        (Expected::Err(want), Err(e)) if want.trim() == "syntax error" => {
            let message = normal(&e.diagnostic().message);
            (e.kind() != ErrorKind::Syntax)
                .then(|| format!("expected a syntax error, got\n    {message}"))
        }
        (Expected::Err(want), Err(e)) => {
            let d = e.diagnostic();
            let steps = std::iter::once(&d.message).chain(d.trace.iter().map(|t| &t.message));
            let found = steps.clone().any(|m| normal(m).contains(&normal(want)));
            (!found).then(|| {
                let all: Vec<String> = steps.map(|m| normal(m)).collect();
                format!(
                    "expected the error\n    {}\n  got\n    {}",
                    normal(want),
                    all.join("\n    ")
                )
            })
        }
    }
}

fn run_all(stress: bool) {
    let cases = cases();
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in &cases {
        let size = std::fs::metadata(&case.file).map_or(usize::MAX, |m| m.len() as usize);
        if stress && size > SMALL {
            continue;
        }
        let result = evaluate(case, stress);
        if stress && matches!(&result, Err(e) if e.kind() == ErrorKind::Cancelled) {
            continue;
        }
        ran += 1;
        if let Some(reason) = judge(case, &result) {
            failures.push(format!("{}: {reason}", case.name));
        }
    }
    println!("{ran} of {} cases ran", cases.len());
    assert!(
        failures.is_empty(),
        "{} of {ran} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn language_cases() {
    run_all(false);
}

#[test]
fn language_cases_under_stress() {
    run_all(true);
}
