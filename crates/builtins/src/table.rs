//! How the entries of the builtins table are written.

use nivis_eval::native::{Body, Builtin, Leaf, Resume};

/// A builtin that returns at once. Bit `i` of `strict` says that argument `i` is evaluated first.
pub(crate) const fn leaf(
    name: &'static str,
    args: &'static [&'static str],
    strict: u8,
    function: Leaf,
    doc: &'static str,
) -> Builtin {
    entry(name, args, strict, Body::Leaf(function), doc)
}

/// A builtin that evaluates or calls something on the way.
pub(crate) const fn frame(
    name: &'static str,
    args: &'static [&'static str],
    strict: u8,
    function: Resume,
    doc: &'static str,
) -> Builtin {
    entry(name, args, strict, Body::Frame(function), doc)
}

const fn entry(
    name: &'static str,
    args: &'static [&'static str],
    strict: u8,
    body: Body,
    doc: &'static str,
) -> Builtin {
    Builtin {
        name,
        args,
        strict,
        global: false,
        body,
        doc,
    }
}
