//! What the machine executes.
//!
//! Each file compiles to one [`Program`]: a sequence of 8-byte [`Op`]s in which every thunk body, function body
//! and default value is a *unit* that starts somewhere and ends in [`Op::Return`]. A unit is named by
//! the address of its first op; operands that do not fit an op are indices into the evaluator-wide
//! [`Tables`]. Positions are in a side list, looked up only when an error is reported.

use crate::heap::{Shape, SparseCode};
use crate::position::{PosId, SourceSpan, offset};
use crate::spans::SpanTable;
use crate::symbol::Symbol;
use crate::value::Value;
use std::cell::Cell;
use std::rc::Rc;

/// An instruction. "Push" and "pop" are about the machine's value stack; "force" means that the value
/// on top is evaluated to weak head normal form before the next op runs.
#[derive(Clone, Copy, Debug)]
#[repr(align(8))]
pub(crate) enum Op {
    /// Push a constant.
    Const(u32),
    /// Push a slot of the current environment.
    Local(u32),
    /// Push a slot of an enclosing environment.
    Up(u16, u32),
    /// Push a slot of the current environment and force it.
    LocalForce(u32),
    /// Push a slot of an enclosing environment and force it.
    UpForce(u16, u32),
    /// Force.
    Force,
    /// Push a thunk for the unit at this distance from this op.
    Thunk(i32),
    /// Push a closure.
    Closure(u32),
    /// Pop elements, push a list.
    List(u32),
    /// Pop the values of a shape, push a set.
    Attrs(u32),
    /// Pop the values at hand of a sparse set, push it.
    SparseAttrs(u32),
    /// Pop name/value pairs and a set, push the set with them added.
    AttrsDynamic(u32),
    /// Pop the overrides, write them to the slots of a recursive set.
    Overrides(u32),
    /// Push the delayed selection from the set this far below the top.
    Inherit(u16, u32),
    /// Push the delayed selection from a slot.
    InheritLocal(u16, u32),
    /// Remove values below the top.
    Slide(u32),
    /// Pop into a slot of the current environment.
    SetLocal(u32),
    /// Begin an environment for this unit.
    Enter(u32),
    /// Replace the (forced) set by an attribute of it.
    Select(u32),
    /// Like `Select`; when it is missing, pop and jump.
    TrySelect(u32),
    /// Replace the (forced) set by whether it has the attribute.
    HasAttr(u32),
    /// Pop a name, then as `Select`.
    SelectDynamic,
    /// Pop a name, then as `TrySelect`.
    TrySelectDynamic(u32),
    /// Pop a name, then as `HasAttr`.
    HasAttrDynamic,
    /// Replace a set by an attribute if both are already at hand, else pop and jump.
    DelaySelect(u32),
    /// If the (forced) `with` set has the name, replace it and jump; else pop.
    WithSelect(u32),
    /// Fail: no variable of this name.
    Undefined(u32),
    /// Pop arguments and the (forced) function below them, call.
    Call(u16),
    /// Pop the function, call it with the arguments below.
    CallRest(u16),
    /// Like `Call`, in a frame of its own, while somebody observes calls.
    ObservedCall(u16),
    /// The call that this frame stands for ends.
    CallEnd,
    /// Jump by a distance from this op.
    Jump(i32),
    /// Pop a Boolean; jump when it is false.
    JumpIfFalse(i32),
    /// Jump when the Boolean on top is false, else pop it.
    AndJump(i32),
    /// Jump when the Boolean on top is true, else pop it.
    OrJump(i32),
    /// Fail unless the top is a Boolean.
    CheckBool,
    /// Fail unless the top is a set.
    CheckAttrs,
    Not,
    Negate,
    /// Coerce the top, the left operand of `+`, unless it is a number, a string or a path.
    BeginAdd,
    Add,
    Sub,
    Mul,
    Div,
    /// Pop right, left; push whether left < right.
    Less,
    Eq,
    /// Pop left, right; push `left // right`.
    Update,
    /// Pop lists, push their concatenation.
    Concat(u32),
    /// Turn the top into a string as interpolation does.
    CoercePart,
    /// Turn the top into a string as interpolation into a path does.
    CoercePathPart,
    /// Join strings.
    ConcatStrings(u32),
    /// Join strings to a path; the first is the literal start.
    ConcatPath(u32),
    /// Pop a Boolean; fail when it is false.
    Assert,
    /// Pop right, left; fail with an explanation unless they are equal.
    AssertEqual,
    /// Check and bind the set pattern of a lambda.
    Formals(u32),
    /// Stack: symbol and position of a selection as an integer, forced set. Selects.
    SelectPayload,
    /// End of unit: the top is its value.
    Return,
    /// Leave the machine: the top is the result.
    Exit,
}

