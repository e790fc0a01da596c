//! The operators that are more than one instruction: arithmetic, `+`, comparison, equality, coercion to
//! strings, deep evaluation.
//!
//! Those that may have to evaluate something on the way are [`Resume`](crate::native::Resume) functions, so that they can be run by
//! the machine's ops and by builtins alike.

use crate::context::{ContextElement, ContextUnion};
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{AttrsRef, StringRef};
use crate::machine::{Machine, bytes_path, canonical_path};
use crate::native::{Activation, Step};
use crate::own;
use crate::position::SourceSpan;
use crate::value::{Type, Value};

/// `-`, `*` and `/` (`+` also joins strings: see `add`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    /// `+`, of numbers only.
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
}

#[cold]
pub(crate) fn overflow(verb: &str, a: i64, op: &str, b: i64) -> Error {
    Error::new(
        ErrorKind::Arithmetic,
        format!("integer overflow in {verb} {a} {op} {b}"),
    )
}

/// Arithmetic on evaluated numbers.
///
/// # Errors
/// Overflow, division by zero, operands that are no numbers.
pub fn arithmetic(m: &mut Machine, op: Arithmetic, left: Value, right: Value) -> Result<Value> {
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let (result, verb, sign) = match op {
            Arithmetic::Add => (a.checked_add(b), "adding", "+"),
            Arithmetic::Sub => (a.checked_sub(b), "subtracting", "-"),
            Arithmetic::Mul => (a.checked_mul(b), "multiplying", "*"),
            Arithmetic::Div => {
                if b == 0 {
                    return Err(Error::new(ErrorKind::Arithmetic, "division by zero"));
                }
                (a.checked_div(b), "dividing", "/")
            }
        };
        return match result {
            Some(i) => Ok(m.heap.int(i)),
            None => Err(overflow(verb, a, sign, b)),
        };
    }
    let number = |v: Value| v.as_float().or_else(|| v.as_int().map(|i| i as f64));
    if op == Arithmetic::Div {
        // The divisor is looked at first, as a float whatever the dividend is.
        match number(right) {
            None => return Err(m.expected(Type::Float, right)),
            Some(0.0) => return Err(Error::new(ErrorKind::Arithmetic, "division by zero")),
            _ => {}
        }
    }
    // With a float on either side the other may be an integer; the first operand that does not fit is
    // reported as the reference does.
    match (number(left), number(right)) {
        (Some(a), Some(b)) => {
            let f = match op {
                Arithmetic::Add => a + b,
                Arithmetic::Sub => a - b,
                Arithmetic::Mul => a * b,
                Arithmetic::Div => a / b,
            };
            Ok(m.heap.float(f))
        }
        (first, _) => {
            let wanted = if left.as_float().is_some() || right.as_float().is_some() {
                Type::Float
            } else {
                Type::Int
            };
            let wrong = if first.is_none() { left } else { right };
            Err(m.expected(wanted, wrong))
        }
    }
}

/// `+` on operands that need no further evaluation; `None` when a set must be coerced.
pub(crate) fn add_simple(m: &mut Machine, left: Value, right: Value) -> Result<Option<Value>> {
    match left.type_of() {
        Type::Int | Type::Float => match right.type_of() {
            Type::Int | Type::Float => arithmetic(m, Arithmetic::Add, left, right).map(Some),
            _ => Err(Error::type_error(format!(
                "cannot add {} to {}",
                m.describe_type(right),
                m.describe_type(left)
            ))),
        },
        Type::String if right.is_string() => {
            let (a, b) = (StringRef(left), StringRef(right));
            let total = a.len() + b.len();
            m.check_string(total)?;
            let context = m.contexts.union(a.context(), b.context());
            Ok(Some(m.heap.concat(&[left, right], total, context)))
        }
        _ => Ok(None),
    }
}

/// Whether a left operand of `+` is coerced before the right one is evaluated.
pub(crate) fn begins_sum(left: Value) -> bool {
    !matches!(
        left.type_of(),
        Type::Int | Type::Float | Type::String | Type::Path
    )
}

