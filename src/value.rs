//! Handles to values.

use crate::diagnostic::Error;
use crate::evaluator::{Evaluator, Result};
use crate::output::JsonOptions;
use crate::select::AutoArgs;
use nivis_eval::machine::Root;
use nivis_eval::print::PrintOptions;
use nivis_eval::{ErrorKind, Machine, Type, ops};
use serde::de::DeserializeOwned;

/// A value of an evaluator, perhaps not evaluated yet. It keeps the value, and the evaluator, alive.
///
/// Methods evaluate the value itself as far as they need it and nothing else: walking a set touches only the
/// attributes that are asked for.
pub struct Value {
    evaluator: Evaluator,
    root: Root,
}

impl Value {
    pub(crate) fn new(evaluator: Evaluator, root: Root) -> Value {
        Value { evaluator, root }
    }

    pub(crate) fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    pub(crate) fn raw(&self, m: &Machine) -> nivis_eval::Value {
        m.rooted(self.root)
    }

    /// Runs something on the evaluated value.
    fn on<T>(
        &self,
        f: impl FnOnce(&mut Machine, nivis_eval::Value) -> nivis_eval::Result<T>,
    ) -> Result<T> {
        self.evaluator.run(|m| {
            let value = m.force(m.rooted(self.root))?;
            f(m, value)
        })
    }

    fn handle(&self, value: nivis_eval::Value) -> Value {
        self.evaluator.handle(value)
    }

    /// Evaluates the value to weak head normal form.
    ///
    /// # Errors
    /// What the evaluation fails with. It fails the same way again, unless it was cancelled.
    pub fn force(&self) -> Result<()> {
        self.on(|_, _| Ok(()))
    }

    /// Evaluates the value and everything in it.
    ///
    /// # Errors
    /// What the evaluation of any part fails with.
    pub fn force_deep(&self) -> Result<()> {
        self.on(|m, v| m.run_native(ops::force_deep, &[v]).map(|_| ()))
    }

    /// The type of the value.
    ///
    /// # Errors
    /// What the evaluation fails with.
    pub fn kind(&self) -> Result<Type> {
        self.on(|_, v| Ok(v.type_of()))
    }

    /// Whether the value is evaluated already.
    pub fn is_evaluated(&self) -> bool {
        self.evaluator
            .with_machine(|m| !m.rooted(self.root).is_thunk())
    }

    /// The value of an attribute; `None` when the set has no such attribute.
    ///
    /// # Errors
    /// When the value is no set.
    pub fn get(&self, name: &str) -> Result<Option<Value>> {
        let found = self.on(|m, v| {
            let attrs = m.want_attrs(v)?;
            Ok(m.symbols.find(name.as_bytes()).and_then(|s| attrs.get(s)))
        })?;
        Ok(found.map(|v| self.handle(v)))
    }

    /// The value of an attribute.
    ///
    /// # Errors
    /// When the value is no set, or has no such attribute; the error then suggests similar names.
    pub fn attr(&self, name: &str) -> Result<Value> {
        let found = self.on(|m, v| {
            let attrs = m.want_attrs(v)?;
            let symbol = m.symbols.intern(name.as_bytes());
            attrs
                .get(symbol)
                .ok_or_else(|| m.missing_attr(attrs, symbol))
        })?;
        Ok(self.handle(found))
    }

    /// An element of a list.
    ///
    /// # Errors
    /// When the value is no list, or has fewer elements.
    pub fn index(&self, index: usize) -> Result<Value> {
        let found = self.on(|m, v| {
            let list = m.want_list(v)?;
            list.get(index).ok_or_else(|| {
                nivis_eval::Error::new(
                    ErrorKind::MissingAttribute,
                    format!(
                        "list index {index} is out of range: the list has {} elements",
                        list.len()
                    ),
                )
            })
        })?;
        Ok(self.handle(found))
    }

    /// Follows an attribute path such as `a."b.c".0`. Functions on the way whose arguments all have defaults are
    /// called.
    ///
    /// # Errors
    /// When the path leads nowhere.
    pub fn select(&self, path: &str) -> Result<Value> {
        let found = self.on(|m, v| {
            let args = AutoArgs::new(m, []);
            let found = crate::select::find_along(m, args, v, path);
            args.release(m);
            found
        })?;
        Ok(self.handle(found))
    }

