//! Functions of the embedding program as builtins.

use nivis_eval::{
    Activation, Body, Builtin, ErrorKind, Machine, PosId, Result, Step, Symbol, Value, ops,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::sync::Arc;

/// A builtin to be added, behind a wrapper that evaluates its arguments completely where it is needed.
pub(crate) struct Extra {
    builtin: Builtin,
    deep: bool,
}

impl Extra {
    pub(crate) fn native(builtin: Builtin) -> Extra {
        Extra {
            builtin,
            deep: false,
        }
    }
}

type Closure = Arc<dyn Fn(&mut Machine, &[Value]) -> Result<Value> + Send + Sync>;

fn converted(
    name: &'static str,
    args: &'static [&'static str],
    doc: &'static str,
    f: Closure,
) -> Extra {
    Extra {
        builtin: Builtin {
            name,
            args,
            strict: 0xff,
            global: true,
            body: Body::Closure(f),
            doc,
        },
        deep: true,
    }
}

fn failed(e: impl Display) -> nivis_eval::Error {
    nivis_eval::Error::new(ErrorKind::Throw, e.to_string())
}

fn argument<T: DeserializeOwned>(m: &mut Machine, value: Option<&Value>) -> Result<T> {
    let value = value.copied().unwrap_or(Value::NULL);
    crate::de::from_evaluated(m, value)
        .map_err(|e| nivis_eval::Error::type_error(e.diagnostic().message.clone()))
}

fn result<R: Serialize>(m: &mut Machine, value: &R) -> Result<Value> {
    crate::ser::to_value(m, value)
        .map_err(|e| nivis_eval::Error::other(e.diagnostic().message.clone()))
}

pub(crate) fn function1<T, R, E>(
    name: &'static str,
    doc: &'static str,
    f: impl Fn(T) -> std::result::Result<R, E> + Send + Sync + 'static,
) -> Extra
where
    T: DeserializeOwned,
    R: Serialize,
    E: Display,
{
    let call = move |m: &mut Machine, args: &[Value]| {
        let x = argument(m, args.first())?;
        let r = f(x).map_err(failed)?;
        result(m, &r)
    };
    converted(name, &["argument"], doc, Arc::new(call))
}

pub(crate) fn function2<T, U, R, E>(
    name: &'static str,
    doc: &'static str,
    f: impl Fn(T, U) -> std::result::Result<R, E> + Send + Sync + 'static,
) -> Extra
where
    T: DeserializeOwned,
    U: DeserializeOwned,
    R: Serialize,
    E: Display,
{
    let call = move |m: &mut Machine, args: &[Value]| {
        let (x, y) = (argument(m, args.first())?, argument(m, args.get(1))?);
        let r = f(x, y).map_err(failed)?;
        result(m, &r)
    };
    converted(name, &["first", "second"], doc, Arc::new(call))
}

/// Evaluates all its arguments but the first completely and calls the first with them.
fn call_deep(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let index = a.state as usize;
    if index > 0 {
        m.pop();
    }
    let count = m.locals(a);
    if index + 1 == count {
        return Ok(Step::TailCall(count as u16 - 1));
    }
    a.state += 1;
    let argument = m.local(a, index + 1);
    m.push(argument);
    Ok(Step::Run(ops::force_deep, 1))
}

/// Adds builtins to a machine that has those of Nix.
pub(crate) fn install(m: &mut Machine, extras: Vec<Extra>) -> Result<()> {
    let mut entries: Vec<(Symbol, PosId, Value)> =
        match m.global("builtins").and_then(Value::as_attrs) {
            Some(set) => set.iter().map(|(s, v, p)| (s, p, v)).collect(),
            None => Vec::new(),
        };
    for Extra { builtin, deep } in extras {
        let (name, global, doc) = (builtin.name, builtin.global, builtin.doc);
        let args: &'static [&'static str] = if builtin.args.len() == 1 {
            &["function", "argument"]
        } else {
            &["function", "first", "second"]
        };
        let mut value = m.add_builtin(builtin);
        if deep {
            let wrapper = Builtin {
                name,
                args,
                strict: 0,
                global,
                body: Body::Frame(call_deep),
                doc,
            };
            let wrapper = m.add_builtin(wrapper);
            value = m.call(wrapper, &[value])?;
        }
        entries.push((m.symbols.intern(name.as_bytes()), PosId::NONE, value));
        let bound = if global {
            name.to_string()
        } else {
            format!("__{name}")
        };
        m.bind_global(&bound, value);
    }
    let set = m.attrs(entries);
    m.bind_global("builtins", set);
    Ok(())
}
