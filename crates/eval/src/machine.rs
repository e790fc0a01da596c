//! The machine: one loop, one value stack, one frame stack, no host recursion.
//!
//! Forcing a thunk or calling a function pushes a `Frame`; returning pops it and leaves the result on the
//! value stack. A frame either runs code (`ip`, `env`) or is that of a native function to be resumed. An
//! op that finds an operand unevaluated can also have it evaluated and then run again: its frame is pushed with
//! `flag::DISCARD`, the thunk keeps the value, and the op finds it there.
//!
//! Every value the machine still needs is on one of the two stacks, in a table of constants, in the
//! import cache or in a registered root: that is what `Machine::safepoint` may rely on.
//!
//! How data flows: `loading` turns sources into code; `run` is the loop, which has `frames` pushed for thunks and `calling` for
//! calls (`formals` binds sets to arguments, `attrs` makes and updates sets); `unwind` takes errors out; `safepoints`
//! looks at limits and collects. Native functions work through `stack` and `want`.

mod attrs;
mod calling;
mod excerpts;
mod formals;
mod frames;
mod loading;
mod paths;
mod run;
mod safepoints;
mod settings;
mod stack;
mod unwind;
mod want;

pub(crate) use attrs::INTERN_UP_TO;
pub(crate) use calling::MAX_ARGS;
pub(crate) use frames::Frame;
pub use paths::{bytes_path, canonical_path, host_error, is_canonical};
pub use settings::Settings;

use crate::code::{Lambda, Op, Tables};
use crate::context::Contexts;
use crate::error::{Error, Result};
use crate::heap::{Callee, EnvPtr, FunctionRef, Heap, Shape, ThunkPtr};
use crate::host::Host;
use crate::native::{Activation, Builtin, Resume};
use crate::ops;
use crate::position::{PosId, SourceMap, SourceSpan};
use crate::symbol::{Symbol, Symbols};
use crate::value::Value;
use attrs::Transition;
use frames::NO_INFO;
use rustc_hash::FxHashMap;
use safepoints::TICKS;
use std::any::{Any, TypeId};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Symbols that the evaluator itself and its native functions use all the time.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "each is the symbol of its name")]
pub struct Known {
    pub functor: Symbol,
    pub to_string: Symbol,
    pub out_path: Symbol,
    pub drv_path: Symbol,
    pub kind: Symbol,
    pub name: Symbol,
    pub value: Symbol,
    pub file: Symbol,
    pub line: Symbol,
    pub column: Symbol,
    pub function_args: Symbol,
    pub args: Symbol,
    pub builder: Symbol,
    pub system: Symbol,
    pub outputs: Symbol,
    pub output_hash: Symbol,
    pub output_hash_algo: Symbol,
    pub output_hash_mode: Symbol,
    pub structured_attrs: Symbol,
    pub ignore_nulls: Symbol,
    pub content_addressed: Symbol,
    pub impure: Symbol,
    pub json: Symbol,
}

/// Stops an evaluation from another thread.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Makes the evaluation fail with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Allows evaluation again.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A registered root: keeps a value alive across evaluations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root(usize);

/// The evaluator: heap, tables and stacks. Native functions receive it.
pub struct Machine {
    /// Objects.
    pub heap: Heap,
    /// Names.
    pub symbols: Symbols,
    /// String contexts.
    pub contexts: Contexts,
    /// Sources and positions.
    pub sources: SourceMap,
    /// The world outside.
    pub host: Rc<dyn Host>,
    /// Limits and modes.
    pub settings: Settings,
    /// Symbols the evaluator itself uses.
    pub known: Known,
    pub(crate) tables: Tables,
    pub(crate) globals: FxHashMap<Symbol, Value>,
    /// Names of the language that this evaluator does not provide: an error only where they are evaluated.
    pub(crate) absent: rustc_hash::FxHashSet<Symbol>,
    pub(crate) builtins: Vec<Builtin>,
    /// Builtins that say themselves what they are doing, by name.
    describers: FxHashMap<&'static str, Describe>,
    /// Native functions that do the same, whatever builtin they run for.
    native_describers: Vec<(Resume, Describe)>,
    purpose: Option<Purpose>,
    pub(crate) stack: Vec<Value>,
    pub(crate) frames: Vec<Frame>,
    errors: Vec<Error>,
    pending: Option<Error>,
    imports: FxHashMap<PathBuf, Value>,
    roots: Vec<Option<Value>>,
    free_roots: Vec<usize>,
    externals: Vec<Rc<dyn Any>>,
    extensions: Vec<(TypeId, Box<dyn Any>)>,
    transitions: FxHashMap<(Shape, Shape), Transition>,
    /// Shapes of small sets with the hash of their entries.
    shapes: hashbrown::HashTable<(u64, Shape)>,
    cancel: CancelToken,
    ticks: u32,
    /// Steps left, when limited.
    fuel: Option<u64>,
    call_ops: Box<[[Op; 2]]>,
    /// The same for calls that thunks stand for.
    pub(crate) apply_ops: Box<[[Op; 2]; 3]>,
    /// Who is told of calls.
    pub(crate) observed: Option<Box<crate::calls::Observed>>,
    rest_ops: Box<[[Op; 2]]>,
    select_ops: Box<[Op; 3]>,
    exit_ops: Box<[Op; 1]>,
    pub(crate) scratch: Vec<(Symbol, PosId, Value)>,
    /// Reused by updates: where each value of the result comes from.
    plan: Vec<u32>,
    parse_buffers: nivis_syntax::Buffers,
    pub(crate) compile_buffers: crate::compile::Buffers,
    /// About the bytes of `errors`.
    error_bytes: usize,
    /// About the bytes of all code, and of the texts that are kept with it.
    code_bytes: usize,
    /// Sets of containers seen by running deep operations.
    pub(crate) visited: Vec<rustc_hash::FxHashSet<u64>>,
}