/// Coerces such an operand. The result is in a list, which no operand of `+` can be otherwise, because [`add`] has to know that
/// it was not a string from the beginning.
pub(crate) fn begin_sum(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if a.state == 0 {
        a.state = 1;
        let left = m.local(a, 0);
        m.push(left);
        m.push(Coerce::CONCAT_FIRST.value());
        return Ok(Step::Run(coerce_to_string, 2));
    }
    let s = m.pop();
    Ok(Step::Done(m.heap.list(&[s])))
}

/// `+` where an operand is a path, a set or of no use. Locals: both operands, evaluated; the left one after [`begin_sum`].
pub(crate) fn add(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // A path on the left gives a path, and keeps a path on the right out of the store.
    let (left, right) = (m.local(a, 0), m.local(a, 1));
    let is_path = left.as_path().is_some();
    let mode = if is_path {
        Coerce::PATH
    } else {
        Coerce::CONCAT
    };
    let mode = if left.is_string() || !is_path {
        mode
    } else {
        Coerce::PATH
    };
    match a.state {
        0 => {
            a.state = 1;
            if let Some(coerced) = left.as_list() {
                m.push(coerced.get(0).unwrap_or(Value::NULL));
                return add(m, a);
            }
            let first = if is_path {
                Coerce::PATH
            } else {
                Coerce::CONCAT_FIRST
            };
            m.push(left);
            m.push(first.value());
            Ok(Step::Run(coerce_to_string, 2))
        }
        1 => {
            let s = m.pop();
            m.push(s);
            a.state = 2;
            m.push(right);
            // What is not a string on the left (a set) does not copy paths on the right.
            let second = if left.is_string() {
                Coerce::INTERPOLATION
            } else {
                mode
            };
            m.push(second.value());
            Ok(Step::Run(coerce_to_string, 2))
        }
        _ => {
            let (second, first) = (m.pop(), m.pop());
            let (x, y) = (m.want_string(first)?, m.want_string(second)?);
            let total = x.len() + y.len();
            m.check_string(total)?;
            let context = m.contexts.union(x.context(), y.context());
            let joined = m.heap.concat(&[first, second], total, context);
            Ok(Step::Done(if is_path {
                path_of_string(m, joined)?
            } else {
                joined
            }))
        }
    }
}

/// The path that a string names, canonicalised.
///
/// # Errors
/// When the string has a context.
pub fn path_of_string(m: &mut Machine, s: Value) -> Result<Value> {
    let s = m.want_string(s)?;
    if !s.context().is_empty() {
        return Err(Error::other(
            "a string that refers to a store path cannot be appended to a path",
        ));
    }
    if s.bytes().contains(&0) {
        return Err(Error::other("a path cannot contain a NUL byte"));
    }
    let canonical = canonical_path(s.bytes());
    Ok(m.heap.path(&canonical))
}

// ---- order ----------------------------------------------------------------------------------------

#[cold]
fn cannot_compare(m: &Machine, a: Value, b: Value) -> Error {
    let (x, y) = (m.describe_value(a), m.describe_value(b));
    let message = format!(
        "cannot compare {} with {}",
        m.describe_type(a),
        m.describe_type(b)
    );
    Error::type_error(if a.type_of() == b.type_of() {
        format!("{message}; values of that type are incomparable (values are {x} and {y})")
    } else {
        format!("{message}; values are {x} and {y}")
    })
}

/// `a < b` for evaluated values that are not lists.
///
/// # Errors
/// When the values cannot be compared.
pub fn less_simple(m: &Machine, a: Value, b: Value) -> Result<bool> {
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return Ok(x < y);
    }
    let number = |v: Value| v.as_float().or_else(|| v.as_int().map(|i| i as f64));
    if let (Some(x), Some(y)) = (number(a), number(b)) {
        return Ok(x < y);
    }
    if let (Some(x), Some(y)) = (a.as_string(), b.as_string()) {
        return Ok(x.bytes() < y.bytes());
    }
    if let (Some(x), Some(y)) = (a.as_path(), b.as_path()) {
        return Ok(x.bytes() < y.bytes());
    }
    Err(cannot_compare(m, a, b))
}