/// A place of selection with its cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub symbol: Symbol,
    pub shape: Shape,
    pub index: u32,
    /// Distance of a conditional jump; of `Inherit`, the position of the attribute.
    pub jump: i32,
}

/// A formal of a set pattern.
#[derive(Clone, Debug)]
pub(crate) struct Formal {
    pub symbol: Symbol,
    pub slot: u32,
    pub pos: PosId,
    pub default: Default,
}

/// What a missing formal gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    Required,
    Constant(Value),
    /// A variable that is further out: environment and slot.
    Outer(u16, u32),
    Code(*const Op),
}

/// The set pattern of a function.
#[derive(Clone, Debug)]
pub(crate) struct Formals {
    /// Sorted by symbol.
    pub entries: Box<[Formal]>,
    pub ellipsis: bool,
}

/// A function's code.
#[derive(Debug)]
#[repr(align(8))]
pub(crate) struct Lambda {
    pub code: *const Op,
    /// Number of curried parameters that one call takes; all but the last are plain names.
    pub arity: u32,
    /// Slots of its environment; the arguments come first.
    pub slots: u32,
    pub formals: Option<Formals>,
    /// Its place in [`Tables::lambdas`].
    pub index: u32,
    /// Name it was bound to, for messages.
    pub name: Cell<Option<Symbol>>,
    pub pos: PosId,
    /// Name (none for a pattern without `@`) and place of each parameter.
    pub params: Box<[(Option<Symbol>, PosId)]>,
    /// The value of `builtins.functionArgs`, once computed.
    pub args: Cell<Value>,
}

/// Names and slots of a recursive set with `__overrides`.
#[derive(Debug)]
pub(crate) struct OverrideTable {
    pub slots: Box<[(Symbol, u32)]>,
}

/// Evaluator-wide operand tables.
#[derive(std::default::Default)]
pub(crate) struct Tables {
    pub consts: Vec<Value>,
    pub lambdas: Vec<*const Lambda>,
    pub shapes: Vec<Shape>,
    pub sparse: Vec<Rc<SparseCode>>,
    pub sites: Vec<Site>,
    pub dynamic: Vec<Box<[PosId]>>,
    pub overrides: Vec<OverrideTable>,
    pub programs: Vec<Program>,
}

/// A compiled file.
pub(crate) struct Program {
    pub ops: Box<[Op]>,
    /// Kept alive for the closures that point to them.
    pub lambdas: Box<[Lambda]>,
    pub spans: SpanTable,
    pub base: PosId,
}

impl Program {
    /// About the bytes that it takes, with what the tables hold for it.
    pub fn bytes(&self) -> usize {
        // An op in four has an entry in a table: a site, a constant, a shape.
        self.ops.len() * (size_of::<Op>() + size_of::<Site>() / 4)
            + self.lambdas.len() * 2 * size_of::<Lambda>()
            + self.spans.bytes()
    }
}

impl Tables {
    /// Where the op at `address` (or the closest one before it with a position) stands in the source.
    pub fn span(&self, address: *const Op) -> Option<SourceSpan> {
        let (program, index) = self.find(address)?;
        let (start, end) = program.spans.find(index as u32)?;
        Some(SourceSpan {
            start: offset(program.base, start),
            len: end.saturating_sub(start),
        })
    }

    /// The op at `address`, if a program has one there.
    pub fn op(&self, address: *const Op) -> Option<Op> {
        let (program, index) = self.find(address)?;
        program.ops.get(index).copied()
    }

    fn find(&self, address: *const Op) -> Option<(&Program, usize)> {
        let address = address as usize;
        let program = self.programs.iter().find(|p| {
            let start = p.ops.as_ptr() as usize;
            (start..start + p.ops.len() * size_of::<Op>()).contains(&address)
        })?;
        let index = (address - program.ops.as_ptr() as usize) / size_of::<Op>();
        Some((program, index))
    }
}

const _: () = assert!(size_of::<Op>() == 8);

impl Lambda {
    /// Whether a set pattern names an attribute.
    pub fn takes(&self, symbol: Symbol) -> bool {
        let mut formals = self.formals.iter().flat_map(|f| f.entries.iter());
        formals.any(|f| f.symbol == symbol)
    }
}
