//! What the arguments of builtins are for, as the traces of errors say it.
//!
//! The machine asks only when an error is on its way to the user: nothing of this costs anything before.

use Kind::*;
use Shown::*;
use Words::*;
use nivis_eval::{Machine, Value};

/// What an argument has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Int,
    Number,
    Str,
    /// A string, or what can be turned into one.
    Text,
    List,
    Attrs,
    Function,
}

/// When a trace mentions an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    /// When it fails, and when it is of no use.
    Always,
    /// When it is of no use.
    Refused,
}

/// How it is mentioned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Words {
    /// The first, second or third.
    Nth,
    /// Without saying which.
    Only,
    /// In these words.
    Are(&'static str),
}

/// By builtin and argument. What is not here is never mentioned.
#[rustfmt::skip]
const ARGUMENTS: &[(&str, usize, Kind, Shown, Words)] = &[
    ("add", 0, Number, Refused, Are("while evaluating the first argument of the addition")),
    ("add", 1, Number, Refused, Are("while evaluating the second argument of the addition")),
    ("sub", 0, Number, Refused, Are("while evaluating the first argument of the subtraction")),
    ("sub", 1, Number, Refused, Are("while evaluating the second argument of the subtraction")),
    ("mul", 0, Number, Refused, Are("while evaluating the first argument of the multiplication")),
    ("mul", 1, Number, Refused, Are("while evaluating the second argument of the multiplication")),
    ("div", 0, Number, Refused, Are("while evaluating the first operand of the division")),
    ("div", 1, Number, Refused, Are("while evaluating the second operand of the division")),
    ("bitAnd", 0, Int, Always, Nth),
    ("bitAnd", 1, Int, Always, Nth),
    ("bitOr", 0, Int, Always, Nth),
    ("bitOr", 1, Int, Always, Nth),
    ("bitXor", 0, Int, Always, Nth),
    ("bitXor", 1, Int, Always, Nth),
    ("ceil", 0, Number, Always, Nth),
    ("floor", 0, Number, Always, Nth),
    ("all", 0, Function, Always, Nth),
    ("all", 1, List, Refused, Nth),
    ("any", 0, Function, Always, Nth),
    ("any", 1, List, Refused, Nth),
    ("map", 0, Function, Always, Nth),
    ("map", 1, List, Refused, Nth),
    ("filter", 0, Function, Always, Nth),
    ("filter", 1, List, Refused, Nth),
    ("attrNames", 0, Attrs, Refused, Only),
    ("attrValues", 0, Attrs, Refused, Only),
    ("catAttrs", 0, Str, Always, Nth),
    ("catAttrs", 1, List, Refused, Nth),
    ("concatLists", 0, List, Refused, Nth),
    ("concatMap", 0, Function, Always, Nth),
    ("concatMap", 1, List, Refused, Nth),
    ("concatStringsSep", 0, Str, Always, Are("while evaluating the first argument (the separator string) passed to builtins.concatStringsSep")),
    ("concatStringsSep", 1, List, Refused, Are("while evaluating the second argument (the list of strings to concat) passed to builtins.concatStringsSep")),
    ("compareVersions", 0, Str, Always, Nth),
    ("compareVersions", 1, Str, Always, Nth),
    ("splitVersion", 0, Str, Always, Nth),
    ("parseDrvName", 0, Str, Always, Nth),
    ("elem", 1, List, Refused, Nth),
    ("elemAt", 0, List, Refused, Are("while evaluating the first argument passed to 'builtins.elemAt'")),
    ("elemAt", 1, Int, Always, Are("while evaluating the second argument passed to 'builtins.elemAt'")),
    ("head", 0, List, Refused, Are("while evaluating the first argument passed to 'builtins.head'")),
    ("tail", 0, List, Refused, Are("while evaluating the first argument passed to 'builtins.tail'")),
    ("length", 0, List, Refused, Nth),
    ("foldl'", 0, Function, Always, Are("while evaluating the first argument passed to builtins.foldlStrict")),
    ("foldl'", 2, List, Refused, Are("while evaluating the third argument passed to builtins.foldlStrict")),
    ("genList", 0, Function, Always, Nth),
    ("genList", 1, Int, Always, Nth),
    ("partition", 0, Function, Always, Nth),
    ("partition", 1, List, Refused, Nth),
    ("groupBy", 0, Function, Always, Nth),
    ("groupBy", 1, List, Refused, Nth),
    ("sort", 0, Function, Always, Nth),
    ("sort", 1, List, Refused, Nth),
    ("genericClosure", 0, Attrs, Refused, Nth),
    ("listToAttrs", 0, List, Refused, Only),
    ("mapAttrs", 1, Attrs, Refused, Nth),
    ("zipAttrsWith", 0, Function, Always, Nth),
    ("zipAttrsWith", 1, List, Refused, Nth),
    ("removeAttrs", 0, Attrs, Refused, Nth),
    ("removeAttrs", 1, List, Refused, Nth),
    ("intersectAttrs", 0, Attrs, Refused, Nth),
    ("intersectAttrs", 1, Attrs, Refused, Nth),
    ("getAttr", 0, Str, Always, Nth),
    ("getAttr", 1, Attrs, Refused, Nth),
    ("hasAttr", 0, Str, Always, Nth),
    ("hasAttr", 1, Attrs, Refused, Nth),
    ("toString", 0, Text, Refused, Nth),
    ("stringLength", 0, Text, Refused, Only),
    ("substring", 0, Int, Always, Are("while evaluating the first argument (the start offset) passed to builtins.substring")),
    ("substring", 1, Int, Always, Are("while evaluating the second argument (the substring length) passed to builtins.substring")),
    ("substring", 2, Text, Refused, Are("while evaluating the third argument (the string) passed to builtins.substring")),
    ("replaceStrings", 0, List, Refused, Nth),
    ("replaceStrings", 1, List, Refused, Nth),
    ("replaceStrings", 2, Str, Always, Nth),
    ("match", 0, Str, Always, Nth),
    ("match", 1, Str, Always, Nth),
    ("split", 0, Str, Always, Nth),
    ("split", 1, Str, Always, Nth),
    ("baseNameOf", 0, Text, Refused, Nth),
    ("dirOf", 0, Text, Refused, Are("while evaluating the first argument passed to 'builtins.dirOf'")),
    ("fromJSON", 0, Str, Always, Nth),
    ("fromTOML", 0, Str, Always, Only),
    ("hashString", 0, Str, Always, Nth),
    ("hashString", 1, Str, Always, Nth),
    ("convertHash", 0, Attrs, Refused, Nth),
    ("hashFile", 0, Str, Always, Nth),
    ("hashFile", 1, Text, Always, Are("while realising the context of a path")),
    ("readFile", 0, Text, Always, Are("while realising the context of a path")),
    ("readDir", 0, Text, Always, Are("while realising the context of a path")),
    ("readFileType", 0, Text, Always, Are("while realising the context of a path")),
    ("pathExists", 0, Text, Refused, Are("while realising the context of a path")),
    ("toPath", 0, Text, Always, Nth),
    ("getContext", 0, Str, Always, Only),
    ("hasContext", 0, Str, Always, Only),
    ("appendContext", 0, Str, Always, Nth),
    ("appendContext", 1, Attrs, Refused, Nth),
    ("unsafeDiscardStringContext", 0, Text, Refused, Only),
    ("unsafeDiscardOutputDependency", 0, Text, Refused, Only),
    ("addDrvOutputDependencies", 0, Text, Refused, Only),
    ("placeholder", 0, Str, Always, Nth),
    ("toFile", 0, Str, Always, Nth),
    ("toFile", 1, Str, Always, Nth),
    ("unsafeGetAttrPos", 0, Str, Always, Nth),
    ("unsafeGetAttrPos", 1, Attrs, Refused, Nth),
    ("throw", 0, Text, Refused, Are("while evaluating the error message passed to builtin.throw")),
    ("abort", 0, Text, Refused, Are("while evaluating the error message passed to builtins.abort")),
    ("import", 0, Text, Always, Are("while realising the context of a path")),
    ("scopedImport", 0, Attrs, Refused, Nth),
    ("scopedImport", 1, Text, Always, Are("while realising the context of a path")),
    ("path", 0, Attrs, Refused, Are("while evaluating the argument passed to 'builtins.path'")),
    ("filterSource", 0, Function, Always, Nth),
    ("filterSource", 1, Text, Always, Are("while evaluating the second argument (the path to filter) passed to 'builtins.filterSource'")),
    ("storePath", 0, Text, Always, Are("while evaluating the first argument passed to 'builtins.storePath'")),
    ("findFile", 0, List, Refused, Nth),
    ("findFile", 1, Str, Always, Nth),
    ("warn", 0, Str, Always, Are("while evaluating the first argument; the message passed to builtins.warn")),
    ("getEnv", 0, Str, Always, Nth),
    ("derivationStrict", 0, Attrs, Refused, Only),
];

