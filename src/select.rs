//! Attribute paths and automatic calls, as the command line uses them.
//!
//! These work on a [`Machine`] from the outside; embedders that hold [`crate::Value`] handles use
//! [`crate::Value::select`].

use nivis_eval::machine::Root;
use nivis_eval::{Error, ErrorKind, Machine, PosId, Result, SourceSpan, Symbol, Value};

/// The parts of an attribute path: separated by dots, quoted where they contain one.
///
/// # Errors
/// When a quote is not closed.
pub fn parse_attr_path(path: &str) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    let mut current = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => parts.push(std::mem::take(&mut current)),
            '"' => loop {
                match chars.next() {
                    Some('"') => break,
                    Some(c) => current.push(c),
                    None => {
                        return Err(Error::new(
                            ErrorKind::Syntax,
                            format!("missing closing quote in selection path '{path}'"),
                        ));
                    }
                }
            },
            c => current.push(c),
        }
    }
    if !current.is_empty() {
        parts.push(current);
    }
    Ok(parts)
}

/// Arguments that functions found on the way are called with (`--arg`, `--argstr`).
#[derive(Clone, Copy, Debug)]
pub struct AutoArgs(Root);

impl AutoArgs {
    /// Keeps the arguments, which may be unevaluated, alive in the machine.
    pub fn new(m: &mut Machine, args: impl IntoIterator<Item = (Symbol, Value)>) -> AutoArgs {
        let entries: Vec<_> = args.into_iter().map(|(s, v)| (s, PosId::NONE, v)).collect();
        let set = m.attrs(entries);
        AutoArgs(m.root(set))
    }

    /// Forgets them.
    pub fn release(self, m: &mut Machine) {
        m.unroot(self.0);
    }

    /// Whether there are none.
    pub fn is_empty(self, m: &Machine) -> bool {
        m.rooted(self.0).as_attrs().is_none_or(|a| a.is_empty())
    }
}

/// Evaluates a value; a function with a set pattern is then called with the arguments that it knows, a set with
/// `__functor` first with itself. The result may be unevaluated.
///
/// # Errors
/// When a required argument is missing, or evaluation fails.
pub fn auto_call(m: &mut Machine, args: AutoArgs, value: Value) -> Result<Value> {
    let mut value = m.force(value)?;
    loop {
        if let Some(attrs) = value.as_attrs()
            && let Some(functor) = attrs.get(m.known.functor)
        {
            let result = m.call(functor, &[value])?;
            value = m.force(result)?;
            continue;
        }
        let Some(signature) = value.as_function().and_then(|f| m.signature(f)) else {
            return Ok(value);
        };
        let Some(pattern) = signature.pattern else {
            return Ok(value);
        };
        let Some(given) = m.rooted(args.0).as_attrs() else {
            return Ok(value);
        };
        let entries: Vec<(Symbol, PosId, Value)> = if pattern.ellipsis {
            given.iter().map(|(s, v, p)| (s, p, v)).collect()
        } else {
            let mut entries = Vec::new();
            for formal in &pattern.formals {
                match given.get(formal.name) {
                    Some(v) => entries.push((formal.name, PosId::NONE, v)),
                    None if formal.has_default => {}
                    None => {
                        let name = m.symbols.text(formal.name);
                        let span = SourceSpan {
                            start: formal.pos,
                            len: name.len() as u32,
                        };
                        return Err(Error::new(
                            ErrorKind::Arguments,
                            format!(
                                "cannot evaluate a function that has an argument without a value ('{name}'); \
                                 give it one with '--arg' or '--argstr'"
                            ),
                        )
                        .at(span));
                    }
                }
            }
            entries
        };
        let set = m.attrs(entries);
        return m.call(value, &[set]);
    }
}

/// Follows an attribute path; functions on the way are called automatically. The result may be unevaluated and
/// is not itself called.
///
/// # Errors
/// When the path does not exist, or evaluation on the way fails.
pub fn find_along(m: &mut Machine, args: AutoArgs, root: Value, path: &str) -> Result<Value> {
    let mut value = root;
    for part in parse_attr_path(path)? {
        let called = auto_call(m, args, value)?;
        let container = m.force(called)?;
        if let Ok(index) = part.parse::<u32>() {
            let Some(list) = container.as_list() else {
                return Err(wrong_type(m, path, "a list", container));
            };
            value = list.get(index as usize).ok_or_else(|| {
                Error::new(
                    ErrorKind::MissingAttribute,
                    format!("list index {index} in selection path '{path}' is out of range"),
                )
            })?;
        } else {
            let Some(attrs) = container.as_attrs() else {
                return Err(wrong_type(m, path, "a set", container));
            };
            if part.is_empty() {
                return Err(Error::new(
                    ErrorKind::MissingAttribute,
                    format!("empty attribute name in selection path '{path}'"),
                ));
            }
            let symbol = m.symbols.intern(part.as_bytes());
            let Some(found) = attrs.get(symbol) else {
                let mut e = m.missing_attr(attrs, symbol);
                e.data_mut().message =
                    format!("attribute '{part}' in selection path '{path}' not found");
                return Err(e);
            };
            value = found;
        }
    }
    Ok(value)
}

fn wrong_type(m: &Machine, path: &str, wanted: &str, found: Value) -> Error {
    Error::type_error(format!(
        "the expression selected by the selection path '{path}' should be {wanted} but is {}",
        m.describe_type(found)
    ))
}

#[cfg(test)]
mod tests {
    use super::parse_attr_path;

    #[test]
    fn paths() -> nivis_eval::Result<()> {
        assert_eq!(parse_attr_path("")?, Vec::<String>::new());
        assert_eq!(parse_attr_path("a.b")?, ["a", "b"]);
        assert_eq!(parse_attr_path("a.\"b.c\".0")?, ["a", "b.c", "0"]);
        assert_eq!(parse_attr_path("a..b")?, ["a", "", "b"]);
        assert!(parse_attr_path("a.\"b").is_err());
        Ok(())
    }
}
