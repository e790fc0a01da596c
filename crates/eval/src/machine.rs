//! The machine: one loop, one value stack, one frame stack, no host recursion.
//!
//! Forcing a thunk or calling a function pushes a `Frame`; returning pops it and leaves the result on the
//! value stack. A frame either runs code (`ip`, `env`) or is that of a native function to be resumed. An
//! op that finds an operand unevaluated can also have it evaluated and then run again: its frame is pushed with
//! `flag::DISCARD`, the thunk keeps the value, and the op finds it there.
//!
//! Every value the machine still needs is on one of the two stacks, in a table of constants, in the
//! import cache or in a registered root: that is what `Machine::safepoint` may rely on.

use crate::code::{Default as FormalDefault, Formal, Lambda, Op, Site, Tables};
use crate::compile::{FileInfo, OuterScope, compile, outer_env};
use crate::context::{ContextId, ContextUnion, Contexts};
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{
    AttrsRef, Callee, EnvPtr, FunctionRef, Heap, InOrder, ListRef, MAX_LAYERS,
    Origin as SparseOrigin, SPARSE_FROM, Shape, StringRef, ThunkPtr, state,
};
use crate::host::{FileType, Host};
use crate::native::{Activation, Body, Builtin, Resume, Step};
use crate::ops;
use crate::position::{Origin, PosId, SourceMap, SourceSpan};
use crate::symbol::{Symbol, Symbols};
use crate::trace::Marker;
use crate::value::{Type, Value};
use rustc_hash::{FxHashMap, FxHasher};
use std::any::{Any, TypeId};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an evaluation may do and how far it may go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing outside the program may be seen: no environment, no time, no absolute paths.
    pub pure_eval: bool,
    /// Only the search path and [`Settings::allowed_paths`] may be read.
    pub restrict_eval: bool,
    /// Nested calls before the error "stack overflow".
    pub max_call_depth: u32,
    /// Bytes handed out before the first collection; later ones come when the heap has doubled.
    pub collect_after: usize,
    /// Bytes of heap and stacks before the error "out of memory".
    pub memory_limit: usize,
    /// Whether `builtins.traceVerbose` shows anything.
    pub trace_verbose: bool,
    /// Whether warnings are errors.
    pub abort_on_warn: bool,
    /// Whether `throw` and the like show the trace of functions called.
    pub show_trace: bool,
    /// Experimental features that are switched on, by Nix's names.
    pub features: Vec<String>,
    /// `builtins.currentSystem`
    pub system: String,
    /// `builtins.storeDir`
    pub store_dir: String,
    /// The search path: prefix (may be empty) and path.
    pub nix_path: Vec<(String, String)>,
    /// Files that may be read in restricted and pure mode.
    pub allowed_paths: Vec<PathBuf>,
    /// Literals that are objected to.
    pub lints: crate::lint::Lints,
}

impl Settings {
    /// Whether an experimental feature is on.
    pub fn feature(&self, name: &str) -> bool {
        self.features.iter().any(|f| f == name)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            pure_eval: false,
            restrict_eval: false,
            max_call_depth: 10_000,
            collect_after: 256 << 20,
            memory_limit: usize::MAX,
            trace_verbose: false,
            abort_on_warn: false,
            show_trace: false,
            features: Vec::new(),
            system: format!(
                "{}-{}",
                std::env::consts::ARCH,
                match std::env::consts::OS {
                    "macos" => "darwin",
                    os => os,
                }
            ),
            store_dir: "/nix/store".to_string(),
            nix_path: Vec::new(),
            allowed_paths: Vec::new(),
            lints: crate::lint::Lints::default(),
        }
    }
}

pub(crate) mod flag {
    /// The result is not pushed.
    pub const DISCARD: u8 = 1;
    /// A native frame that catches `throw` and `assert`.
    pub const CATCH: u8 = 2;
    /// A native frame that catches every error.
    pub const CATCH_ALL: u8 = 4;
    /// A native frame whose step failed.
    pub const FAILED: u8 = 8;
    /// A call of a function written in Nix; `info` is the lambda.
    pub const CALL: u8 = 16;
    /// The thunk being evaluated was an application of one argument.
    pub const APPLY1: u8 = 32;
    /// The thunk being evaluated was an application to an attribute.
    pub const APPLY_ATTR: u8 = 64;
    /// The thunk being evaluated was a selection.
    pub const SELECT: u8 = 128;
}

/// An activation of code or of a native function.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// Next op, saved when another frame is pushed.
    pub ip: *const Op,
    /// Environment of code; state of a native function.
    pub env: EnvPtr,
    /// The thunk that gets the result.
    pub update: ThunkPtr,
    /// The native function, if it is one.
    pub resume: Option<Resume>,
    /// Where a native function's locals begin.
    pub base: u32,
    /// Nested calls so far.
    pub depth: u32,
    /// Which lambda or builtin.
    pub info: u32,
    /// Height of the stack when a catching step began.
    pub height: u32,
    pub flags: u8,
}

const NO_INFO: u32 = u32::MAX;

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
    /// Makes the evaluation fail with [`ErrorKind::Cancelled`] soon.
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

struct Transition {
    shape: Shape,
    /// Per value of the result: index in its source, shifted, and whether that is the right-hand side.
    plan: Box<[u32]>,
}

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

/// Calls between two looks at limits and cancellation.
const TICKS: u32 = 1024;
/// Sets of at most this many attributes share their shapes however they are made.
pub(crate) const INTERN_UP_TO: usize = 64;
/// Files of at most this many bytes leave their buffers to the next file.
const KEEP_BUFFERS_OF: usize = 1 << 17;
/// Arguments that one call instruction can take.
pub(crate) const MAX_ARGS: usize = 640;

/// What there is to say about arguments of builtins in the trace of an error.
#[derive(Default)]
struct AboutArguments {
    /// What one of them is for.
    purpose: Option<String>,
    /// The call of the builtin, if no frame says that.
    called: Option<(String, SourceSpan)>,
}

/// Whether a builtin that fails with this refuses an argument.
fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::Type
        || error
            .message()
            .contains("is not allowed to refer to a store path")
}

enum Called {
    /// Frames are arranged; continue with the top one.
    Entered,
    /// The result is on the stack.
    Finished,
    /// Evaluate this thunk and call again with this many arguments.
    Need(Value, usize),
}

