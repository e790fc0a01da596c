//! Evaluating a text in a world of files, and running the files of cases.
//!
//! A case is an expression in one line (or several) that begin at the margin, followed by an indented line: `= ` and the
//! printed value, or `! ` and the error's message. Lines that begin with `#` are comments. Every case
//! is evaluated twice: plainly, and with a collection at every safepoint that overwrites whatever is not reachable
//! from the machine's roots.

// Each file of tests uses some of it.
#![allow(dead_code, reason = "each test program uses a part")]

use nivis_eval::print::PrintOptions;
use nivis_eval::{Error, Host, Machine, Origin, Settings, Value, ops};
use std::path::Path;
use std::rc::Rc;

/// A machine with all builtins.
pub fn machine(host: Rc<dyn Host>, settings: Settings) -> Machine {
    let mut m = Machine::new(host, settings);
    nivis_builtins::install(&mut m);
    m
}

/// The value of a text in the folder `/t`, with everything in it evaluated.
pub fn value(m: &mut Machine, text: &[u8]) -> Result<Value, Error> {
    m.load_text(text, Origin::Text("case".into()), Path::new("/t"))
        .and_then(|v| m.force(v))
        .and_then(|v| m.run_native(ops::force_deep, &[v]))
}

/// The same as text: `= ` and the printed value, or `! ` and the error's message.
pub fn evaluate(host: Rc<dyn Host>, settings: Settings, text: &[u8], stress: bool) -> String {
    let mut m = machine(host, settings);
    if stress {
        m.set_stress();
    }
    match value(&mut m, text) {
        Ok(v) => {
            let text = m.print(v, &PrintOptions::CLASSIC);
            format!("= {}", String::from_utf8_lossy(&text))
        }
        Err(e) => format!("! {}", e.message()),
    }
}

/// Runs the cases of a theme, each in a world of its own.
pub fn run(theme: &str, cases: &str, settings: &Settings, world: impl Fn() -> Rc<dyn Host>) {
    let mut expression = String::new();
    let mut failed = Vec::new();
    let mut count = 0;
    for (number, line) in cases.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if !line.starts_with(' ') {
            expression.push_str(line);
            expression.push('\n');
            continue;
        }
        count += 1;
        for stress in [false, true] {
            let found = evaluate(world(), settings.clone(), expression.as_bytes(), stress);
            if found != line.trim() {
                let (number, expected) = (number + 1, line.trim());
                failed.push(format!(
                    "{theme}.txt:{number} (stress: {stress})\n{expression}  expected {expected}\n  found    {found}"
                ));
            }
        }
        expression.clear();
    }
    assert!(count > 0, "no cases in {theme}.txt");
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
