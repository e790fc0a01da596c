//! Putting the table into a machine.

use nivis_eval::{Builtin, Machine, PosId, Value};

/// The whole table, by theme.
pub fn tables() -> [(&'static str, &'static [Builtin]); 13] {
    [
        ("types", crate::types::TABLE),
        ("numbers", crate::numbers::TABLE),
        ("strings", crate::strings::TABLE),
        ("contexts", crate::contexts::TABLE),
        ("lists", crate::lists::TABLE),
        ("attribute sets", crate::attrs::TABLE),
        ("functions", crate::functions::TABLE),
        ("control", crate::control::TABLE),
        ("data formats", crate::data::TABLE),
        ("hashing", crate::hashing::TABLE),
        ("files", crate::files::TABLE),
        ("derivations", crate::derivations::TABLE),
        ("environment", crate::environment::TABLE),
    ]
}

/// Adds all builtins to a machine: the set `builtins` (which contains itself), each as `__name`, and the
/// ones that need no prefix.
pub fn install(m: &mut Machine) {
    let mut entries = Vec::new();
    for (_, table) in tables() {
        for builtin in table {
            let value = m.add_builtin(builtin.clone());
            bind(m, &mut entries, builtin.name, builtin.global, value);
        }
    }
    for (name, value) in [("true", Value::TRUE), ("false", Value::FALSE), ("null", Value::NULL)] {
        bind(m, &mut entries, name, true, value);
    }
    let set = m.attrs(entries);
    m.bind_global("builtins", set);
}

fn bind(
    m: &mut Machine,
    entries: &mut Vec<(nivis_eval::Symbol, PosId, Value)>,
    name: &str,
    global: bool,
    value: Value,
) {
    let symbol = m.symbols.intern(name.as_bytes());
    entries.push((symbol, PosId::NONE, value));
    if global {
        m.bind_global(name, value);
    } else {
        m.bind_global(&format!("__{name}"), value);
    }
}
