//! What surrounds the evaluation: environment variables, system, versions, search path.

use crate::table::leaf;
use nivis_eval::{Builtin, Machine, PosId, Result, Value};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[leaf(
    "getEnv",
    &["name"],
    0b1,
    get_env,
    "Returns the value of an environment variable, and the empty string when there is none or evaluation is pure or \
     restricted.",
)];

/// A builtin that is no function.
pub struct Constant {
    /// Its name in `builtins`.
    pub name: &'static str,
    /// Its type and meaning, in Markdown.
    pub doc: &'static str,
    /// Whether pure evaluation is without it.
    pub impure: bool,
    /// Whether it is visible without `builtins.`.
    pub global: bool,
    pub(crate) value: fn(&mut Machine) -> Value,
}

/// The version of the reference implementation whose language this is.
pub const NIX_VERSION: &str = "2.34.8";

/// The builtins that are no functions, but for `builtins` itself.
pub static CONSTANTS: &[Constant] = &[
    constant("true", "A Boolean. The name is not special and can be bound anew.", |_| Value::TRUE).global(),
    constant("false", "A Boolean. The name is not special and can be bound anew.", |_| Value::FALSE).global(),
    constant("null", "The only value of its type. The name is not special and can be bound anew.", |_| Value::NULL)
        .global(),
    constant(
        "currentSystem",
        "A string: the system that evaluation is for, such as `\"x86_64-linux\"`. Absent in pure evaluation.",
        |m| m.string(m.settings.system.clone()),
    )
    .impure(),
    constant(
        "currentTime",
        "An integer: the seconds since 1970, taken once at the start. Absent in pure evaluation.",
        |m| {
            let now = m.host.now();
            m.heap.int(now)
        },
    )
    .impure(),
    constant("nixVersion", "A string: the version of Nix whose language this is.", |m| m.string(NIX_VERSION)),
    constant("langVersion", "An integer: the version of the language.", |m| m.heap.int(6)),
    constant("storeDir", "A string: the folder that store paths lie in.", |m| m.string(m.settings.store_dir.clone())),
    constant(
        "nixPath",
        "A list of `{ prefix, path }`: where `<name>` is looked for, as `findFile` takes it.",
        nix_path,
    ),
    constant(
        "derivation",
        "A function from a set of attributes to a derivation. Other than `derivationStrict`, which does the work, it \
         returns the attributes as well, computes `drvPath` and `outPath` only when they are used, and has an attribute \
         for each output.",
        crate::derivations::derivation,
    )
    .global(),
];

const fn constant(
    name: &'static str,
    doc: &'static str,
    value: fn(&mut Machine) -> Value,
) -> Constant {
    Constant {
        name,
        doc,
        impure: false,
        global: false,
        value,
    }
}

impl Constant {
    const fn impure(mut self) -> Constant {
        self.impure = true;
        self
    }

    const fn global(mut self) -> Constant {
        self.global = true;
        self
    }
}

fn get_env(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let name = m.want_plain_string(args[0])?;
    if m.settings.pure_eval || m.settings.restrict_eval {
        return Ok(m.string(""));
    }
    let value = m.host.env(name.bytes()).unwrap_or_default();
    Ok(m.string(value))
}

fn nix_path(m: &mut Machine) -> Value {
    if m.settings.pure_eval {
        return m.heap.list(&[]);
    }
    let (prefix, path) = (m.symbols.intern(b"prefix"), m.symbols.intern(b"path"));
    let entries = m.settings.nix_path.clone();
    let values: Vec<Value> = entries
        .iter()
        .map(|(p, q)| {
            let (p, q) = (m.string(p), m.string(q));
            m.attrs([(prefix, PosId::NONE, p), (path, PosId::NONE, q)])
        })
        .collect();
    m.heap.list(&values)
}
