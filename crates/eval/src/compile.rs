//! From syntax to code.
//!
//! One pass over the [`Ast`] resolves every name to (frame, slot) and emits ops. A *unit* is what runs without
//! being suspended: a file, a function body, a thunk's body. Nested units are compiled first, into a
//! buffer of their own, and appended to the program when they are complete, so the program is a
//! sequence of units without jumps between them.
//!
//! A unit has at most one environment of its own. A function's holds its arguments and the variables of
//! every `let`, `with` and `rec` that its body evaluates directly; a thunk's unit gets one only if it
//! has such variables ([`Compiler::needs_env`]).
//!
//! A value that is at hand needs no thunk ([`Compiler::delayed`]): constants, variables whose slot is
//! already set, functions, selections from sets that are already evaluated, small sets and lists of those.
//! Whether a slot is set is known while compiling: it is, unless its binding group is just being built
//! by the same unit.

use crate::code::{
    Default as FormalDefault, Formal, Formals, Lambda, Op, OverrideTable, Program, Site,
};
use crate::context::ContextId;
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{EnvPtr, SPARSE_FROM, SparseCode};
use crate::machine::Machine;
use crate::position::{PosId, SourceSpan, offset};
use crate::spans::SpanTable;
use crate::symbol::Symbol;
use crate::value::Value;
use nivis_syntax::ast::{
    Ast, Attr, AttrName, AttrValue, BinaryOp, Bindings, Expr, ExprId, Name, Part, PathKind, Range,
};
use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Names that are in scope around a whole file, innermost last, with the environment that holds them.
#[derive(Clone, Default)]
pub(crate) struct OuterScope {
    pub names: Vec<Symbol>,
    /// A `with` set (slot after the names) that the REPL or `scopedImport` puts around the file.
    pub with_slot: Option<u32>,
}

/// What compilation needs to know about the file.
pub(crate) struct FileInfo<'a> {
    pub base: PosId,
    pub dir: &'a Path,
    pub scope: &'a OuterScope,
}

/// A compiled file's entry and whether its environment must hold an outer scope.
pub(crate) fn compile(machine: &mut Machine, ast: &Ast, file: FileInfo<'_>) -> Result<*const Op> {
    let Some(root) = ast.root else {
        return Err(Error::new(ErrorKind::Syntax, "nothing to evaluate"));
    };
    let mut buffers = std::mem::take(&mut machine.compile_buffers);
    buffers.clear();
    let names = ast.names.iter();
    let symbols = names.map(|n| machine.symbols.intern(n.as_bytes()));
    buffers.symbols.extend(symbols);
    buffers.current.resize(ast.names.len(), NO_BINDING);
    buffers.frames.push(0);
    let mut compiler = Compiler {
        machine,
        ast,
        file: &file,
        symbols: buffers.symbols,
        current: buffers.current,
        bindings: buffers.bindings,
        withs: Vec::new(),
        frames: buffers.frames,
        out: buffers.out,
        out_spans: buffers.out_spans,
        lambdas: Vec::new(),
        lambda_starts: buffers.lambda_starts,
        pending_defaults: Vec::new(),
        sparse: Vec::new(),
        spare: buffers.spare,
        outer: FxHashMap::default(),
        next_unit: 0,
        rebinds_operators: false,
    };
    compiler.rebinds_operators = OPERATORS.iter().any(|op| {
        compiler.machine.symbols.find(op).is_some_and(|s| {
            compiler.symbols.contains(&s) || compiler.file.scope.names.contains(&s)
        })
    });
    let entry = compiler.file(root)?;
    let Compiler {
        symbols,
        current,
        bindings,
        frames,
        out,
        out_spans,
        lambdas,
        lambda_starts,
        pending_defaults,
        sparse,
        spare,
        ..
    } = compiler;
    let ops: Box<[Op]> = out.as_slice().into();
    let start = ops.as_ptr();
    let first_lambda = machine.tables.lambdas.len() - lambdas.len();
    let mut lambdas: Box<[Lambda]> = lambdas.into();
    for (lambda, at) in lambdas.iter_mut().zip(&lambda_starts) {
        lambda.code = start.wrapping_add(*at as usize);
    }
    for (lambda, formal, at) in pending_defaults {
        if let Some(f) = lambdas[lambda]
            .formals
            .as_mut()
            .and_then(|f| f.entries.get_mut(formal))
        {
            f.default = match ops.get(at as usize..at as usize + 2) {
                Some(&[Op::UpForce(depth, slot), Op::Return]) => FormalDefault::Outer(depth, slot),
                _ => FormalDefault::Code(start.wrapping_add(at as usize)),
            };
        }
    }
    for (i, lambda) in lambdas.iter().enumerate() {
        machine.tables.lambdas[first_lambda + i] = lambda;
    }
    for (shape, code) in sparse {
        let at_hand = (0u32..).zip(&code).filter(|(_, at)| at.is_none());
        machine.tables.sparse.push(Rc::new(SparseCode {
            shape: machine.tables.shapes[shape as usize],
            at_hand: at_hand.map(|(i, _)| i).collect(),
            code: code
                .iter()
                .map(|at| at.map_or(std::ptr::null(), |at| start.wrapping_add(at as usize)))
                .collect(),
        }));
    }
    machine.tables.programs.push(Program {
        ops,
        lambdas,
        spans: SpanTable::new(&out_spans, &mut buffers.span_bytes),
        base: file.base,
    });
    machine.compile_buffers = Buffers {
        symbols,
        current,
        bindings,
        frames,
        out,
        out_spans,
        span_bytes: buffers.span_bytes,
        lambda_starts,
        spare,
    };
    Ok(start.wrapping_add(entry as usize))
}

/// Memory that compiling one file after another uses again.
#[derive(Default)]
pub(crate) struct Buffers {
    symbols: Vec<Symbol>,
    current: Vec<u32>,
    bindings: Vec<Binding>,
    frames: Vec<u32>,
    out: Vec<Op>,
    out_spans: Spans,
    span_bytes: Vec<u8>,
    lambda_starts: Vec<u32>,
    spare: Vec<(Vec<Op>, Spans)>,
}

impl Buffers {
    fn clear(&mut self) {
        self.symbols.clear();
        self.current.clear();
        self.bindings.clear();
        self.frames.clear();
        self.out.clear();
        self.out_spans.clear();
        self.lambda_starts.clear();
    }
}

const NO_BINDING: u32 = u32::MAX;

/// Where a variable lives.
#[derive(Clone, Copy)]
struct Binding {
    level: u32,
    slot: u32,
    /// The binding of the same name that it hides.
    hides: u32,
    /// The unit that is still filling its slot, or `READY`.
    filling: u32,
}

/// Op index, start and end of what an op comes from.
type Spans = Vec<(u32, u32, u32)>;

const READY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct With {
    level: u32,
    slot: u32,
}

/// A unit being compiled.
struct Unit {
    ops: Vec<Op>,
    spans: Vec<(u32, u32, u32)>,
    /// Level of the environment that is current in it.
    level: u32,
    /// Whether that environment is this unit's own.
    own: bool,
    id: u32,
}