impl Machine {
    /// A machine without any builtin.
    pub fn new(host: Rc<dyn Host>, settings: Settings) -> Machine {
        let mut symbols = Symbols::default();
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

    // ---- registration -----------------------------------------------------------------------------

    /// Adds a native function and returns its value; it is not yet bound to any name.
    pub fn add_builtin(&mut self, builtin: Builtin) -> Value {
        let index = self.builtins.len() as u32;
        self.builtins.push(builtin);
        self.heap.primop(index)
    }

    /// Lets the traces of errors show what a builtin (one with [`Body::Frame`]) was doing, instead of that it was called.
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

    // ---- evaluation from outside --------------------------------------------------------------------

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

    /// Parses and compiles a text and returns the thunk of its value.
    ///
    /// # Errors
    /// Syntax errors and undefined variables.
    pub fn load_text(&mut self, text: &[u8], origin: Origin, dir: &Path) -> Result<Value> {
        self.load_scoped(text, origin, dir, &OuterScope::default(), &[])
    }

    /// Like [`Machine::load_text`], with variables around the text.
    ///
    /// # Errors
    /// Syntax errors and undefined variables.
    pub fn load_text_with(
        &mut self,
        text: &[u8],
        origin: Origin,
        dir: &Path,
        variables: &[(Symbol, Value)],
    ) -> Result<Value> {
        let scope = OuterScope {
            names: variables.iter().map(|(s, _)| *s).collect(),
            with_slot: None,
        };
        let values: Vec<Value> = variables.iter().map(|(_, v)| *v).collect();
        self.load_scoped(text, origin, dir, &scope, &values)
    }

    fn load_scoped(
        &mut self,
        text: &[u8],
        origin: Origin,
        dir: &Path,
        scope: &OuterScope,
        values: &[Value],
    ) -> Result<Value> {
        let kept = match origin {
            Origin::File(_) => None,
            _ => Some(Arc::from(text)),
        };
        let kept_bytes = kept.as_ref().map_or(0, |text: &Arc<[u8]>| text.len());
        let Some(base) = self.sources.add(origin, text.len(), kept) else {
            return Err(Error::new(
                ErrorKind::Memory,
                "more than 4 GiB of source files",
            ));
        };
        let options = nivis_syntax::ParseOptions {
            pipe_operators: self.settings.feature("pipe-operators"),
        };
        let mut buffers = std::mem::take(&mut self.parse_buffers);
        let ast = nivis_syntax::parse_with(text, &options, &mut buffers).map_err(|errors| {
            errors.first().map_or_else(
                || Error::new(ErrorKind::Syntax, "syntax error"),
                |e| self.syntax_error(base, e),
            )
        })?;
        self.lint(&ast, text, base)?;
        let entry = compile(self, &ast, FileInfo { base, dir, scope })?;
        if let Some(program) = self.tables.programs.last() {
            self.code_bytes += program.bytes() + kept_bytes;
        }
        self.check_memory(0)?;
        if text.len() <= KEEP_BUFFERS_OF {
            buffers.recycle(ast);
            self.parse_buffers = buffers;
        } else {
            self.compile_buffers = crate::compile::Buffers::default();
        }
        let env = outer_env(self, values);
        Ok(self.heap.thunk(entry, env))
    }

    fn syntax_error(&self, base: PosId, e: &nivis_syntax::SyntaxError) -> Error {
        let place = |span: nivis_syntax::ast::Span| SourceSpan {
            start: crate::position::offset(base, span.start),
            len: span.end.saturating_sub(span.start),
        };
        let mut message = e.message.to_string();
        let related = e
            .related
            .map(|(span, what)| (what.to_string(), place(span)));
        if let Some((_, before)) = &related
            && e.kind == nivis_syntax::SyntaxErrorKind::DuplicateAttribute
        {
            message.push_str(" at ");
            message.push_str(&self.describe_position(before.start));
        }
        let mut error = Error::new(ErrorKind::Syntax, message).at(place(e.span));
        error.data_mut().related = related;
        error
    }

    /// The thunk of a file's value; each file is read and compiled once per evaluator. `path` is
    /// resolved: symbolic links are followed, and a folder means its `default.nix`.
    ///
    /// # Errors
    /// When the file cannot be read or does not parse.
    pub fn load_file(&mut self, path: &Path) -> Result<Value> {
        if let Some(v) = self.imports.get(path) {
            return Ok(v.resolved());
        }
        let resolved = self.resolve_import(path)?;
        if resolved != path
            && let Some(v) = self.imports.get(&resolved).copied()
        {
            self.imports.insert(path.to_path_buf(), v);
            return Ok(v.resolved());
        }
        let v = self.load_resolved(resolved.clone(), &[])?;
        self.imports.insert(resolved.clone(), v);
        self.imports.insert(path.to_path_buf(), v);
        Ok(v)
    }

    /// Whether a file was read, or its value given, already.
    pub fn is_loaded(&self, path: &Path) -> bool {
        self.imports.contains_key(path)
    }

    /// Makes a value that of a file, which is then never read from the host.
    pub fn preload(&mut self, path: &Path, value: Value) {
        self.imports.insert(path.to_path_buf(), value);
    }

    /// Like [`Machine::load_file`], with variables around the file and without remembering the result.
    ///
    /// # Errors
    /// When the file cannot be read or does not parse.
    pub fn load_file_with(&mut self, path: &Path, variables: &[(Symbol, Value)]) -> Result<Value> {
        let resolved = self.resolve_import(path)?;
        self.load_resolved(resolved, variables)
    }

    fn load_resolved(&mut self, resolved: PathBuf, variables: &[(Symbol, Value)]) -> Result<Value> {
        let text = self
            .host
            .read_file_within(&resolved, self.heap.room())
            .map_err(|e| host_error(&e, &resolved))?;
        let dir = resolved.parent().unwrap_or(Path::new("/")).to_path_buf();
        self.load_text_with(&text, Origin::File(resolved), &dir, variables)
    }

    fn resolve_import(&mut self, path: &Path) -> Result<PathBuf> {
        let host = Rc::clone(&self.host);
        let mut current = path.to_path_buf();
        let mut links = 0;
        loop {
            match host
                .file_type(&current)
                .map_err(|e| host_error(&e, &current))?
            {
                Some(FileType::Symlink) => {
                    links += 1;
                    if links > 1024 {
                        return Err(Error::new(
                            ErrorKind::Host,
                            format!("too many symbolic links at '{}'", path.display()),
                        ));
                    }
                    let target = host
                        .read_link(&current)
                        .map_err(|e| host_error(&e, &current))?;
                    let joined = current.parent().unwrap_or(Path::new("/")).join(target);
                    current = bytes_path(&canonical_path(joined.as_os_str().as_encoded_bytes()))
                        .to_path_buf();
                }
                Some(FileType::Directory) => {
                    current.push("default.nix");
                    // A `default.nix` that is itself a link or folder is followed in turn.
                    if !matches!(
                        host.file_type(&current)
                            .map_err(|e| host_error(&e, &current))?,
                        Some(FileType::Symlink)
                    ) {
                        return Ok(current);
                    }
                }
                _ => return Ok(current),
            }
        }
    }

    // ---- the stack, for native functions --------------------------------------------------------------

    /// A local of a running native function; evaluated thunks are followed.
    #[inline(always)]
    pub fn local(&self, activation: &Activation, index: usize) -> Value {
        self.stack
            .get(activation.base + index)
            .copied()
            .unwrap_or(Value::NULL)
            .resolved()
    }

    /// Sets a local.
    #[inline(always)]
    pub fn set_local(&mut self, activation: &Activation, index: usize, value: Value) {
        if let Some(slot) = self.stack.get_mut(activation.base + index) {
            *slot = value;
        }
    }

    /// Number of locals: the arguments and what was pushed since.
    pub fn locals(&self, activation: &Activation) -> usize {
        self.stack.len().saturating_sub(activation.base)
    }

    /// Copies the locals from `first` on.
    pub fn locals_from(&self, activation: &Activation, first: usize) -> Vec<Value> {
        self.stack
            .get(activation.base + first..)
            .unwrap_or(&[])
            .to_vec()
    }

    /// A list of the locals from `first` on, which are removed.
    pub fn list_of_locals(&mut self, activation: &Activation, first: usize) -> Value {
        let at = (activation.base + first).min(self.stack.len());
        let list = self.heap.list(&self.stack[at..]);
        self.stack.truncate(at);
        list
    }

    /// Removes locals beyond the first `count`.
    pub fn truncate_locals(&mut self, activation: &Activation, count: usize) {
        self.stack.truncate(activation.base + count);
    }

    /// Pushes a value.
    #[inline(always)]
    pub fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    /// Pops a value.
    #[inline(always)]
    pub fn pop(&mut self) -> Value {
        self.stack.pop().unwrap_or(Value::NULL).resolved()
    }

    /// The error that the step of a [`Step::Catch`] or [`Step::CatchAll`] failed with.
    pub fn take_error(&mut self) -> Error {
        self.pending
            .take()
            .unwrap_or_else(|| Error::other("no error is pending"))
    }

    /// Reserves nothing, but fails when `bytes` more would exceed the memory limit.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`].
    pub fn check_memory(&self, bytes: usize) -> Result<()> {
        if self.heap.would_exceed(bytes, self.outside()) {
            return Err(self.out_of_memory());
        }
        Ok(())
    }

    /// About the bytes of what is kept as long as the machine: names, contexts, code, the errors of failed thunks.
    fn outside(&self) -> usize {
        self.symbols.table_bytes() + self.contexts.bytes() + self.code_bytes + self.error_bytes
    }

    fn out_of_memory(&self) -> Error {
        Error::new(
            ErrorKind::Memory,
            format!(
                "out of memory: evaluation needs more than its limit of {} MiB",
                self.heap.limit() >> 20
            ),
        )
    }

    // ---- safepoints -----------------------------------------------------------------------------------

    /// Looked at now and then: limits, cancellation, collection. All registers are saved.
    #[cold]
    #[inline(never)]
    fn safepoint(&mut self) -> Result<()> {
        self.ticks = TICKS;
        if self.heap.ledger.is_some() {
            self.ticks = 1;
            self.collect();
        } else if self.heap.taken_bytes() > self.settings.collect_after.max(self.heap.live_bytes())
        {
            self.collect();
        }
        if self.cancel.0.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "evaluation was cancelled"));
        }
        if let Some(fuel) = &mut self.fuel {
            if *fuel < u64::from(TICKS) {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "evaluation ran out of steps",
                ));
            }
            *fuel -= u64::from(TICKS);
        }
        if !self.heap.restore_reserve() {
            // The system gives no more memory.
            if self.heap.ledger.is_none() {
                self.collect();
            }
            return Err(self.out_of_memory());
        }
        let stacks = self.stack.len() * size_of::<Value>() + self.frames.len() * size_of::<Frame>();
        let outside = self.outside();
        if self.heap.exhausted || self.heap.would_exceed(stacks, outside) {
            if self.heap.ledger.is_none() && self.heap.taken_bytes() > self.heap.limit() / 8 {
                self.collect();
            }
            let room = self.heap.limit().saturating_sub(self.heap.live_bytes());
            if self.heap.exhausted || room < stacks.saturating_add(outside) {
                return Err(self.out_of_memory());
            }
        }
        Ok(())
    }

    /// Makes every safepoint check that what the program can still use is reachable from the roots: all
    /// other objects are overwritten. Slow; for tests.
    pub fn set_stress(&mut self) {
        self.heap.watch();
        self.ticks = 1;
    }

    /// Frees what cannot be reached any more. Must only be called while the machine is not running, or
    /// at its safepoint: values in local variables of the caller are not seen, those that are
    /// [rooted](Machine::root) are.
    pub fn collect(&mut self) {
        let begin = std::time::Instant::now();
        let mut marker = Marker::new(&mut self.heap);
        // A claimed application or selection goes back to what it was when it is cancelled, so that must stay.
        for f in &self.frames {
            if f.resume.is_none() {
                marker.env(f.env);
            }
            if f.update == ThunkPtr::NONE {
                continue;
            }
            let old = f.update.head() & !state::MASK;
            if f.flags & (flag::APPLY1 | flag::APPLY_ATTR) != 0 {
                marker.claimed(f.update);
                marker.value(Value(old | crate::value::tag::FUNCTION));
                marker.value(if f.flags & flag::APPLY1 != 0 {
                    Value(f.update.payload())
                } else {
                    f.update.payload_attr().0.value()
                });
            } else if f.flags & flag::SELECT != 0 {
                marker.claimed(f.update);
                marker.value(Value(old));
            }
        }
        for f in &self.frames {
            if f.update != ThunkPtr::NONE {
                marker.value(Value(f.update.0 as u64));
            }
        }
        marker.values(self.stack.iter().copied());
        marker.values(self.tables.consts.iter().copied());
        marker.values(self.globals.values().copied());
        marker.values(self.imports.values().copied());
        marker.values(self.roots.iter().flatten().copied());
        marker.values(self.symbols.roots());
        for program in &self.tables.programs {
            program.roots(|v| marker.value(v));
        }
        for shape in &self.tables.shapes {
            marker.shape(*shape);
        }
        for ((a, b), t) in &self.transitions {
            marker.shape(*a);
            marker.shape(*b);
            marker.shape(t.shape);
        }
        marker.finish();
        self.shapes
            .retain(|(_, shape)| self.heap.is_marked(shape.0));
        // Caches keep neither strings nor shapes alive.
        self.symbols.forget_strings();
        let empty = self.heap.empty_shape;
        for site in &mut self.tables.sites {
            if !self.heap.is_marked(site.shape.0) {
                site.shape = empty;
            }
        }
        if self.heap.ledger.is_some() {
            self.heap.poison_unmarked();
        } else {
            self.heap.finish_marking();
        }
        self.heap.stats.collecting += begin.elapsed();
    }

    // ---- frames ---------------------------------------------------------------------------------------

    #[inline(always)]
    fn depth(&self) -> u32 {
        self.frames.last().map_or(0, |f| f.depth)
    }

    fn push_code(&mut self, ip: *const Op, env: EnvPtr, update: ThunkPtr, flags: u8) {
        self.frames.push(Frame {
            ip,
            env,
            update,
            resume: None,
            base: 0,
            depth: self.depth(),
            info: NO_INFO,
            height: 0,
            flags,
        });
    }

    /// Arranges for ops without an environment to run.
    pub(crate) fn push_ops(&mut self, ops: *const Op) {
        self.push_code(ops, EnvPtr::NONE, ThunkPtr::NONE, 0);
    }

    fn push_native(&mut self, resume: Resume, locals: usize, info: u32) -> Result<()> {
        let depth = self.depth() + 1;
        if depth > self.settings.max_call_depth {
            return Err(self.too_deep());
        }
        self.frames.push(Frame {
            ip: std::ptr::null(),
            env: EnvPtr(0),
            update: ThunkPtr::NONE,
            resume: Some(resume),
            base: (self.stack.len() - locals) as u32,
            depth,
            info,
            height: 0,
            flags: 0,
        });
        Ok(())
    }

    /// Fails when the running native function is nested too deeply, where `nesting` counts what it keeps on the stack
    /// instead of calling itself.
    pub(crate) fn check_nesting(&self, nesting: usize) -> Result<()> {
        if self.depth() as usize + nesting > self.settings.max_call_depth as usize + 1 {
            return Err(self.too_deep());
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn too_deep(&self) -> Error {
        Error::new(
            ErrorKind::CallDepth,
            "stack overflow; max-call-depth exceeded",
        )
    }

    /// Arranges for an unevaluated thunk to be evaluated, its value pushed (or only kept by the thunk,
    /// with [`flag::DISCARD`]).
    fn enter_thunk(&mut self, value: Value, flags: u8) -> Result<()> {
        let thunk = ThunkPtr::of(value);
        let head = thunk.head();
        let pointer = head & !state::MASK;
        match head & state::MASK {
            state::CODE => {
                thunk.set_head(pointer | state::BLACKHOLE_CODE);
                self.push_code(
                    pointer as *const Op,
                    EnvPtr(thunk.payload() as usize),
                    thunk,
                    flags,
                );
            }
            state::VALUE => {
                if flags & flag::DISCARD == 0 {
                    self.stack.push(Value(thunk.payload()));
                }
            }
            state::APPLY1 => {
                self.stack
                    .push(Value(pointer | crate::value::tag::FUNCTION));
                self.stack.push(Value(thunk.payload()));
                thunk.set_head(pointer | state::BLACKHOLE_OTHER);
                self.push_code(
                    self.apply_ops[1].as_ptr(),
                    EnvPtr::NONE,
                    thunk,
                    flags | flag::APPLY1,
                );
            }
            state::APPLY_ATTR => {
                let (attrs, index) = thunk.payload_attr();
                let name = self.symbol_string(attrs.shape().symbol(index));
                self.stack
                    .push(Value(pointer | crate::value::tag::FUNCTION));
                self.stack.push(name);
                self.stack.push(attrs.at(index));
                thunk.set_head(pointer | state::BLACKHOLE_OTHER);
                let flags = flags | flag::APPLY_ATTR;
                self.push_code(self.apply_ops[2].as_ptr(), EnvPtr::NONE, thunk, flags);
            }
            state::SELECT => {
                self.stack.push(value);
                self.stack.push(Value(pointer));
                thunk.set_head(pointer | state::BLACKHOLE_OTHER);
                self.push_code(
                    self.select_ops.as_ptr(),
                    EnvPtr::NONE,
                    thunk,
                    flags | flag::SELECT,
                );
            }
            state::FAILED => {
                return Err(self
                    .errors
                    .get(thunk.payload() as usize)
                    .cloned()
                    .unwrap_or_else(|| Error::other("evaluation failed before")));
            }
            _ => return Err(self.infinite_recursion(thunk)),
        }
        Ok(())
    }

    #[cold]
    fn infinite_recursion(&self, thunk: ThunkPtr) -> Error {
        let mut error = Error::new(
            ErrorKind::InfiniteRecursion,
            "infinite recursion encountered",
        );
        // The frame that is evaluating this thunk is where the cycle was entered.
        if let Some(i) = self.frames.iter().rposition(|f| f.update == thunk)
            && let Some(ip) = self.frames.get(i).map(|f| f.ip)
            && let Some(span) = self
                .tables
                .span(ip.wrapping_sub(1))
                .or(self.tables.span(ip))
        {
            error.data_mut().related = Some((
                "the value that needs itself is evaluated here".to_string(),
                span,
            ));
        }
        error
    }

    /// Pops frames after an error, down to a frame that catches it (`None`) or to `floor`.
    fn unwind(&mut self, error: Error, floor: usize) -> Option<Error> {
        let transient = error.kind().is_transient();
        let catcher = self.frames.iter().skip(floor).rposition(|f| {
            f.resume.is_some()
                && ((f.flags & flag::CATCH != 0 && error.kind().is_catchable())
                    || (f.flags & flag::CATCH_ALL != 0 && !transient))
        });
        let keep = catcher.map(|i| floor + i + 1);
        let mut error = error;
        if keep.is_none_or(|k| {
            self.frames
                .get(k - 1)
                .is_some_and(|f| f.flags & flag::CATCH_ALL != 0)
        }) {
            error = self.add_trace(error, keep.unwrap_or(floor));
        }
        let mut stored = None;
        let target = keep.unwrap_or(floor);
        while self.frames.len() > target {
            let Some(frame) = self.frames.pop() else {
                break;
            };
            if frame.update == ThunkPtr::NONE {
                continue;
            }
            if transient {
                let pointer = frame.update.head() & !state::MASK;
                let former = if frame.flags & flag::APPLY1 != 0 {
                    state::APPLY1
                } else if frame.flags & flag::APPLY_ATTR != 0 {
                    state::APPLY_ATTR
                } else if frame.flags & flag::SELECT != 0 {
                    state::SELECT
                } else {
                    state::CODE
                };
                frame.update.set_head(pointer | former);
            } else {
                let index = *stored.get_or_insert_with(|| {
                    // With its trace and the pointers to it.
                    self.error_bytes += 320 + error.message().len();
                    self.errors.push(error.clone());
                    self.errors.len() - 1
                });
                frame.update.set_failed(index);
            }
        }
        if keep.is_some()
            && let Some(frame) = self.frames.last_mut()
        {
            frame.flags |= flag::FAILED;
            self.stack.truncate(frame.height as usize);
            self.pending = Some(error);
            return None;
        }
        Some(error)
    }

    /// Adds place and trace from the frames above `floor`.
    fn add_trace(&mut self, mut error: Error, floor: usize) -> Error {
        /// Steps kept at either end of a long trace.
        const KEPT: usize = 500;
        let mut items: Vec<(String, SourceSpan)> = Vec::new();
        let mut placed = !error.data().span.start.is_none();
        let already = error.trace_len();
        let mut top = self.frames.len();
        // Whether all frames so far only help the next one; the thunk that it waits for; where on the stack its values end.
        let mut own = true;
        let mut awaited = None;
        let mut below = self.stack.len();
        if error.data().at_call
            && !placed
            && let Some(frame) = self.frames.get(floor..).and_then(<[Frame]>::last)
            && frame.flags & flag::CALL != 0
        {
            // The function does not run yet; what it says is said of its call. A suspended application has no other place
            // than the function.
            top -= 1;
            let suspended = frame.flags & (flag::APPLY1 | flag::APPLY_ATTR) != 0;
            // Frames that only hold further arguments have no place.
            let callers = self.frames[..top].iter().rev();
            let call = callers
                .take_while(|f| !suspended && f.resume.is_none() && !f.ip.is_null())
                .take(3)
                .find_map(|f| self.tables.span(f.ip.wrapping_sub(1)));
            let function = error.data().related.as_ref().map(|(_, span)| *span);
            if let Some(span) = call.or(function) {
                error = error.at(span);
                placed = true;
            }
        }
        for i in (floor..top).rev() {
            let frame = self.frames[i];
            let arguments = self.about_arguments(&error, i, own, awaited, &mut below);
            if let Some(text) = arguments.purpose {
                items.push((text, SourceSpan::default()));
            }
            if let Some(called) = arguments.called {
                items.push(called);
            }
            if frame.update != ThunkPtr::NONE {
                (own, awaited) = (false, Some((frame.update, frame.flags)));
            } else if frame.resume.is_none() || frame.info != NO_INFO {
                (own, awaited) = (false, None);
            }
            if frame.resume.is_none()
                && !placed
                && !frame.ip.is_null()
                && let Some(span) = self.tables.span(frame.ip.wrapping_sub(1))
                && !self.is_internal(span)
            {
                error = error.at(span);
                placed = true;
            }
            if let Some(resume) = frame.resume {
                let mut described = self.native_describers.iter();
                let described = described.find(|(f, _)| std::ptr::fn_addr_eq(*f, resume));
                if let Some((_, describe)) = described.copied() {
                    let activation = Activation {
                        base: frame.base as usize,
                        state: frame.env.0 as u64,
                        failed: false,
                    };
                    items.extend(describe(self, &activation));
                }
            }
            if !placed
                && let Some((message, span)) = items.iter().find(|(_, span)| !span.start.is_none())
            {
                // Better than a place in a file that nobody can look at.
                let data = error.data_mut();
                data.span = *span;
                data.related.get_or_insert((message.clone(), *span));
                placed = true;
            }
            if frame.resume.is_some()
                && let Some(builtin) = self.builtins.get(frame.info as usize)
                && let Some(describe) = self.describers.get(builtin.name).copied()
            {
                let activation = Activation {
                    base: frame.base as usize,
                    state: frame.env.0 as u64,
                    failed: false,
                };
                items.extend(describe(self, &activation));
                continue;
            }
            let message = if frame.flags & flag::CALL != 0 {
                self.tables.lambdas.get(frame.info as usize).and_then(|l| {
                    let lambda = lambda_ref(*l)?;
                    Some(match lambda.name.get() {
                        Some(name) => format!("while calling '{}'", self.symbols.text(name)),
                        None => "while calling an anonymous function".to_string(),
                    })
                })
            } else if frame.resume.is_some() {
                self.builtins
                    .get(frame.info as usize)
                    .map(|b| format!("while calling the '{}' builtin", b.name))
            } else {
                None
            };
            if let Some(message) = message {
                let span = self.frames[..i]
                    .iter()
                    .rev()
                    .filter(|f| f.resume.is_none())
                    .take(3)
                    .find_map(|f| self.tables.span(f.ip.wrapping_sub(1)))
                    .unwrap_or_default();
                items.push((message, span));
                if items.len() >= KEPT {
                    break;
                }
            }
        }
        if already < KEPT {
            for (message, span) in items {
                error = error.context(message, span, false);
            }
        }
        error
    }

    /// What an error, or a thunk that failed, has to do with the arguments of the builtin whose frame is at `i`, or which the
    /// code of that frame was about to call.
    fn about_arguments(
        &self,
        error: &Error,
        i: usize,
        own: bool,
        awaited: Option<(ThunkPtr, u8)>,
        below: &mut usize,
    ) -> AboutArguments {
        let mut about = AboutArguments::default();
        let (Some(frame), Some(purpose)) = (self.frames.get(i), self.purpose) else {
            return about;
        };
        if frame.resume.is_some() {
            let Some(builtin) = self.builtins.get(frame.info as usize) else {
                return about;
            };
            let base = frame.base as usize;
            let Some(args) = self.stack.get(base..base + builtin.args.len()) else {
                return about;
            };
            *below = base.min(*below);
            let failed = awaited
                .and_then(|(thunk, _)| args.iter().position(|v| *v == Value(thunk.0 as u64)));
            if failed.is_some() || own && is_refusal(error) {
                about.purpose = purpose(self, builtin.name, args, failed);
            }
            return about;
        }
        if own && i + 1 < self.frames.len() && is_refusal(error) {
            let waiting = self.tables.op(frame.ip.wrapping_sub(1));
            let joins = |op: &Op| {
                matches!(
                    op,
                    Op::CoercePart | Op::CoercePathPart | Op::Add | Op::BeginAdd
                )
            };
            if waiting.as_ref().is_some_and(joins) {
                about.purpose = Some("while evaluating a path segment".to_string());
                return about;
            }
        }
        // Arguments that are always evaluated are so before a builtin has a frame: the call runs again after each.
        let Some((thunk, flags)) = awaited else {
            return about;
        };
        if flags & flag::DISCARD == 0 {
            return about;
        }
        let fixed = || {
            let mut ops = self.call_ops.iter();
            ops.find(|ops| ops.as_ptr() == frame.ip).map(|ops| ops[0])
        };
        let Some(Op::Call(n)) = self.tables.op(frame.ip).or_else(fixed) else {
            return about;
        };
        let waits = |v: &Value| *v == Value(thunk.0 as u64);
        let Some(at) = self
            .stack
            .get(..*below)
            .and_then(|s| s.iter().rposition(waits))
        else {
            return about;
        };
        *below = at;
        for index in 0..usize::from(n) {
            let Some(function) = at.checked_sub(index + 1) else {
                break;
            };
            let callee = self.stack[function]
                .resolved()
                .as_function()
                .map(|f| f.callee());
            if let Some(Callee::Primop(which)) = callee
                && let Some(builtin) = self.builtins.get(which as usize)
                && index < builtin.args.len()
                && builtin.strict & 1 << index != 0
            {
                let args = self
                    .stack
                    .get(function + 1..function + 1 + builtin.args.len());
                about.purpose = purpose(self, builtin.name, args.unwrap_or(&[]), Some(index));
                let span = self.tables.span(frame.ip).unwrap_or_default();
                about.called = Some((
                    format!("while calling the '{}' builtin", builtin.name),
                    span,
                ));
                break;
            }
        }
        about
    }

    /// Whether a place is in a text that belongs to the language itself.
    fn is_internal(&self, span: SourceSpan) -> bool {
        self.sources
            .resolve(span.start)
            .is_some_and(|(source, _)| source.origin.name().starts_with("«<nix/"))
    }

    // ---- calls ----------------------------------------------------------------------------------------

    /// Arranges for a call of the function and `n` arguments on the stack; the caller's frame is saved.
    fn begin_call(&mut self, n: usize) -> Result<()> {
        match self.try_call(n)? {
            Called::Entered | Called::Finished => Ok(()),
            Called::Need(thunk, n) => {
                let Some(ops) = self.call_ops.get(n) else {
                    return Err(Error::other("too many arguments in one call"));
                };
                self.push_code(ops.as_ptr(), EnvPtr::NONE, ThunkPtr::NONE, 0);
                self.enter_thunk(thunk, flag::DISCARD)
            }
        }
    }

    /// The same, and tells who observes calls. What is called is evaluated first.
    #[cold]
    fn begin_observed_call(&mut self, n: usize) -> Result<()> {
        match self.apply_ops.get(n) {
            Some(ops) => {
                let ops = ops.as_ptr();
                self.push_ops(ops);
                Ok(())
            }
            // No builtin calls a function with so many arguments and looks at what it is.
            None => match self.enter_observed(n, PosId::NONE)? {
                None => Ok(()),
                Some(_) => self.begin_call(n),
            },
        }
    }

    fn try_call(&mut self, mut n: usize) -> Result<Called> {
        // Sets that were called.
        let mut functors = 0;
        loop {
            let at = self.stack.len() - n - 1;
            let function = self.stack[at].resolved();
            if let Some(f) = function.as_function() {
                match f.callee() {
                    Callee::Closure(lambda, env) => {
                        let lambda = lambda_of(lambda);
                        let arity = lambda.arity as usize;
                        if n < arity {
                            return Ok(self.finish_partial(function, at));
                        }
                        self.call_rest(at, arity, n)?;
                        if functors > 0 && n > arity {
                            // What the function returns is called inside this call: it may be the same set for ever.
                            self.deepen(functors);
                        }
                        self.enter_closure(lambda, env, arity)?;
                        if n == arity {
                            if functors > 0 {
                                self.deepen(functors);
                            }
                            self.stack.truncate(at);
                        }
                        return Ok(Called::Entered);
                    }
                    Callee::Primop(index) => {
                        let builtin = &self.builtins[index as usize];
                        let arity = builtin.args.len();
                        if n < arity {
                            return Ok(self.finish_partial(function, at));
                        }
                        let strict = builtin.strict;
                        for i in 0..arity {
                            if strict & 1 << i == 0 {
                                continue;
                            }
                            let arg = self.stack[at + 1 + i].resolved();
                            if arg.is_thunk() {
                                return Ok(Called::Need(arg, n));
                            }
                            self.stack[at + 1 + i] = arg;
                        }
                        return self.call_primop(index, at, arity, n);
                    }
                    Callee::Partial => {
                        let len = f.partial_len();
                        self.stack[at] = f.partial_callee();
                        let args = (0..len).map(|i| f.partial_arg(i));
                        self.stack.splice(at + 1..at + 1, args);
                        n += len;
                        if n >= MAX_ARGS {
                            return Err(Error::other("too many arguments in one call"));
                        }
                    }
                }
            } else if function.is_thunk() {
                return Ok(Called::Need(function, n));
            } else if let Some(attrs) = function.as_attrs()
                && let Some(functor) = attrs.get(self.known.functor)
            {
                if functor.is_thunk() {
                    return Ok(Called::Need(functor, n));
                }
                self.stack[at] = functor;
                self.stack.insert(at + 1, function);
                n += 1;
                functors += 1;
                if n >= MAX_ARGS {
                    return Err(Error::other("too many arguments in one call"));
                }
                // `__functor` takes the set alone; its result takes the arguments.
                if !functor.is_function() && !functor.is_attrs() {
                    return Err(self.not_a_function(functor));
                }
            } else {
                return Err(self.not_a_function(function));
            }
        }
    }

    /// Calling a set is a call around that of its `__functor`.
    #[cold]
    fn deepen(&mut self, calls: u32) {
        if let Some(frame) = self.frames.last_mut() {
            frame.depth += calls;
        }
    }

    #[cold]
    fn not_a_function(&self, v: Value) -> Error {
        Error::type_error(format!(
            "attempt to call something which is not a function but {}",
            self.describe(v)
        ))
    }

    fn finish_partial(&mut self, function: Value, at: usize) -> Called {
        let partial = self.heap.partial(function, &self.stack[at + 1..]);
        self.stack.truncate(at);
        self.stack.push(partial);
        Called::Finished
    }

    /// Removes the function at `at`; if there are more arguments than it takes, a frame is pushed that
    /// will call its result with them. Leaves its arguments on top of the stack.
    #[inline(always)]
    fn call_rest(&mut self, at: usize, arity: usize, n: usize) -> Result<()> {
        if n > arity {
            self.stack.remove(at);
            self.stack[at..].rotate_left(arity);
            let Some(ops) = self.rest_ops.get(n - arity) else {
                return Err(Error::other("too many arguments in one call"));
            };
            self.push_code(ops.as_ptr(), EnvPtr::NONE, ThunkPtr::NONE, 0);
        }
        Ok(())
    }

    /// Enters a closure and removes its arguments from the top of the stack.
    #[inline(always)]
    fn enter_closure(&mut self, lambda: &Lambda, parent: EnvPtr, arity: usize) -> Result<()> {
        let depth = self.depth() + 1;
        if depth > self.settings.max_call_depth {
            return Err(self.too_deep());
        }
        self.heap.stats.function_calls += 1;
        let env = self.heap.env(parent, lambda.slots as usize);
        let start = self.stack.len() - arity;
        for i in 0..arity {
            env.set(i, self.stack[start + i]);
        }
        self.stack.truncate(start);
        self.frames.push(Frame {
            ip: lambda.code,
            env,
            update: ThunkPtr::NONE,
            resume: None,
            base: 0,
            depth,
            info: lambda.index,
            height: 0,
            flags: flag::CALL,
        });
        Ok(())
    }

    fn call_primop(&mut self, index: u32, at: usize, arity: usize, n: usize) -> Result<Called> {
        self.heap.stats.primop_calls += 1;
        if n > arity {
            self.call_rest(at, arity, n)?;
        } else {
            self.stack.remove(at);
        }
        let base = self.stack.len() - arity;
        let mut args = [Value::NULL; 8];
        let result = match &self.builtins[index as usize].body {
            Body::Frame(resume) => {
                let resume = *resume;
                self.push_native(resume, arity, index)?;
                return Ok(Called::Entered);
            }
            Body::Leaf(leaf) => {
                let leaf = *leaf;
                args[..arity].copy_from_slice(&self.stack[base..]);
                leaf(self, &args[..arity])
            }
            Body::Closure(f) => {
                let f = Arc::clone(f);
                args[..arity].copy_from_slice(&self.stack[base..]);
                f(self, &args[..arity])
            }
        };
        let result = match result {
            Ok(v) => v.resolved(),
            Err(e) => {
                let name = self.builtins[index as usize].name;
                let span = self
                    .frames
                    .last()
                    .and_then(|f| self.tables.span(f.ip.wrapping_sub(1)))
                    .unwrap_or_default();
                let refused = self.purpose.filter(|_| is_refusal(&e));
                let e = match refused.and_then(|f| f(self, name, &args[..arity], None)) {
                    Some(text) => e.context(text, SourceSpan::default(), false),
                    None => e,
                };
                return Err(e.at(span).context(
                    format!("while calling the '{name}' builtin"),
                    span,
                    false,
                ));
            }
        };
        self.stack.truncate(base);
        if result.is_thunk() {
            self.enter_thunk(result, 0)?;
            return Ok(Called::Entered);
        }
        self.stack.push(result);
        Ok(if n > arity {
            Called::Entered
        } else {
            Called::Finished
        })
    }

    /// Runs native frames until the top one is code.
    #[inline(always)]
    fn resume_top(&mut self) -> Result<(*const Op, EnvPtr)> {
        loop {
            let Some(frame) = self.frames.last() else {
                return Err(Error::other("the frame stack is empty"));
            };
            match frame.resume {
                None => return Ok((frame.ip, frame.env)),
                Some(resume) => self.native_step(resume)?,
            }
        }
    }

    fn native_step(&mut self, resume: Resume) -> Result<()> {
        // Everything is on the stacks here, the result of the last step included.
        self.ticks -= 1;
        if self.ticks == 0 {
            self.safepoint()?;
        }
        let index = self.frames.len() - 1;
        let frame = &mut self.frames[index];
        let mut activation = Activation {
            base: frame.base as usize,
            state: frame.env.0 as u64,
            failed: frame.flags & flag::FAILED != 0,
        };
        frame.flags &= flag::DISCARD;
        let step = resume(self, &mut activation);
        // Also when it failed: the trace tells by the state what was going on.
        self.frames[index].env = EnvPtr(activation.state as usize);
        let step = step?;
        let base = activation.base;
        match step {
            Step::Done(v) => {
                self.stack.truncate(base);
                let discard = self
                    .frames
                    .pop()
                    .is_some_and(|f| f.flags & flag::DISCARD != 0);
                if discard { Ok(()) } else { self.deliver(v) }
            }
            Step::Force(v) => self.deliver(v),
            Step::Catch(v) | Step::CatchAll(v) => {
                let height = self.stack.len() as u32;
                let frame = &mut self.frames[index];
                frame.height = height;
                frame.flags |= match step {
                    Step::Catch(_) => flag::CATCH,
                    _ => flag::CATCH_ALL,
                };
                self.deliver(v)
            }
            Step::Call(n) if self.observed.is_some() => self.begin_observed_call(n as usize),
            Step::Call(n) => self.begin_call(n as usize),
            Step::TailCall(n) => {
                let from = self.stack.len() - n as usize - 1;
                self.stack.drain(base..from);
                self.frames.pop();
                match self.observed {
                    None => self.begin_call(n as usize),
                    Some(_) => self.begin_observed_call(n as usize),
                }
            }
            Step::Run(resume, n) => self.push_native(resume, n as usize, NO_INFO),
            Step::TailRun(resume, n) => {
                let from = self.stack.len() - n as usize;
                self.stack.drain(base..from);
                let info = self.frames.pop().map_or(NO_INFO, |f| f.info);
                self.push_native(resume, n as usize, info)
            }
        }
    }

    #[inline(always)]
    fn deliver(&mut self, v: Value) -> Result<()> {
        let v = v.resolved();
        if v.is_thunk() {
            self.enter_thunk(v, 0)
        } else {
            self.stack.push(v);
            Ok(())
        }
    }

    // ---- the loop -------------------------------------------------------------------------------------

    fn exec(&mut self) -> Result<()> {
        let (mut ip, mut env) = self.resume_top()?;

        macro_rules! save {
            () => {
                if let Some(f) = self.frames.last_mut() {
                    f.ip = ip;
                    f.env = env;
                }
            };
        }
        macro_rules! load {
            () => {
                (ip, env) = self.resume_top()?
            };
        }
        // Fails at the current op.
        macro_rules! check {
            ($e:expr) => {
                match $e {
                    Ok(v) => v,
                    Err(e) => {
                        save!();
                        return Err(e);
                    }
                }
            };
        }
        macro_rules! fail {
            ($e:expr) => {{
                save!();
                return Err($e);
            }};
        }
        macro_rules! tick {
            () => {
                self.ticks -= 1;
                if self.ticks == 0 {
                    save!();
                    self.safepoint()?;
                }
            };
        }
        // Evaluates an unevaluated thunk and pushes the value.
        macro_rules! enter {
            ($v:expr, $flags:expr) => {{
                let v: Value = $v;
                let thunk = ThunkPtr::of(v);
                let head = thunk.head();
                save!();
                if head & state::MASK == state::CODE {
                    let code = (head & !state::MASK) as *const Op;
                    thunk.set_head(head | state::BLACKHOLE_CODE);
                    let depth = self.depth();
                    ip = code;
                    env = EnvPtr(thunk.payload() as usize);
                    self.frames.push(Frame {
                        ip,
                        env,
                        update: thunk,
                        resume: None,
                        base: 0,
                        depth,
                        info: NO_INFO,
                        height: 0,
                        flags: $flags,
                    });
                    tick!();
                } else {
                    self.enter_thunk(v, $flags)?;
                    load!();
                }
            }};
        }
        // Evaluates an unevaluated thunk and runs the current op again.
        macro_rules! retry {
            ($v:expr) => {{
                ip = ip.wrapping_sub(1);
                enter!($v, flag::DISCARD);
                continue;
            }};
        }
        macro_rules! top {
            () => {
                self.stack.last().copied().unwrap_or(Value::NULL)
            };
        }
        macro_rules! set_top {
            ($v:expr) => {{
                let v = $v;
                if let Some(t) = self.stack.last_mut() {
                    *t = v;
                }
            }};
        }
        macro_rules! pop {
            () => {
                self.stack.pop().unwrap_or(Value::NULL)
            };
        }
        // Runs a native function whose locals are on top of the stack; its result is pushed.
        macro_rules! native {
            ($resume:expr, $locals:expr) => {{
                save!();
                self.push_native($resume, $locals, NO_INFO)?;
                load!();
            }};
        }
        macro_rules! jump {
            ($distance:expr) => {
                // The distance is from the jump op itself, and `ip` is already past it.
                ip = ip.wrapping_offset($distance as isize - 1)
            };
        }
        macro_rules! slot_force {
            ($env:expr, $slot:expr) => {{
                let holder = $env;
                let v = holder.get($slot as usize);
                if v.is_thunk() {
                    match ThunkPtr::of(v).value() {
                        Some(value) => {
                            holder.set($slot as usize, value);
                            self.stack.push(value);
                        }
                        None => enter!(v, 0),
                    }
                } else {
                    self.stack.push(v);
                }
            }};
        }

        loop {
            // SAFETY: `ip` always points into the ops of a program or of this machine's fixed sequences:
            // compilation ends every unit with `Return` and jumps only within a unit.
            let op = unsafe { *ip };
            ip = ip.wrapping_add(1);
            match op {
                Op::Const(i) => self.stack.push(self.tables.consts[i as usize]),
                Op::Local(slot) => self.stack.push(env.get(slot as usize).resolved()),
                Op::Up(depth, slot) => {
                    self.stack
                        .push(env.ancestor(depth as usize).get(slot as usize).resolved());
                }
                Op::LocalForce(slot) => slot_force!(env, slot),
                Op::UpForce(depth, slot) => slot_force!(env.ancestor(depth as usize), slot),
                Op::Force => {
                    let v = top!();
                    if v.is_thunk() {
                        match ThunkPtr::of(v).value() {
                            Some(value) => set_top!(value),
                            None => {
                                self.stack.pop();
                                enter!(v, 0);
                            }
                        }
                    }
                }
                Op::Thunk(distance) => {
                    let code = ip.wrapping_offset(distance as isize - 1);
                    let v = self.heap.thunk(code, env);
                    self.stack.push(v);
                }
                Op::Closure(i) => {
                    let v = self.heap.closure(self.tables.lambdas[i as usize], env);
                    self.stack.push(v);
                }
                Op::List(n) => {
                    let at = self.stack.len() - n as usize;
                    let v = self.heap.list(&self.stack[at..]);
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::Attrs(i) => {
                    let shape = self.tables.shapes[i as usize];
                    let at = self.stack.len() - shape.len();
                    let v = self.heap.attrs_of_shape(shape, &self.stack[at..]);
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::SparseAttrs(i) => {
                    let code = &self.tables.sparse[i as usize];
                    let v = self.heap.sparse_literal(code, env);
                    let at = self.stack.len() - code.at_hand.len();
                    for (value, index) in self.stack[at..].iter().zip(&code.at_hand) {
                        self.heap.attrs_init(v, *index as usize, *value);
                    }
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::AttrsDynamic(i) => check!(self.add_dynamic(i)),
                Op::Overrides(i) => {
                    let v = pop!();
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v));
                    };
                    for (symbol, slot) in &self.tables.overrides[i as usize].slots {
                        if let Some(v) = attrs.get(*symbol) {
                            env.set(*slot as usize, v);
                        }
                    }
                }
                Op::Inherit(distance, site) => {
                    let at = self.stack.len() - 1 - distance as usize;
                    let set = self.stack[at];
                    let v = self.delayed_select(set, site);
                    self.stack.push(v);
                }
                Op::InheritLocal(slot, site) => {
                    let set = env.get(slot as usize);
                    let v = self.delayed_select(set, site);
                    self.stack.push(v);
                }
                Op::Slide(n) => {
                    let v = pop!();
                    let len = self.stack.len() - n as usize;
                    self.stack.truncate(len);
                    self.stack.push(v);
                }
                Op::SetLocal(slot) => {
                    let v = pop!();
                    env.set(slot as usize, v);
                }
                Op::Enter(slots) => env = self.heap.env(env, slots as usize),
                Op::Select(i) => {
                    let v = top!();
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v));
                    };
                    match self.lookup(attrs, i) {
                        Some(value) => set_top!(value),
                        None => {
                            fail!(self.missing_attr(attrs, self.tables.sites[i as usize].symbol))
                        }
                    }
                }
                Op::TrySelect(i) => {
                    let v = top!();
                    match v.as_attrs().and_then(|attrs| self.lookup(attrs, i)) {
                        Some(value) => set_top!(value),
                        None => {
                            self.stack.pop();
                            jump!(self.tables.sites[i as usize].jump);
                        }
                    }
                }
                Op::HasAttr(i) => {
                    let v = top!();
                    let found = v
                        .as_attrs()
                        .is_some_and(|attrs| self.lookup(attrs, i).is_some());
                    set_top!(Value::bool(found));
                }
                Op::SelectDynamic => {
                    let symbol = check!(self.pop_name());
                    let v = top!();
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v));
                    };
                    match attrs.get(symbol) {
                        Some(value) => set_top!(value),
                        None => fail!(self.missing_attr(attrs, symbol)),
                    }
                }
                Op::TrySelectDynamic(i) => {
                    let symbol = check!(self.pop_name());
                    let v = top!();
                    match v.as_attrs().and_then(|attrs| attrs.get(symbol)) {
                        Some(value) => set_top!(value),
                        None => {
                            self.stack.pop();
                            jump!(self.tables.sites[i as usize].jump);
                        }
                    }
                }
                Op::HasAttrDynamic => {
                    let symbol = check!(self.pop_name());
                    let v = top!();
                    let found = v
                        .as_attrs()
                        .is_some_and(|attrs| attrs.get(symbol).is_some());
                    set_top!(Value::bool(found));
                }
                Op::DelaySelect(i) => {
                    let v = top!().resolved();
                    match v.as_attrs().and_then(|attrs| self.lookup(attrs, i)) {
                        Some(value) => {
                            self.heap.stats.avoided += 1;
                            set_top!(value);
                            if value.is_function() {
                                set_top!(self.heap.copy_function(value));
                            }
                        }
                        None => {
                            self.stack.pop();
                            jump!(self.tables.sites[i as usize].jump);
                        }
                    }
                }
                Op::WithSelect(i) => {
                    self.heap.stats.lookups += 1;
                    let v = top!();
                    let Some(attrs) = v.as_attrs() else {
                        let what = "while evaluating the first subexpression of a with expression";
                        fail!(self.expected_for(what, Type::Attrs, v));
                    };
                    match self.lookup(attrs, i) {
                        Some(value) => {
                            set_top!(value);
                            jump!(self.tables.sites[i as usize].jump);
                        }
                        None => {
                            self.stack.pop();
                        }
                    }
                }
                Op::Undefined(i) => {
                    let symbol = self.tables.sites[i as usize].symbol;
                    let name = self.symbols.text(symbol);
                    let why = if self.absent.contains(&symbol) {
                        " (this evaluator does not provide it)"
                    } else {
                        ""
                    };
                    fail!(Error::new(
                        ErrorKind::UndefinedVariable,
                        format!("undefined variable '{name}'{why}")
                    ));
                }
                Op::Call(n) => {
                    tick!();
                    let n = n as usize;
                    let at = self.stack.len() - n - 1;
                    // The common case, a saturated call of a closure, without leaving the loop.
                    if let Some(f) = self.stack[at].as_function()
                        && let Callee::Closure(lambda, parent) = f.callee()
                        && lambda_of(lambda).arity as usize == n
                    {
                        save!();
                        self.enter_closure(lambda_of(lambda), parent, n)?;
                        self.stack.truncate(at);
                        if let Some(f) = self.frames.last() {
                            ip = f.ip;
                            env = f.env;
                        }
                        continue;
                    }
                    save!();
                    match self.try_call(n)? {
                        Called::Finished => {}
                        Called::Entered => load!(),
                        Called::Need(thunk, now) => {
                            if now == n {
                                retry!(thunk);
                            }
                            let Some(ops) = self.call_ops.get(now) else {
                                fail!(Error::other("too many arguments in one call"));
                            };
                            self.push_code(ops.as_ptr(), EnvPtr::NONE, ThunkPtr::NONE, 0);
                            self.enter_thunk(thunk, flag::DISCARD)?;
                            load!();
                        }
                    }
                }
                Op::ObservedCall(n) => {
                    let place = self.tables.span(ip.wrapping_sub(1)).unwrap_or_default();
                    save!();
                    if let Some(thunk) = self.enter_observed(n as usize, place.start)? {
                        retry!(thunk);
                    }
                    load!();
                }
                Op::CallEnd => self.leave_observed(self.frames.len() - 1),
                Op::CallRest(n) => {
                    let at = self.stack.len() - n as usize - 1;
                    self.stack[at..].rotate_right(1);
                    save!();
                    self.begin_call(n as usize)?;
                    load!();
                }
                Op::Jump(distance) => jump!(distance),
                Op::JumpIfFalse(distance) => {
                    let v = pop!();
                    if v == Value::FALSE {
                        jump!(distance);
                    } else if v != Value::TRUE {
                        fail!(self.expected_for(
                            "while evaluating a branch condition",
                            Type::Bool,
                            v
                        ));
                    }
                }
                Op::AndJump(distance) => {
                    let v = top!();
                    if v == Value::FALSE {
                        jump!(distance);
                    } else if v == Value::TRUE {
                        self.stack.pop();
                    } else {
                        fail!(self.expected(Type::Bool, v));
                    }
                }
                Op::OrJump(distance) => {
                    let v = top!();
                    if v == Value::TRUE {
                        jump!(distance);
                    } else if v == Value::FALSE {
                        self.stack.pop();
                    } else {
                        fail!(self.expected(Type::Bool, v));
                    }
                }
                Op::CheckBool => {
                    let v = top!();
                    if v.as_bool().is_none() {
                        fail!(self.expected(Type::Bool, v));
                    }
                }
                Op::CheckAttrs => {
                    let v = top!();
                    if v.as_attrs().is_none() {
                        let what = "in the right operand of the update (//) operator";
                        fail!(self.expected_for(what, Type::Attrs, v));
                    }
                }
                Op::Not => match top!().as_bool() {
                    Some(b) => set_top!(Value::bool(!b)),
                    None => {
                        let what = "in the argument of the not operator";
                        fail!(self.expected_for(what, Type::Bool, top!()))
                    }
                },
                Op::Negate => {
                    let v = top!();
                    let zero = self.heap.int(0);
                    let negative = check!(ops::arithmetic(self, ops::Arithmetic::Sub, zero, v));
                    set_top!(negative);
                }
                Op::BeginAdd => {
                    let v = top!();
                    if v.as_int().is_none() && !v.is_string() && ops::begins_sum(v) {
                        native!(ops::begin_sum, 1);
                    }
                }
                Op::Add => {
                    let (right, left) = (pop!(), top!());
                    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
                        let Some(sum) = a.checked_add(b) else {
                            fail!(ops::overflow("adding", a, "+", b));
                        };
                        let v = self.heap.int(sum);
                        set_top!(v);
                    } else {
                        match check!(ops::add_simple(self, left, right)) {
                            Some(v) => set_top!(v),
                            None => {
                                self.stack.push(right);
                                native!(ops::add, 2);
                            }
                        }
                    }
                }
                Op::Sub | Op::Mul | Op::Div => {
                    let (right, left) = (pop!(), top!());
                    let kind = match op {
                        Op::Sub => ops::Arithmetic::Sub,
                        Op::Mul => ops::Arithmetic::Mul,
                        _ => ops::Arithmetic::Div,
                    };
                    let v = check!(ops::arithmetic(self, kind, left, right));
                    set_top!(v);
                }
                Op::Less => {
                    let (right, left) = (pop!(), top!());
                    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
                        set_top!(Value::bool(a < b));
                    } else if left.is_list() && right.is_list() {
                        self.stack.push(right);
                        native!(ops::less_than, 2);
                    } else {
                        let less = check!(ops::less_simple(self, left, right));
                        set_top!(Value::bool(less));
                    }
                }
                Op::Eq => {
                    let (right, left) = (pop!(), top!());
                    match ops::equal_simple(left, right) {
                        Some(equal) => set_top!(Value::bool(equal)),
                        None => {
                            self.stack.push(right);
                            native!(ops::equal, 2);
                        }
                    }
                }
                Op::Update => {
                    let (left, right) = (pop!(), top!());
                    match (left.as_attrs(), right.as_attrs()) {
                        (Some(a), Some(b)) => {
                            let v = self.update(a, b);
                            set_top!(v);
                        }
                        (None, _) => {
                            let what = "in the left operand of the update (//) operator";
                            fail!(self.expected_for(what, Type::Attrs, left))
                        }
                        (_, None) => fail!(self.expected(Type::Attrs, right)),
                    }
                }
                Op::Concat(n) => {
                    let at = self.stack.len() - n as usize;
                    let mut total = 0;
                    for i in at..self.stack.len() {
                        match self.stack[i].as_list() {
                            Some(list) => total += list.len(),
                            None => {
                                let what = "while evaluating one of the elements to concatenate";
                                fail!(self.expected_for(what, Type::List, self.stack[i]))
                            }
                        }
                    }
                    self.heap.stats.list_concats += 1;
                    check!(self.check_memory(total * 8));
                    let v = self.heap.concat_lists(&self.stack[at..]);
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::CoercePart => {
                    let v = top!();
                    if !v.is_string() {
                        let mode = ops::Coerce::INTERPOLATION.value();
                        self.stack.push(mode);
                        native!(ops::coerce_to_string, 2);
                    }
                }
                Op::CoercePathPart => {
                    let v = top!();
                    if !v.is_string() {
                        let mode = ops::Coerce::PATH.value();
                        self.stack.push(mode);
                        native!(ops::coerce_to_string, 2);
                    }
                }
                Op::ConcatStrings(n) => {
                    let at = self.stack.len() - n as usize;
                    let v = check!(self.concat_strings(at));
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::ConcatPath(n) => {
                    let at = self.stack.len() - n as usize;
                    let v = check!(self.concat_strings(at));
                    let v = check!(ops::path_of_string(self, v));
                    self.stack.truncate(at);
                    self.stack.push(v);
                }
                Op::Assert => match top!().as_bool() {
                    Some(true) => {
                        self.stack.pop();
                    }
                    Some(false) => {
                        let message = self.assertion_message(ip.wrapping_sub(1));
                        fail!(Error::new(ErrorKind::Assertion, message));
                    }
                    None => {
                        let what = "in the condition of the assert statement";
                        fail!(self.expected_for(what, Type::Bool, top!()))
                    }
                },
                Op::AssertEqual => {
                    let n = self.stack.len();
                    let (left, right) = (self.stack[n - 2], self.stack[n - 1]);
                    match ops::equal_simple(left, right) {
                        Some(true) => self.stack.truncate(n - 2),
                        _ => {
                            // Leaves nothing behind but its result, which is not wanted.
                            save!();
                            self.push_native(ops::assert_equal, 2, NO_INFO)?;
                            if let Some(f) = self.frames.last_mut() {
                                f.flags |= flag::DISCARD;
                            }
                            load!();
                        }
                    }
                }
                Op::Formals(i) => {
                    let lambda = lambda_of(self.tables.lambdas[i as usize]);
                    let slot = lambda.arity as usize - 1;
                    let v = env.get(slot);
                    let arg = v.resolved();
                    if arg.is_thunk() {
                        retry!(arg);
                    }
                    env.set(slot, arg);
                    let Some(attrs) = arg.as_attrs() else {
                        let error = self.expected(Type::Attrs, arg);
                        fail!(self.wrong_call(lambda, error));
                    };
                    check!(self.bind_formals(lambda, attrs, env));
                }
                Op::SelectPayload => {
                    let v = pop!();
                    let thunk = ThunkPtr::of(pop!());
                    let symbol = Symbol(thunk.payload() as u32);
                    let pos = PosId((thunk.payload() >> 32) as u32);
                    let span = SourceSpan { start: pos, len: 1 };
                    let Some(attrs) = v.as_attrs() else {
                        fail!(self.expected(Type::Attrs, v).at(span));
                    };
                    match attrs.get(symbol) {
                        Some(value) => {
                            self.stack.push(value);
                            if value.is_thunk() {
                                self.stack.pop();
                                enter!(value, 0);
                            }
                        }
                        None => fail!(self.missing_attr(attrs, symbol).at(span)),
                    }
                }
                Op::Return => {
                    let Some(frame) = self.frames.pop() else {
                        return Err(Error::other("the frame stack is empty"));
                    };
                    if frame.update != ThunkPtr::NONE {
                        let mut v = top!();
                        if v.is_function() {
                            v = self.heap.copy_function(v);
                            set_top!(v);
                        }
                        frame.update.set_value(v);
                        if frame.flags & flag::DISCARD != 0 {
                            self.stack.pop();
                        }
                    }
                    match self.frames.last() {
                        Some(f) if f.resume.is_none() => {
                            ip = f.ip;
                            env = f.env;
                        }
                        _ => load!(),
                    }
                }
                Op::Exit => return Ok(()),
            }
        }
    }

    // ---- helpers of ops -------------------------------------------------------------------------------

    #[inline(always)]
    fn lookup(&mut self, attrs: AttrsRef, site: u32) -> Option<Value> {
        let site = &mut self.tables.sites[site as usize];
        let Some(shape) = attrs.flat_shape() else {
            return attrs.get(site.symbol);
        };
        if site.shape == shape && shape.0 != self.heap.empty_shape.0 {
            return Some(attrs.at(site.index as usize));
        }
        let index = shape.find(site.symbol)?;
        site.shape = shape;
        site.index = index as u32;
        Some(attrs.at(index))
    }

    fn delayed_select(&mut self, set: Value, site: u32) -> Value {
        let resolved = set.resolved();
        if let Some(attrs) = resolved.as_attrs()
            && let Some(v) = self.lookup(attrs, site)
        {
            return if v.is_function() {
                self.heap.copy_function(v)
            } else {
                v
            };
        }
        let Site {
            symbol, jump: pos, ..
        } = self.tables.sites[site as usize];
        let pos = PosId(pos as u32);
        let thunk = if set.is_thunk() {
            set
        } else {
            self.heap.evaluated_thunk(resolved)
        };
        self.heap.select_thunk(thunk, symbol, pos)
    }

    fn pop_name(&mut self) -> Result<Symbol> {
        let v = self.stack.pop().unwrap_or(Value::NULL).resolved();
        match v.as_string() {
            Some(s) => self.attr_name(s),
            None => Err(self.expected_for("while evaluating an attribute name", Type::String, v)),
        }
    }

    /// The symbol of a string used as attribute name.
    ///
    /// # Errors
    /// When the string has a context.
    pub fn attr_name(&mut self, s: StringRef) -> Result<Symbol> {
        if !s.context().is_empty() {
            return Err(self.no_context_allowed(s));
        }
        Ok(self.symbols.of_string(s))
    }

    /// The error for a string with context where none is allowed.
    pub fn no_context_allowed(&self, s: StringRef) -> Error {
        let path = self
            .contexts
            .elements(s.context())
            .min()
            .map(ToString::to_string)
            .unwrap_or_default();
        Error::other(format!(
            "the string '{}' is not allowed to refer to a store path (such as '{}')",
            String::from_utf8_lossy(s.bytes()),
            path
        ))
    }

    fn add_dynamic(&mut self, index: u32) -> Result<()> {
        let count = self.tables.dynamic[index as usize].len();
        let at = self.stack.len() - 2 * count;
        let Some(base) = self.stack[at - 1].as_attrs() else {
            return Err(Error::other("dynamic attributes without a set"));
        };
        let mut added: Vec<(Symbol, PosId, Value)> = Vec::with_capacity(count);
        for i in 0..count {
            let name = self.stack[at + 2 * i].resolved();
            let value = self.stack[at + 2 * i + 1];
            if name.is_null() {
                continue;
            }
            let Some(name) = name.as_string() else {
                let what = "while evaluating the name of a dynamic attribute";
                return Err(self.expected_for(what, Type::String, name));
            };
            let symbol = self.attr_name(name)?;
            let pos = self.tables.dynamic[index as usize][i];
            let earlier = added
                .iter()
                .find(|(s, ..)| *s == symbol)
                .map(|(_, p, _)| *p)
                .or_else(|| base.position(symbol));
            if let Some(earlier) = earlier {
                let mut error = Error::other(format!(
                    "dynamic attribute '{}' already defined at {}",
                    self.symbols.text(symbol),
                    self.describe_position(earlier)
                ))
                .at(SourceSpan { start: pos, len: 1 });
                error.data_mut().related = Some((
                    "first defined here".to_string(),
                    SourceSpan {
                        start: earlier,
                        len: 1,
                    },
                ));
                return Err(error);
            }
            added.push((symbol, pos, value));
        }
        let base_entries = base.iter().map(|(s, v, p)| (s, p, v));
        let mut all: Vec<(Symbol, PosId, Value)> = base_entries.chain(added).collect();
        all.sort_unstable_by_key(|(s, ..)| *s);
        let v = self.attrs_sorted(&all);
        self.stack.truncate(at - 1);
        self.stack.push(v);
        Ok(())
    }

    fn concat_strings(&mut self, at: usize) -> Result<Value> {
        let mut total = 0usize;
        let mut context = ContextUnion::default();
        for part in &self.stack[at..] {
            let s = StringRef(*part);
            total += s.len();
            context.add(&mut self.contexts, s.context());
        }
        self.check_string(total)?;
        if self.stack.len() - at == 1 {
            return Ok(self.stack[at]);
        }
        let context = context.finish(&mut self.contexts);
        Ok(self.heap.concat(&self.stack[at..], total, context))
    }

    /// Fails when a string of `len` bytes is too long for the heap or its limit.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`].
    pub fn check_string(&self, len: usize) -> Result<()> {
        if len > u32::MAX as usize {
            return Err(Error::new(ErrorKind::Memory, "a string longer than 4 GiB"));
        }
        if len > 1 << 16 {
            self.check_memory(len)
        } else {
            Ok(())
        }
    }

    fn bind_formals(&mut self, lambda: &Lambda, attrs: AttrsRef, env: EnvPtr) -> Result<()> {
        let Some(formals) = &lambda.formals else {
            return Ok(());
        };
        if attrs.flat_shape().is_none()
            && formals.ellipsis
            && formals.entries.len() < attrs.len_at_most() / 8
        {
            // A few names of a package set: it need not be joined for them.
            for formal in &formals.entries {
                let v = match attrs.get(formal.symbol) {
                    Some(v) => v,
                    None => self.missing_formal(lambda, formal, attrs, env)?,
                };
                env.set(formal.slot as usize, v);
            }
            return Ok(());
        }
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        let len = shape.len();
        let mut matched = 0;
        // Both are sorted by symbol. Few formals against a large set are searched, else merged.
        let search = len > 4 * formals.entries.len() + 8;
        let mut at = 0;
        for formal in &formals.entries {
            if search {
                at = match shape.lower_bound(at, formal.symbol) {
                    Ok(i) | Err(i) => i,
                };
            } else {
                while at < len && shape.symbol(at) < formal.symbol {
                    at += 1;
                }
            }
            if at < len && shape.symbol(at) == formal.symbol {
                env.set(formal.slot as usize, attrs.at(at));
                matched += 1;
                at += 1;
                continue;
            }
            let v = self.missing_formal(lambda, formal, attrs, env)?;
            env.set(formal.slot as usize, v);
        }
        if matched != len && !formals.ellipsis {
            return Err(self.unexpected_argument(lambda, attrs));
        }
        Ok(())
    }

    #[inline]
    fn missing_formal(
        &mut self,
        lambda: &Lambda,
        formal: &Formal,
        attrs: AttrsRef,
        env: EnvPtr,
    ) -> Result<Value> {
        match formal.default {
            FormalDefault::Constant(v) => Ok(v),
            FormalDefault::Outer(depth, slot) => {
                let v = env.ancestor(usize::from(depth)).get(slot as usize);
                debug_assert!(v != Value::EMPTY);
                Ok(v)
            }
            FormalDefault::Code(code) => Ok(self.heap.thunk(code, env)),
            FormalDefault::Required => Err(self.missing_argument(lambda, formal.symbol, attrs)),
        }
    }

    fn lambda_name(&self, lambda: &Lambda) -> String {
        match lambda.name.get() {
            Some(name) => format!("'{}'", self.symbols.text(name)),
            None => "'anonymous lambda'".to_string(),
        }
    }

    #[cold]
    fn missing_argument(&self, lambda: &Lambda, symbol: Symbol, attrs: AttrsRef) -> Error {
        let name = self.symbols.text(symbol);
        let e = Error::new(
            ErrorKind::Arguments,
            format!(
                "function {} called without required argument '{name}'",
                self.lambda_name(lambda)
            ),
        );
        // What was given and is wanted too was not meant for something else.
        let given = attrs
            .names()
            .filter(|s| !lambda.takes(*s))
            .map(|s| self.symbols.text(s));
        self.wrong_call(lambda, e.suggest(crate::suggest::similar(&name, given)))
    }

    #[cold]
    fn unexpected_argument(&self, lambda: &Lambda, attrs: AttrsRef) -> Error {
        // Nix names the first one in the order of names' symbols.
        let name = attrs
            .names()
            .find(|s| !lambda.takes(*s))
            .map(|s| (self.symbols.text(s), self.attr_text(s)));
        let (name, shown) = name.unwrap_or_default();
        let e = Error::new(
            ErrorKind::Arguments,
            format!(
                "function {} called with unexpected argument '{shown}'",
                self.lambda_name(lambda)
            ),
        );
        let formals = lambda.formals.iter().flat_map(|f| f.entries.iter());
        let names = formals.map(|f| self.symbols.text(f.symbol));
        self.wrong_call(lambda, e.suggest(crate::suggest::similar(&name, names)))
    }

    /// The error of a call whose argument does not fit: its place is the call, and the function is shown beside it.
    #[cold]
    fn wrong_call(&self, lambda: &Lambda, mut error: Error) -> Error {
        let data = error.data_mut();
        data.at_call = true;
        data.related = Some((
            "the function is defined here".to_string(),
            SourceSpan {
                start: lambda.pos,
                len: 1,
            },
        ));
        error
    }

    #[cold]
    fn assertion_message(&self, at: *const Op) -> String {
        match self
            .tables
            .span(at)
            .and_then(|span| self.expression_text(span))
        {
            Some(text) => format!("assertion '{text}' failed"),
            None => "assertion failed".to_string(),
        }
    }

    /// The expression at a span, printed in normal form. Reads and parses the source again: for errors.
    pub(crate) fn expression_text(&self, span: SourceSpan) -> Option<String> {
        let (source, offset) = self.sources.resolve(span.start)?;
        let text = match &source.text {
            Some(t) => t.to_vec(),
            None => self.host.read_file(source.origin.path()?).ok()?,
        };
        let options = nivis_syntax::ParseOptions {
            pipe_operators: self.settings.feature("pipe-operators"),
        };
        let mut ast = nivis_syntax::parse(&text, &options).ok()?;
        let wanted = nivis_syntax::ast::Span {
            start: offset as u32,
            end: offset as u32 + span.len,
        };
        // Of expressions with the same span (parentheses are not nodes) the outermost comes last.
        let at = ast.spans.iter().rposition(|s| *s == wanted)?;
        ast.root = Some(nivis_syntax::ast::ExprId(at as u32));
        let dir = source
            .origin
            .path()
            .and_then(Path::parent)
            .map(|p| p.display().to_string());
        let home = self
            .host
            .env(b"HOME")
            .map(|h| String::from_utf8_lossy(&h).into_owned());
        let text = ast.to_nix_parse_string(&dir.unwrap_or_default(), &home.unwrap_or_default());
        Some(text.trim_end().to_string())
    }

    /// The source text of a span.
    pub fn source_text(&self, span: SourceSpan) -> Option<String> {
        let (source, offset) = self.sources.resolve(span.start)?;
        let text = match &source.text {
            Some(t) => t.to_vec(),
            None => self.host.read_file(source.origin.path()?).ok()?,
        };
        let bytes = text.get(offset..offset + span.len as usize)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// File, line and column of a position, as messages show it.
    pub fn describe_position(&self, pos: PosId) -> String {
        match self.sources.resolve(pos) {
            None => "«none»".to_string(),
            Some((source, offset)) => {
                match self
                    .sources
                    .line_column(source, offset, |p| self.host.read_file(p).ok())
                {
                    Some((line, column)) => format!("{}:{line}:{column}", source.origin.name()),
                    None => source.origin.name(),
                }
            }
        }
    }

    /// The set `{ file, line, column }` of a position in a file, or null.
    pub fn position_attrs(&mut self, pos: PosId) -> Value {
        let Some((source, offset)) = self.sources.resolve(pos) else {
            return Value::NULL;
        };
        let Some(path) = source.origin.path() else {
            return Value::NULL;
        };
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        let host = Rc::clone(&self.host);
        let Some((line, column)) = self
            .sources
            .line_column(source, offset, |p| host.read_file(p).ok())
        else {
            return Value::NULL;
        };
        let file = self.heap.string(&path, ContextId::EMPTY);
        let line = self.heap.int(i64::from(line));
        let column = self.heap.int(i64::from(column));
        let known = self.known;
        self.attrs([
            (known.file, PosId::NONE, file),
            (known.line, PosId::NONE, line),
            (known.column, PosId::NONE, column),
        ])
    }

    // ---- attribute sets -------------------------------------------------------------------------------

    /// An attribute set. Of several values for one name the last one counts.
    pub fn attrs(&mut self, entries: impl IntoIterator<Item = (Symbol, PosId, Value)>) -> Value {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend(entries);
        // Stable, so that the last of equals is the one to keep.
        scratch.sort_by_key(|(s, ..)| *s);
        let mut kept = 0;
        for i in 0..scratch.len() {
            if i + 1 < scratch.len() && scratch[i].0 == scratch[i + 1].0 {
                continue;
            }
            scratch[kept] = scratch[i];
            kept += 1;
        }
        scratch.truncate(kept);
        let v = self.attrs_sorted(&scratch);
        self.scratch = scratch;
        v
    }

    /// An attribute set of entries that increase strictly by symbol.
    pub fn attrs_sorted(&mut self, entries: &[(Symbol, PosId, Value)]) -> Value {
        if entries.is_empty() {
            return self.heap.empty_attrs;
        }
        let names = entries.iter().map(|(s, p, _)| (*s, *p));
        let shape = if entries.len() <= INTERN_UP_TO {
            self.interned_shape(names, false)
        } else {
            self.heap.shape(names)
        };
        let v = self.heap.attrs_uninit(shape, entries.len());
        for (i, (.., value)) in entries.iter().enumerate() {
            self.heap.attrs_init(v, i, *value);
        }
        v
    }

    /// A set with the names and positions of another one and new values, in the order of
    /// [`AttrsRef::iter`]. The number of values must be that of the attributes.
    pub fn attrs_like(&mut self, attrs: AttrsRef, values: &[Value]) -> Value {
        let attrs = self.heap.flat(attrs);
        let mut shape = attrs.shape();
        if matches!(attrs.origin(), Some(SparseOrigin::Map(..))) {
            shape = self.shape_without_positions(shape);
        }
        if shape.len() != values.len() {
            return self.heap.empty_attrs;
        }
        self.heap.attrs_of_shape(shape, values)
    }

    /// The attributes in the order of their names: symbol, value, position.
    pub fn sorted_attrs(&mut self, attrs: AttrsRef) -> Vec<(Symbol, Value, PosId)> {
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        let item = |i: u32| {
            let i = i as usize;
            (shape.symbol(i), attrs.at(i), attrs.position_at(i))
        };
        if let Some(order) = shape.order() {
            return order.iter().map(|i| item(*i)).collect();
        }
        let key = |i: u32| {
            let symbol = shape.symbol(i as usize);
            (self.symbols.prefix(symbol), symbol, i)
        };
        let mut keys: Vec<(u64, Symbol, u32)> = (0..shape.len() as u32).map(key).collect();
        keys.sort_unstable_by(|a, b| {
            let names = || self.symbols.name(a.1).cmp(self.symbols.name(b.1));
            a.0.cmp(&b.0).then_with(names)
        });
        let order: Vec<u32> = keys.into_iter().map(|(.., i)| i).collect();
        if shape.len() > 1 {
            self.heap.set_order(shape, &order);
        }
        order.iter().map(|i| item(*i)).collect()
    }

    /// The attributes in the order of their names, to be looked at one by one. Time is constant but for the first use of a
    /// set's shape.
    pub fn in_order(&mut self, attrs: AttrsRef) -> InOrder {
        let attrs = self.heap.flat(attrs);
        let shape = attrs.shape();
        if shape.order().is_none() && shape.len() > 1 {
            self.sorted_attrs(attrs);
        }
        InOrder(attrs)
    }

    /// The attribute at `index` in the order of names; constant time but for the first use of a set's shape.
    pub fn sorted_attr(&mut self, attrs: AttrsRef, index: usize) -> Option<(Symbol, Value, PosId)> {
        self.in_order(attrs).get(index)
    }

    /// The value of the attribute that is at `index` in the order of names.
    pub(crate) fn attr_by_name_order(&mut self, attrs: AttrsRef, index: usize) -> Value {
        let attrs = self.heap.flat(attrs);
        if attrs.shape().order().is_none() && attrs.len() > 1 {
            self.sorted_attrs(attrs);
        }
        let at = attrs.shape().order().map_or(index, |o| o[index] as usize);
        attrs.at(at)
    }

    /// `left // right`. Copies what it must: time is linear in the result, except that a small right
    /// side is searched for in a large left one.
    pub fn update(&mut self, left: AttrsRef, right: AttrsRef) -> Value {
        /// Sets of at least this many attributes are not copied for a small change but layered; so sparse
        /// sets never are.
        const LAYERS_FROM: usize = SPARSE_FROM;
        /// Names of a left side that are searched for in a large right side.
        const SEARCHED: usize = 64;
        self.heap.stats.updates += 1;
        if right.is_empty() {
            return left.value();
        }
        if left.is_empty() {
            return right.value();
        }
        let (mut left, mut right) = (left.joined(), right.joined());
        if left.len_at_most() >= SEARCHED
            && left.len_at_most().max(right.len_at_most()) >= LAYERS_FROM
        {
            // Package sets are put above other versions of themselves: most of what lies below is hidden then.
            let mut hiding = Vec::new();
            right.flat_sets(&mut hiding);
            let has_shape_of = |set: AttrsRef| hiding.iter().any(|h| h.shape() == set.shape());
            match self.without_hidden(left, &has_shape_of) {
                Some(seen) => left = seen,
                None => return right.value(),
            }
            if left.depth() + right.depth() > MAX_LAYERS / 2 {
                let few = |set: AttrsRef| set.len() < LAYERS_FROM;
                let seen = self.without_hidden(left, &|set| {
                    few(set) && set.names().all(|name| right.has(name))
                });
                match seen {
                    Some(seen) => left = seen,
                    None => return right.value(),
                }
            }
            // Small changes one after another become one, so that layers stay few.
            while let Some((change, base)) = left.layers()
                && change.len_at_most() + right.len_at_most() < LAYERS_FROM
                && let Some(both) = self.update(change, right).as_attrs()
            {
                (left, right) = (base, both);
            }
            self.limit_layers(&mut left, &mut right);
            return self.heap.layered(right, left, None);
        }
        if right.len_at_most() >= LAYERS_FROM {
            // Of the left side only what the right one lacks is seen: that goes above the right one, where
            // it hides nothing.
            let mut new = std::mem::take(&mut self.scratch);
            new.clear();
            let lacking = left.places().filter(|(s, ..)| !right.has(*s));
            new.extend(lacking.map(|(s, set, at)| (s, set.position_at(at), set.at(at))));
            let upper = self.attrs_sorted(&new);
            self.scratch = new;
            if right.depth() == MAX_LAYERS {
                right = self.heap.flat(right);
            }
            return match upper.as_attrs() {
                Some(upper) if !upper.is_empty() => self.heap.layered(upper, right, None),
                _ => right.value(),
            };
        }
        let right = self.heap.flat(right);
        let left = self.heap.flat(left);
        let (a, b) = (left.shape(), right.shape());
        let known = a.is_static() && b.is_static();
        if known && let Some(t) = self.transitions.get(&(a, b)) {
            let v = self.heap.attrs_uninit(t.shape, t.plan.len());
            self.heap.stats.update_values_copied += t.plan.len() as u64;
            for (i, source) in t.plan.iter().enumerate() {
                let from = if source & 1 == 1 { right } else { left };
                self.heap.attrs_init(v, i, from.at((source >> 1) as usize));
            }
            return v;
        }
        if a.len() > 8 * b.len() {
            return self.update_large(left, right);
        }
        let mut plan = std::mem::take(&mut self.plan);
        plan.clear();
        plan.reserve(a.len() + b.len());
        let (mut i, mut j) = (0, 0);
        while i < a.len() && j < b.len() {
            match a.symbol(i).cmp(&b.symbol(j)) {
                std::cmp::Ordering::Less => {
                    plan.push((i as u32) << 1);
                    i += 1;
                }
                std::cmp::Ordering::Greater => {
                    plan.push((j as u32) << 1 | 1);
                    j += 1;
                }
                std::cmp::Ordering::Equal => {
                    plan.push((j as u32) << 1 | 1);
                    i += 1;
                    j += 1;
                }
            }
        }
        plan.extend((i..a.len()).map(|i| (i as u32) << 1));
        plan.extend((j..b.len()).map(|j| (j as u32) << 1 | 1));
        // When the right side has every name, its shape serves; nothing of the left is seen.
        if plan.len() == b.len() {
            self.plan = plan;
            return right.value();
        }
        self.heap.stats.update_values_copied += plan.len() as u64;
        let entry = |source: u32| {
            let shape = if source & 1 == 1 { b } else { a };
            shape.entry((source >> 1) as usize)
        };
        let keep = known && plan.len() <= 256;
        let shape = if keep || plan.len() <= INTERN_UP_TO {
            self.interned_shape(plan.iter().map(|s| entry(*s)), keep)
        } else {
            self.heap.shape(plan.iter().map(|s| entry(*s)))
        };
        let v = self.heap.attrs_uninit(shape, plan.len());
        for (at, source) in plan.iter().enumerate() {
            let from = if source & 1 == 1 { right } else { left };
            self.heap.attrs_init(v, at, from.at((source >> 1) as usize));
        }
        if keep {
            self.transitions.insert(
                (a, b),
                Transition {
                    shape,
                    plan: plan.as_slice().into(),
                },
            );
        }
        self.plan = plan;
        v
    }

    /// A set without those of its layers that are hidden by something above it; `None` if nothing is left.
    fn without_hidden(
        &mut self,
        set: AttrsRef,
        hidden: &impl Fn(AttrsRef) -> bool,
    ) -> Option<AttrsRef> {
        let Some((upper, lower)) = set.layers() else {
            return (!hidden(set)).then_some(set);
        };
        // As deep as there are layers, which are few.
        let seen = (
            self.without_hidden(upper, hidden),
            self.without_hidden(lower, hidden),
        );
        match seen {
            (Some(a), Some(b)) if a.0 == upper.0 && b.0 == lower.0 => Some(set),
            (Some(a), Some(b)) => self.heap.layered(a, b, None).as_attrs(),
            (a, b) => a.or(b),
        }
    }

    /// Joins layers until two sets can be put above each other.
    fn limit_layers(&mut self, left: &mut AttrsRef, right: &mut AttrsRef) {
        while left.depth() + right.depth() >= MAX_LAYERS {
            let deeper = if left.depth() > right.depth() {
                &mut *left
            } else {
                &mut *right
            };
            *deeper = self.heap.flat(*deeper);
        }
    }

    /// The one shape with these entries. Without it, `x // { … }` in a loop would make a new shape, and a
    /// new transition, each time; and sets made alike by builtins would not share theirs.
    pub(crate) fn interned_shape(
        &mut self,
        entries: impl ExactSizeIterator<Item = (Symbol, PosId)> + Clone,
        fixed: bool,
    ) -> Shape {
        let mut hasher = FxHasher::default();
        for (symbol, pos) in entries.clone() {
            hasher.write_u64(u64::from(symbol.0) | u64::from(pos.0) << 32);
        }
        let hash = hasher.finish();
        let same = |s: &Shape| {
            s.len() == entries.len() && entries.clone().enumerate().all(|(i, e)| s.entry(i) == e)
        };
        let known = self
            .shapes
            .find(hash, |(h, s)| *h == hash && same(s))
            .map(|(_, s)| *s);
        let shape = match known {
            Some(shape) => shape,
            None => {
                let shape = self.heap.shape(entries.clone());
                self.shapes.insert_unique(hash, (hash, shape), |(h, _)| *h);
                shape
            }
        };
        if fixed && !shape.is_empty() {
            shape.set_static();
        }
        shape
    }

    fn update_large(&mut self, left: AttrsRef, right: AttrsRef) -> Value {
        let (a, b) = (left.shape(), right.shape());
        let mut from = 0;
        let mut new = 0;
        for (_, (symbol, _)) in (0..b.len()).map(|j| (j, b.entry(j))) {
            match a.lower_bound(from, symbol) {
                Ok(i) => from = i + 1,
                Err(i) => {
                    from = i;
                    new += 1;
                }
            }
        }
        let total = a.len() + new;
        self.heap.stats.update_values_copied += total as u64;
        let shape = self.heap.shape_uninit(total);
        let v = self.heap.attrs_uninit(shape, total);
        let (mut i, mut at) = (0, 0);
        for j in 0..b.len() {
            let (symbol, pos) = b.entry(j);
            let (next, skip) = match a.lower_bound(i, symbol) {
                Ok(k) => (k, 1),
                Err(k) => (k, 0),
            };
            shape.copy(at, a, i, next - i);
            self.heap.attrs_copy(v, at, left, i, next - i);
            at += next - i;
            shape.set(at, symbol, pos);
            self.heap.attrs_init(v, at, right.at(j));
            at += 1;
            i = next + skip;
        }
        shape.copy(at, a, i, a.len() - i);
        self.heap.attrs_copy(v, at, left, i, a.len() - i);
        v
    }

    // ---- errors -----------------------------------------------------------------------------------------

    /// The error for a value of the wrong type.
    #[cold]
    pub fn expected(&self, wanted: Type, found: Value) -> Error {
        Error::type_error(format!(
            "expected {} but found {}",
            wanted.with_article(),
            self.describe(found)
        ))
    }

    /// The same, with what the value was for.
    #[cold]
    fn expected_for(&self, purpose: &str, wanted: Type, found: Value) -> Error {
        self.expected(wanted, found)
            .context(purpose, SourceSpan::default(), false)
    }

    /// The error for a missing attribute.
    #[cold]
    pub fn missing_attr(&self, attrs: AttrsRef, symbol: Symbol) -> Error {
        let names = attrs.names().map(|s| self.symbols.text(s));
        let similar = crate::suggest::similar(&self.symbols.text(symbol), names);
        Error::new(
            ErrorKind::MissingAttribute,
            format!("attribute '{}' missing", self.attr_text(symbol)),
        )
        .suggest(similar)
    }

    /// An attribute's name as messages show it: with quotes where the grammar wants them.
    pub fn attr_text(&self, symbol: Symbol) -> String {
        let mut name = Vec::new();
        crate::print::print_name(&mut name, self.symbols.name(symbol));
        String::from_utf8_lossy(&name).into_owned()
    }

    // ---- typed access for native functions --------------------------------------------------------------

    /// The integer, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_int(&self, v: Value) -> Result<i64> {
        v.as_int().ok_or_else(|| self.expected(Type::Int, v))
    }
    /// The Boolean, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_bool(&self, v: Value) -> Result<bool> {
        v.as_bool().ok_or_else(|| self.expected(Type::Bool, v))
    }
    /// The string, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_string(&self, v: Value) -> Result<StringRef> {
        v.as_string().ok_or_else(|| self.expected(Type::String, v))
    }
    /// The list, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_list(&self, v: Value) -> Result<ListRef> {
        v.as_list().ok_or_else(|| self.expected(Type::List, v))
    }
    /// The set, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_attrs(&self, v: Value) -> Result<AttrsRef> {
        v.as_attrs().ok_or_else(|| self.expected(Type::Attrs, v))
    }
    /// A string without context.
    ///
    /// # Errors
    /// [`ErrorKind::Type`], or when the string has a context.
    pub fn want_plain_string(&self, v: Value) -> Result<StringRef> {
        let s = self.want_string(v)?;
        if s.context().is_empty() {
            Ok(s)
        } else {
            Err(self.no_context_allowed(s))
        }
    }

    /// A string value without context.
    pub fn string(&mut self, text: impl AsRef<[u8]>) -> Value {
        self.heap.string(text.as_ref(), ContextId::EMPTY)
    }

    /// The string value of a symbol's name.
    pub fn symbol_string(&mut self, symbol: Symbol) -> Value {
        self.symbols.string(&mut self.heap, symbol)
    }

    /// The suspended application of a function (any callable value) to one argument.
    pub fn delay_call(&mut self, function: Value, arg: Value) -> Value {
        let function = function.resolved();
        if function.is_function() {
            return self.heap.apply_thunk(function, arg);
        }
        self.delay_generic(function, &[arg])
    }

    /// The suspended application of a function (any callable value) to two arguments.
    pub fn delay_call2(&mut self, function: Value, first: Value, second: Value) -> Value {
        let function = function.resolved();
        if function.is_function() {
            let partial = self.heap.partial(function, &[first]);
            return self.heap.apply_thunk(partial, second);
        }
        self.delay_generic(function, &[first, second])
    }

    fn delay_generic(&mut self, function: Value, args: &[Value]) -> Value {
        // `apply` is a native function of the evaluator itself: it calls its first argument.
        let apply = self.apply_builtin(args.len());
        let partial = self
            .heap
            .partial(apply, &[&[function], &args[..args.len() - 1]].concat());
        self.heap.apply_thunk(partial, args[args.len() - 1])
    }

    fn apply_builtin(&mut self, args: usize) -> Value {
        let name = if args == 1 {
            "__nivisApply1"
        } else {
            "__nivisApply2"
        };
        if let Some(i) = self.builtins.iter().position(|b| b.name == name) {
            return self.heap.primop(i as u32);
        }
        fn apply(m: &mut Machine, a: &mut Activation) -> Result<Step> {
            Ok(Step::TailCall(m.locals(a) as u16 - 1))
        }
        let names: &'static [&'static str] = if args == 1 {
            &["f", "x"]
        } else {
            &["f", "x", "y"]
        };
        self.add_builtin(Builtin {
            name,
            args: names,
            strict: 1,
            global: false,
            body: Body::Frame(apply),
            doc: "Calls its first argument with the others.",
        })
    }
}

