//! Errors, evaluation order, tracing, imports.

use crate::args::{Want, arguments};
use crate::files::realised_path;
use crate::scratch;
use crate::table::{frame, leaf};
use nivis_eval::machine::bytes_path;
use nivis_eval::own;
use nivis_eval::print::PrintOptions;
use nivis_eval::{
    Activation, Builtin, Error, ErrorKind, Machine, Result, SourceSpan, Step, Value, ops,
};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "abort",
        &["message"],
        0b1,
        abort,
        "Ends the evaluation with an error that `tryEval` does not catch.",
    )
    .global(),
    frame(
        "throw",
        &["message"],
        0b1,
        throw,
        "Fails with the given message. `tryEval` catches this.",
    )
    .global(),
    frame(
        "tryEval",
        &["value"],
        0,
        try_eval,
        "Evaluates `value` (not what is in it) and returns `{ success = true; value; }`; if that fails with `throw` or \
         `assert`, `{ success = false; value = false; }`. Other errors are not caught.",
    ),
    leaf("seq", &["a", "b"], 0b1, seq, "Evaluates `a` (not what is in it), then returns `b`."),
    frame(
        "deepSeq",
        &["a", "b"],
        0,
        deep_seq,
        "Evaluates `a` and everything in its lists and sets, then returns `b`.",
    ),
    leaf(
        "trace",
        &["message", "value"],
        0b1,
        trace,
        "Shows `message` (a string as it is, other values as far as they are evaluated) to the user, then returns \
         `value`.",
    ),
    frame(
        "traceVerbose",
        &["message", "value"],
        0,
        trace_verbose,
        "Like `trace` if verbose tracing is switched on, else returns `value` without looking at `message`.",
    ),
    leaf(
        "warn",
        &["message", "value"],
        0b1,
        warn,
        "Shows the string `message` to the user as a warning, then returns `value`. With the setting `abort-on-warn` \
         a warning ends the evaluation.",
    ),
    frame(
        "addErrorContext",
        &["context", "value"],
        0,
        add_error_context,
        "Returns `value`. If evaluating that fails, the string `context` is added to the error's trace.",
    ),
    leaf(
        "break",
        &["value"],
        0,
        break_point,
        "Returns `value`. In a debugger, evaluation pauses here first.",
    )
    .global(),
    frame(
        "import",
        &["path"],
        0,
        import,
        "Returns the value of the Nix file at `path`; of a folder, that of `default.nix` in it. Each file is evaluated \
         once. `path` may also be an absolute path in a string, or a set that becomes one.",
    )
    .global(),
    frame(
        "scopedImport",
        &["scope", "path"],
        0,
        scoped_import,
        "Like `import`, but the attributes of the set `scope` are variables in the file, before the builtins. The file \
         is evaluated anew each time.",
    )
    .global(),
];

/// Gets the message in local 0 as string; `None` when the step says how.
fn message(m: &mut Machine, a: &mut Activation) -> std::result::Result<String, Step> {
    if a.state == 0 {
        a.state = 1;
        let v = m.local(a, 0);
        if !v.is_string() {
            m.push(v);
            m.push(ops::Coerce::INTERPOLATION.value());
            return Err(Step::Run(ops::coerce_to_string, 2));
        }
        m.push(v);
    }
    let text = m.pop();
    Ok(text.as_string().map(|s| s.to_text()).unwrap_or_default())
}

fn abort(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    match message(m, a) {
        Err(step) => Ok(step),
        Ok(text) => Err(Error::new(
            ErrorKind::Abort,
            format!("evaluation aborted with the following error message: '{text}'"),
        )),
    }
}

fn throw(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    match message(m, a) {
        Err(step) => Ok(step),
        Ok(text) => Err(Error::new(ErrorKind::Throw, text)),
    }
}

fn try_eval(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if a.state == 0 {
        a.state = 1;
        return Ok(Step::Catch(m.local(a, 0)));
    }
    let (success, value) = if a.failed {
        drop(m.take_error());
        (Value::FALSE, Value::FALSE)
    } else {
        (Value::TRUE, m.pop())
    };
    let name = m.symbols.intern(b"success");
    let value_name = m.known.value;
    Ok(Step::Done(m.record([(name, success), (value_name, value)])))
}

fn seq(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(args[1])
}

fn deep_seq(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if a.state == 0 {
        a.state = 1;
        let v = m.local(a, 0);
        m.push(v);
        return Ok(Step::Run(ops::force_deep, 1));
    }
    Ok(Step::Done(m.local(a, 1)))
}

