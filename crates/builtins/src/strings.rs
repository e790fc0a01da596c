//! Strings, regular expressions, versions.

use crate::args::{About, Want, arguments};
use crate::pure::regex::{Group, Regex};
use crate::pure::{path, replace, version};
use crate::table::{frame, leaf};
use nivis_eval::context::ContextUnion;
use nivis_eval::heap::StringRef;
use nivis_eval::ops::{self, Coerce};
use nivis_eval::own;
use nivis_eval::{Activation, Builtin, Error, Machine, PosId, Result, Step, Value};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "toString",
        &["e"],
        0,
        to_string,
        "Converts `e` to a string. Strings stay as they are and keep their context; a path gives its text and is not \
         copied to the store; a set gives what its `__toString` returns, or else its `outPath`. Integers and floats \
         are written in decimal, `true` is `\"1\"`, `false` and `null` are empty, and the elements of a list are \
         converted and joined by spaces. Functions are an error.",
    )
    .global(),
    frame(
        "concatStringsSep",
        &["separator", "list"],
        0b1,
        concat_strings_sep,
        "Joins the strings of `list`, with `separator` between each two. Elements are converted as in `\"${…}\"`; the \
         result has the contexts of all of them and of the separator.",
    ),
    frame(
        "substring",
        &["start", "len", "s"],
        0b1,
        substring,
        "Returns the bytes of `s` from offset `start` on, `len` of them or as many as there are; a negative `len` \
         means all. The context is that of `s`. A negative `start` is an error.",
    ),
    frame(
        "stringLength",
        &["s"],
        0b1,
        string_length,
        "Returns the number of bytes of the string `s`.",
    ),
    frame(
        "replaceStrings",
        &["from", "to", "s"],
        0b1,
        replace_strings,
        "Replaces in `s`, from left to right, every occurrence of a string of the list `from` by the string at the \
         same place of the list `to`. Where several fit, the first of the list is taken. An empty string fits before \
         every byte and at the end. Strings of `to` are evaluated only when they are used, and their contexts are \
         added only then.",
    ),
    frame(
        "match",
        &["regex", "s"],
        0b1,
        regex_match,
        "Returns the texts of the groups when the extended POSIX regular expression `regex` matches the whole of `s` \
         (`null` for a group that took no part), and `null` when it does not match.",
    ),
    frame(
        "split",
        &["regex", "s"],
        0b1,
        regex_split,
        "Splits `s` at the matches of the extended POSIX regular expression `regex`. The result is a list in which the \
         texts between the matches alternate with lists of the groups of each match.",
    ),
    leaf(
        "splitVersion",
        &["s"],
        0b1,
        split_version,
        "Splits a version into the components that `compareVersions` compares.",
    ),
    frame(
        "compareVersions",
        &["a", "b"],
        0b1,
        compare_versions,
        "Compares two versions: -1 when `a` is older than `b`, 0 when they are equal, 1 when it is newer.",
    ),
    leaf(
        "parseDrvName",
        &["s"],
        0b1,
        parse_drv_name,
        "Splits a package name into `{ name, version }`, at the first dash that something other than a letter follows.",
    ),
    frame(
        "baseNameOf",
        &["path"],
        0b1,
        base_name_of,
        "Returns the last component of a path or of a string, of which one final slash is ignored. The context is kept.",
    )
    .global(),
    frame(
        "dirOf",
        &["path"],
        0b1,
        dir_of,
        "Returns what precedes the last slash of a path or of a string (`.` when a string has none); of a path the \
         result is a path. The context is kept.",
    )
    .global(),
];

/// The evaluator's error for one of the text machinery.
pub(crate) fn pure_error(e: crate::pure::Error) -> Error {
    Error::other(e.message())
}

/// Begins the coercion of a local to a string, or gives it at once.
///
/// In the first case the step is to be returned; its result will be on the stack.
pub(crate) fn coerce(
    m: &mut Machine,
    v: Value,
    mode: Coerce,
) -> std::result::Result<StringRef, Step> {
    match v.as_string() {
        Some(s) => Ok(s),
        None => {
            m.push(v);
            m.push(mode.value());
            Err(Step::Run(ops::coerce_to_string, 2))
        }
    }
}

/// The same for the one local that a builtin needs as a string: `state` is 0 at first and 1 when its string is on the
/// stack.
macro_rules! coerced {
    ($m:expr, $a:expr, $index:expr, $mode:expr) => {{
        let v = if $a.state == 0 {
            $a.state = 1;
            let v = $m.local($a, $index);
            match $crate::strings::coerce($m, v, $mode) {
                Ok(s) => s.value(),
                Err(step) => return Ok(step),
            }
        } else {
            $m.pop()
        };
        $m.want_string(v)?
    }};
}
pub(crate) use coerced;

fn to_string(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let v = m.local(a, 0);
    if v.is_string() {
        return Ok(Step::Done(v));
    }
    m.push(v);
    m.push(Coerce::TO_STRING.value());
    Ok(Step::TailRun(ops::coerce_to_string, 2))
}

