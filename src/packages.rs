//! The derivations in a value: what `nix-instantiate` makes `.drv` files of.

use crate::select::{AutoArgs, auto_call};
use nivis_eval::machine::Root;
use nivis_eval::{Error, ErrorKind, Machine, Result, SourceSpan, Type, Value, ops};
use std::collections::HashSet;

/// A derivation found in a value.
#[derive(Clone, Debug)]
pub struct Package {
    /// Where it was found, from the value that was searched.
    pub attr_path: String,
    root: Root,
}

impl Package {
    /// The set that describes it.
    pub fn value(&self, m: &Machine) -> Value {
        m.rooted(self.root)
    }

    /// The path of its `.drv` file, which is written if the host writes at all.
    ///
    /// # Errors
    /// When `drvPath` is missing or no such path, or its evaluation fails.
    pub fn drv_path(&self, m: &mut Machine) -> Result<String> {
        let attrs = m.want_attrs(self.value(m))?;
        let Some(value) = attrs.get(m.known.drv_path) else {
            return Err(Error::new(
                ErrorKind::MissingAttribute,
                "derivation does not contain a 'drvPath' attribute",
            ));
        };
        const WHAT: &str = "while evaluating the 'drvPath' attribute of a derivation";
        let path = m
            .run_native(ops::coerce_to_string, &[value, ops::Coerce::PATH.value()])
            .map_err(|e| e.context(WHAT, SourceSpan::default(), false))?;
        let path = m.want_string(path)?.to_text();
        let base = path
            .strip_prefix(&m.settings.store_dir)
            .and_then(|p| p.strip_prefix('/'));
        let fail = |message| {
            Err(Error::new(ErrorKind::Store, message).context(WHAT, SourceSpan::default(), false))
        };
        match base {
            Some(base) if !base.contains('/') && base.len() > 33 => {
                if !base.ends_with(".drv") {
                    return fail(format!(
                        "store path '{base}' is not a valid derivation path"
                    ));
                }
            }
            _ => return fail(format!("path '{path}' is not in the Nix store")),
        }
        Ok(path)
    }

    /// The output that the set stands for; empty when it has no `outputName`.
    ///
    /// # Errors
    /// When the attribute is no string or its evaluation fails.
    pub fn output_name(&self, m: &mut Machine) -> Result<String> {
        let attrs = m.want_attrs(self.value(m))?;
        let symbol = m.symbols.intern(b"outputName");
        let Some(value) = attrs.get(symbol) else {
            return Ok(String::new());
        };
        let value = m.force(value)?;
        Ok(m.want_plain_string(value)?.to_text())
    }

    /// Forgets the value.
    pub fn release(self, m: &mut Machine) {
        m.unroot(self.root);
    }
}

/// What is left to look at.
enum Task {
    /// Calls an evaluated value automatically and looks through it. With how many sets and lists it is in.
    Search(Value, String, u32),
    /// The parts of a set or list from an index on, and the path of these. By index: a part that is evaluated meanwhile may be
    /// held by its container alone. With how many sets and lists they are in.
    Parts(Value, usize, String, u32),
}

/// All derivations in a value: itself, or those in a set (one level, deeper where `recurseForDerivations`
/// is true) or in a list (all levels), in the order of names.
///
/// # Errors
/// When the value is none of these, or evaluation fails.
pub fn find_packages(m: &mut Machine, args: AutoArgs, value: Value) -> Result<Vec<Package>> {
    let mut search = Search {
        args,
        found: Vec::new(),
        seen: HashSet::new(),
        roots: Vec::new(),
    };
    // Values are reached from the root kept here, from automatic calls' results kept in `roots`, or from packages.
    search.roots.push(m.root(value));
    let mut tasks = Vec::new();
    let mut result = search.look_through(m, value, String::new(), 0, &mut tasks);
    while result.is_ok()
        && let Some(task) = tasks.pop()
    {
        result = search.step(m, task, &mut tasks);
    }
    for root in search.roots {
        m.unroot(root);
    }
    match result {
        Ok(()) => Ok(search.found),
        Err(e) => {
            for p in search.found {
                p.release(m);
            }
            Err(e)
        }
    }
}

struct Search {
    args: AutoArgs,
    found: Vec<Package>,
    seen: HashSet<Value>,
    roots: Vec<Root>,
}

