//! The evaluator's one error type.

use crate::position::SourceSpan;
use std::sync::Arc;

/// What went wrong. `tryEval` catches the first two alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ErrorKind {
    /// `builtins.throw`
    Throw,
    /// A failed `assert`.
    Assertion,
    /// `builtins.abort`
    Abort,
    /// A value of the wrong type.
    Type,
    /// A missing attribute.
    MissingAttribute,
    /// A name that nothing binds.
    UndefinedVariable,
    /// A function called with missing or unexpected arguments.
    Arguments,
    /// A value that depends on itself.
    InfiniteRecursion,
    /// More nested calls than `max-call-depth` allows.
    CallDepth,
    /// The memory limit was reached.
    Memory,
    /// Cancelled from outside, or out of time or steps.
    Cancelled,
    /// Integer overflow, division by zero and the like.
    Arithmetic,
    /// The source does not parse.
    Syntax,
    /// The host could not read, write or find something.
    Host,
    /// Forbidden in pure or restricted mode.
    Forbidden,
    /// An invalid derivation, store path or hash.
    Store,
    /// Anything else that evaluation refuses.
    Other,
}

impl ErrorKind {
    /// Whether `builtins.tryEval` catches it.
    pub fn is_catchable(self) -> bool {
        matches!(self, ErrorKind::Throw | ErrorKind::Assertion)
    }

    /// Whether it says nothing about the expression, so that evaluating it again may succeed.
    pub(crate) fn is_transient(self) -> bool {
        matches!(self, ErrorKind::Cancelled | ErrorKind::Memory)
    }
}

/// One step of what was being evaluated when the error happened, innermost first.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceItem {
    /// What was going on.
    pub message: String,
    /// Where.
    pub span: SourceSpan,
    /// Added by `builtins.addErrorContext`: shown even in short traces.
    pub explicit: bool,
}

/// The contents of an [`Error`].
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorData {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The message, without `error:`.
    pub message: String,
    /// Where, if known.
    pub span: SourceSpan,
    /// Names that may have been meant, best first.
    pub suggestions: Vec<String>,
    /// A further place that matters (the other definition, the function called), with its caption.
    pub related: Option<(String, SourceSpan)>,
    /// Whether its place is the call of the innermost function, which got the wrong arguments, and not inside of that.
    pub(crate) at_call: bool,
}

/// One more step, outside those that came before it. Errors share what they have in common: every thunk between two nested
/// `addErrorContext` keeps an error of its own, so copies would take quadratic memory.
struct Outer {
    item: TraceItem,
    inner: Option<Arc<Outer>>,
}

impl Drop for Outer {
    /// One after the other: traces can be longer than the host's stack allows to nest.
    fn drop(&mut self) {
        let mut next = self.inner.take();
        while let Some(mut outer) = next.and_then(Arc::into_inner) {
            next = outer.inner.take();
        }
    }
}

#[derive(Clone)]
struct Traced {
    data: Arc<ErrorData>,
    /// The outermost step.
    trace: Option<Arc<Outer>>,
    steps: usize,
    /// Bytes of the message and of the texts in the trace.
    bytes: usize,
}

/// An evaluation error: one word, cheap to pass and to keep in a failed thunk.
#[derive(Clone)]
pub struct Error(Arc<Traced>);

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without place; the machine adds that of the running instruction.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        let message = message.into();
        let bytes = message.len();
        let data = ErrorData {
            kind,
            message,
            span: SourceSpan::default(),
            suggestions: Vec::new(),
            related: None,
            at_call: false,
        };
        Error(Arc::new(Traced {
            data: Arc::new(data),
            trace: None,
            steps: 0,
            bytes,
        }))
    }

    /// An error of kind [`ErrorKind::Other`].
    #[cold]
    pub fn other(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Other, message)
    }

    /// An error of kind [`ErrorKind::Type`].
    #[cold]
    pub fn type_error(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Type, message)
    }

    /// The contents.
    pub fn data(&self) -> &ErrorData {
        &self.0.data
    }

    /// The contents, to be changed.
    pub fn data_mut(&mut self) -> &mut ErrorData {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0).data)
    }

    /// What was being evaluated, innermost first. Takes time in proportion to [`Error::trace_len`].
    pub fn trace(&self) -> Vec<&TraceItem> {
        let outermost = self.0.trace.as_deref();
        let steps = std::iter::successors(outermost, |outer| outer.inner.as_deref());
        let mut items: Vec<&TraceItem> = steps.map(|outer| &outer.item).collect();
        items.reverse();
        items
    }

    /// About the bytes of its texts: the message and those in the trace.
    pub fn text_bytes(&self) -> usize {
        self.0.bytes
    }

    /// How many steps the trace has.
    pub fn trace_len(&self) -> usize {
        self.0.steps
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.data.kind
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.data.message
    }

    /// With a place, unless it has one.
    pub fn at(mut self, span: SourceSpan) -> Error {
        if self.0.data.span.start.is_none() {
            self.data_mut().span = span;
        }
        self
    }

    /// With names that may have been meant.
    pub fn suggest(mut self, names: Vec<String>) -> Error {
        self.data_mut().suggestions = names;
        self
    }

    /// With one more step of the trace.
    pub fn context(
        mut self,
        message: impl Into<String>,
        span: SourceSpan,
        explicit: bool,
    ) -> Error {
        let item = TraceItem {
            message: message.into(),
            span,
            explicit,
        };
        let traced = Arc::make_mut(&mut self.0);
        traced.bytes += item.message.len();
        traced.trace = Some(Arc::new(Outer {
            item,
            inner: traced.trace.take(),
        }));
        traced.steps += 1;
        self
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Error) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.data() == other.data() && self.trace() == other.trace())
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown
            .field("data", self.data())
            .field("trace", &self.trace())
            .finish()
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}
