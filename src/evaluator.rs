//! Making an evaluator and giving it something to evaluate.

use crate::diagnostic::{Diagnostic, Error};
use crate::function::{Extra, function1, function2};
use crate::value::Value;
use nivis_builtins::host::SystemHost;
use nivis_eval::machine::Root;
use nivis_eval::{Builtin, CancelToken, ErrorKind, Host, Machine, Origin, Settings};
use nivis_store::StoreDir;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Collects what an evaluator is made of. Without changes: the real file system, a store that is never written to,
/// no search path, Nix's limit of nested calls, no limit of memory.
#[derive(Default)]
pub struct Builder {
    host: Option<Rc<dyn Host>>,
    settings: Settings,
    fuel: Option<u64>,
    extras: Vec<Extra>,
    stress: bool,
}

impl Builder {
    /// The world that evaluation sees: [`SystemHost`] unless given, or a
    /// [`MemoryHost`](crate::builtins::host::MemoryHost), or your own.
    #[must_use]
    pub fn host(mut self, host: impl Host + 'static) -> Builder {
        self.host = Some(Rc::new(host));
        self
    }

    /// The same, of a host that you keep a handle to.
    #[must_use]
    pub fn shared_host(mut self, host: Rc<dyn Host>) -> Builder {
        self.host = Some(host);
        self
    }

    /// All settings at once.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Builder {
        self.settings = settings;
        self
    }

    /// Pure evaluation: no environment, no time, no search path. Which files can be read is up to the host.
    #[must_use]
    pub fn pure(mut self, pure: bool) -> Builder {
        self.settings.pure_eval = pure;
        self
    }

    /// Nested calls before the error "stack overflow".
    #[must_use]
    pub fn max_call_depth(mut self, calls: u32) -> Builder {
        self.settings.max_call_depth = calls;
        self
    }

    /// Bytes of memory before the error "out of memory".
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Builder {
        self.settings.memory_limit = bytes;
        self
    }

    /// Steps (calls and evaluations, rounded to about a thousand) before evaluation fails with
    /// [`ErrorKind::Cancelled`]; see also [`Evaluator::set_fuel`].
    #[must_use]
    pub fn fuel(mut self, steps: u64) -> Builder {
        self.fuel = Some(steps);
        self
    }

    /// Switches an experimental feature on, such as `pipe-operators`.
    #[must_use]
    pub fn feature(mut self, name: impl Into<String>) -> Builder {
        self.settings.features.push(name.into());
        self
    }

    /// Adds an entry to the search path: `<PREFIX/…>` is looked up in `path`; an empty prefix means any name.
    #[must_use]
    pub fn search_path(mut self, prefix: impl Into<String>, path: impl Into<String>) -> Builder {
        self.settings.nix_path.push((prefix.into(), path.into()));
        self
    }

    /// Adds a function of one argument, visible as `NAME` and `builtins.NAME`. The argument is evaluated
    /// completely and converted; the result is converted back; an error can be caught with `tryEval`.
    #[must_use]
    pub fn function<T, R, E>(
        mut self,
        name: &'static str,
        doc: &'static str,
        f: impl Fn(T) -> Result<R, E> + Send + Sync + 'static,
    ) -> Builder
    where
        T: DeserializeOwned,
        R: Serialize,
        E: std::fmt::Display,
    {
        self.extras.push(function1(name, doc, f));
        self
    }

    /// Like [`Builder::function`], with two arguments.
    #[must_use]
    pub fn function2<T, U, R, E>(
        mut self,
        name: &'static str,
        doc: &'static str,
        f: impl Fn(T, U) -> Result<R, E> + Send + Sync + 'static,
    ) -> Builder
    where
        T: DeserializeOwned,
        U: DeserializeOwned,
        R: Serialize,
        E: std::fmt::Display,
    {
        self.extras.push(function2(name, doc, f));
        self
    }

    /// Adds a function that works on the machine itself, as the ones of Nix do: see [`crate::eval::native`].
    #[must_use]
    pub fn builtin(mut self, builtin: Builtin) -> Builder {
        self.extras.push(Extra::native(builtin));
        self
    }

    /// Makes the evaluator check at every step that it keeps alive what the program can still use. Very slow.
    #[must_use]
    pub fn stress(mut self, stress: bool) -> Builder {
        self.stress = stress;
        self
    }

    /// Makes the evaluator.
    ///
    /// # Errors
    /// When the store's folder is no absolute path.
    pub fn build(self) -> Result<Evaluator> {
        let host = match self.host {
            Some(host) => host,
            None => {
                let dir = StoreDir::new(&self.settings.store_dir)
                    .map_err(|e| Error::new(ErrorKind::Store, e.to_string()))?;
                Rc::new(SystemHost::new(dir))
            }
        };
        let mut m = Machine::new(host, self.settings);
        nivis_builtins::install(&mut m);
        crate::function::install(&mut m, self.extras)
            .map_err(|e| Error::from(Diagnostic::resolve(&m, &e)))?;
        m.set_fuel(self.fuel);
        if self.stress {
            m.set_stress();
        }
        Ok(Evaluator(Rc::new(Inner {
            machine: RefCell::new(m),
            released: RefCell::default(),
        })))
    }
}

pub(crate) struct Inner {
    machine: RefCell<Machine>,
    /// Roots of handles that were dropped while the machine was busy.
    released: RefCell<Vec<Root>>,
}

