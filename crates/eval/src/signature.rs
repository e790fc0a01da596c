//! What a function expects: for `functionArgs`, automatic calls, `toXML` and editors.

use crate::code::Default as FormalDefault;
use crate::heap::{Callee, FunctionRef};
use crate::machine::{Machine, lambda_of};
use crate::position::PosId;
use crate::symbol::Symbol;

/// One name of a set pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormalArg {
    /// The name.
    pub name: Symbol,
    /// Where it stands.
    pub pos: PosId,
    /// Whether it may be left out.
    pub has_default: bool,
}

/// What a set pattern expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// The names, in the order of their text.
    pub formals: Vec<FormalArg>,
    /// Whether further attributes are allowed.
    pub ellipsis: bool,
}

/// What a function written in Nix expects as its next argument.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// Where the function stands.
    pub pos: PosId,
    /// The name it was bound to, if any.
    pub name: Option<Symbol>,
    /// The argument's name: that of a plain parameter, or the one with `@`.
    pub arg: Option<Symbol>,
    /// The set pattern, if there is one.
    pub pattern: Option<Pattern>,
}

impl Machine {
    /// What a function written in Nix expects next; `None` for native functions, applied or not.
    pub fn signature(&self, function: FunctionRef) -> Option<Signature> {
        let (lambda, applied) = match function.callee() {
            Callee::Closure(lambda, _) => (lambda_of(lambda), 0),
            Callee::Partial => match FunctionRef(function.partial_callee()).callee() {
                Callee::Closure(lambda, _) => (lambda_of(lambda), function.partial_len()),
                _ => return None,
            },
            Callee::Primop(_) => return None,
        };
        let &(arg, pos) = lambda.params.get(applied)?;
        let last = applied + 1 == lambda.params.len();
        let pattern = lambda.formals.as_ref().filter(|_| last).map(|f| {
            let mut formals: Vec<FormalArg> = f
                .entries
                .iter()
                .map(|e| FormalArg {
                    name: e.symbol,
                    pos: e.pos,
                    has_default: !matches!(e.default, FormalDefault::Required),
                })
                .collect();
            formals.sort_by(|a, b| self.symbols.name(a.name).cmp(self.symbols.name(b.name)));
            Pattern {
                formals,
                ellipsis: f.ellipsis,
            }
        });
        let name = if applied == 0 {
            lambda.name.get()
        } else {
            None
        };
        Some(Signature {
            pos,
            name,
            arg,
            pattern,
        })
    }
}