struct Compiler<'a, 'm> {
    machine: &'m mut Machine,
    ast: &'a Ast,
    file: &'a FileInfo<'a>,
    symbols: Vec<Symbol>,
    /// Innermost binding of each name of the file.
    current: Vec<u32>,
    bindings: Vec<Binding>,
    withs: Vec<With>,
    /// Slots used in the environment of each level.
    frames: Vec<u32>,
    out: Vec<Op>,
    out_spans: Spans,
    lambdas: Vec<Lambda>,
    lambda_starts: Vec<u32>,
    pending_defaults: Vec<(usize, usize, u32)>,
    /// Shape of each sparse set, and where the code of its attributes begins.
    sparse: Vec<(u32, Vec<Option<u32>>)>,
    spare: Vec<(Vec<Op>, Spans)>,
    outer: FxHashMap<Symbol, u32>,
    next_unit: u32,
    /// Whether the file mentions the functions behind operators, so that it might bind them.
    rebinds_operators: bool,
}

/// The functions that operators call, and that a program may bind to its own.
const OPERATORS: [&[u8]; 4] = [b"__sub", b"__mul", b"__div", b"__lessThan"];

/// How a name is found.
enum Resolved {
    Slot { depth: u32, slot: u32, ready: bool },
    Constant(Value),
    With,
}

fn jump(from: usize, to: usize) -> i32 {
    to as i32 - from as i32
}

impl Compiler<'_, '_> {
    fn file(&mut self, root: ExprId) -> Result<u32> {
        let scope = self.file.scope;
        for (i, s) in scope.names.iter().enumerate() {
            self.outer.insert(*s, i as u32);
        }
        if let Some(slot) = scope.with_slot {
            self.withs.push(With { level: 0, slot });
        }
        self.unit(root, None)
    }

    // ---- units ------------------------------------------------------------------------------------

