//! Errors as data: everything a program needs to show, log or translate them.

use nivis_eval::{ErrorKind, Machine, Origin, PosId, SourceSpan};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A text that an error points into.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The name to show: a path, or the name of a text in angle quotes.
    pub name: String,
    /// The path, if the text is a file.
    pub path: Option<PathBuf>,
    /// The text, which need not be UTF-8; `None` when the file could not be read again.
    pub text: Option<Arc<[u8]>>,
}

impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A range of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// The text.
    pub file: Arc<SourceFile>,
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte; not beyond the text.
    pub end: usize,
    /// Line, from 1; zero when the text could not be read.
    pub line: u32,
    /// Column, from 1, in bytes; zero when the text could not be read.
    pub column: u32,
}

impl Span {
    /// `file:line:column`
    pub fn location(&self) -> String {
        match self.line {
            0 => self.file.name.clone(),
            line => format!("{}:{line}:{}", self.file.name, self.column),
        }
    }

    /// The text of the range.
    pub fn text(&self) -> Option<&[u8]> {
        self.file.text.as_deref()?.get(self.start..self.end)
    }
}

/// One step of what was being evaluated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceItem {
    /// What was going on.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
    /// Whether the program itself added it with `builtins.addErrorContext`.
    pub explicit: bool,
}

/// A further place that matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Related {
    /// What it has to do with the error.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// An error with all its places resolved. It owns what it needs and outlives the evaluator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// What went wrong.
    pub kind: ErrorKind,
    /// The message, without `error:`.
    pub message: String,
    /// Where, if known.
    pub span: Option<Span>,
    /// What was being evaluated, innermost first.
    pub trace: Vec<TraceItem>,
    /// Further places.
    pub related: Vec<Related>,
    /// Names that may have been meant, best first.
    pub suggestions: Vec<String>,
}

impl Diagnostic {
    /// A diagnostic without places.
    pub fn message(kind: ErrorKind, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            kind,
            message: message.into(),
            span: None,
            trace: Vec::new(),
            related: Vec::new(),
            suggestions: Vec::new(),
        }
    }

    /// Resolves an evaluation error. Files it points into are read again through the machine's host.
    pub fn resolve(m: &Machine, error: &nivis_eval::Error) -> Diagnostic {
        let data = error.data();
        let mut resolver = Resolver {
            m,
            files: HashMap::new(),
        };
        Diagnostic {
            kind: data.kind,
            message: data.message.clone(),
            span: resolver.span(data.span),
            trace: error
                .trace()
                .into_iter()
                .map(|t| TraceItem {
                    message: t.message.clone(),
                    span: resolver.span(t.span),
                    explicit: t.explicit,
                })
                .collect(),
            related: data
                .related
                .iter()
                .filter_map(|(message, span)| {
                    Some(Related {
                        message: message.clone(),
                        span: resolver.span(*span)?,
                    })
                })
                .collect(),
            suggestions: data.suggestions.clone(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.span {
            Some(span) => write!(f, " at {}", span.location()),
            None => Ok(()),
        }
    }
}

struct Resolver<'m> {
    m: &'m Machine,
    /// By the position of the text's first byte.
    files: HashMap<Origin, Arc<SourceFile>>,
}

impl Resolver<'_> {
    fn span(&mut self, span: SourceSpan) -> Option<Span> {
        if span.start == PosId::NONE {
            return None;
        }
        let (source, start) = self.m.sources.resolve(span.start)?;
        let file = match self.files.get(&source.origin) {
            Some(file) if source.text.is_none() || file.text == source.text => Arc::clone(file),
            _ => {
                let text = match (&source.text, source.origin.path()) {
                    (Some(text), _) => Some(Arc::clone(text)),
                    (None, Some(path)) => self.m.host.read_file(path).ok().map(Arc::from),
                    (None, None) => None,
                };
                let file = Arc::new(SourceFile {
                    name: source.origin.name(),
                    path: source.origin.path().map(Into::into),
                    text,
                });
                self.files.insert(source.origin.clone(), Arc::clone(&file));
                file
            }
        };
        let text = file.text.clone();
        let (line, column) = self
            .m
            .sources
            .line_column(source, start, |_| text.as_deref().map(<[u8]>::to_vec))
            .unwrap_or((0, 0));
        let len = file.text.as_ref().map_or(usize::MAX, |t| t.len());
        let start = start.min(len);
        let end = start.saturating_add(span.len as usize).min(len);
        Some(Span {
            file,
            start,
            end,
            line,
            column,
        })
    }
}

/// The error of everything in this crate: one word, with a [`Diagnostic`] behind it. A program whose `main` returns
/// it shows the message and the place.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Diagnostic>);

impl Error {
    /// An error without places.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Diagnostic::message(kind, message)))
    }

    /// What is known about it.
    pub fn diagnostic(&self) -> &Diagnostic {
        &self.0
    }

    /// The same, to keep.
    pub fn into_diagnostic(self) -> Diagnostic {
        *self.0
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error as text with source excerpts; see [`crate::render`].
    pub fn render(&self, options: &crate::render::RenderOptions) -> String {
        crate::render::render(&self.0, options)
    }
}

impl From<Diagnostic> for Error {
    fn from(d: Diagnostic) -> Error {
        Error(Box::new(d))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}