fn concat_strings_sep(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: separator, list, the parts so far. State: elements whose text is (or will be, on resume) on the stack.
    let separator = m.want_string(m.local(a, 0))?;
    if a.state == 0
        && let Some(step) = arguments(m, a, 2, &[(1, Want::List)])?
    {
        return Ok(step);
    }
    let list = m.want_list(m.local(a, 1))?;
    if a.state == 0 {
        m.check_memory(list.len().saturating_mul(2 * size_of::<Value>()))?;
    }
    loop {
        let index = a.state as usize;
        let Some(element) = list.get(index) else {
            break;
        };
        if index > 0 && !separator.is_empty() {
            m.push(separator.value());
        }
        a.state += 1;
        if let Err(step) = coerce(m, element, Coerce::INTERPOLATION).map(|s| m.push(s.value())) {
            return Ok(step);
        }
    }
    let joined = ops::join_locals(m, a, 2)?;
    if separator.context().is_empty() || list.len() > 1 && !separator.is_empty() {
        return Ok(Step::Done(joined));
    }
    let joined = m.want_string(joined)?;
    let context = m.contexts.union(joined.context(), separator.context());
    Ok(Step::Done(m.heap.with_context(joined, context)))
}

fn substring(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let start = m.want_int(m.local(a, 0))?;
    if start >= 0
        && a.state == 0
        && let Some(step) = arguments(m, a, 3, &[(1, Want::Int)])?
    {
        return Ok(step);
    }
    if start < 0 {
        return Err(Error::other("negative start position in 'substring'"));
    }
    let len = m.want_int(m.local(a, 1))?;
    let s = coerced!(m, a, 2, Coerce::INTERPOLATION);
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(s.len());
    let len = usize::try_from(len)
        .unwrap_or(usize::MAX)
        .min(s.len() - start);
    if len == s.len() {
        return Ok(Step::Done(s.value()));
    }
    let part = s.bytes().get(start..start + len).unwrap_or_default();
    Ok(Step::Done(m.heap.string(part, s.context())))
}

fn string_length(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let s = coerced!(m, a, 0, Coerce::INTERPOLATION);
    Ok(Step::Done(m.heap.int(s.len() as i64)))
}

fn replace_strings(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    // Locals: from, to, s. State: elements of `from` seen to be evaluated, which are twice counted when one was forced;
    // then the string, then the replacements in the order of their first use.
    const FORCED: u64 = 1;
    a.state &= !FORCED;
    if let Some(step) = arguments(m, a, 3, &[(0, Want::List), (1, Want::List)])? {
        return Ok(step);
    }
    let from = m.want_list(m.local(a, 0))?;
    let to = m.want_list(m.local(a, 1))?;
    if from.len() != to.len() {
        return Err(Error::other(
            "'from' and 'to' arguments passed to builtins.replaceStrings have different lengths",
        ));
    }
    while let Some(pattern) = from.get((a.state >> 1) as usize) {
        if pattern.is_thunk() {
            a.state |= FORCED;
            return Ok(Step::Force(pattern));
        }
        m.want_string(pattern).about(
            "while evaluating one of the strings to replace passed to builtins.replaceStrings",
        )?;
        a.state += 2;
    }
    let s = m.local(a, 2);
    if s.is_thunk() {
        a.state |= FORCED;
        return Ok(Step::Force(s));
    }
    let s = m.want_string(s)?;
    let patterns: Vec<StringRef> = from.iter().filter_map(Value::as_string).collect();
    let patterns: Vec<&[u8]> = patterns.iter().map(StringRef::bytes).collect();
    let mut used: Vec<bool> = vec![false; patterns.len()];
    let mut context = ContextUnion::default();
    context.add(&mut m.contexts, s.context());
    let mut replaced = false;
    let result = replace::replace_strings(&patterns, s.bytes(), |i, out| {
        replaced = true;
        let Some(replacement) = to.get(i) else {
            return Ok(());
        };
        if replacement.is_thunk() {
            return Err(Ok(replacement));
        }
        let text = m
            .want_string(replacement)
            .about(
                "while evaluating one of the replacement strings passed to builtins.replaceStrings",
            )
            .map_err(Err)?;
        if let Some(used) = used.get_mut(i)
            && !*used
        {
            *used = true;
            context.add(&mut m.contexts, text.context());
        }
        out.extend_from_slice(text.bytes());
        m.check_string(out.len()).map_err(Err)
    });
    match result {
        Ok(_) if !replaced => Ok(Step::Done(s.value())),
        Ok(bytes) => {
            let context = context.finish(&mut m.contexts);
            Ok(Step::Done(m.heap.string(&bytes, context)))
        }
        // What was replaced so far is done again; each replacement can make that happen once.
        Err(Ok(thunk)) => {
            a.state |= FORCED;
            Ok(Step::Force(thunk))
        }
        Err(Err(error)) => Err(error),
    }
}

/// Compiled regular expressions by their text.
#[derive(Default)]
struct Regexes {
    known: FxHashMap<Box<[u8]>, Rc<Regex>>,
    /// Of all of them together.
    instructions: usize,
}

