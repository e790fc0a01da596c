//! Type tests.

use crate::table::leaf;
use nivis_eval::{Builtin, Machine, Result, Type, Value};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    leaf(
        "typeOf",
        &["value"],
        0b1,
        type_of,
        "Returns the type of `value`: `\"int\"`, `\"float\"`, `\"bool\"`, `\"null\"`, `\"string\"`, `\"path\"`, \
         `\"set\"`, `\"list\"` or `\"lambda\"`.",
    ),
    leaf(
        "isAttrs",
        &["value"],
        0b1,
        is_attrs,
        "Whether `value` is a set.",
    ),
    leaf(
        "isBool",
        &["value"],
        0b1,
        is_bool,
        "Whether `value` is `true` or `false`.",
    ),
    leaf(
        "isFloat",
        &["value"],
        0b1,
        is_float,
        "Whether `value` is a floating-point number.",
    ),
    leaf(
        "isFunction",
        &["value"],
        0b1,
        is_function,
        "Whether `value` is a function. A set with `__functor` is not, though it can be called.",
    ),
    leaf(
        "isInt",
        &["value"],
        0b1,
        is_int,
        "Whether `value` is an integer.",
    ),
    leaf(
        "isList",
        &["value"],
        0b1,
        is_list,
        "Whether `value` is a list.",
    ),
    leaf(
        "isNull",
        &["value"],
        0b1,
        is_null,
        "Whether `value` is `null`.",
    )
    .global(),
    leaf(
        "isPath",
        &["value"],
        0b1,
        is_path,
        "Whether `value` is a path (not a string that looks like one).",
    ),
    leaf(
        "isString",
        &["value"],
        0b1,
        is_string,
        "Whether `value` is a string.",
    ),
];

fn type_of(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let symbol = m.symbols.intern(args[0].type_of().name().as_bytes());
    Ok(m.symbol_string(symbol))
}

fn is(args: &[Value], t: Type) -> Result<Value> {
    Ok(Value::bool(args[0].type_of() == t))
}

fn is_attrs(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(args[0].is_attrs()))
}

fn is_bool(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(args[0].as_bool().is_some()))
}

fn is_float(_: &mut Machine, args: &[Value]) -> Result<Value> {
    is(args, Type::Float)
}

fn is_function(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(args[0].is_function()))
}

fn is_int(_: &mut Machine, args: &[Value]) -> Result<Value> {
    is(args, Type::Int)
}

fn is_list(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(args[0].is_list()))
}

fn is_null(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(args[0].is_null()))
}

fn is_path(_: &mut Machine, args: &[Value]) -> Result<Value> {
    is(args, Type::Path)
}

fn is_string(_: &mut Machine, args: &[Value]) -> Result<Value> {
    Ok(Value::bool(args[0].is_string()))
}