impl Search {
    fn step(&mut self, m: &mut Machine, task: Task, tasks: &mut Vec<Task>) -> Result<()> {
        let (container, index, path, depth) = match task {
            Task::Search(value, path, depth) => {
                return self.look_through(m, value, path, depth, tasks);
            }
            Task::Parts(container, index, path, depth) => (container, index, path, depth),
        };
        if let Some(attrs) = container.as_attrs() {
            let Some((symbol, value, _)) = m.sorted_attr(attrs, index) else {
                return Ok(());
            };
            let name = m.symbols.text(symbol);
            let inner = join(&path, &name);
            tasks.push(Task::Parts(container, index + 1, path, depth));
            if !is_component(&name) {
                return Ok(());
            }
            let combine = m.symbols.intern(b"_combineChannels");
            if attrs.get(combine).is_some() {
                return self.look_through(m, value, inner, depth, tasks);
            }
            return self.attribute(m, value, inner, depth, tasks).map_err(|e| {
                let step = format!("while evaluating the attribute '{name}'");
                e.context(step, SourceSpan::default(), false)
            });
        }
        if let Some(list) = container.as_list()
            && let Some(value) = list.get(index)
        {
            let inner = join(&path, &index.to_string());
            tasks.push(Task::Parts(container, index + 1, path, depth));
            let value = m.force(value)?;
            if !self.derivation(m, value, &inner)? {
                tasks.push(Task::Search(value, inner, depth));
            }
        }
        Ok(())
    }

    /// Calls a value automatically and looks through it, if it is no derivation itself.
    fn look_through(
        &mut self,
        m: &mut Machine,
        value: Value,
        path: String,
        depth: u32,
        tasks: &mut Vec<Task>,
    ) -> Result<()> {
        // A set may contain itself.
        if depth >= m.settings.max_call_depth {
            return Err(Error::new(
                ErrorKind::CallDepth,
                "stack overflow; max-call-depth exceeded",
            ));
        }
        let called = auto_call(m, self.args, value)?;
        let called = m.force(called)?;
        self.roots.push(m.root(called));
        if self.derivation(m, called, &path)? {
            return Ok(());
        }
        if !called.is_attrs() && !called.is_list() {
            return Err(Error::type_error(
                "expression does not evaluate to a derivation (or a set or list of those)",
            ));
        }
        tasks.push(Task::Parts(called, 0, path, depth + 1));
        Ok(())
    }

    /// An attribute: looked through only if it says `recurseForDerivations`.
    fn attribute(
        &mut self,
        m: &mut Machine,
        value: Value,
        path: String,
        depth: u32,
        tasks: &mut Vec<Task>,
    ) -> Result<()> {
        let value = m.force(value)?;
        if self.derivation(m, value, &path)? {
            return Ok(());
        }
        let symbol = m.symbols.intern(b"recurseForDerivations");
        if let Some(flag) = value.as_attrs().and_then(|a| a.get(symbol)) {
            let flag = m.force(flag)?;
            if m.want_bool(flag)? {
                tasks.push(Task::Search(value, path, depth));
            }
        }
        Ok(())
    }

    /// Whether an evaluated value is a derivation; it is then noted, once.
    fn derivation(&mut self, m: &mut Machine, value: Value, path: &str) -> Result<bool> {
        if !is_derivation(m, value)? {
            return Ok(false);
        }
        if self.seen.insert(value) {
            let attrs = m.want_attrs(value)?;
            let Some(name) = attrs.get(m.known.name) else {
                return Err(Error::type_error("derivation name missing"));
            };
            let name = m.force(name)?;
            m.want_plain_string(name)?;
            self.found.push(Package {
                attr_path: path.to_string(),
                root: m.root(value),
            });
        }
        Ok(true)
    }
}

/// Whether a value is a set whose `type` is `"derivation"`; evaluates the value and that attribute.
///
/// # Errors
/// When evaluation fails.
pub fn is_derivation(m: &mut Machine, value: Value) -> Result<bool> {
    let value = m.force(value)?;
    let Some(kind) = value.as_attrs().and_then(|a| a.get(m.known.kind)) else {
        return Ok(false);
    };
    let kind = m.force(kind)?;
    Ok(kind.type_of() == Type::String
        && kind.as_string().is_some_and(|s| s.bytes() == b"derivation"))
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_string()
    } else {
        format!("{prefix}.{name}")
    }
}

/// Names that are looked at: others could not be written in an attribute path.
fn is_component(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+'))
}