    /// Compiles `body` as a unit of its own and returns where it starts in the program. With `level`, the
    /// unit runs in an environment of its own that its creator makes (a function's); otherwise it
    /// begins in the current one.
    fn unit(&mut self, body: ExprId, own: Option<u32>) -> Result<u32> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.unit_inner(body, own))
    }

    fn unit_inner(&mut self, body: ExprId, lambda: Option<u32>) -> Result<u32> {
        let level = self.frames.len() as u32 - 1;
        let (ops, spans) = self.spare.pop().unwrap_or_default();
        self.next_unit += 1;
        let mut unit = Unit {
            ops,
            spans,
            level,
            own: lambda.is_some(),
            id: self.next_unit,
        };
        let entered = lambda.is_none() && self.needs_env(body);
        if entered {
            self.frames.push(0);
            unit.level += 1;
            unit.own = true;
            unit.ops.push(Op::Enter(0));
        }
        if let Some(index) = lambda
            && self.lambdas[index as usize - self.first_lambda()]
                .formals
                .is_some()
        {
            let span = self.ast.span(body);
            unit.spans
                .push((unit.ops.len() as u32, span.start, span.end));
            unit.ops.push(Op::Formals(index));
        }
        self.strict(&mut unit, body)?;
        unit.ops.push(Op::Return);
        if entered {
            let slots = self.frames.pop().unwrap_or(0);
            unit.ops[0] = Op::Enter(slots);
        }
        Ok(self.append(unit))
    }

    fn first_lambda(&self) -> usize {
        self.machine.tables.lambdas.len() - self.lambdas.len()
    }

    fn append(&mut self, mut unit: Unit) -> u32 {
        let start = self.out.len() as u32;
        for (i, op) in unit.ops.iter_mut().enumerate() {
            if let Op::Thunk(at) = op {
                *at -= (start + i as u32) as i32;
            }
        }
        self.out.append(&mut unit.ops);
        self.out_spans
            .extend(unit.spans.drain(..).map(|(i, s, e)| (i + start, s, e)));
        self.spare.push((unit.ops, unit.spans));
        start
    }

    /// Whether evaluating `e` directly binds variables, so that its unit needs an environment.
    fn needs_env(&self, e: ExprId) -> bool {
        stacker::maybe_grow(64 << 10, 1 << 20, || match self.ast.expr(e) {
            Expr::Let { .. } | Expr::LegacyLet(_) | Expr::With { .. } => true,
            Expr::Attrs(b) => {
                let b = &self.ast.bindings[b as usize];
                b.recursive
                    || self.ast.dynamic_attrs[b.dynamic.indices()]
                        .iter()
                        .any(|d| self.needs_env(d.name))
            }
            Expr::Select { set, path } | Expr::HasAttr { set, path } => {
                self.needs_env(set) || self.path_needs_env(path)
            }
            Expr::SelectOr { index } => {
                let s = self.ast.select_ors[index as usize];
                self.needs_env(s.set) || self.needs_env(s.default) || self.path_needs_env(s.path)
            }
            Expr::Call { function, .. } => self.needs_env(function),
            Expr::Assert { condition, body } => self.needs_env(condition) || self.needs_env(body),
            Expr::If { condition, yes, no } => {
                self.needs_env(condition) || self.needs_env(yes) || self.needs_env(no)
            }
            Expr::Not(e) | Expr::Negate(e) => self.needs_env(e),
            Expr::Binary { left, right, .. } => self.needs_env(left) || self.needs_env(right),
            Expr::Interpolation(parts) | Expr::PathInterpolation(_, parts) => {
                self.ast.parts[parts.indices()].iter().any(|p| match p {
                    Part::Expr(e) => self.needs_env(*e),
                    Part::Text(_) => false,
                })
            }
            _ => false,
        })
    }

    fn path_needs_env(&self, path: Range) -> bool {
        self.ast.attr_names[path.indices()].iter().any(|n| match n {
            AttrName::Dynamic(e) => self.needs_env(*e),
            AttrName::Static(..) => false,
        })
    }

    // ---- names ------------------------------------------------------------------------------------

    fn bind(&mut self, name: Name, level: u32, slot: u32, filling: u32) -> u32 {
        let id = self.bindings.len() as u32;
        let hides = std::mem::replace(&mut self.current[name.0 as usize], id);
        self.bindings.push(Binding {
            level,
            slot,
            hides,
            filling,
        });
        id
    }

    /// Undoes [`Compiler::bind`]s, in any order of names, down to `mark` bindings.
    fn unbind(&mut self, names: impl DoubleEndedIterator<Item = Name>, mark: usize) {
        for name in names.rev() {
            let id = self.current[name.0 as usize];
            if id != NO_BINDING && id as usize >= mark {
                self.current[name.0 as usize] = self.bindings[id as usize].hides;
            }
        }
        self.bindings.truncate(mark);
    }

    fn symbol(&self, name: Name) -> Symbol {
        self.symbols[name.0 as usize]
    }

    fn resolve(&self, unit: &Unit, name: Name) -> Resolved {
        let id = self.current[name.0 as usize];
        if id != NO_BINDING {
            let b = self.bindings[id as usize];
            return Resolved::Slot {
                depth: unit.level - b.level,
                slot: b.slot,
                ready: b.filling == READY || b.filling != unit.id,
            };
        }
        let symbol = self.symbol(name);
        if let Some(&slot) = self.outer.get(&symbol) {
            return Resolved::Slot {
                depth: unit.level,
                slot,
                ready: true,
            };
        }
        match self.machine.globals.get(&symbol) {
            Some(v) => Resolved::Constant(*v),
            None => Resolved::With,
        }
    }

    fn new_slot(&mut self, unit: &Unit) -> u32 {
        debug_assert!(unit.own);
        let frame = &mut self.frames[unit.level as usize];
        *frame += 1;
        *frame - 1
    }

    // ---- emitting ---------------------------------------------------------------------------------

    fn emit(&self, unit: &mut Unit, op: Op) -> usize {
        unit.ops.push(op);
        unit.ops.len() - 1
    }

    fn emit_at(&self, unit: &mut Unit, op: Op, e: ExprId) -> usize {
        let span = self.ast.span(e);
        self.emit_span(unit, op, span)
    }

    fn emit_span(&self, unit: &mut Unit, op: Op, span: nivis_syntax::ast::Span) -> usize {
        unit.spans
            .push((unit.ops.len() as u32, span.start, span.end));
        self.emit(unit, op)
    }

    fn patch(&self, unit: &mut Unit, at: usize) {
        let distance = jump(at, unit.ops.len());
        match &mut unit.ops[at] {
            Op::Jump(d) | Op::JumpIfFalse(d) | Op::AndJump(d) | Op::OrJump(d) => *d = distance,
            _ => {}
        }
    }

    fn patch_site(&mut self, unit: &Unit, op_at: usize) {
        let site = match unit.ops[op_at] {
            Op::TrySelect(s) | Op::TrySelectDynamic(s) | Op::DelaySelect(s) | Op::WithSelect(s) => {
                s
            }
            _ => return,
        };
        self.machine.tables.sites[site as usize].jump = jump(op_at, unit.ops.len());
    }

    fn constant(&mut self, unit: &mut Unit, value: Value) {
        let consts = &mut self.machine.tables.consts;
        consts.push(value);
        let index = consts.len() as u32 - 1;
        self.emit(unit, Op::Const(index));
    }

    fn site(&mut self, symbol: Symbol) -> u32 {
        let shape = self.machine.heap.empty_shape;
        let sites = &mut self.machine.tables.sites;
        sites.push(Site {
            symbol,
            shape,
            index: 0,
            jump: 0,
        });
        sites.len() as u32 - 1
    }

    /// A site that does not jump keeps its position where others keep their distance.
    fn inherit_site(&mut self, symbol: Symbol, at: u32) -> u32 {
        let site = self.site(symbol);
        self.machine.tables.sites[site as usize].jump = offset(self.file.base, at).0 as i32;
        site
    }

    fn push_slot(&self, unit: &mut Unit, depth: u32, slot: u32) -> Result<()> {
        if depth == 0 {
            self.emit(unit, Op::Local(slot));
        } else {
            self.emit(unit, Op::Up(level(depth)?, slot));
        }
        Ok(())
    }

    fn force_slot(&self, unit: &mut Unit, depth: u32, slot: u32, e: ExprId) -> Result<()> {
        let op = if depth == 0 {
            Op::LocalForce(slot)
        } else {
            Op::UpForce(level(depth)?, slot)
        };
        self.emit_at(unit, op, e);
        Ok(())
    }

    fn string_value(&mut self, text: Range) -> Value {
        let bytes = &self.ast.text[text.indices()];
        if bytes.is_empty() {
            return self.machine.heap.empty_string;
        }
        self.machine.heap.string(bytes, ContextId::EMPTY)
    }

    fn path_text(&self, kind: PathKind, text: Range) -> Result<PathBuf> {
        let bytes = &self.ast.text[text.indices()];
        let path = crate::machine::bytes_path(bytes);
        Ok(match kind {
            PathKind::Absolute => path.to_path_buf(),
            PathKind::Relative => self.file.dir.join(path),
            PathKind::Home => {
                if self.machine.settings.pure_eval {
                    return Err(Error::new(
                        ErrorKind::Forbidden,
                        format!(
                            "the path '{}' can not be resolved in pure mode",
                            String::from_utf8_lossy(bytes)
                        ),
                    ));
                }
                let home = self
                    .machine
                    .host
                    .env(b"HOME")
                    .unwrap_or_else(|| b"/".to_vec());
                let rest = bytes.strip_prefix(b"~/").unwrap_or(b"");
                crate::machine::bytes_path(&home).join(crate::machine::bytes_path(rest))
            }
        })
    }

    fn path_value(&mut self, kind: PathKind, text: Range) -> Result<Value> {
        let path = self.path_text(kind, text)?;
        let canonical = crate::machine::canonical_path(path.as_os_str().as_encoded_bytes());
        Ok(self.machine.heap.path(&canonical))
    }

    // ---- expressions ------------------------------------------------------------------------------

    /// Emits code that pushes the value of `e` in weak head normal form.
    fn strict(&mut self, unit: &mut Unit, e: ExprId) -> Result<()> {
        stacker::maybe_grow(128 << 10, 2 << 20, || self.strict_inner(unit, e))
    }

    fn strict_inner(&mut self, unit: &mut Unit, e: ExprId) -> Result<()> {
        match self.ast.expr(e) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) | Expr::Path(..) | Expr::CurPos => {
                let v = self.literal(e)?;
                self.constant(unit, v);
            }
            Expr::Interpolation(parts) => {
                let parts = &self.ast.parts[parts.indices()];
                for part in parts {
                    match part {
                        Part::Text(text) => {
                            let v = self.string_value(*text);
                            self.constant(unit, v);
                        }
                        Part::Expr(part) => {
                            self.strict(unit, *part)?;
                            self.emit_at(unit, Op::CoercePart, *part);
                        }
                    }
                }
                self.emit_at(unit, Op::ConcatStrings(parts.len() as u32), e);
            }
            Expr::PathInterpolation(kind, parts) => {
                let parts = &self.ast.parts[parts.indices()];
                for (i, part) in parts.iter().enumerate() {
                    match part {
                        Part::Text(text) if i == 0 => {
                            // The slash at the end of the literal part separates it from what follows.
                            let slash = self.ast.text[text.indices()].last() == Some(&b'/');
                            let path = self.path_text(kind, *text)?;
                            let mut bytes =
                                crate::machine::canonical_path(path.as_os_str().as_encoded_bytes());
                            if slash && bytes.last() != Some(&b'/') {
                                bytes.push(b'/');
                            }
                            let v = self.machine.heap.string(&bytes, ContextId::EMPTY);
                            self.constant(unit, v);
                        }
                        Part::Text(text) => {
                            let v = self.string_value(*text);
                            self.constant(unit, v);
                        }
                        Part::Expr(part) => {
                            self.strict(unit, *part)?;
                            self.emit_at(unit, Op::CoercePathPart, *part);
                        }
                    }
                }
                self.emit_at(unit, Op::ConcatPath(parts.len() as u32), e);
            }
            Expr::SearchPath(text) => {
                let find = self.machine.symbols.intern(b"__findFile");
                let path = self.machine.symbols.intern(b"__nixPath");
                self.variable_strict(unit, find, None, e)?;
                self.variable_delayed(unit, path, e)?;
                let v = self.string_value(text);
                self.constant(unit, v);
                self.emit_at(unit, Op::Call(2), e);
            }
            Expr::Var(name) => self.variable_strict(unit, self.symbol(name), Some(name), e)?,
            Expr::Select { set, path } => {
                self.strict(unit, set)?;
                for name in &self.ast.attr_names[path.indices()] {
                    match *name {
                        AttrName::Static(name, span) => {
                            let site = self.site(self.symbol(name));
                            self.emit_span(unit, Op::Select(site), span);
                        }
                        AttrName::Dynamic(d) => {
                            self.strict(unit, d)?;
                            self.emit_at(unit, Op::SelectDynamic, d);
                        }
                    }
                    self.emit_at(unit, Op::Force, e);
                }
            }
            Expr::SelectOr { index } => {
                let s = self.ast.select_ors[index as usize];
                self.strict(unit, s.set)?;
                let mut exits = Vec::new();
                for name in &self.ast.attr_names[s.path.indices()] {
                    match *name {
                        AttrName::Static(name, span) => {
                            let site = self.site(self.symbol(name));
                            exits.push(self.emit_span(unit, Op::TrySelect(site), span));
                        }
                        AttrName::Dynamic(d) => {
                            self.strict(unit, d)?;
                            let site = self.site(Symbol(0));
                            exits.push(self.emit_at(unit, Op::TrySelectDynamic(site), d));
                        }
                    }
                    self.emit_at(unit, Op::Force, e);
                }
                let end = self.emit(unit, Op::Jump(0));
                for exit in exits {
                    self.patch_site(unit, exit);
                }
                self.strict(unit, s.default)?;
                self.patch(unit, end);
            }
            Expr::HasAttr { set, path } => {
                self.strict(unit, set)?;
                let names = &self.ast.attr_names[path.indices()];
                let mut exits = Vec::new();
                for (i, name) in names.iter().enumerate() {
                    let last = i + 1 == names.len();
                    match *name {
                        AttrName::Static(name, span) => {
                            let site = self.site(self.symbol(name));
                            if last {
                                self.emit_span(unit, Op::HasAttr(site), span);
                            } else {
                                exits.push(self.emit_span(unit, Op::TrySelect(site), span));
                            }
                        }
                        AttrName::Dynamic(d) => {
                            self.strict(unit, d)?;
                            if last {
                                self.emit_at(unit, Op::HasAttrDynamic, d);
                            } else {
                                let site = self.site(Symbol(0));
                                exits.push(self.emit_at(unit, Op::TrySelectDynamic(site), d));
                            }
                        }
                    }
                    if !last {
                        self.emit_at(unit, Op::Force, e);
                    }
                }
                if !exits.is_empty() {
                    let end = self.emit(unit, Op::Jump(0));
                    for exit in exits {
                        self.patch_site(unit, exit);
                    }
                    self.constant(unit, Value::FALSE);
                    self.patch(unit, end);
                }
            }
            Expr::Call { function, args } => {
                self.strict(unit, function)?;
                let args = &self.ast.lists[args.indices()];
                // More arguments than an op can count are passed in several calls.
                for group in args.chunks(255) {
                    for arg in group {
                        self.delayed(unit, *arg, None)?;
                    }
                    let n = group.len() as u16;
                    let call = match self.machine.observed {
                        None => Op::Call(n),
                        Some(_) => Op::ObservedCall(n),
                    };
                    self.emit_at(unit, call, e);
                }
            }
            Expr::List(items) => {
                let items = &self.ast.lists[items.indices()];
                if items.is_empty() {
                    let v = self.machine.heap.empty_list;
                    self.constant(unit, v);
                } else {
                    self.list(unit, items)?;
                }
            }
            Expr::Attrs(b) => {
                let b = self.ast.bindings[b as usize];
                if b.recursive {
                    self.recursive_attrs(unit, b, None)?;
                } else {
                    self.plain_attrs(unit, b)?;
                }
            }
            Expr::LegacyLet(b) => {
                let b = self.ast.bindings[b as usize];
                self.recursive_attrs(unit, b, None)?;
                let body = self.machine.symbols.intern(b"body");
                let site = self.site(body);
                self.emit_at(unit, Op::Select(site), e);
                self.emit_at(unit, Op::Force, e);
            }
            Expr::Let { bindings, body } => {
                let b = self.ast.bindings[bindings as usize];
                self.recursive_attrs(unit, b, Some(body))?;
            }
            Expr::With { set, body } => {
                let slot = self.new_slot(unit);
                self.delayed(unit, set, None)?;
                self.emit(unit, Op::SetLocal(slot));
                self.withs.push(With {
                    level: unit.level,
                    slot,
                });
                let result = self.strict(unit, body);
                self.withs.pop();
                result?;
            }
            Expr::Assert { condition, body } => {
                if let Expr::Binary {
                    op: BinaryOp::Eq,
                    left,
                    right,
                } = self.ast.expr(condition)
                {
                    self.strict(unit, left)?;
                    self.strict(unit, right)?;
                    self.emit_at(unit, Op::AssertEqual, condition);
                } else {
                    self.strict(unit, condition)?;
                    self.emit_at(unit, Op::Assert, condition);
                }
                self.strict(unit, body)?;
            }
            Expr::If { condition, yes, no } => {
                self.strict(unit, condition)?;
                let otherwise = self.emit_at(unit, Op::JumpIfFalse(0), condition);
                self.strict(unit, yes)?;
                let end = self.emit(unit, Op::Jump(0));
                self.patch(unit, otherwise);
                self.strict(unit, no)?;
                self.patch(unit, end);
            }
            Expr::Lambda(_) => self.lambda(unit, e, None)?,
            Expr::Not(a) => {
                self.strict(unit, a)?;
                self.emit_at(unit, Op::Not, a);
            }
            Expr::Negate(a) => {
                if self.overridden(unit, b"__sub") {
                    let sub = self.machine.symbols.intern(b"__sub");
                    self.variable_strict(unit, sub, None, e)?;
                    self.constant(unit, Value::small_int(0).unwrap_or(Value::NULL));
                    self.delayed(unit, a, None)?;
                    self.emit_at(unit, Op::Call(2), e);
                } else {
                    self.strict(unit, a)?;
                    self.emit_at(unit, Op::Negate, e);
                }
            }
            Expr::Binary { op, left, right } => self.binary(unit, e, op, left, right)?,
        }
        Ok(())
    }

    /// The value of an expression that needs no evaluation.
    /// Pushes a list; one of nothing but constants is a constant itself.
    fn list(&mut self, unit: &mut Unit, items: &[ExprId]) -> Result<()> {
        let start = unit.ops.len();
        for item in items {
            self.delayed(unit, *item, None)?;
        }
        match self.constants(unit, start, items.len()) {
            Some(values) => {
                let v = self.machine.heap.list(&values);
                unit.ops.truncate(start);
                self.constant(unit, v);
            }
            None => {
                self.emit(unit, Op::List(items.len() as u32));
            }
        }
        Ok(())
    }

    /// The `count` constants that the ops from `start` on push, if that is all they do.
    fn constants(&self, unit: &Unit, start: usize, count: usize) -> Option<Vec<Value>> {
        let ops = unit.ops.get(start..)?;
        if ops.len() != count {
            return None;
        }
        let value = |op: &Op| match op {
            Op::Const(i) => self.machine.tables.consts.get(*i as usize).copied(),
            _ => None,
        };
        ops.iter().map(value).collect()
    }

    fn literal(&mut self, e: ExprId) -> Result<Value> {
        Ok(match self.ast.expr(e) {
            Expr::Int(i) => self.machine.heap.int(i),
            Expr::Float(f) => self.machine.heap.float(f),
            Expr::Str(text) => self.string_value(text),
            Expr::Path(kind, text) => {
                let span = self.source_span(e);
                self.path_value(kind, text).map_err(|err| err.at(span))?
            }
            Expr::CurPos => {
                let pos = offset(self.file.base, self.ast.span(e).start);
                self.machine.position_attrs(pos)
            }
            _ => Value::NULL,
        })
    }

    fn source_span(&self, e: ExprId) -> SourceSpan {
        let span = self.ast.span(e);
        SourceSpan {
            start: offset(self.file.base, span.start),
            len: span.end.saturating_sub(span.start),
        }
    }

    /// Whether the program binds the name that an operator stands for.
    fn overridden(&self, unit: &Unit, name: &[u8]) -> bool {
        if !self.rebinds_operators {
            return false;
        }
        let Some(symbol) = self.machine.symbols.find(name) else {
            return false;
        };
        if self.outer.contains_key(&symbol) {
            return true;
        }
        let Some(i) = self.symbols.iter().position(|s| *s == symbol) else {
            return false;
        };
        matches!(self.resolve(unit, Name(i as u32)), Resolved::Slot { .. })
    }

    fn binary(
        &mut self,
        unit: &mut Unit,
        e: ExprId,
        op: BinaryOp,
        left: ExprId,
        right: ExprId,
    ) -> Result<()> {
        let function: &[u8] = match op {
            BinaryOp::Sub => b"__sub",
            BinaryOp::Mul => b"__mul",
            BinaryOp::Div => b"__div",
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => b"__lessThan",
            _ => b"",
        };
        // Programs may bind the functions behind operators; nearly none does.
        if !function.is_empty() && self.overridden(unit, function) {
            let symbol = self.machine.symbols.intern(function);
            self.variable_strict(unit, symbol, None, e)?;
            let swap = matches!(op, BinaryOp::Gt | BinaryOp::Le);
            let (a, b) = if swap { (right, left) } else { (left, right) };
            self.delayed(unit, a, None)?;
            self.delayed(unit, b, None)?;
            self.emit_at(unit, Op::Call(2), e);
            if matches!(op, BinaryOp::Le | BinaryOp::Ge) {
                self.emit_at(unit, Op::Not, e);
            }
            return Ok(());
        }
        if op == BinaryOp::Concat {
            // `++` associates to the right: a chain is joined at once, so that it is not quadratic.
            self.strict(unit, left)?;
            let mut rest = right;
            let mut count = 2;
            while let Expr::Binary {
                op: BinaryOp::Concat,
                left,
                right,
            } = self.ast.expr(rest)
            {
                self.strict(unit, left)?;
                rest = right;
                count += 1;
            }
            self.strict(unit, rest)?;
            self.emit_at(unit, Op::Concat(count), e);
            return Ok(());
        }
        match op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Implies => {
                self.strict(unit, left)?;
                let skip = match op {
                    BinaryOp::And => self.emit_at(unit, Op::AndJump(0), left),
                    BinaryOp::Or => self.emit_at(unit, Op::OrJump(0), left),
                    _ => {
                        self.emit_at(unit, Op::Not, left);
                        self.emit_at(unit, Op::OrJump(0), left)
                    }
                };
                self.strict(unit, right)?;
                self.emit_at(unit, Op::CheckBool, right);
                self.patch(unit, skip);
                return Ok(());
            }
            BinaryOp::Gt | BinaryOp::Le => {
                self.strict(unit, right)?;
                self.strict(unit, left)?;
            }
            BinaryOp::Update => {
                // The right operand comes first, and has to be a set before the left one is looked at.
                self.strict(unit, right)?;
                if !matches!(
                    self.ast.expr(right),
                    Expr::Attrs(_)
                        | Expr::Binary {
                            op: BinaryOp::Update,
                            ..
                        }
                ) {
                    self.emit_at(unit, Op::CheckAttrs, right);
                }
                self.strict(unit, left)?;
            }
            BinaryOp::Add => {
                self.strict(unit, left)?;
                // A left operand that has to be made a string first is made one before the right one is looked at.
                if !matches!(
                    self.ast.expr(left),
                    Expr::Int(_)
                        | Expr::Float(_)
                        | Expr::Str(_)
                        | Expr::Interpolation(_)
                        | Expr::Path(..)
                        | Expr::PathInterpolation(..)
                        | Expr::Binary {
                            op: BinaryOp::Add,
                            ..
                        }
                ) {
                    self.emit_at(unit, Op::BeginAdd, e);
                }
                self.strict(unit, right)?;
            }
            _ => {
                self.strict(unit, left)?;
                self.strict(unit, right)?;
            }
        }
        let code = match op {
            BinaryOp::Add => Op::Add,
            BinaryOp::Sub => Op::Sub,
            BinaryOp::Mul => Op::Mul,
            BinaryOp::Div => Op::Div,
            BinaryOp::Update => Op::Update,
            BinaryOp::Eq | BinaryOp::Ne => Op::Eq,
            _ => Op::Less,
        };
        self.emit_at(unit, code, e);
        if matches!(op, BinaryOp::Ne | BinaryOp::Le | BinaryOp::Ge) {
            self.emit_at(unit, Op::Not, e);
        }
        Ok(())
    }

    fn find_name(&self, symbol: Symbol) -> Option<Name> {
        self.symbols
            .iter()
            .position(|s| *s == symbol)
            .map(|i| Name(i as u32))
    }

    /// Pushes and forces a variable.
    fn variable_strict(
        &mut self,
        unit: &mut Unit,
        symbol: Symbol,
        name: Option<Name>,
        e: ExprId,
    ) -> Result<()> {
        match self.resolve_symbol(unit, symbol, name) {
            Resolved::Slot { depth, slot, .. } => self.force_slot(unit, depth, slot, e)?,
            Resolved::Constant(v) => {
                self.constant(unit, v);
                if v.is_thunk() {
                    self.emit_at(unit, Op::Force, e);
                }
            }
            Resolved::With => {
                if self.withs.is_empty() && !self.machine.absent.contains(&symbol) {
                    return Err(self.undefined(symbol, e));
                }
                let mut exits = Vec::with_capacity(self.withs.len());
                for i in (0..self.withs.len()).rev() {
                    let with = self.withs[i];
                    self.force_slot(unit, unit.level - with.level, with.slot, e)?;
                    let site = self.site(symbol);
                    exits.push(self.emit_at(unit, Op::WithSelect(site), e));
                }
                let site = self.site(symbol);
                self.emit_at(unit, Op::Undefined(site), e);
                for exit in exits {
                    self.patch_site(unit, exit);
                }
                self.emit_at(unit, Op::Force, e);
            }
        }
        Ok(())
    }

    fn resolve_symbol(&self, unit: &Unit, symbol: Symbol, name: Option<Name>) -> Resolved {
        match name.or_else(|| self.find_name(symbol)) {
            Some(name) => self.resolve(unit, name),
            None => match (self.outer.get(&symbol), self.machine.globals.get(&symbol)) {
                (Some(&slot), _) => Resolved::Slot {
                    depth: unit.level,
                    slot,
                    ready: true,
                },
                (None, Some(v)) => Resolved::Constant(*v),
                (None, None) => Resolved::With,
            },
        }
    }

    fn undefined(&self, symbol: Symbol, e: ExprId) -> Error {
        let name = self.machine.symbols.text(symbol);
        Error::new(
            ErrorKind::UndefinedVariable,
            format!("undefined variable '{name}'"),
        )
        .at(self.source_span(e))
        .suggest(self.similar_names(&name))
    }

    /// Names in scope that look like `name`.
    fn similar_names(&self, name: &str) -> Vec<String> {
        let local = self
            .current
            .iter()
            .enumerate()
            .filter(|(_, b)| **b != NO_BINDING)
            .map(|(i, _)| self.machine.symbols.text(self.symbols[i]));
        let global = self
            .machine
            .globals
            .keys()
            .map(|s| self.machine.symbols.text(*s));
        crate::suggest::similar(name, local.chain(global))
    }

    /// Pushes a variable without forcing it.
    fn variable_delayed(&mut self, unit: &mut Unit, symbol: Symbol, e: ExprId) -> Result<()> {
        match self.resolve_symbol(unit, symbol, None) {
            Resolved::Slot { depth, slot, .. } => self.push_slot(unit, depth, slot),
            Resolved::Constant(v) => {
                self.constant(unit, v);
                Ok(())
            }
            Resolved::With => Err(self.undefined(symbol, e)),
        }
    }

    // ---- delayed values ---------------------------------------------------------------------------

    /// Emits code that pushes `e` without evaluating it. `name` is what it will be bound to.
    fn delayed(&mut self, unit: &mut Unit, e: ExprId, name: Option<Symbol>) -> Result<()> {
        if self.at_hand(unit, e, name)? {
            return Ok(());
        }
        let body = self.unit(e, None)?;
        self.emit_at(unit, Op::Thunk(body as i32), e);
        Ok(())
    }

    /// Pushes `e` if that takes no evaluation.
    fn at_hand(&mut self, unit: &mut Unit, e: ExprId, name: Option<Symbol>) -> Result<bool> {
        match self.ast.expr(e) {
            Expr::Int(_)
            | Expr::Float(_)
            | Expr::Str(_)
            | Expr::Path(PathKind::Absolute | PathKind::Relative, _) => {
                let v = self.literal(e)?;
                self.constant(unit, v);
            }
            Expr::Lambda(_) => self.lambda(unit, e, name)?,
            Expr::Var(name) => match self.resolve(unit, name) {
                Resolved::Slot {
                    depth,
                    slot,
                    ready: true,
                } => self.push_slot(unit, depth, slot)?,
                Resolved::Constant(v) => self.constant(unit, v),
                _ => return Ok(false),
            },
            Expr::List(items) if items.is_empty() => {
                let v = self.machine.heap.empty_list;
                self.constant(unit, v);
            }
            Expr::Attrs(b) => {
                let b = self.ast.bindings[b as usize];
                let small = !b.recursive
                    && b.dynamic.is_empty()
                    && b.from.is_empty()
                    && b.attrs.len() <= 4
                    && self.ast.attrs[b.attrs.indices()]
                        .iter()
                        .all(|a| match a.value {
                            AttrValue::Plain(e) | AttrValue::Inherit(e) => self.is_trivial(unit, e),
                            AttrValue::InheritFrom(_) => false,
                        });
                if !small {
                    return Ok(false);
                }
                self.plain_attrs(unit, b)?;
            }
            Expr::List(items) => {
                let items = &self.ast.lists[items.indices()];
                if items.len() > 4 || !items.iter().all(|i| self.is_trivial(unit, *i)) {
                    return Ok(false);
                }
                self.list(unit, items)?;
            }
            Expr::Select { set, path } => {
                let Expr::Var(variable) = self.ast.expr(set) else {
                    return Ok(false);
                };
                let names = &self.ast.attr_names[path.indices()];
                if names.len() > 3 || names.iter().any(|n| matches!(n, AttrName::Dynamic(_))) {
                    return Ok(false);
                }
                match self.resolve(unit, variable) {
                    Resolved::Slot {
                        depth,
                        slot,
                        ready: true,
                    } => {
                        self.push_slot(unit, depth, slot)?;
                    }
                    Resolved::Constant(v) => self.constant(unit, v),
                    _ => return Ok(false),
                }
                let mut exits = Vec::with_capacity(names.len());
                for name in names {
                    if let AttrName::Static(name, _) = *name {
                        let site = self.site(self.symbol(name));
                        exits.push(self.emit(unit, Op::DelaySelect(site)));
                    }
                }
                let end = self.emit(unit, Op::Jump(0));
                for exit in exits {
                    self.patch_site(unit, exit);
                }
                let body = self.unit(e, None)?;
                self.emit_at(unit, Op::Thunk(body as i32), e);
                self.patch(unit, end);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether [`Compiler::at_hand`] pushes `e` with one op.
    fn is_trivial(&self, unit: &Unit, e: ExprId) -> bool {
        match self.ast.expr(e) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) => true,
            Expr::Var(name) => !matches!(
                self.resolve(unit, name),
                Resolved::With | Resolved::Slot { ready: false, .. }
            ),
            Expr::List(items) => items.is_empty(),
            _ => false,
        }
    }

    // ---- sets and functions -----------------------------------------------------------------------

    fn shape_of(&mut self, attrs: &[(Symbol, Attr)]) -> u32 {
        let base = self.file.base;
        let shape = self
            .machine
            .heap
            .shape(attrs.iter().map(|(s, a)| (*s, offset(base, a.span.start))));
        if !attrs.is_empty() {
            shape.set_static();
        }
        self.machine.tables.shapes.push(shape);
        self.machine.tables.shapes.len() as u32 - 1
    }

    fn sorted_attrs(&self, b: Bindings) -> Vec<(Symbol, Attr)> {
        let mut attrs: Vec<(Symbol, Attr)> = self.ast.attrs[b.attrs.indices()]
            .iter()
            .map(|a| (self.symbol(a.name), *a))
            .collect();
        attrs.sort_unstable_by_key(|(s, _)| *s);
        attrs
    }

    fn plain_attrs(&mut self, unit: &mut Unit, b: Bindings) -> Result<()> {
        let from = &self.ast.lists[b.from.indices()];
        for source in from {
            self.delayed(unit, *source, None)?;
        }
        let attrs = self.sorted_attrs(b);
        if attrs.is_empty() {
            let v = self.machine.heap.empty_attrs;
            self.constant(unit, v);
        } else {
            let sparse = attrs.len() >= SPARSE_FROM;
            let start = unit.ops.len();
            let mut code = Vec::new();
            let mut pushed = 0;
            for (symbol, attr) in &attrs {
                match attr.value {
                    AttrValue::Plain(e) | AttrValue::Inherit(e) => {
                        if sparse {
                            if !self.at_hand(unit, e, Some(*symbol))? {
                                code.push(Some(self.unit(e, None)?));
                                continue;
                            }
                        } else {
                            self.delayed(unit, e, Some(*symbol))?;
                        }
                    }
                    AttrValue::InheritFrom(i) => {
                        let distance = pushed + from.len() - 1 - i as usize;
                        let site = self.inherit_site(*symbol, attr.span.start);
                        match u16::try_from(distance) {
                            Ok(distance) => {
                                self.emit_span(unit, Op::Inherit(distance, site), attr.span);
                            }
                            Err(_) => return Err(too_large()),
                        }
                    }
                }
                if sparse {
                    code.push(None);
                }
                pushed += 1;
            }
            let shape = self.shape_of(&attrs);
            if !sparse && let Some(values) = self.constants(unit, start, attrs.len()) {
                let shape = self.machine.tables.shapes[shape as usize];
                let v = self.machine.heap.attrs_of_shape(shape, &values);
                unit.ops.truncate(start);
                self.constant(unit, v);
            } else if sparse {
                let index = self.machine.tables.sparse.len() + self.sparse.len();
                self.sparse.push((shape, code));
                self.emit(unit, Op::SparseAttrs(index as u32));
            } else {
                self.emit(unit, Op::Attrs(shape));
            }
        }
        if !from.is_empty() {
            self.emit(unit, Op::Slide(from.len() as u32));
        }
        self.dynamic_attrs(unit, b)
    }

    fn dynamic_attrs(&mut self, unit: &mut Unit, b: Bindings) -> Result<()> {
        if b.dynamic.is_empty() {
            return Ok(());
        }
        let dynamic = &self.ast.dynamic_attrs[b.dynamic.indices()];
        let mut positions = Vec::with_capacity(dynamic.len());
        for d in dynamic {
            self.strict(unit, d.name)?;
            self.delayed(unit, d.value, None)?;
            positions.push(offset(self.file.base, d.span.start));
        }
        self.machine.tables.dynamic.push(positions.into());
        let index = self.machine.tables.dynamic.len() as u32 - 1;
        let span = dynamic.first().map_or_else(Default::default, |d| d.span);
        self.emit_span(unit, Op::AttrsDynamic(index), span);
        Ok(())
    }

    /// Whether a set has the attribute `__overrides`.
    fn overrides(&self, attrs: &[Attr]) -> bool {
        attrs.iter().any(|a| {
            matches!(a.value, AttrValue::Plain(_))
                && self.machine.symbols.name(self.symbol(a.name)) == b"__overrides"
        })
    }

    /// `rec { … }`, or `let … in body`.
    fn recursive_attrs(
        &mut self,
        unit: &mut Unit,
        b: Bindings,
        body: Option<ExprId>,
    ) -> Result<()> {
        let attrs: Vec<Attr> = self.ast.attrs[b.attrs.indices()].to_vec();
        let level = unit.level;
        let slots: Vec<u32> = attrs.iter().map(|_| self.new_slot(unit)).collect();
        // Inherited variables are those of the enclosing scope.
        for (attr, slot) in attrs.iter().zip(&slots) {
            if let AttrValue::Inherit(e) = attr.value {
                self.delayed(unit, e, None)?;
                self.emit(unit, Op::SetLocal(*slot));
            }
        }
        let mark = self.bindings.len();
        // What `__overrides` may replace must be looked at later.
        let overridden = body.is_none() && self.overrides(&attrs);
        for (attr, slot) in attrs.iter().zip(&slots) {
            let inherited = matches!(attr.value, AttrValue::Inherit(_)) && !overridden;
            let filling = if inherited { READY } else { unit.id };
            self.bind(attr.name, level, *slot, filling);
        }
        let result = self.recursive_body(unit, b, &attrs, &slots, mark, body);
        self.unbind(attrs.iter().map(|a| a.name), mark);
        result
    }

    fn recursive_body(
        &mut self,
        unit: &mut Unit,
        b: Bindings,
        attrs: &[Attr],
        slots: &[u32],
        mark: usize,
        body: Option<ExprId>,
    ) -> Result<()> {
        let from = &self.ast.lists[b.from.indices()];
        let mut from_slots = Vec::with_capacity(from.len());
        let filled = if body.is_none() && self.overrides(attrs) {
            unit.id
        } else {
            READY
        };
        // Values that take nothing from the slots being filled come first, so that those which do find
        // as many of them ready as possible.
        for pass in 0..2 {
            for (i, attr) in attrs.iter().enumerate() {
                let AttrValue::Plain(e) = attr.value else {
                    continue;
                };
                let late = matches!(
                    self.ast.expr(e),
                    Expr::Var(_) | Expr::Select { .. } | Expr::List(_) | Expr::Attrs(_)
                );
                if late != (pass == 1) {
                    continue;
                }
                self.delayed(unit, e, Some(self.symbol(attr.name)))?;
                self.emit(unit, Op::SetLocal(slots[i]));
                self.bindings[mark + i].filling = filled;
            }
            if pass == 0 && !from.is_empty() {
                for source in from {
                    let slot = self.new_slot(unit);
                    self.delayed(unit, *source, None)?;
                    self.emit(unit, Op::SetLocal(slot));
                    from_slots.push(slot);
                }
                for (i, attr) in attrs.iter().enumerate() {
                    let AttrValue::InheritFrom(index) = attr.value else {
                        continue;
                    };
                    let Some(&slot) = from_slots.get(index as usize) else {
                        continue;
                    };
                    let site = self.inherit_site(self.symbol(attr.name), attr.span.start);
                    match u16::try_from(slot) {
                        Ok(slot) => {
                            self.emit_span(unit, Op::InheritLocal(slot, site), attr.span);
                        }
                        Err(_) => {
                            self.emit(unit, Op::Local(slot));
                            self.emit_span(unit, Op::Inherit(0, site), attr.span);
                            self.emit(unit, Op::Slide(1));
                        }
                    }
                    self.emit(unit, Op::SetLocal(slots[i]));
                    self.bindings[mark + i].filling = filled;
                }
            }
        }
        if let Some(body) = body {
            return self.strict(unit, body);
        }
        let mut sorted: Vec<(Symbol, Attr, u32)> = attrs
            .iter()
            .zip(slots)
            .map(|(a, s)| (self.symbol(a.name), *a, *s))
            .collect();
        sorted.sort_unstable_by_key(|(s, ..)| *s);
        let overrides = self.machine.symbols.intern(b"__overrides");
        let override_slot = sorted
            .iter()
            .find(|(s, a, _)| *s == overrides && matches!(a.value, AttrValue::Plain(_)))
            .map(|(.., slot)| *slot);
        let index = self.machine.tables.overrides.len() as u32;
        if let Some(slot) = override_slot {
            let root = self.ast.root.unwrap_or(ExprId(0));
            self.emit_at(unit, Op::LocalForce(slot), root);
            self.machine.tables.overrides.push(OverrideTable {
                slots: sorted.iter().map(|(s, _, slot)| (*s, *slot)).collect(),
            });
            self.emit_at(unit, Op::Overrides(index), root);
        }
        if let Some(slot) = override_slot {
            self.emit(unit, Op::LocalForce(slot));
        }
        if sorted.is_empty() {
            let v = self.machine.heap.empty_attrs;
            self.constant(unit, v);
        } else {
            for (_, _, slot) in &sorted {
                self.emit(unit, Op::Local(*slot));
            }
            let pairs: Vec<(Symbol, Attr)> = sorted.iter().map(|(s, a, _)| (*s, *a)).collect();
            let shape = self.shape_of(&pairs);
            self.emit(unit, Op::Attrs(shape));
        }
        if override_slot.is_some() {
            self.emit(unit, Op::Update);
        }
        self.dynamic_attrs(unit, b)
    }

    fn lambda(&mut self, unit: &mut Unit, e: ExprId, name: Option<Symbol>) -> Result<()> {
        let Expr::Lambda(first) = self.ast.expr(e) else {
            return Ok(());
        };
        // Curried parameters are taken together, as long as none but the last is a pattern: checking a
        // pattern is an effect that a partial application must show.
        let mut chain = vec![self.ast.lambdas[first as usize]];
        while let Some(last) = chain.last()
            && last.formals.is_none()
            && chain.len() < 8
            && let Expr::Lambda(next) = self.ast.expr(last.body)
        {
            chain.push(self.ast.lambdas[next as usize]);
        }
        let Some(&last) = chain.last() else {
            return Ok(());
        };
        let level = self.frames.len() as u32;
        self.frames.push(chain.len() as u32);
        let mark = self.bindings.len();
        let mut names = Vec::new();
        for (i, l) in chain.iter().enumerate() {
            if let Some(param) = l.param {
                self.bind(param, level, i as u32, READY);
                names.push(param);
            }
        }
        let mut entries = Vec::new();
        let mut defaults = Vec::new();
        if let Some(range) = last.formals {
            let formals = &self.ast.formals[range.indices()];
            for f in formals {
                let slot = &mut self.frames[level as usize];
                *slot += 1;
                let slot = *slot - 1;
                self.bind(f.name, level, slot, READY);
                names.push(f.name);
                entries.push(Formal {
                    symbol: self.symbol(f.name),
                    slot,
                    pos: offset(self.file.base, f.span.start),
                    default: FormalDefault::Required,
                });
                defaults.push(f.default);
            }
        }
        let mut params = Vec::with_capacity(chain.len());
        let mut at = e;
        for l in &chain {
            let name = l.param.map(|p| self.symbol(p));
            params.push((name, offset(self.file.base, self.ast.span(at).start)));
            at = l.body;
        }
        let params = params.into_boxed_slice();
        let index = self.machine.tables.lambdas.len() as u32;
        let local = self.lambdas.len();
        self.machine.tables.lambdas.push(std::ptr::null());
        self.lambda_starts.push(0);
        self.lambdas.push(Lambda {
            code: std::ptr::null(),
            arity: chain.len() as u32,
            slots: 0,
            formals: last.formals.map(|_| Formals {
                entries: Box::default(),
                ellipsis: last.ellipsis,
            }),
            index,
            name: Cell::new(name),
            pos: offset(self.file.base, self.ast.span(e).start),
            params,
            args: Cell::new(Value::EMPTY),
        });
        let result = self.lambda_body(last.body, index, local, &mut entries, &defaults);
        self.unbind(names.into_iter(), mark);
        let slots = self.frames.pop().unwrap_or(0);
        result?;
        self.lambdas[local].slots = slots;
        self.emit(unit, Op::Closure(index));
        Ok(())
    }

    fn lambda_body(
        &mut self,
        body: ExprId,
        index: u32,
        local: usize,
        entries: &mut [Formal],
        defaults: &[Option<ExprId>],
    ) -> Result<()> {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by_key(|i| entries[*i].symbol);
        for (sorted, &i) in order.iter().enumerate() {
            let Some(default) = defaults[i] else { continue };
            if let Some(v) = self.constant_default(default)? {
                entries[i].default = FormalDefault::Constant(v);
            } else {
                let at = self.unit(default, None)?;
                self.pending_defaults.push((local, sorted, at));
            }
        }
        if let Some(formals) = &mut self.lambdas[local].formals {
            formals.entries = order.iter().map(|&i| entries[i].clone()).collect();
        }
        let start = self.unit(body, Some(index))?;
        self.lambda_starts[local] = start;
        Ok(())
    }

    fn constant_default(&mut self, e: ExprId) -> Result<Option<Value>> {
        Ok(match self.ast.expr(e) {
            Expr::Int(_) | Expr::Float(_) | Expr::Str(_) => Some(self.literal(e)?),
            Expr::List(items) if items.is_empty() => Some(self.machine.heap.empty_list),
            Expr::Attrs(b) => {
                let b = self.ast.bindings[b as usize];
                (b.attrs.is_empty() && b.dynamic.is_empty())
                    .then_some(self.machine.heap.empty_attrs)
            }
            Expr::Var(name) if self.current[name.0 as usize] == NO_BINDING => {
                let symbol = self.symbol(name);
                if self.outer.contains_key(&symbol) {
                    None
                } else {
                    self.machine.globals.get(&symbol).copied()
                }
            }
            _ => None,
        })
    }
}

fn level(depth: u32) -> Result<u16> {
    u16::try_from(depth).map_err(|_| too_large())
}

fn too_large() -> Error {
    Error::new(
        ErrorKind::Other,
        "the expression is nested too deeply to be compiled",
    )
}

/// The environment of a file that has an outer scope.
pub(crate) fn outer_env(machine: &mut Machine, values: &[Value]) -> EnvPtr {
    if values.is_empty() {
        return EnvPtr::NONE;
    }
    let env = machine.heap.env(EnvPtr::NONE, values.len());
    for (i, v) in values.iter().enumerate() {
        env.set(i, *v);
    }
    env
}