/// Programs make patterns at run time too; so many are kept, with so many instructions in all, before all are forgotten.
const REGEXES: usize = 4096;
const INSTRUCTIONS: usize = 1 << 18;

fn regex(m: &mut Machine, pattern: Value) -> Result<Rc<Regex>> {
    let pattern = m.want_plain_string(pattern)?;
    let regexes = m.extension::<Regexes>();
    if let Some(regex) = regexes.known.get(pattern.bytes()) {
        return Ok(Rc::clone(regex));
    }
    let regex = Rc::new(Regex::new(pattern.bytes()).map_err(pure_error)?);
    regexes.instructions += regex.instructions();
    if regexes.known.len() >= REGEXES || regexes.instructions > INSTRUCTIONS {
        regexes.known.clear();
        regexes.instructions = regex.instructions();
    }
    regexes
        .known
        .insert(pattern.bytes().into(), Rc::clone(&regex));
    Ok(regex)
}

fn groups(m: &mut Machine, text: StringRef, groups: &[Group]) -> Value {
    let values: Vec<Value> = groups
        .iter()
        .map(|group| {
            match group
                .as_ref()
                .and_then(|range| text.bytes().get(range.clone()))
            {
                Some(part) => m.string(part),
                None => Value::NULL,
            }
        })
        .collect();
    m.heap.list(&values)
}

fn regex_match(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let regex = regex(m, m.local(a, 0))?;
    if let Some(step) = arguments(m, a, 2, &[(1, Want::Any)])? {
        return Ok(step);
    }
    let s = m.want_string(m.local(a, 1))?;
    Ok(Step::Done(
        match regex
            .match_whole_within(s.bytes(), m.heap.room())
            .map_err(pure_error)?
        {
            Some(found) => groups(m, s, &found),
            None => Value::NULL,
        },
    ))
}

fn regex_split(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let regex = regex(m, m.local(a, 0))?;
    if let Some(step) = arguments(m, a, 2, &[(1, Want::Any)])? {
        return Ok(step);
    }
    let s = m.want_string(m.local(a, 1))?;
    // Texts and groups become values match by match: together they can be larger than the text by as much as there are
    // groups in the pattern.
    let mut values = Vec::new();
    let mut at = 0;
    // Bytes that were made since memory was looked at.
    let mut made = s.len();
    for found in regex.matches_within(s.bytes(), m.heap.room()) {
        let found = found.map_err(pure_error)?;
        let text = s.bytes().get(at..found.range.start).unwrap_or_default();
        values.push(m.string(text));
        values.push(groups(m, s, &found.groups));
        at = found.range.end;
        made += text.len() + found.groups.len() * 24 + 64;
        if made > 1 << 16 {
            m.check_memory(values.capacity() * 2 * size_of::<Value>())?;
            made = 0;
        }
    }
    if values.is_empty() {
        // Unlike the pieces, the whole string keeps its context.
        return Ok(Step::Done(m.heap.list(&[s.value()])));
    }
    values.push(m.string(s.bytes().get(at..).unwrap_or_default()));
    m.check_memory(values.len() * size_of::<Value>())?;
    Ok(Step::Done(m.heap.list(&values)))
}

fn split_version(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let s = m.want_plain_string(args[0])?;
    if s.len() > 1 << 16 {
        // Every second byte may be a component.
        m.check_memory(s.len().saturating_mul(16))?;
    }
    let values: Vec<Value> = version::components(s.bytes())
        .map(|c| m.string(c))
        .collect();
    Ok(m.heap.list(&values))
}

fn compare_versions(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    if let Some(step) = arguments(m, a, 2, &[(0, Want::PlainString), (1, Want::PlainString)])? {
        return Ok(step);
    }
    let (x, y) = (m.want_string(m.local(a, 0))?, m.want_string(m.local(a, 1))?);
    let order = version::compare(x.bytes(), y.bytes());
    Ok(Step::Done(m.heap.int(order as i64)))
}

fn parse_drv_name(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let s = m.want_plain_string(args[0])?;
    let (name, version) = version::parse_drv_name(s.bytes());
    let (name, version) = (m.string(name), m.string(version));
    let symbol = m.symbols.intern(b"version");
    Ok(m.attrs([
        (m.known.name, PosId::NONE, name),
        (symbol, PosId::NONE, version),
    ]))
}

fn base_name_of(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let s = coerced!(m, a, 0, Coerce::PATH);
    Ok(Step::Done(
        m.heap.string(path::base_name(s.bytes()), s.context()),
    ))
}

fn dir_of(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let v = m.local(a, 0);
    if let Some(path) = v.as_path() {
        if path.bytes() == own::ROOT {
            return Ok(Step::Done(v));
        }
        return Ok(Step::Done(m.heap.path(path::dir_of(path.bytes()))));
    }
    let s = coerced!(m, a, 0, Coerce::PATH);
    Ok(Step::Done(
        m.heap.string(path::dir_of(s.bytes()), s.context()),
    ))
}