/// Says what a running builtin is doing, for the trace of an error: steps from the innermost one, each with its place.
pub type Describe = fn(&mut Machine, &Activation) -> Vec<(String, SourceSpan)>;

/// Says what an argument of a builtin is for: of the one that failed, or when none did, of the one among these values that the
/// builtin refused.
pub type Purpose = fn(&Machine, &str, &[Value], Option<usize>) -> Option<String>;

/// The names that Nix knows before it reads any code, in its order: which one of several missing or unexpected arguments
/// is reported depends on the order in which names became known.
const FIRST_NAMES: &[&str] = &[
    "outPath",
    "drvPath",
    "type",
    "meta",
    "name",
    "value",
    "system",
    "__overrides",
    "outputs",
    "outputName",
    "__ignoreNulls",
    "file",
    "line",
    "column",
    "__functor",
    "__toString",
    "right",
    "wrong",
    "__structuredAttrs",
    "__json",
    "allowedReferences",
    "allowedRequisites",
    "disallowedReferences",
    "disallowedRequisites",
    "maxSize",
    "maxClosureSize",
    "builder",
    "args",
    "__contentAddressed",
    "__impure",
    "outputHash",
    "outputHashAlgo",
    "outputHashMode",
    "recurseForDerivations",
    "description",
    "self",
    "",
    "startSet",
    "operator",
    "key",
    "path",
    "prefix",
    "outputSpecified",
    "__sub",
    "__lessThan",
    "__mul",
    "__div",
    "or",
    "__findFile",
    "__nixPath",
    "body",
];

impl Machine {
    /// A machine without any builtin.
    pub fn new(host: Rc<dyn Host>, settings: Settings) -> Machine {
        let mut symbols = Symbols::default();
        for name in FIRST_NAMES {
            symbols.intern(name.as_bytes());
        }
        let known = Known {
            functor: symbols.intern(b"__functor"),
            to_string: symbols.intern(b"__toString"),
            out_path: symbols.intern(b"outPath"),
            drv_path: symbols.intern(b"drvPath"),
            kind: symbols.intern(b"type"),
            name: symbols.intern(b"name"),
            value: symbols.intern(b"value"),
            file: symbols.intern(b"file"),
            line: symbols.intern(b"line"),
            column: symbols.intern(b"column"),
            function_args: symbols.intern(b"__functionArgs"),
            args: symbols.intern(b"args"),
            builder: symbols.intern(b"builder"),
            system: symbols.intern(b"system"),
            outputs: symbols.intern(b"outputs"),
            output_hash: symbols.intern(b"outputHash"),
            output_hash_algo: symbols.intern(b"outputHashAlgo"),
            output_hash_mode: symbols.intern(b"outputHashMode"),
            structured_attrs: symbols.intern(b"__structuredAttrs"),
            ignore_nulls: symbols.intern(b"__ignoreNulls"),
            content_addressed: symbols.intern(b"__contentAddressed"),
            impure: symbols.intern(b"__impure"),
            json: symbols.intern(b"__json"),
        };
        Machine {
            heap: Heap::new(settings.memory_limit),
            symbols,
            contexts: Contexts::default(),
            sources: SourceMap::default(),
            host,
            settings,
            known,
            tables: Tables::default(),
            globals: FxHashMap::default(),
            absent: Default::default(),
            builtins: Vec::new(),
            describers: FxHashMap::default(),
            native_describers: vec![(ops::force_deep, ops::describe_deep)],
            purpose: None,
            stack: Vec::with_capacity(1024),
            frames: Vec::with_capacity(256),
            errors: Vec::new(),
            pending: None,
            imports: FxHashMap::default(),
            roots: Vec::new(),
            free_roots: Vec::new(),
            externals: Vec::new(),
            extensions: Vec::new(),
            transitions: FxHashMap::default(),
            shapes: Default::default(),
            cancel: CancelToken::default(),
            ticks: TICKS,
            fuel: None,
            call_ops: (0..MAX_ARGS)
                .map(|n| [Op::Call(n as u16), Op::Return])
                .collect(),
            apply_ops: Box::new([0, 1, 2].map(|n| [Op::Call(n), Op::Return])),
            observed: None,
            rest_ops: (0..MAX_ARGS)
                .map(|n| [Op::CallRest(n as u16), Op::Return])
                .collect(),
            select_ops: Box::new([Op::Force, Op::SelectPayload, Op::Return]),
            exit_ops: Box::new([Op::Exit]),
            scratch: Vec::new(),
            plan: Vec::new(),
            parse_buffers: nivis_syntax::Buffers::default(),
            compile_buffers: crate::compile::Buffers::default(),
            error_bytes: 0,
            code_bytes: 0,
            visited: Vec::new(),
        }
    }