/// What the trace says of an argument of a builtin: of the one that failed, or when none did, of the one that an error is
/// about which the builtin itself made.
pub(crate) fn purpose(
    m: &Machine,
    builtin: &str,
    args: &[Value],
    failed: Option<usize>,
) -> Option<String> {
    let of = |index: usize| {
        let mut rows = ARGUMENTS.iter();
        rows.find(|(name, i, ..)| *name == builtin && *i == index)
    };
    let row = match failed {
        Some(index) => of(index).filter(|(.., shown, _)| *shown == Always),
        None => {
            let refused = (0..args.len()).filter_map(of).find(|(_, i, kind, ..)| {
                let v = args.get(*i).map(|v| v.resolved());
                v.is_some_and(|v| !v.is_thunk() && !is(m, *kind, v))
            });
            // A string is the right thing, but what it refers to may be one too many.
            refused.or_else(|| {
                (0..args.len()).filter_map(of).find(|(_, i, kind, ..)| {
                    let s = args.get(*i).and_then(|v| v.resolved().as_string());
                    *kind == Str && s.is_some_and(|s| !s.context().is_empty())
                })
            })
        }
    };
    let (name, index, .., words) = *row?;
    Some(match words {
        Nth => {
            let nth = ["first", "second", "third"].get(index)?;
            format!("while evaluating the {nth} argument passed to builtins.{name}")
        }
        Only => format!("while evaluating the argument passed to builtins.{name}"),
        Are(words) => words.to_string(),
    })
}

fn is(m: &Machine, kind: Kind, v: Value) -> bool {
    match kind {
        Int => v.as_int().is_some(),
        Number => v.as_int().is_some() || v.as_float().is_some(),
        Str => v.is_string(),
        List => v.is_list(),
        Attrs => v.is_attrs(),
        Function => m.is_callable(v),
        Text => {
            v.is_string()
                || v.as_path().is_some()
                || v.as_attrs().is_some_and(|attrs| {
                    let known = m.known;
                    attrs.get(known.to_string).is_some() || attrs.get(known.out_path).is_some()
                })
        }
    }
}