impl crate::code::Program {
    pub(crate) fn roots(&self, mut visit: impl FnMut(Value)) {
        for lambda in &self.lambdas {
            visit(lambda.args.get());
            for formal in lambda.formals.iter().flat_map(|f| f.entries.iter()) {
                if let FormalDefault::Constant(v) = formal.default {
                    visit(v);
                }
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

/// Bytes as a path.
pub fn bytes_path(bytes: &[u8]) -> &Path {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Path::new(std::ffi::OsStr::from_bytes(bytes))
    }
    #[cfg(not(unix))]
    {
        Path::new(std::str::from_utf8(bytes).unwrap_or(""))
    }
}

/// The lexically canonical form of an absolute path: no `.`, `..`, double or final slashes.
pub fn canonical_path(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let end = out.iter().rposition(|b| *b == b'/').unwrap_or(0);
                out.truncate(end);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(part);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

/// The error for what a host reports about a path.
pub fn host_error(e: &std::io::Error, path: &Path) -> Error {
    let shown = crate::own::shown(path.as_os_str().as_encoded_bytes());
    let shown = bytes_path(&shown).display();
    // A file in what is no folder does not exist either.
    let missing = [
        std::io::ErrorKind::NotFound,
        std::io::ErrorKind::NotADirectory,
    ];
    if missing.contains(&e.kind()) {
        return Error::new(ErrorKind::Host, format!("path '{}' does not exist", shown));
    }
    // What does not come from the system is the host's own text.
    if e.kind() == std::io::ErrorKind::PermissionDenied && e.raw_os_error().is_none() {
        return Error::new(ErrorKind::Forbidden, e.to_string());
    }
    if e.kind() == std::io::ErrorKind::OutOfMemory {
        return Error::new(
            ErrorKind::Memory,
            format!("out of memory: there is no room for the file '{shown}'"),
        );
    }
    if e.kind() == std::io::ErrorKind::Other && e.raw_os_error().is_none() {
        return Error::new(ErrorKind::Host, e.to_string());
    }
    Error::new(ErrorKind::Host, format!("cannot read '{}': {e}", shown))
}