    /// Adds a native function and returns its value; it is not yet bound to any name.
    pub fn add_builtin(&mut self, builtin: Builtin) -> Value {
        let index = self.builtins.len() as u32;
        self.builtins.push(builtin);
        self.heap.primop(index)
    }

    /// Lets the traces of errors show what a builtin (one with [`Body::Frame`](crate::native::Body::Frame)) was doing, instead of that it was called.
    pub fn describe_builtin(&mut self, name: &'static str, describe: Describe) {
        self.describers.insert(name, describe);
    }

    /// Lets the traces of errors show what a native function was doing, before what is said of the builtin it runs for.
    ///
    /// Functions are told apart by their addresses; two whose code is the same to the letter may be taken for one another.
    pub fn describe_native(&mut self, resume: Resume, describe: Describe) {
        self.native_describers.push((resume, describe));
    }

    /// Lets the traces of errors show what arguments of builtins are for.
    pub fn describe_arguments(&mut self, purpose: Purpose) {
        self.purpose = Some(purpose);
    }

    /// Binds a name in the outermost scope of every file compiled from now on.
    pub fn bind_global(&mut self, name: &str, value: Value) {
        let symbol = self.symbols.intern(name.as_bytes());
        self.globals.insert(symbol, value);
    }

    /// Declares a name that the language has in the outermost scope but this evaluator does not. A file
    /// that mentions it can be loaded; the error that it is undefined comes when it is evaluated.
    pub fn declare_absent(&mut self, name: &str) {
        let symbol = self.symbols.intern(name.as_bytes());
        self.absent.insert(symbol);
    }

    /// The value of a name of the outermost scope.
    pub fn global(&self, name: &str) -> Option<Value> {
        self.symbols
            .find(name.as_bytes())
            .and_then(|s| self.globals.get(&s).copied())
    }

    /// All native functions, in the order of registration.
    pub fn builtins(&self) -> &[Builtin] {
        &self.builtins
    }

    /// Number of instructions of all programs compiled so far.
    pub fn code_size(&self) -> usize {
        self.tables.programs.iter().map(|p| p.ops.len()).sum()
    }

    /// The native function behind a function value, seen through partial application.
    pub fn builtin_of(&self, function: FunctionRef) -> Option<&Builtin> {
        match function.callee() {
            Callee::Primop(i) => self.builtins.get(i as usize),
            Callee::Partial => match FunctionRef(function.partial_callee()).callee() {
                Callee::Primop(i) => self.builtins.get(i as usize),
                _ => None,
            },
            Callee::Closure(..) => None,
        }
    }

    /// Keeps a value alive until [`Machine::unroot`].
    pub fn root(&mut self, value: Value) -> Root {
        match self.free_roots.pop() {
            Some(i) => {
                self.roots[i] = Some(value);
                Root(i)
            }
            None => {
                self.roots.push(Some(value));
                Root(self.roots.len() - 1)
            }
        }
    }