    /// The number of attributes of a set, of elements of a list, or of bytes of a string.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn len(&self) -> Result<usize> {
        self.on(|m, v| {
            if let Some(list) = v.as_list() {
                return Ok(list.len());
            }
            if let Some(s) = v.as_string() {
                return Ok(s.len());
            }
            m.want_attrs(v).map(|a| a.len())
        })
    }

    /// Whether [`Value::len`] is zero.
    ///
    /// # Errors
    /// When the value is neither set, list nor string.
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|n| n == 0)
    }

    /// The names of a set's attributes, sorted.
    ///
    /// # Errors
    /// When the value is no set.
    pub fn names(&self) -> Result<Vec<String>> {
        self.on(|m, v| {
            let attrs = m.want_attrs(v)?;
            Ok(m.sorted_attrs(attrs)
                .into_iter()
                .map(|(s, ..)| m.symbols.text(s))
                .collect())
        })
    }

    /// A set's attributes, sorted by name.
    ///
    /// # Errors
    /// When the value is no set.
    pub fn attrs(&self) -> Result<Vec<(String, Value)>> {
        let entries = self.on(|m, v| {
            let attrs = m.want_attrs(v)?;
            let sorted = m.sorted_attrs(attrs);
            Ok(sorted
                .into_iter()
                .map(|(s, v, _)| (m.symbols.text(s), v))
                .collect::<Vec<_>>())
        })?;
        Ok(entries
            .into_iter()
            .map(|(name, v)| (name, self.handle(v)))
            .collect())
    }

    /// A list's elements.
    ///
    /// # Errors
    /// When the value is no list.
    pub fn elements(&self) -> Result<Vec<Value>> {
        let items = self.on(|m, v| Ok(m.want_list(v)?.iter().collect::<Vec<_>>()))?;
        Ok(items.into_iter().map(|v| self.handle(v)).collect())
    }

    /// Calls a function (or a set with `__functor`).
    ///
    /// # Errors
    /// When the value is no function, an argument belongs to another evaluator, or the call fails.
    pub fn call(&self, args: &[&Value]) -> Result<Value> {
        for arg in args {
            self.evaluator.own(arg)?;
        }
        let result = self.on(|m, f| {
            let args: Vec<nivis_eval::Value> = args.iter().map(|a| a.raw(m)).collect();
            m.call(f, &args)
        })?;
        Ok(self.handle(result))
    }

    /// The Boolean.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn as_bool(&self) -> Result<bool> {
        self.on(|m, v| m.want_bool(v))
    }

    /// The integer.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn as_int(&self) -> Result<i64> {
        self.on(|m, v| m.want_int(v))
    }

    /// The number as a float.
    ///
    /// # Errors
    /// When the value is neither float nor integer.
    pub fn as_float(&self) -> Result<f64> {
        self.on(|m, v| {
            v.as_float()
                .or_else(|| v.as_int().map(|i| i as f64))
                .ok_or_else(|| m.expected(Type::Float, v))
        })
    }

    /// The string's bytes.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn as_bytes(&self) -> Result<Vec<u8>> {
        self.on(|m, v| Ok(m.want_string(v)?.bytes().to_vec()))
    }

    /// The string.
    ///
    /// # Errors
    /// When the value is something else, or not UTF-8.
    pub fn as_str(&self) -> Result<String> {
        String::from_utf8(self.as_bytes()?)
            .map_err(|_| Error::new(ErrorKind::Type, "the string is not UTF-8"))
    }

    /// The string that `"${…}"` would give, but for paths, which are not copied to the store: of strings, paths,
    /// and sets with `outPath` or `__toString`.
    ///
    /// # Errors
    /// When the value cannot be coerced.
    pub fn coerce_to_string(&self) -> Result<String> {
        self.on(|m, v| {
            let s = m.run_native(ops::coerce_to_string, &[v, ops::Coerce::PATH.value()])?;
            Ok(m.want_string(s)?.to_text())
        })
    }

    /// The store paths that the string refers to (its context), sorted.
    ///
    /// # Errors
    /// When the value is no string.
    pub fn context(&self) -> Result<Vec<String>> {
        self.on(|m, v| {
            let context = m.want_string(v)?.context();
            let elements = m.contexts.elements(context);
            let mut paths: Vec<String> = elements
                .map(|e| String::from_utf8_lossy(e.path()).into_owned())
                .collect();
            paths.sort();
            paths.dedup();
            Ok(paths)
        })
    }

    /// Converts the value, evaluating what the Rust type asks for: an attribute that it ignores stays unevaluated.
    ///
    /// # Errors
    /// When evaluation fails, the value does not fit the type, or is nested too deeply; the trace then says
    /// where in the value.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        self.evaluator.run_own(|m| {
            let value = m.rooted(self.root);
            crate::de::from_value(m, value)
        })
    }

    /// The value as JSON, as `nix eval --json` prints it.
    ///
    /// # Errors
    /// When evaluation fails, or the value holds functions.
    pub fn json(&self) -> Result<String> {
        let options = JsonOptions {
            strict: true,
            copy_paths: false,
        };
        let bytes = self.on(|m, v| crate::output::json(m, v, options))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The value as a Nix expression, as far as it is evaluated.
    pub fn print(&self) -> String {
        let bytes = self
            .evaluator
            .with_machine(|m| m.print(m.rooted(self.root), &PrintOptions::PLAIN));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The value as `nix-instantiate --eval` prints it, as far as it is evaluated.
    pub fn print_classic(&self) -> String {
        let bytes = self
            .evaluator
            .with_machine(|m| m.print(m.rooted(self.root), &PrintOptions::CLASSIC));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The path of the `.drv` file of a derivation.
    ///
    /// # Errors
    /// When the value is no derivation.
    pub fn drv_path(&self) -> Result<String> {
        let path = self.on(|m, v| {
            if !crate::packages::is_derivation(m, v)? {
                return Err(nivis_eval::Error::type_error(format!(
                    "expected a derivation but found {}",
                    m.describe_type(v)
                )));
            }
            let attrs = m.want_attrs(v)?;
            attrs
                .get(m.known.drv_path)
                .ok_or_else(|| m.missing_attr(attrs, m.known.drv_path))
        })?;
        self.handle(path).coerce_to_string()
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        let value = self.evaluator.with_machine(|m| m.rooted(self.root));
        self.handle(value)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.evaluator.release(self.root);
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.print())
    }
}