/// `a < b`. Locals: both operands.
///
/// # Errors
/// When the values cannot be compared.
pub fn less_than(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // State: 0 at the start; else twice the index of the element pair plus 1 (being compared for equality)
    // or 2 (to be looked at).
    loop {
        let (x, y) = (m.local(a, 0), m.local(a, 1));
        if a.state == 0 {
            if x.is_thunk() || y.is_thunk() {
                if m.locals(a) > 2 {
                    m.truncate_locals(a, 2);
                    continue;
                }
                return Ok(Step::Force(if x.is_thunk() { x } else { y }));
            }
            m.truncate_locals(a, 2);
            if !x.is_list() || !y.is_list() {
                return Ok(Step::Done(Value::bool(less_simple(m, x, y)?)));
            }
            a.state = 2;
        }
        let (x, y) = (m.want_list(x)?, m.want_list(y)?);
        let index = (a.state as usize - 1) / 2;
        if a.state % 2 == 1 {
            let equal = m.pop();
            if equal == Value::TRUE {
                a.state += 3;
            } else {
                let (Some(p), Some(q)) = (x.get(index), y.get(index)) else {
                    return Ok(Step::Done(Value::FALSE));
                };
                m.push(p);
                m.push(q);
                return Ok(Step::TailRun(less_than, 2));
            }
            continue;
        }
        let (p, q) = (x.get(index), y.get(index));
        let (Some(p), Some(q)) = (p, q) else {
            return Ok(Step::Done(Value::bool(p.is_none() && q.is_some())));
        };
        if !p.is_thunk() && !q.is_thunk() {
            match equal_simple(p, q) {
                Some(true) => {
                    a.state += 2;
                    continue;
                }
                _ if p == q => {
                    a.state += 2;
                    continue;
                }
                Some(false) if !p.is_list() || !q.is_list() => {
                    return Ok(Step::Done(Value::bool(less_simple(m, p, q)?)));
                }
                _ => {}
            }
        }
        a.state -= 1;
        m.push(p);
        m.push(q);
        return Ok(Step::Run(equal_nested, 2));
    }
}

// ---- equality -------------------------------------------------------------------------------------

/// Equality of evaluated values that contain no others; `None` for two sets or two lists.
pub fn equal_simple(a: Value, b: Value) -> Option<bool> {
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return Some(x == y);
    }
    if let (Some(x), Some(y)) = (a.as_string(), b.as_string()) {
        return Some(x.bytes() == y.bytes());
    }
    let number = |v: Value| v.as_float().or_else(|| v.as_int().map(|i| i as f64));
    if let (Some(x), Some(y)) = (number(a), number(b)) {
        return Some(x == y);
    }
    if let (Some(x), Some(y)) = (a.as_path(), b.as_path()) {
        return Some(x.bytes() == y.bytes());
    }
    match (a.type_of(), b.type_of()) {
        (Type::Bool, Type::Bool) | (Type::Null, Type::Null) | (Type::External, Type::External) => {
            Some(a == b)
        }
        (Type::List, Type::List) => match (a.as_list(), b.as_list()) {
            (Some(x), Some(y)) if x.len() != y.len() => Some(false),
            (Some(x), Some(_)) if x.is_empty() => Some(true),
            _ => None,
        },
        (Type::Attrs, Type::Attrs) => None,
        // Functions are never equal.
        _ => Some(false),
    }
}

/// Deep equality. Locals: both operands.
///
/// # Errors
/// Whatever evaluating the operands' contents fails with.
pub fn equal(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    compare(m, a, false)
}

/// Deep equality of values that are parts of others, where identical ones are equal unseen (also
/// functions and NaN). Locals: both operands.
///
/// # Errors
/// Whatever evaluating the operands' contents fails with.
pub fn equal_nested(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    compare(m, a, true)
}