/// An evaluator: a heap, all builtins, a world. A cheap handle; clones are the same evaluator. It belongs to one
/// thread; evaluators on several threads know nothing of each other.
#[derive(Clone)]
pub struct Evaluator(Rc<Inner>);

impl Evaluator {
    /// An evaluator of the real world; see [`Builder`].
    ///
    /// # Errors
    /// None with the settings that this uses.
    pub fn new() -> Result<Evaluator> {
        Builder::default().build()
    }

    /// Makes an evaluator step by step.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Evaluates a text to weak head normal form. Relative paths start at the root folder; see
    /// [`Evaluator::eval_in`].
    ///
    /// # Errors
    /// What is wrong with the text, or its evaluation fails with.
    pub fn eval(&self, text: &str) -> Result<Value> {
        self.eval_in(text, "text", "/")
    }

    /// Evaluates a text, with a name for messages and the folder that relative paths start at.
    ///
    /// # Errors
    /// What is wrong with the text, or its evaluation fails with.
    pub fn eval_in(&self, text: &str, name: &str, dir: impl AsRef<Path>) -> Result<Value> {
        let value = self.run(|m| {
            let thunk = m.load_text(text.as_bytes(), Origin::Text(name.into()), dir.as_ref())?;
            m.force(thunk)
        })?;
        Ok(self.handle(value))
    }

    /// Evaluates a text in which names are bound to given values.
    ///
    /// # Errors
    /// What is wrong with the text, or its evaluation fails with.
    pub fn eval_with(&self, text: &str, variables: &[(&str, &Value)]) -> Result<Value> {
        for (_, value) in variables {
            self.own(value)?;
        }
        let value = self.run(|m| {
            let mut bound = Vec::new();
            for (name, value) in variables {
                bound.push((m.symbols.intern(name.as_bytes()), value.raw(m)));
            }
            let origin = Origin::Text("text".into());
            let thunk = m.load_text_with(text.as_bytes(), origin, Path::new("/"), &bound)?;
            m.force(thunk)
        })?;
        Ok(self.handle(value))
    }

    /// Evaluates a file; a folder means its `default.nix`. Each file is read once.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong, or what its evaluation fails with.
    pub fn eval_file(&self, path: impl AsRef<Path>) -> Result<Value> {
        let path = std::path::absolute(path.as_ref())
            .map_err(|e| Error::new(ErrorKind::Host, format!("not a path: {e}")))?;
        let canonical = nivis_eval::machine::canonical_path(path.as_os_str().as_encoded_bytes());
        let value = self.run(|m| {
            let thunk = m.load_file(nivis_eval::machine::bytes_path(&canonical))?;
            m.force(thunk)
        })?;
        Ok(self.handle(value))
    }

    /// Makes a value of a Rust value.
    ///
    /// # Errors
    /// When it holds an integer beyond 64 bits, a key that is no string, or is nested too deeply.
    pub fn value<T: Serialize + ?Sized>(&self, value: &T) -> Result<Value> {
        let value = self.run_own(|m| crate::ser::to_value(m, value))?;
        Ok(self.handle(value))
    }

    /// The token that stops evaluation from another thread.
    pub fn cancel_token(&self) -> CancelToken {
        self.0.machine.borrow().cancel_token()
    }

    /// Limits the steps from now on, or lifts the limit.
    pub fn set_fuel(&self, steps: Option<u64>) {
        self.0.machine.borrow_mut().set_fuel(steps);
    }

    /// Gives access to the machine itself. Values of its own must not leave the closure.
    ///
    /// # Panics
    /// When it is called from within itself.
    pub fn with_machine<T>(&self, f: impl FnOnce(&mut Machine) -> T) -> T {
        f(&mut self.0.machine.borrow_mut())
    }

    /// Runs something on the machine; its error is resolved.
    pub(crate) fn run<T>(
        &self,
        f: impl FnOnce(&mut Machine) -> nivis_eval::Result<T>,
    ) -> Result<T> {
        self.run_own(|m| f(m).map_err(|e| Error::from(Diagnostic::resolve(m, &e))))
    }

    /// Runs something on the machine that resolves its errors itself.
    pub(crate) fn run_own<T>(&self, f: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let Ok(mut m) = self.0.machine.try_borrow_mut() else {
            return Err(Error::new(
                ErrorKind::Other,
                "the evaluator is already at work",
            ));
        };
        for root in self.0.released.borrow_mut().drain(..) {
            m.unroot(root);
        }
        f(&mut m)
    }

    /// A handle that keeps a value alive.
    pub(crate) fn handle(&self, value: nivis_eval::Value) -> Value {
        let root = self.0.machine.borrow_mut().root(value);
        Value::new(self.clone(), root)
    }

    /// Releases a handle's root, now or when the machine is free.
    pub(crate) fn release(&self, root: Root) {
        match self.0.machine.try_borrow_mut() {
            Ok(mut m) => m.unroot(root),
            Err(_) => self.0.released.borrow_mut().push(root),
        }
    }

    /// Refuses a value of another evaluator.
    pub(crate) fn own(&self, value: &Value) -> Result<()> {
        if Rc::ptr_eq(&self.0, &value.evaluator().0) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Other,
            "the value belongs to another evaluator",
        ))
    }
}
