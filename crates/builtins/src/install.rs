//! Putting the table into a machine.

use nivis_eval::{Body, Builtin, Machine, PosId, Value};

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

/// Builtins that exist only with an experimental feature.
const FEATURES: &[(&str, &str)] = &[("outputOf", "dynamic-derivations")];

/// Names of the outermost scope that come with fetching and flakes, which are not here. They are not in `builtins`
/// either, but files that mention them must load.
const ABSENT: &[&str] = &[
    "fetchGit",
    "fetchMercurial",
    "fetchTarball",
    "fetchTree",
    "__fetchClosure",
    "__fetchurl",
    "__flakeRefToString",
    "__getFlake",
    "__parseFlakeRef",
];

/// Adds all builtins to a machine: the set `builtins` (which contains itself), each as `__name`, and the
/// ones that need no prefix.
pub fn install(m: &mut Machine) {
    let mut entries = Vec::new();
    for (_, table) in tables() {
        for builtin in table {
            let feature = FEATURES.iter().find(|(name, _)| *name == builtin.name);
            if feature.is_some_and(|(_, feature)| !m.settings.feature(feature)) {
                continue;
            }
            let value = m.add_builtin(builtin.clone());
            bind(m, &mut entries, builtin.name, builtin.global, value);
        }
    }
    m.describe_arguments(crate::purposes::purpose);
    m.describe_builtin("derivationStrict", crate::derivations::describe);
    m.describe_native(crate::data::json_text, crate::data::describe_json);
    for constant in crate::environment::CONSTANTS {
        if !(constant.impure && m.settings.pure_eval) {
            let value = (constant.value)(m);
            bind(m, &mut entries, constant.name, constant.global, value);
        }
    }
    for name in ABSENT {
        m.declare_absent(name);
    }
    // The set is part of itself.
    let whole = m.add_builtin(Builtin {
        name: "__nivisBuiltins",
        args: &["ignored"],
        strict: 0,
        global: false,
        body: Body::Leaf(|m, _| Ok(m.global("builtins").unwrap_or(Value::NULL))),
        doc: "Returns the set of builtins.",
    });
    let whole = m.delay_call(whole, Value::NULL);
    entries.push((m.symbols.intern(b"builtins"), PosId::NONE, whole));
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