/// Locals are a stack of triples: two values and how many of their parts were compared (or that the
/// values themselves were not looked at yet).
fn compare(m: &mut Machine, a: &mut Activation, nested: bool) -> Result<Step> {
    const FRESH: i64 = -1;
    const ATTRS: i64 = -2;
    if a.state == 0 {
        let fresh = m.heap.int(FRESH);
        m.push(fresh);
    } else {
        // What was forced is found in its thunk.
        m.pop();
    }
    a.state = 1;
    loop {
        let n = m.locals(a);
        if n < 3 {
            return Ok(Step::Done(Value::TRUE));
        }
        let (x, y) = (m.local(a, n - 3), m.local(a, n - 2));
        let at = m.local(a, n - 1).as_int().unwrap_or(0);
        if at == FRESH {
            if x.is_thunk() {
                return Ok(Step::Force(x));
            }
            if y.is_thunk() {
                return Ok(Step::Force(y));
            }
            // Only now: what fails when evaluated is not even equal to itself.
            if (n > 3 || nested) && x == y {
                m.truncate_locals(a, n - 3);
                continue;
            }
            match equal_simple(x, y) {
                Some(true) => m.truncate_locals(a, n - 3),
                Some(false) => return Ok(Step::Done(Value::FALSE)),
                None => {
                    let next = m.heap.int(if x.is_list() { 0 } else { ATTRS });
                    m.set_local(a, n - 1, next);
                }
            }
            continue;
        }
        let (p, q) = if let (Some(xs), Some(ys)) = (x.as_list(), y.as_list()) {
            (xs.get(at as usize), ys.get(at as usize))
        } else if let (Some(xs), Some(ys)) = (x.as_attrs(), y.as_attrs()) {
            if at == ATTRS {
                // Two derivations are equal when their output paths are.
                match (is_derivation(m, xs), is_derivation(m, ys)) {
                    (Err(thunk), _) => return Ok(Step::Force(thunk)),
                    (Ok(true), Err(thunk)) => return Ok(Step::Force(thunk)),
                    (Ok(true), Ok(true)) => {
                        let out = m.known.out_path;
                        if let (Some(p), Some(q)) = (xs.get(out), ys.get(out)) {
                            // Nothing else of them is looked at. They stay, so that this has an end where one contains itself.
                            m.check_nesting(n / 3)?;
                            let done = m.heap.int(i64::from(u32::MAX));
                            m.set_local(a, n - 1, done);
                            m.push(p);
                            m.push(q);
                            let fresh = m.heap.int(FRESH);
                            m.push(fresh);
                            continue;
                        }
                    }
                    _ => {}
                }
                let same_names = xs.len() == ys.len()
                    && (xs.flat_shape().is_some_and(|s| ys.flat_shape() == Some(s))
                        || xs.iter().zip(ys.iter()).all(|((s, ..), (t, ..))| s == t));
                if !same_names {
                    return Ok(Step::Done(Value::FALSE));
                }
                let zero = m.heap.int(0);
                m.set_local(a, n - 1, zero);
                continue;
            }
            let at = at as usize;
            let (xs, ys) = (m.heap.flat(xs), m.heap.flat(ys));
            let p = (at < xs.len()).then(|| xs.at(at));
            let q = (at < ys.len()).then(|| ys.at(at));
            (p, q)
        } else {
            (None, None)
        };
        let (Some(p), Some(q)) = (p, q) else {
            m.truncate_locals(a, n - 3);
            continue;
        };
        m.check_nesting(n / 3)?;
        let next = m.heap.int(at + 1);
        m.set_local(a, n - 1, next);
        if p == q && !p.is_thunk() {
            continue;
        }
        m.push(p);
        m.push(q);
        let fresh = m.heap.int(FRESH);
        m.push(fresh);
    }
}

