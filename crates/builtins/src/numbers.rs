//! Arithmetic and comparison.

use crate::args::{Want, arguments};
use crate::table::{frame, leaf};
use nivis_eval::ops::{self, Arithmetic};
use nivis_eval::{Activation, Builtin, Error, ErrorKind, Machine, Result, Step, Type, Value};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    leaf(
        "add",
        &["a", "b"],
        0b11,
        add,
        "Returns `a + b` for numbers. A float on either side makes the result a float; integer overflow is an error.",
    ),
    leaf(
        "sub",
        &["a", "b"],
        0b11,
        sub,
        "Returns `a - b` for numbers. A float on either side makes the result a float; integer overflow is an error.",
    ),
    leaf(
        "mul",
        &["a", "b"],
        0b11,
        mul,
        "Returns `a * b` for numbers. A float on either side makes the result a float; integer overflow is an error.",
    ),
    leaf(
        "div",
        &["a", "b"],
        0b11,
        div,
        "Returns `a / b` for numbers. The quotient of integers is rounded towards zero; division by zero is an error.",
    ),
    frame(
        "bitAnd",
        &["a", "b"],
        0b1,
        bit_and,
        "Returns the bitwise AND of two integers.",
    ),
    frame(
        "bitOr",
        &["a", "b"],
        0b1,
        bit_or,
        "Returns the bitwise OR of two integers.",
    ),
    frame(
        "bitXor",
        &["a", "b"],
        0b1,
        bit_xor,
        "Returns the bitwise XOR of two integers.",
    ),
    leaf(
        "ceil",
        &["number"],
        0b1,
        ceil,
        "Returns the smallest integer that is not below `number`. It is an error if that is not in the range of \
         integers, or if `number` is an integer that a double-precision float cannot hold exactly.",
    ),
    leaf(
        "floor",
        &["number"],
        0b1,
        floor,
        "Returns the largest integer that is not above `number`. It is an error if that is not in the range of \
         integers, or if `number` is an integer that a double-precision float cannot hold exactly.",
    ),
    frame(
        "lessThan",
        &["a", "b"],
        0b11,
        less_than,
        "Whether `a < b`: for numbers, for strings and paths by their bytes, and for lists by the first elements that \
         differ. Other values, and values of different types, cannot be compared.",
    ),
];

fn add(m: &mut Machine, args: &[Value]) -> Result<Value> {
    ops::arithmetic(m, Arithmetic::Add, args[0], args[1])
}

fn sub(m: &mut Machine, args: &[Value]) -> Result<Value> {
    ops::arithmetic(m, Arithmetic::Sub, args[0], args[1])
}

fn mul(m: &mut Machine, args: &[Value]) -> Result<Value> {
    ops::arithmetic(m, Arithmetic::Mul, args[0], args[1])
}

fn div(m: &mut Machine, args: &[Value]) -> Result<Value> {
    ops::arithmetic(m, Arithmetic::Div, args[0], args[1])
}

fn bits(m: &mut Machine, a: &mut Activation, op: fn(i64, i64) -> i64) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(0, Want::Int), (1, Want::Int)])? {
        return Ok(step);
    }
    let (x, y) = (m.want_int(m.local(a, 0))?, m.want_int(m.local(a, 1))?);
    Ok(Step::Done(m.heap.int(op(x, y))))
}

fn bit_and(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    bits(m, a, |x, y| x & y)
}

fn bit_or(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    bits(m, a, |x, y| x | y)
}

fn bit_xor(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    bits(m, a, |x, y| x ^ y)
}

fn ceil(m: &mut Machine, args: &[Value]) -> Result<Value> {
    round(m, args[0], f64::ceil)
}

fn floor(m: &mut Machine, args: &[Value]) -> Result<Value> {
    round(m, args[0], f64::floor)
}

fn round(m: &mut Machine, v: Value, round: fn(f64) -> f64) -> Result<Value> {
    /// The first float beyond the integers.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if let Some(i) = v.as_int() {
        // The language goes through a float, and refuses integers that this would change.
        let f = i as f64;
        if f >= END || f as i64 != i {
            return Err(Error::new(
                ErrorKind::Arithmetic,
                format!("NixInt argument {i} cannot be held exactly by a float"),
            ));
        }
        return Ok(v);
    }
    let Some(f) = v.as_float() else {
        return Err(m.expected(Type::Float, v));
    };
    let rounded = round(f);
    if !(-END..END).contains(&rounded) {
        return Err(Error::new(
            ErrorKind::Arithmetic,
            format!(
                "NixFloat argument {} is not in the range of NixInt",
                nivis_eval::print::print_float(f)
            ),
        ));
    }
    Ok(m.heap.int(rounded as i64))
}

fn less_than(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let (x, y) = (m.local(a, 0), m.local(a, 1));
    if x.is_list() && y.is_list() {
        m.push(x);
        m.push(y);
        return Ok(Step::TailRun(ops::less_than, 2));
    }
    Ok(Step::Done(Value::bool(ops::less_simple(m, x, y)?)))
}
