//! Arguments that are sets: binding them to formals, and what is wrong with them.

use super::Machine;
use crate::code::{Default as FormalDefault, Formal, Lambda};
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{AttrsRef, EnvPtr};
use crate::position::SourceSpan;
use crate::symbol::Symbol;
use crate::value::Value;

impl Machine {
    pub(super) fn bind_formals(
        &mut self,
        lambda: &Lambda,
        attrs: AttrsRef,
        env: EnvPtr,
    ) -> Result<()> {
        let Some(formals) = &lambda.formals else {
            return Ok(());
        };
        if attrs.flat_shape().is_none()
            && formals.ellipsis
            && formals.entries.len() < attrs.len_at_most() / 8
        {
            // A few names of a package set: it need not be joined for them.
            for formal in &formals.entries {
                let v = match attrs.get(formal.symbol) {
                    Some(v) => v,
                    None => self.missing_formal(lambda, formal, attrs, env)?,
                };
                env.set(formal.slot as usize, v);
            }
            return Ok(());
        }
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        let len = shape.len();
        let mut matched = 0;
        // Both are sorted by symbol. Few formals against a large set are searched, else merged.
        let search = len > 4 * formals.entries.len() + 8;
        let mut at = 0;
        for formal in &formals.entries {
            if search {
                at = match shape.lower_bound(at, formal.symbol) {
                    Ok(i) | Err(i) => i,
                };
            } else {
                while at < len && shape.symbol(at) < formal.symbol {
                    at += 1;
                }
            }
            if at < len && shape.symbol(at) == formal.symbol {
                env.set(formal.slot as usize, attrs.at(at));
                matched += 1;
                at += 1;
                continue;
            }
            let v = self.missing_formal(lambda, formal, attrs, env)?;
            env.set(formal.slot as usize, v);
        }
        if matched != len && !formals.ellipsis {
            return Err(self.unexpected_argument(lambda, attrs));
        }
        Ok(())
    }

    #[inline]
    fn missing_formal(
        &mut self,
        lambda: &Lambda,
        formal: &Formal,
        attrs: AttrsRef,
        env: EnvPtr,
    ) -> Result<Value> {
        match formal.default {
            FormalDefault::Constant(v) => Ok(v),
            FormalDefault::Outer(depth, slot) => {
                let v = env.ancestor(usize::from(depth)).get(slot as usize);
                debug_assert!(v != Value::EMPTY);
                Ok(v)
            }
            FormalDefault::Code(code) => Ok(self.heap.thunk(code, env)),
            FormalDefault::Required => Err(self.missing_argument(lambda, formal.symbol, attrs)),
        }
    }

    fn lambda_name(&self, lambda: &Lambda) -> String {
        match lambda.name.get() {
            Some(name) => format!("'{}'", self.symbols.text(name)),
            None => "'anonymous lambda'".to_string(),
        }
    }

    #[cold]
    fn missing_argument(&self, lambda: &Lambda, symbol: Symbol, attrs: AttrsRef) -> Error {
        let name = self.symbols.text(symbol);
        let e = Error::new(
            ErrorKind::Arguments,
            format!(
                "function {} called without required argument '{name}'",
                self.lambda_name(lambda)
            ),
        );
        // What was given and is wanted too was not meant for something else.
        let given = attrs
            .names()
            .filter(|s| !lambda.takes(*s))
            .map(|s| self.symbols.text(s));
        self.wrong_call(lambda, e.suggest(crate::suggest::similar(&name, given)))
    }

    #[cold]
    fn unexpected_argument(&self, lambda: &Lambda, attrs: AttrsRef) -> Error {
        // Nix names the first one in the order of names' symbols.
        let name = attrs
            .names()
            .find(|s| !lambda.takes(*s))
            .map(|s| (self.symbols.text(s), self.attr_text(s)));
        let (name, shown) = name.unwrap_or_default();
        let e = Error::new(
            ErrorKind::Arguments,
            format!(
                "function {} called with unexpected argument '{shown}'",
                self.lambda_name(lambda)
            ),
        );
        let formals = lambda.formals.iter().flat_map(|f| f.entries.iter());
        let names = formals.map(|f| self.symbols.text(f.symbol));
        self.wrong_call(lambda, e.suggest(crate::suggest::similar(&name, names)))
    }

    /// The error of a call whose argument does not fit: its place is the call, and the function is shown beside it.
    #[cold]
    pub(super) fn wrong_call(&self, lambda: &Lambda, mut error: Error) -> Error {
        let data = error.data_mut();
        data.at_call = true;
        data.related = Some((
            "the function is defined here".to_string(),
            SourceSpan {
                start: lambda.pos,
                len: 1,
            },
        ));
        error
    }
}