/// Fails with an account of the first difference unless the operands are equal. Locals: both, evaluated.
///
/// # Errors
/// [`ErrorKind::Assertion`], or whatever evaluating the operands' contents fails with.
pub(crate) fn assert_equal(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // State 0: to be compared as a whole. 1: compared. Then twice the index of the next part, plus 2 to compare
    // it, plus 3 when it was compared. After the operands come the names of the parts that differ.
    let (x, y) = (m.local(a, 0), m.local(a, 1));
    if a.state == 0 {
        a.state = 1;
        m.push(x);
        m.push(y);
        return Ok(Step::Run(equal, 2));
    }
    if a.state == 1 {
        let equal = m.pop();
        if equal == Value::TRUE {
            return Ok(Step::Done(Value::TRUE));
        }
        a.state = 2;
    }
    loop {
        let (x, y) = (m.local(a, 0), m.local(a, 1));
        for (i, v) in [x, y].into_iter().enumerate() {
            if v.is_thunk() {
                // Evaluated, it is found in the thunk; the result itself is not needed.
                if a.state == u64::MAX - i as u64 {
                    m.pop();
                }
                a.state = u64::MAX - i as u64;
                return Ok(Step::Force(v));
            }
        }
        if a.state >= u64::MAX - 1 {
            m.pop();
            a.state = 2;
        }
        let message = difference(m, x, y);
        if let Some(message) = message {
            let mut error = Error::new(ErrorKind::Assertion, message);
            for part in m.locals_from(a, 2).into_iter().rev() {
                let what = match part.as_int() {
                    Some(i) => format!("while comparing list element {i}"),
                    None => {
                        let symbol = part.as_string().and_then(|s| m.symbols.find(s.bytes()));
                        let name = symbol.map(|s| m.attr_text(s)).unwrap_or_default();
                        format!("while comparing attribute '{name}'")
                    }
                };
                error = error.context(what, Default::default(), true);
            }
            return Err(error);
        }
        let index = (a.state as usize - 2) / 2;
        let (p, q, name) = if let (Some(xs), Some(ys)) = (x.as_list(), y.as_list()) {
            (xs.get(index), ys.get(index), m.heap.int(index as i64))
        } else if let (Some(xs), Some(ys)) = (x.as_attrs(), y.as_attrs()) {
            let (xs, ys) = (m.sorted_attrs(xs), m.sorted_attrs(ys));
            let name = xs.get(index).map(|(s, ..)| *s);
            let name = name.map_or(Value::NULL, |s| m.symbol_string(s));
            (xs.get(index).map(|e| e.1), ys.get(index).map(|e| e.1), name)
        } else {
            (None, None, Value::NULL)
        };
        let (Some(p), Some(q)) = (p, q) else {
            return Err(Error::new(ErrorKind::Assertion, "values are not equal"));
        };
        if a.state.is_multiple_of(2) {
            a.state += 1;
            m.push(p);
            m.push(q);
            return Ok(Step::Run(equal_nested, 2));
        }
        let equal = m.pop();
        if equal == Value::TRUE {
            a.state += 1;
            continue;
        }
        m.push(name);
        m.set_local(a, 0, p);
        m.set_local(a, 1, q);
        a.state = 2;
    }
}

/// Why two evaluated values are unequal, unless the reason lies in their parts.
fn difference(m: &Machine, x: Value, y: Value) -> Option<String> {
    let (s, t) = (m.describe_type(x), m.describe_type(y));
    let (p, q) = (m.describe_value(x), m.describe_value(y));
    let number = |v: Value| matches!(v.type_of(), Type::Int | Type::Float);
    if x.type_of() != y.type_of() && !(number(x) && number(y)) {
        return Some(format!(
            "{s} of value '{p}' is not equal to {t} of value '{q}'"
        ));
    }
    if let (Some(xs), Some(ys)) = (x.as_list(), y.as_list()) {
        let (n, k) = (xs.len(), ys.len());
        return (n != k).then(|| {
            format!(
                "list of size '{n}' is not equal to list of size '{k}', left hand side is '{p}', right hand side is '{q}'"
            )
        });
    }
    if let (Some(xs), Some(ys)) = (x.as_attrs(), y.as_attrs()) {
        let same =
            xs.len() == ys.len() && xs.iter().zip(ys.iter()).all(|((a, ..), (b, ..))| a == b);
        return (!same).then(|| {
            format!("attribute names of attribute set '{p}' differs from attribute set '{q}'")
        });
    }
    if x.is_function() {
        return Some(
            "distinct functions and immediate comparisons of identical functions compare as unequal"
                .to_string(),
        );
    }
    Some(match x.type_of() {
        Type::String => format!("string '{p}' is not equal to string '{q}'"),
        Type::Path => format!("path '{p}' is not equal to path '{q}'"),
        Type::Bool => format!("boolean '{p}' is not equal to boolean '{q}'"),
        _ => format!("{s} with value '{p}' is not equal to {t} with value '{q}'"),
    })
}