    /// The value of a root (null after it was released).
    pub fn rooted(&self, root: Root) -> Value {
        self.roots
            .get(root.0)
            .copied()
            .flatten()
            .map_or(Value::NULL, Value::resolved)
    }

    /// Releases a root.
    pub fn unroot(&mut self, root: Root) {
        if let Some(r) = self.roots.get_mut(root.0)
            && r.take().is_some()
        {
            self.free_roots.push(root.0);
        }
    }

    /// State that builtins keep per evaluator (caches and the like), made when first asked for.
    pub fn extension<T: Any + Default>(&mut self) -> &mut T {
        let id = TypeId::of::<T>();
        // They are few, so that searching is quicker than hashing.
        let at = self.extensions.iter().position(|(known, _)| *known == id);
        let at = at.unwrap_or_else(|| {
            self.extensions.push((id, Box::new(T::default())));
            self.extensions.len() - 1
        });
        let entry = self.extensions.get_mut(at);
        match entry.and_then(|(_, state)| state.downcast_mut::<T>()) {
            Some(t) => t,
            None => unreachable!("the entry was made with this type"),
        }
    }

    /// A value that stands for an object of the embedding program.
    pub fn external(&mut self, object: Rc<dyn Any>) -> Value {
        self.externals.push(object);
        self.heap.external(self.externals.len() - 1)
    }

    /// The object behind an external value.
    pub fn external_of(&self, value: Value) -> Option<Rc<dyn Any>> {
        value
            .resolved()
            .as_external()
            .and_then(|i| self.externals.get(i).cloned())
    }

    /// The token that stops this machine from another thread.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Limits the number of calls from now on (rounded up to about a thousand), or lifts the limit.
    pub fn set_fuel(&mut self, calls: Option<u64>) {
        self.fuel = calls;
    }

    /// Evaluates a value to weak head normal form. Must not be called by native functions.
    ///
    /// # Errors
    /// Whatever the evaluation fails with, with the trace of what was being evaluated.
    pub fn force(&mut self, value: Value) -> Result<Value> {
        let value = value.resolved();
        if !value.is_thunk() {
            return Ok(value);
        }
        self.run(|m| m.enter_thunk(value, 0))
    }

    /// Calls a function value with arguments. Must not be called by native functions.
    ///
    /// # Errors
    /// Whatever the call fails with.
    pub fn call(&mut self, function: Value, args: &[Value]) -> Result<Value> {
        self.run(|m| {
            m.stack.push(function);
            m.stack.extend_from_slice(args);
            m.begin_call(args.len())
        })
    }

    /// Runs a resumable native function on the given locals. Must not be called by native functions.
    ///
    /// # Errors
    /// Whatever the function fails with.
    pub fn run_native(&mut self, resume: Resume, locals: &[Value]) -> Result<Value> {
        self.run(|m| {
            m.stack.extend_from_slice(locals);
            m.push_native(resume, locals.len(), NO_INFO)
        })
    }

    fn run(&mut self, begin: impl FnOnce(&mut Machine) -> Result<()>) -> Result<Value> {
        let floor = self.frames.len();
        if floor == 0 {
            self.visited.clear();
        }
        let height = self.stack.len();
        self.frames.push(Frame {
            ip: self.exit_ops.as_ptr(),
            env: EnvPtr::NONE,
            update: ThunkPtr::NONE,
            resume: None,
            base: height as u32,
            depth: self.frames.last().map_or(0, |f| f.depth),
            info: NO_INFO,
            height: 0,
            flags: 0,
        });
        let mut result = begin(self);
        loop {
            if result.is_ok() {
                result = self.exec();
            }
            match result {
                Ok(()) => {
                    self.frames.truncate(floor);
                    let v = self.stack.pop().unwrap_or(Value::NULL);
                    self.stack.truncate(height);
                    return Ok(v);
                }
                Err(error) => match self.unwind(error, floor + 1) {
                    None => {
                        self.leave_observed(self.frames.len());
                        result = Ok(());
                    }
                    Some(error) => {
                        self.leave_observed(floor);
                        self.frames.truncate(floor);
                        self.stack.truncate(height);
                        return Err(error);
                    }
                },
            }
        }
    }
}

#[inline(always)]
pub(crate) fn lambda_of<'a>(lambda: *const Lambda) -> &'a Lambda {
    // SAFETY: lambdas belong to a `Program`, which is never dropped while its machine lives, and are
    // not changed after compilation but for their `Cell`s.
    unsafe { &*lambda }
}

fn lambda_ref<'a>(lambda: *const Lambda) -> Option<&'a Lambda> {
    (!lambda.is_null()).then(|| lambda_of(lambda))
}