fn show_trace(m: &mut Machine, v: Value) {
    let mut line = b"trace: ".to_vec();
    match v.as_string() {
        Some(s) => line.extend_from_slice(s.bytes()),
        None => {
            let options = PrintOptions {
                derivation_paths: false,
                ..PrintOptions::PLAIN
            };
            line.extend_from_slice(&m.print(v, &options));
        }
    }
    m.host.message(&line);
}

fn trace(m: &mut Machine, args: &[Value]) -> Result<Value> {
    show_trace(m, args[0]);
    Ok(args[1])
}

fn trace_verbose(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if m.settings.trace_verbose {
        if let Some(step) = arguments(m, a, 2, &[(0, Want::Any)])? {
            return Ok(step);
        }
        show_trace(m, m.local(a, 0));
    }
    Ok(Step::Done(m.local(a, 1)))
}

fn warn(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let text = m.want_string(args[0])?;
    m.host
        .message(&[b"evaluation warning: ", text.bytes()].concat());
    if m.settings.abort_on_warn {
        return Err(Error::new(
            ErrorKind::Abort,
            "aborting to reveal stack trace of warning, as abort-on-warn is set",
        ));
    }
    Ok(args[1])
}

fn add_error_context(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    const VALUE: u64 = 1;
    const CONTEXT: u64 = 2;
    const COERCED: u64 = 3;
    if a.state == 0 {
        a.state = VALUE;
        return Ok(Step::CatchAll(m.local(a, 1)));
    }
    if a.state == VALUE {
        if !a.failed {
            return Ok(Step::Done(m.pop()));
        }
        let error = m.take_error();
        a.state = CONTEXT;
        scratch::put(m, a, Some(error));
        return Ok(Step::Force(m.local(a, 0)));
    }
    let text = m.pop();
    if a.state == CONTEXT && !text.is_string() {
        a.state = COERCED;
        m.push(text);
        m.push(ops::Coerce::CONCAT.value());
        return Ok(Step::Run(ops::coerce_to_string, 2));
    }
    let text = m.want_string(text)?.to_text();
    match scratch::take::<Option<Error>>(m, a) {
        Some(error) => {
            // Errors are no values, and each step adds to the one that comes through.
            m.check_memory(error.text_bytes().saturating_add(text.len()))?;
            Err(error.context(text, SourceSpan::default(), true))
        }
        None => Err(Error::other("the error to add context to is gone")),
    }
}

fn break_point(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(args[0])
}

fn import(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let path = if a.state == 0 {
        let v = m.local(a, 0);
        match v.as_path() {
            Some(path) => path,
            None => {
                a.state = 1;
                m.push(v);
                return Ok(Step::Run(realised_path, 1));
            }
        }
    } else {
        let path = m.pop();
        m.want_string(path)?
    };
    if own::inside(path.bytes()).is_some() {
        return crate::own::load(m, path.bytes()).map(Step::Done);
    }
    if let Some(step) = crate::imported::derivation(m, path)? {
        return Ok(step);
    }
    Ok(Step::Done(m.load_file(bytes_path(path.bytes()))?))
}

fn scoped_import(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: scope, path; then the path as such.
    const LOADED: u64 = 4;
    if a.state == LOADED {
        return Ok(Step::Done(m.pop()));
    }
    if a.state == 0 {
        a.state = 1;
        let v = m.local(a, 1);
        m.push(v);
        return Ok(Step::Run(realised_path, 1));
    }
    if a.state == 1 {
        a.state = 2;
        let path = m.pop();
        m.set_local(a, 1, path);
    }
    if a.state == 2 {
        let path = m.want_string(m.local(a, 1))?;
        if let Some(step) = crate::imported::derivation(m, path)? {
            return Ok(step);
        }
        a.state = 3;
    }
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Attrs)])? {
        return Ok(step);
    }
    let scope = m.want_attrs(m.local(a, 0))?;
    let path = m.want_string(m.local(a, 1))?;
    let variables: Vec<_> = scope.iter().map(|(name, value, _)| (name, value)).collect();
    let file = if own::inside(path.bytes()).is_some() {
        crate::own::load_with(m, path.bytes(), &variables)?
    } else {
        m.load_file_with(bytes_path(path.bytes()), &variables)?
    };
    // Not in this one's place: a file that imports itself makes code without end, and must meet the limit of nested calls.
    a.state = LOADED;
    Ok(Step::Force(file))
}