/// Whether a set is a derivation (`type = "derivation"`), or the thunk to evaluate first.
pub fn is_derivation(m: &Machine, attrs: AttrsRef) -> std::result::Result<bool, Value> {
    match attrs.get(m.known.kind) {
        None => Ok(false),
        Some(v) if v.is_thunk() => Err(v),
        Some(v) => Ok(v.as_string().is_some_and(|s| s.bytes() == b"derivation")),
    }
}

// ---- coercion to strings --------------------------------------------------------------------------

/// How values become strings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coerce(u8);

impl Coerce {
    const MORE: u8 = 1;
    const COPY: u8 = 2;

    /// `"${e}"`: strings, sets that say how, and paths, which are copied to the store.
    pub const INTERPOLATION: Coerce = Coerce(Coerce::COPY);
    /// `./a/${e}`: paths stay where they are.
    pub const PATH: Coerce = Coerce(0);
    /// The right side of `+` whose left side is a string.
    pub const CONCAT: Coerce = Coerce(0);
    /// The left side of `+`.
    pub const CONCAT_FIRST: Coerce = Coerce(0);
    /// `toString e`: also numbers, Booleans, null and lists; paths stay where they are.
    pub const TO_STRING: Coerce = Coerce(Coerce::MORE);
    /// Attributes of a derivation: as `toString`, but paths are copied to the store.
    pub const DERIVATION: Coerce = Coerce(Coerce::MORE | Coerce::COPY);

    /// As a local for [`coerce_to_string`].
    pub fn value(self) -> Value {
        Value::small_int(i64::from(self.0)).unwrap_or(Value::NULL)
    }
}

/// The text of a float as `toString` gives it: six fractional digits.
pub fn float_text(f: f64) -> String {
    if f.is_nan() {
        return if f.is_sign_negative() { "-nan" } else { "nan" }.to_string();
    }
    if f.is_infinite() {
        return if f < 0.0 { "-inf" } else { "inf" }.to_string();
    }
    format!("{f:.6}")
}

/// Copies a path to the store (or computes where it would be) and returns that as string with context.
///
/// # Errors
/// What the host reports.
pub fn copy_to_store(m: &mut Machine, path: StringRef) -> Result<Value> {
    let bytes = path.bytes();
    if own::inside(bytes).is_some() {
        return Err(own::not_in_store(bytes));
    }
    let name = bytes.rsplit(|b| *b == b'/').next().unwrap_or(b"");
    if bytes.ends_with(b".drv") {
        return Err(Error::other(format!(
            "file names are not allowed to end in '.drv' ('{}')",
            String::from_utf8_lossy(bytes)
        )));
    }
    let host = std::rc::Rc::clone(&m.host);
    let store_path = host
        .copy_to_store(bytes_path(bytes), name)
        .map_err(|e| crate::machine::host_error(&e, bytes_path(bytes)))?;
    let context = m
        .contexts
        .single(ContextElement::Path(store_path.clone().into()));
    Ok(m.heap.string(&store_path, context))
}

#[cold]
fn cannot_coerce(m: &Machine, v: Value) -> Error {
    Error::type_error(format!(
        "cannot coerce {} to a string: {}",
        m.describe_type(v),
        m.describe_value(v)
    ))
}

/// Turns a value into a string. Locals: the value and [`Coerce::value`].
///
/// # Errors
/// When the value cannot be coerced in this way, or evaluating a part of it fails.
pub fn coerce_to_string(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    const FORCED: u64 = 1;
    const COERCE_RESULT: u64 = 2;
    const COERCED_RESULT: u64 = 3;
    // Lists: 4 times the index plus the phase.
    const ELEMENT: u64 = 4;
    let mode = Coerce(m.local(a, 1).as_int().unwrap_or(0) as u8);
    match a.state {
        0 | FORCED => {
            if a.state == FORCED {
                m.pop();
            }
            let v = m.local(a, 0);
            if v.is_thunk() {
                a.state = FORCED;
                return Ok(Step::Force(v));
            }
            if v.is_string() {
                return Ok(Step::Done(v));
            }
            if let Some(path) = v.as_path() {
                if mode.0 & Coerce::COPY != 0 {
                    return Ok(Step::Done(copy_to_store(m, path)?));
                }
                let text = own::text(path.bytes());
                if text.len() != path.len() {
                    return Ok(Step::Done(m.string(text)));
                }
                return Ok(Step::Done(path.value()));
            }
            if let Some(attrs) = v.as_attrs() {
                a.state = COERCE_RESULT;
                if let Some(f) = attrs.get(m.known.to_string) {
                    m.push(f);
                    m.push(v);
                    return Ok(Step::Call(1));
                }
                if let Some(out) = attrs.get(m.known.out_path) {
                    return Ok(Step::Force(out));
                }
                return Err(cannot_coerce(m, v));
            }
            if mode.0 & Coerce::MORE == 0 {
                return Err(cannot_coerce(m, v));
            }
            if let Some(list) = v.as_list() {
                if list.is_empty() {
                    return Ok(Step::Done(m.heap.empty_string));
                }
                a.state = ELEMENT;
                return Ok(Step::Force(list.get(0).unwrap_or(Value::NULL)));
            }
            let text = match v.type_of() {
                Type::Int => v.as_int().unwrap_or(0).to_string(),
                Type::Float => float_text(v.as_float().unwrap_or(0.0)),
                Type::Bool if v == Value::TRUE => "1".to_string(),
                Type::Bool | Type::Null => String::new(),
                _ => return Err(cannot_coerce(m, v)),
            };
            Ok(Step::Done(m.string(text)))
        }
        // Not in this one's place: a `__toString` that returns its set must meet the limit of nested calls.
        COERCE_RESULT => {
            let v = m.pop();
            if v.is_string() {
                return Ok(Step::Done(v));
            }
            a.state = COERCED_RESULT;
            m.push(v);
            m.push(mode.value());
            Ok(Step::Run(coerce_to_string, 2))
        }
        COERCED_RESULT => {
            let v = m.pop();
            Ok(Step::Done(v))
        }
        state => {
            let list = m.want_list(m.local(a, 0))?;
            let index = (state / 4 - 1) as usize;
            if state % 4 == 0 {
                // The element is evaluated.
                let element = m.pop();
                if element.is_string() {
                    m.push(element);
                    a.state += 1;
                } else {
                    a.state += 1;
                    m.push(element);
                    m.push(mode.value());
                    return Ok(Step::Run(coerce_to_string, 2));
                }
            }
            // Its text is on the stack, after those of the elements before it.
            let next = index + 1;
            if next == list.len() {
                return Ok(Step::Done(join_locals(m, a, 2)?));
            }
            let empty_list = list
                .get(index)
                .and_then(Value::as_list)
                .is_some_and(|l| l.is_empty());
            if !empty_list {
                let space = m.string(" ");
                m.push(space);
            }
            a.state = ELEMENT + 4 * next as u64;
            Ok(Step::Force(list.get(next).unwrap_or(Value::NULL)))
        }
    }
}

/// The concatenation of the string locals from `first` on.
///
/// # Errors
/// When it is too long.
pub fn join_locals(m: &mut Machine, a: &Activation, first: usize) -> Result<Value> {
    let parts = m.locals_from(a, first);
    join_strings(m, &parts)
}

/// The concatenation of strings, with all their contexts.
///
/// # Errors
/// When a value is no string, or the result is too long.
pub fn join_strings(m: &mut Machine, parts: &[Value]) -> Result<Value> {
    let mut total = 0;
    let mut context = ContextUnion::default();
    for part in parts {
        let s = m.want_string(part.resolved())?;
        total += s.len();
        context.add(&mut m.contexts, s.context());
    }
    m.check_string(total)?;
    if let [only] = parts {
        return Ok(*only);
    }
    let context = context.finish(&mut m.contexts);
    Ok(m.heap.concat(parts, total, context))
}

// ---- deep evaluation ------------------------------------------------------------------------------

/// Which parts of lists and sets were being looked at, innermost first: for traces of functions that go through the value in
/// local 0 and keep pairs of a container and the index of what comes next in it as locals, from `first` on. An index of -1
/// stands for the container's `outPath`.
pub fn describe_parts(
    m: &mut Machine,
    a: &Activation,
    first: usize,
    attribute: &str,
) -> Vec<(String, SourceSpan)> {
    let mut steps = Vec::new();
    let mut part = m.local(a, 0);
    // What lies above its locals on the stack is not known here: a pair is one of them when it is for the part that the pair
    // before it leads to.
    for at in (first..).step_by(2) {
        let (container, index) = (m.local(a, at), m.local(a, at + 1));
        if !(container.is_list() || container.is_attrs()) || container != part {
            break;
        }
        let Some(index) = index.as_int() else { break };
        let index = usize::try_from(index - 1).ok();
        let next = if let Some(list) = container.as_list() {
            let Some(v) = index.and_then(|i| list.get(i)) else {
                break;
            };
            let message = format!(
                "while evaluating list element at index {}",
                index.unwrap_or(0)
            );
            steps.push((message, SourceSpan::default()));
            v
        } else if let (Some(attrs), Some(index)) = (container.as_attrs(), index) {
            let Some((symbol, v, pos)) = m.sorted_attr(attrs, index) else {
                break;
            };
            let name = m.attr_text(symbol);
            let span = SourceSpan { start: pos, len: 1 };
            steps.push((format!("while evaluating {attribute} '{name}'"), span));
            v
        } else {
            let out = container
                .as_attrs()
                .and_then(|attrs| attrs.get(m.known.out_path));
            let Some(v) = out else { break };
            v
        };
        part = next.resolved();
    }
    steps.reverse();
    steps
}

pub(crate) fn describe_deep(m: &mut Machine, a: &Activation) -> Vec<(String, SourceSpan)> {
    describe_parts(m, a, 1, "the attribute")
}

/// Evaluates a value and everything in it. Local: the value, which is also the result.
///
/// Each list and set is visited once, so that shared and cyclic values are no trouble.
///
/// # Errors
/// Whatever evaluating a part fails with.
pub fn force_deep(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals after the first: a stack of containers and how far they were visited. State: which set of
    // visited containers is this run's, plus one.
    if a.state == 0 {
        m.visited.push(Default::default());
        a.state = m.visited.len() as u64;
        let v = m.local(a, 0);
        if v.is_thunk() {
            return Ok(Step::Force(v));
        }
        m.push(v);
    }
    let set = a.state as usize - 1;
    // On top of the stack is a value that was just evaluated.
    let mut value = Some(m.pop());
    loop {
        if let Some(v) = value.take()
            && (v.is_list() || v.is_attrs())
            && m.visited.get_mut(set).is_some_and(|seen| seen.insert(v.0))
        {
            let seen = m.visited.get(set).map_or(0, |seen| seen.len());
            if seen & 0xfff == 0 {
                m.check_memory(seen * 4 * size_of::<u64>())?;
            }
            m.push(v);
            let zero = m.heap.int(0);
            m.push(zero);
        }
        let n = m.locals(a);
        if n < 3 {
            if set + 1 == m.visited.len() {
                m.visited.pop();
            }
            return Ok(Step::Done(m.local(a, 0)));
        }
        let container = m.local(a, n - 2);
        let index = m.local(a, n - 1).as_int().unwrap_or(0) as usize;
        let part = if let Some(list) = container.as_list() {
            list.get(index)
        } else if let Some(attrs) = container.as_attrs() {
            // By name, so that of several failures the reported one does not depend on the program's history.
            let len = attrs.len();
            (index < len).then(|| m.attr_by_name_order(attrs, index))
        } else {
            None
        };
        let Some(part) = part else {
            m.truncate_locals(a, n - 2);
            continue;
        };
        m.check_nesting(n / 2)?;
        let next = m.heap.int(index as i64 + 1);
        m.set_local(a, n - 1, next);
        if part.is_thunk() {
            return Ok(Step::Force(part));
        }
        value = Some(part);
    }
}
